"""Reads the log: topics, positions, consumer groups, dead letters, and the state of each image."""
