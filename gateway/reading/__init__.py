"""Reads: single images, lists, and the bytes of originals and variants."""
