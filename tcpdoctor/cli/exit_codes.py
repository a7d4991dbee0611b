"""The exit codes: those of the monitoring plugins. Wrong usage is 3, because 2 would page somebody."""

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
