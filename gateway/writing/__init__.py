"""Everything that appends to the log: uploads, replacements, removals, ingest."""
