"""Export of a fitted model as graphs that need neither torch nor scikit-learn."""
