"""Readers, one a format: annotation files to `Records`."""
