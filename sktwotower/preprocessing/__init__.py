"""Encoders of mixed frames: one sparse matrix with named fields."""

from sktwotower.preprocessing._feature_encoder import FeatureEncoder
from sktwotower.preprocessing._multi_hot import MultiHotEncoder

__all__ = ["FeatureEncoder", "MultiHotEncoder"]
