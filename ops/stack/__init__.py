"""Runs a local stack in the foreground or in the background."""
