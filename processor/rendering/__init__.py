"""Rendering: decodes, resizes and encodes images in sandboxed worker processes."""
