"""The gateway: the REST API. It appends commands to the log and reads from the index and the bucket."""
