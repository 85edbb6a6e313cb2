"""What a fitted recommender has learnt, and from what."""

from sktwotower.inspection._feature_importance import feature_importance

__all__ = ["feature_importance"]
