"""Benchmarks; each says what it measures and prints its figures."""
