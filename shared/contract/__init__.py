"""What all services and the log agree on: commands, events, keys, and how untrusted input is parsed."""
