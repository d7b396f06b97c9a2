"""Code of all services: the contract (commands, events, keys), the read model, and the adapters to the engines."""
