"""Data sets: ratings of films, purchases of a shop, and a generator of interactions."""

from sktwotower.datasets._movielens import fetch_movielens, load_movielens_small
from sktwotower.datasets._online_retail import load_online_retail
from sktwotower.datasets._synthetic import make_interactions

__all__ = [
    "fetch_movielens",
    "load_movielens_small",
    "load_online_retail",
    "make_interactions",
]
