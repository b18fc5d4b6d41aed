"""Data sets from the internet: fetched, checked and unpacked, once."""
