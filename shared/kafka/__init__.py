"""Kafka: the idempotent producer, the writers of the three logs, and the topics."""
