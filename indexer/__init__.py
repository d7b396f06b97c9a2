"""The indexer: turns the log into Cassandra rows."""
