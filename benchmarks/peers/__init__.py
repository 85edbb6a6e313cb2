"""Scripts for environments of peers; see benchmarks/peers/README.md."""
