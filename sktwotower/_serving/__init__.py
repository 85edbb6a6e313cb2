"""From a model state and a query to answers."""
