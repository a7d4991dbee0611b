"""Makes each disease in a private network namespace."""
