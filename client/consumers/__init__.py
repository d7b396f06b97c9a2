"""Consumers of the events to copy. Each keeps a table of what is served, and prints it whenever it has changed."""
