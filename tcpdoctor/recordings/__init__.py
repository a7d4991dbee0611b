"""Looks that somebody else took: our own recordings, sosreports, and what people paste."""
