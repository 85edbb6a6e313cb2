"""From an estimator and interactions to ranking metrics: the scorer and its engine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sktwotower._interactions import (
    Interactions,
    Roles,
    as_interactions,
    read_interactions,
)
from sktwotower.metrics._ranking import (
    METRICS,
    catalogue_coverage,
    match_relevance,
    parse_metric,
)
from sktwotower.utils._columns import Column, is_frame


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one ranking.

    Attributes
    ----------
    means : dict of str to float
        One value a metric, mean over users.
    n_users : int
        Users that the means are over.
    n_left_out : int
        Users without a relevant item that could have been recommended.
    n_dropped : int
        Relevant pairs whose item is not among the candidates.
    """

    means: dict[str, float]
    n_users: int
    n_left_out: int
    n_dropped: int

    def warn_if_undefined(self) -> None:
        """Warn when there was no user to measure."""
        if self.n_users == 0:
            warnings.warn(
                "No user has a relevant item that could be recommended (none of the items "
                "of X is in the catalogue); the metrics are NaN.",
                UndefinedMetricWarning,
                stacklevel=3,
            )


def evaluate(
    recommender: Any,
    interactions: Interactions,
    metrics: Sequence[str],
    *,
    exclude_seen: bool = True,
) -> Evaluation:
    """Rank once for each user of the interactions and measure the ranking.

    Parameters
    ----------
    recommender : estimator with ``recommend``
        One of this package's has the pairs that are scored ranked even if it has seen
        them in training; of another one ``recommend`` is called as it is.
    interactions : Interactions
        Their positive rows are relevant.
    metrics : sequence of str
        As :func:`~sktwotower.metrics.parse_metric` takes them.
    exclude_seen : bool, default=True
        Whether training pairs are left out of the ranking.

    Raises
    ------
    ValueError
        If no row is positive.
    """
    parsed = {metric: parse_metric(metric) for metric in metrics}
    k = max(cut for _, cut in parsed.values())
    if not interactions.positive.any():
        raise ValueError(
            "There is nothing to find: no row of X is relevant (y > 0), so no ranking "
            "metric is defined."
        )
    interactions = interactions.take(interactions.positive)
    users, query_ids = pd.factorize(interactions.users)
    # A user is asked for as in their first row: later features are not known then.
    rank = _own_ranking if hasattr(recommender, "_rank_held_out") else _foreign_ranking
    queries = interactions.take(np.flatnonzero(~pd.Series(users).duplicated().to_numpy()))
    ranked, items, n_items = rank(
        recommender, queries, users, interactions.items, k, exclude_seen
    )
    inside = items >= 0
    relevant = sp.csr_matrix(
        (np.ones(int(inside.sum())), (users[inside], items[inside])),
        shape=(len(query_ids), n_items),
    )
    user_weights = None
    if interactions.weights is not None:
        user_weights = np.bincount(users, interactions.weights) / np.bincount(users)
    keep = np.diff(relevant.indptr) > 0
    matched = match_relevance(ranked, relevant)
    means = {}
    for metric, (name, cut) in parsed.items():
        if not keep.any():
            means[metric] = float("nan")
        elif name == "coverage":
            means[metric] = catalogue_coverage(ranked[keep], n_items, k=cut)
        else:
            values = METRICS[name](matched, k=cut)
            means[metric] = _mean(values, keep, user_weights)
    return Evaluation(
        means=means,
        n_users=int(keep.sum()),
        n_left_out=int((~keep).sum()),
        n_dropped=int((~inside).sum()),
    )


