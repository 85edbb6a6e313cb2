"""Ranking metrics on arrays, and scorers for scikit-learn made of them."""

from sktwotower.metrics._ranking import (
    METRICS,
    RankedRelevance,
    average_precision,
    catalogue_coverage,
    hit_rate,
    match_relevance,
    ndcg,
    parse_metric,
    precision,
    recall,
    reciprocal_rank,
)
from sktwotower.metrics._scorer import make_ranking_scorer

__all__ = [
    "METRICS",
    "RankedRelevance",
    "average_precision",
    "catalogue_coverage",
    "hit_rate",
    "make_ranking_scorer",
    "match_relevance",
    "ndcg",
    "parse_metric",
    "precision",
    "recall",
    "reciprocal_rank",
]
