"""Reads the bucket: what is in it, and which objects are superseded."""
