"""Live events: one reader of Kafka in each gateway, whose events go to all listeners of this gateway."""
