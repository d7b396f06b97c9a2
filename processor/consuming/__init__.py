"""The log side: the Faust app, lanes, delivery, and positions to commit."""
