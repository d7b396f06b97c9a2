"""The consumer of the commands topic: the Faust app, the lanes, the delivery and the positions to commit."""
