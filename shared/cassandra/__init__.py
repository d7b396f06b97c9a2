"""Cassandra: the adapter of the index, its sessions, its CQL, and the schema with its migrations."""
