"""The language all three services speak (events, keys, tables) and the thin adapters to the engines."""
