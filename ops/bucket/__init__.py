"""Reads the bucket: lists its objects and finds the superseded ones."""
