"""Receives request bodies and checks the files in them."""
