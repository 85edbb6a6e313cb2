"""A fitted model as a directory, and back. Nothing in it is a pickle."""
