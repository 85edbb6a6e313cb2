"""One evaluation for all models."""

from __future__ import annotations

from typing import Any

from benchmarks.suite.data import DataSet
from sktwotower.metrics import make_ranking_scorer

METRICS = ["ndcg@10", "recall@10", "recall@20", "coverage@10"]


def evaluate(recommender: Any, record: DataSet) -> dict[str, float]:
    """Means over the users of the test rows; coverage is the share of all items."""
    scorer = make_ranking_scorer(
        METRICS, **record.ids, exclude_seen=record.exclude_seen, with_counts=True
    )
    values = scorer(recommender, record.test)
    share = 1.0
    if record.counts_unknown:  # each user has one test item
        n_users = values["n_users"]
        share = n_users / (n_users + values["n_left_out"])
    return {
        metric: float(values[metric] * (1.0 if metric.startswith("coverage") else share))
        for metric in METRICS
    }