def _own_ranking(
    recommender: Any,
    queries: Interactions,
    users: np.ndarray,
    item_ids: np.ndarray,
    k: int,
    exclude_seen: bool,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Ranked catalogue columns, the column of each pair's item (or -1), their number."""
    catalogue = recommender._catalogue
    column_of = np.full(len(recommender._item_vocabulary) + 1, -1)
    column_of[catalogue] = np.arange(len(catalogue))
    items = column_of[recommender._item_vocabulary.codes(item_ids)]
    inside = items >= 0
    pairs = sp.csr_matrix(
        (np.ones(int(inside.sum())), (users[inside], items[inside])),
        shape=(len(queries), len(catalogue)),
    )
    pairs.data[:] = 1.0
    ranked = recommender._rank_held_out(queries, pairs, k, exclude_seen=exclude_seen)
    return ranked, items, len(catalogue)


def _foreign_ranking(
    recommender: Any,
    queries: Interactions,
    users: np.ndarray,
    item_ids: np.ndarray,
    k: int,
    exclude_seen: bool,
) -> tuple[np.ndarray, np.ndarray, int]:
    """The same through the public ``recommend`` of any estimator.

    The catalogue is its ``item_ids_`` where it has them, else whatever it recommended and
    whatever is relevant.
    """
    query_ids = queries.users
    found = recommender.recommend(query_ids, n_recommendations=k, exclude_seen=exclude_seen)
    rows = found[0] if isinstance(found, tuple) else found
    if is_frame(rows) or len(rows) != len(query_ids):
        raise TypeError(
            f"{type(recommender).__name__}.recommend returned a {type(rows).__name__} of "
            f"{len(rows)} rows for {len(query_ids)} users; a scorer needs one row of item "
            "ids for each, or a tuple that starts with such rows."
        )
    found_ids = np.full((len(rows), k), None, dtype=object)
    for row, ids in zip(found_ids, rows, strict=True):
        row[: len(ids)] = ids[:k]
    filled = ~pd.isna(found_ids)
    known = getattr(recommender, "item_ids_", item_ids)
    index = pd.Index(pd.unique(np.concatenate([np.asarray(known), found_ids[filled]])))
    ranked = np.full(found_ids.shape, -1, dtype=np.int64)
    ranked[filled] = index.get_indexer(pd.Index(found_ids[filled]).infer_objects())
    return ranked, index.get_indexer(item_ids), len(index)


def _mean(values: np.ndarray, keep: np.ndarray, user_weights: np.ndarray | None) -> float:
    if user_weights is None:
        return float(values[keep].mean())
    return float(np.average(values[keep], weights=user_weights[keep]))


class _RankingScorer:
    """What :func:`make_ranking_scorer` returns; a class so that it can be pickled."""

    def __init__(
        self,
        metrics: str | Sequence[str],
        user_column: Column | None,
        item_column: Column | None,
        exclude_seen: bool,
    ) -> None:
        self.metrics = metrics
        self.user_column = user_column
        self.item_column = item_column
        self.exclude_seen = exclude_seen

    def __repr__(self) -> str:
        return f"make_ranking_scorer({self.metrics!r})"

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float | dict[str, float]:
        if hasattr(estimator, "fit"):
            check_is_fitted(estimator)
        recommender, X = _unwrap(estimator, X)
        interactions = read_interactions(
            as_interactions(X, owner="A ranking scorer"),
            y,
            sample_weight,
            roles=self._roles(recommender),
        )
        single = isinstance(self.metrics, str)
        names = [self.metrics] if isinstance(self.metrics, str) else self.metrics
        evaluation = evaluate(
            recommender, interactions, names, exclude_seen=self.exclude_seen
        )
        evaluation.warn_if_undefined()
        means = evaluation.means
        return means[names[0]] if single else means

    def _roles(self, recommender: Any) -> Roles:
        """The columns given to the scorer, else the estimator's, else the first two."""
        fitted: dict[str, Any] = {}
        if hasattr(recommender, "_rank_held_out"):
            own = Roles.of(recommender)
            fitted = {
                "user_column": own.user_column,
                "item_column": own.item_column,
                "names": own.names,
                "owner": own.owner,
                "user_features": own.user_features,
                "item_features": own.item_features,
            }
        else:
            for role in ("user_column", "item_column"):
                if hasattr(recommender, role):
                    fitted[role] = getattr(recommender, role)
        for role in ("user_column", "item_column"):
            if getattr(self, role) is not None:
                fitted[role] = getattr(self, role)
        return Roles(**fitted)


def make_ranking_scorer(
    metrics: str | Sequence[str],
    *,
    user_column: Column | None = None,
    item_column: Column | None = None,
    exclude_seen: bool = True,
) -> _RankingScorer:
    """A scorer of ranking metrics for everything in scikit-learn that takes one.

    Each user of X is given a ranking of the whole catalogue; their relevant items are
    those of their rows with ``y > 0`` (all rows when y is None). Users without a relevant
    item in the catalogue are left out of the mean.

    Parameters
    ----------
    metrics : str or list of str
        Names with a cut-off, such as ``"ndcg@10"``, of ``ndcg``, ``recall``,
        ``precision``, ``map``, ``mrr``, ``hit_rate`` and ``coverage``. A single name
        makes a scorer that returns a number; a list, of any length, one that returns a
        dict, all from one ranking.
    user_column, item_column : str or int, default=None
        Columns of X; None: those of the estimator, or the first two for an estimator that
        names none.
    exclude_seen : bool, default=True
        Leave the training pairs out of the ranking, except those that are being scored.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, sample_weight=None)``. It takes a recommender of
        this package, a Pipeline that ends in one, a fitted search over either, or any
        fitted estimator with ``recommend(X, n_recommendations=..., exclude_seen=...)``.

    Raises
    ------
    ValueError
        For an unknown metric; the message proposes the nearest known one.

    Examples
    --------
    >>> from sklearn.model_selection import cross_validate
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.metrics import make_ranking_scorer
    >>> X = make_interactions(random_state=0).interactions
    >>> scoring = make_ranking_scorer(["ndcg@10", "recall@20"])
    >>> sorted(cross_validate(PopularRecommender(), X, scoring=scoring, cv=3))
    ['fit_time', 'score_time', 'test_ndcg@10', 'test_recall@20']
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise ValueError("metrics is empty; name at least one, such as 'ndcg@10'.")
    for name in names:
        parse_metric(name)
    return _RankingScorer(
        metrics if isinstance(metrics, str) else names,
        user_column,
        item_column,
        exclude_seen,
    )


def _unwrap(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The recommender inside searches and pipelines, and X as it would reach it."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "recommend"):
            return estimator, X
        else:
            raise TypeError(
                f"A ranking scorer needs an estimator with a recommend method; "
                f"{type(estimator).__name__} has none."
            )
