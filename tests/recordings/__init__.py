"""Tests of recordings: files that a user names, and what they say."""
