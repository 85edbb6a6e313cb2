"""Two-tower recommendation as a scikit-learn estimator on a PyTorch core."""

from sktwotower._data.entity_table import EntityTable
from sktwotower._persistence.loading import load
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower._version import __version__

__all__ = ["EntityTable", "TwoTowerRecommender", "__version__", "load"]
