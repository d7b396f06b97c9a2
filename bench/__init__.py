"""Benchmarks. Each module's docstring states what it measures; each prints its figures."""
