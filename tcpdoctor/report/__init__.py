"""Findings become text and JSON; pure."""
