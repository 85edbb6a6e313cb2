"""References to compare with: short, exact, and with the same interface."""

from sktwotower.baselines._linear import EASERecommender, ItemKNNRecommender
from sktwotower.baselines._popular import PopularRecommender

__all__ = ["EASERecommender", "ItemKNNRecommender", "PopularRecommender"]
