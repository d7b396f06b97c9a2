"""Code of both consumers, the processor and the indexer: records, their delivery, offsets and dead letters."""
