"""Writes: uploads, replacements, deletions and incoming objects. Each appends to the log."""
