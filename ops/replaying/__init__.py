"""Handles commands of the log again: which are finished, and the processor's own handler for the others."""
