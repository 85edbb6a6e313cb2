"""Encode mixed frames into one sparse matrix with named fields."""

from ._feature_encoder import FeatureEncoder
from ._multi_hot import MultiHotEncoder

__all__ = ["FeatureEncoder", "MultiHotEncoder"]
