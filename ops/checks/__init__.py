"""Compares log, index and bucket, and repairs what differs."""
