"""What ``python -m sktwotower`` does: train, recommend and evaluate on Parquet files."""
