"""What the processor and the indexer share as consumers: offsets, retries and dead letters."""
