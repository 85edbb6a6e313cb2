"""Save a fitted model to a directory, and load it. The directory has no pickle in it."""
