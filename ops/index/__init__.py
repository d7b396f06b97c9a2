"""Reads and rebuilds the index."""
