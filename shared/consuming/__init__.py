"""What the processor and the indexer share as consumers: records, their delivery, offsets and dead letters."""
