"""Quality of all recommenders on all data sets; ``python -m benchmarks.suite``."""
