"""The replay: finds the commands that are not finished, and handles them again with the processor's handler."""
