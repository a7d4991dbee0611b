"""Says what is wrong with TCP on a Linux host, proves it, and says what to do."""

__version__ = "0.1.0"
