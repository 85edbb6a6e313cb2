"""Ranking metrics on arrays, scorers for scikit-learn, reports and comparisons."""

from sktwotower.metrics._beyond import (
    average_popularity,
    catalogue_coverage,
    gini,
    intra_list_diversity,
    novelty,
    serendipity,
)
from sktwotower.metrics._matched import RankedRelevance, match_relevance
from sktwotower.metrics._ranking import (
    auc,
    average_precision,
    hit_rate,
    ndcg,
    precision,
    r_precision,
    recall,
    reciprocal_rank,
)
from sktwotower.metrics._registry import METRICS, parse_metric
from sktwotower.metrics._report import compare, ranking_report
from sktwotower.metrics._scorer import make_ranking_scorer
from sktwotower.metrics._within_users import within_users

__all__ = [
    "METRICS",
    "RankedRelevance",
    "auc",
    "average_popularity",
    "average_precision",
    "catalogue_coverage",
    "compare",
    "gini",
    "hit_rate",
    "intra_list_diversity",
    "make_ranking_scorer",
    "match_relevance",
    "ndcg",
    "novelty",
    "parse_metric",
    "precision",
    "r_precision",
    "ranking_report",
    "recall",
    "reciprocal_rank",
    "serendipity",
    "within_users",
]
