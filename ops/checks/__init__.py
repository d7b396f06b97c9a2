"""Compares log, index and bucket, and repairs differences."""
