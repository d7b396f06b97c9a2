"""Conformance kit: feeds a consumer of the events with what Kafka really brings, and says what its table has wrong.

`python -m imagepipe_client.conformance --bootstrap-servers 127.0.0.1:9092 -- node my_consumer.js`. It needs
`imagepipe-client[conformance]`. docs/events.md describes what a consumer gets and what its table must hold.
"""
