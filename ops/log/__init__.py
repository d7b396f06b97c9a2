"""Reads the log: topics, positions, consumer groups, what the log says of each image."""
