"""The local stack: real Kafka, Cassandra and S3 as child processes, without Docker."""
