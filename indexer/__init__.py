"""The indexer: reads the log and writes the rows of the index in Cassandra."""
