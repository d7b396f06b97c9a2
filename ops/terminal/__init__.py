"""Command-line options and output, shared by all commands."""
