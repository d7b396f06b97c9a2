"""Examples that a user can copy."""
