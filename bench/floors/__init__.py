"""Floors: the least that any software in Python would do for the same result, on the same engines."""
