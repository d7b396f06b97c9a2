"""Everything that reads: one image, lists, bytes."""
