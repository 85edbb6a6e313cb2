"""Top-k search over arrays: exact, among candidates, approximate."""
