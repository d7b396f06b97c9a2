"""The read model: pure functions from a log record to rows, and from a row to a document."""
