"""Data sets: real ratings inside the package, MovieLens fetchers and a generator."""

from ._movielens import fetch_movielens, load_movielens_small
from ._synthetic import make_interactions

__all__ = ["fetch_movielens", "load_movielens_small", "make_interactions"]
