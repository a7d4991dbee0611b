"""Rules and facts become findings; bind() and connect() are predicted; pure."""
