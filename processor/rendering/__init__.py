"""The pixel side: decoding, resizing and encoding in worker processes."""
