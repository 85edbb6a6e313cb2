"""Measurements of sktwotower; see benchmarks/README.md."""
