"""Plots and tables of what a fitted recommender has learned, and what a fit costs."""

from sktwotower.inspection._attended_items import AttentionDisplay
from sktwotower.inspection._cost import CostEstimate, estimate_cost
from sktwotower.inspection._embedding import EmbeddingDisplay
from sktwotower.inspection._explanation import ExplanationDisplay
from sktwotower.inspection._feature_importance import feature_importance
from sktwotower.inspection._popularity_bias import PopularityBiasDisplay
from sktwotower.inspection._ranking_curve import RankingCurve, RankingCurveDisplay
from sktwotower.inspection._search_results import SearchResultsDisplay
from sktwotower.inspection._training_curve import TrainingCurveDisplay

__all__ = [
    "AttentionDisplay",
    "CostEstimate",
    "EmbeddingDisplay",
    "ExplanationDisplay",
    "PopularityBiasDisplay",
    "RankingCurve",
    "RankingCurveDisplay",
    "SearchResultsDisplay",
    "TrainingCurveDisplay",
    "estimate_cost",
    "feature_importance",
]
