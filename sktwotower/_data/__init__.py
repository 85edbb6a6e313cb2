"""X and side tables: checked, coded and encoded."""
