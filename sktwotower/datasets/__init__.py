"""Data sets: MovieLens ratings, and a generator of synthetic interactions."""

from sktwotower.datasets._movielens import fetch_movielens, load_movielens_small
from sktwotower.datasets._synthetic import make_interactions

__all__ = ["fetch_movielens", "load_movielens_small", "make_interactions"]
