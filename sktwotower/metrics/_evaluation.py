"""From a recommender and interactions to the metrics of each user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._bootstrap import mean_of
from sktwotower.metrics._matched import DEFAULT_K, RankedRelevance, match_relevance
from sktwotower.metrics._rankers import Ranker, Ranking, RelevantPairs, make_ranker
from sktwotower.metrics._registry import (
    ACCURACY,
    AGGREGATE,
    BEYOND,
    POINTWISE,
    Metrics,
    MetricSpec,
    read_metrics,
)
from sktwotower.metrics._sources import EvaluationSource, Source, name_of, source_of
from sktwotower.utils._warnings import warn

# Ranked items that are held at a time: complete rankings are as large as all scores.
_BLOCK_SIZE = 2**23

MetricSpecs = dict[str, MetricSpec]


@dataclass(frozen=True, eq=False)
class UserMetrics:
    """Metrics of one evaluation, user by user.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        Users of the rows, in order of appearance.
    first_rows : ndarray of shape (n_users,)
        The first row of each user.
    per_user : dict of str to ndarray of shape (n_users,)
        NaN where a metric is not defined, for example for users without a relevant
        candidate.
    measured : ndarray of shape (n_users,), bool
        Users with a relevant candidate.
    n_dropped : ndarray of shape (n_users,), int64
        Number of relevant items of each user that are not candidates.
    weights : ndarray of shape (n_users,) or None
        Mean weight of the relevant rows of each user.
    ranked : ndarray of shape (n_users, n_ranked), int64
        Columns of candidates; -1 throughout for users that are not measured.
    n_items : int
        Number of candidates.
    """

    user_ids: np.ndarray
    first_rows: np.ndarray
    per_user: dict[str, np.ndarray]
    measured: np.ndarray
    n_dropped: np.ndarray
    weights: np.ndarray | None
    ranked: np.ndarray
    n_items: int

    def value(self, key: str, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all users or of a mask of them; NaN if it is not defined for any."""
        if spec.name in AGGREGATE:
            return self.aggregate(spec, users)
        values = self.per_user[key]
        defined = ~np.isnan(values)
        if users is not None:
            defined &= users
        weights = None if self.weights is None else self.weights[defined]
        return mean_of(values[defined], weights)

    def aggregate(self, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all rankings together, or of the rankings of a mask of users."""
        rows = self.measured if users is None else self.measured & users
        if not rows.any():
            return float("nan")
        return float(spec.function(self.ranked[rows], self.n_items, k=spec.k))

    def counts(self, users: np.ndarray | None = None) -> dict[str, int]:
        """Numbers of users measured and left out, and of dropped relevant items."""
        users = np.ones(len(self.measured), dtype=bool) if users is None else users
        return {
            "n_users": int((self.measured & users).sum()),
            "n_left_out": int((~self.measured & users).sum()),
            "n_dropped": int(self.n_dropped[users].sum()),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one evaluation.

    Attributes
    ----------
    means : dict of str to float
        The value of each metric, over all users.
    n_users : int
        Users that the means are over.
    n_left_out : int
        Users without a relevant candidate.
    n_dropped : int
        Relevant pairs whose item is not a candidate.
    users : UserMetrics or None
        The metrics user by user; None if nothing was ranked.
    """

    means: dict[str, float] = field(default_factory=dict)
    n_users: int = 0
    n_left_out: int = 0
    n_dropped: int = 0
    users: UserMetrics | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The three numbers by name."""
        return {
            "n_users": self.n_users,
            "n_left_out": self.n_left_out,
            "n_dropped": self.n_dropped,
        }

    def warn_if_undefined(self) -> None:
        """Warn if there was no user to measure."""
        if self.n_users == 0:
            warn(
                "No user has a relevant item that could be recommended (none of the items "
                "of X is in the catalogue); the metrics are NaN.",
                UndefinedMetricWarning,
            )


def evaluate(
    recommender: Source,
    interactions: Interactions,
    metrics: Metrics,
    *,
    n_ranked: int = DEFAULT_K,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
    predictions: Callable[[], ArrayLike] | None = None,
) -> Evaluation:
    """Rank once for each user of the interactions and measure the ranking.

    Parameters
    ----------
    recommender : EvaluationSource or Recommender
        A recommender of this package, or its source, ranks the pairs that are scored even
        if they are in its training data. Of another recommender, ``recommend`` is called
        as it is.
    interactions : Interactions
        The positive rows are relevant, and their labels are the gains.
    metrics : str, callable, list or dict of them
        As in :func:`~sktwotower.metrics.make_ranking_scorer`.
    n_ranked : int, default=10
        Length of the rankings that callables get.
    exclude_seen : bool, default=True
        Leave pairs of the training data out of the rankings.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank; None: the catalogue.
    predictions : callable, default=None
        Returns the scores of the rows, for pointwise metrics of an external recommender.

    Raises
    ------
    ValueError
        If no row is positive.
    """
    source = source_of(recommender)
    specs = read_metrics(metrics, n_ranked=n_ranked)
    pointwise = {key: spec for key, spec in specs.items() if spec.name in POINTWISE}
    of_rankings = {key: spec for key, spec in specs.items() if key not in pointwise}
    means = {}
    users = None
    if of_rankings:
        users = measure(
            source,
            interactions,
            of_rankings,
            exclude_seen=exclude_seen,
            candidates=candidates,
        )
        means = {key: users.value(key, spec) for key, spec in of_rankings.items()}
        counts = users.counts()
    else:
        counts = {"n_users": len(pd.unique(interactions.users))}
    if pointwise:
        means |= _measure_rows(source, interactions, pointwise, predictions)
    return Evaluation({key: means[key] for key in specs}, users=users, **counts)


def measure(
    recommender: Source,
    interactions: Interactions,
    specs: MetricSpecs,
    *,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
) -> UserMetrics:
    """Rank once for each user and measure user by user; no pointwise metrics."""
    positive = interactions.positive
    if not positive.any():
        raise ValueError(
            "There is nothing to find: no row of X is relevant (y > 0), so no ranking "
            "metric is defined."
        )
    users, user_ids = pd.factorize(interactions.users)
    n_users = len(user_ids)
    relevant_users = users[positive]
    # A query has the features of the user's first row: later ones are not known then.
    queried_users, first = np.unique(relevant_users, return_index=True)
    queries = interactions.take(np.flatnonzero(positive)[first])
    query_of_user = np.full(n_users, -1)
    query_of_user[queried_users] = np.arange(len(queried_users))
    labels = interactions.labels
    pairs = RelevantPairs(
        query_of_user[relevant_users],
        interactions.items[positive],
        None if labels is None else labels[positive],
    )
    ranker = make_ranker(
        source_of(recommender),
        queries,
        pairs,
        exclude_seen=exclude_seen,
        candidates=candidates,
    )
    cut_offs = [_cut_off(spec, relevant_users) for spec in specs.values()]
    per_query, head = _measure_queries(ranker, len(queries), specs, ranker.depth(cut_offs))
    measured = np.diff(ranker.relevant().indptr) > 0
    head[~measured] = -1
    return UserMetrics(
        user_ids=user_ids,
        first_rows=np.unique(users, return_index=True)[1],
        per_user={
            key: _spread(np.where(measured, values, np.nan), queried_users, n_users)
            for key, values in per_query.items()
        },
        measured=_spread(measured, queried_users, n_users, fill=False),
        n_dropped=_spread(ranker.n_dropped(), queried_users, n_users, fill=0),
        weights=_mean_weights(interactions, relevant_users, n_users),
        ranked=_spread(head, queried_users, n_users, fill=-1),
        n_items=ranker.n_items,
    )


def _cut_off(spec: MetricSpec, relevant_users: np.ndarray) -> int | None:
    """How many ranks a metric looks at; None: all."""
    if spec.name == "r_precision":
        return int(np.bincount(relevant_users).max())
    return spec.k


def _spread(values: np.ndarray, rows: np.ndarray, n: int, fill: Any = np.nan) -> np.ndarray:
    """Put values into these rows of n."""
    spread = np.full((n, *values.shape[1:]), fill, dtype=values.dtype)
    spread[rows] = values
    return spread


def _mean_weights(
    interactions: Interactions, relevant_users: np.ndarray, n_users: int
) -> np.ndarray | None:
    """Mean weight of the relevant rows of each user, (n_users,); None without weights."""
    if interactions.weights is None:
        return None
    weights = interactions.weights[interactions.positive]
    n_rows = np.bincount(relevant_users, minlength=n_users)
    return np.bincount(relevant_users, weights, n_users) / np.maximum(n_rows, 1)


def _measure_queries(
    ranker: Ranker, n_queries: int, specs: MetricSpecs, depth: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Metrics with a value a query, (n_queries,) each, and the heads of the rankings."""
    n_kept = max((spec.k for spec in specs.values() if spec.k is not None), default=1)
    size = max(1, _BLOCK_SIZE // max(depth, 1))
    blocks, heads = [], []
    for start in range(0, n_queries, size):
        rows = np.arange(start, min(start + size, n_queries))
        ranking, relevant = ranker.rank(rows, depth)
        blocks.append(_measure_block(ranking, relevant, specs))
        heads.append(ranking.ranked[:, :n_kept])
    head = np.concatenate(heads)
    relevant = ranker.relevant()
    per_query = {}
    for key, spec in specs.items():
        if spec.name in AGGREGATE:
            continue
        if spec.name:
            per_query[key] = np.concatenate([block[key] for block in blocks])
        else:
            per_query[key] = _call(key, spec.function, head[:, : spec.k], relevant)
    return per_query, head


def _measure_block(
    ranking: Ranking, relevant: sp.csr_matrix, specs: MetricSpecs
) -> dict[str, np.ndarray]:
    """Named metrics with a value a query, of some queries."""
    matched: RankedRelevance | None = None
    values = {}
    for key, spec in specs.items():
        options = {} if spec.k is None else {"k": spec.k}
        if spec.name in ACCURACY:
            if matched is None:
                matched = match_relevance(ranking.ranked, relevant)
            values[key] = spec.function(matched, **options)
        elif spec.name in BEYOND:
            arguments: list[Any] = [ranking.ranked]
            if spec.name == "serendipity":
                arguments.append(relevant)
            is_diversity = spec.name == "diversity"
            arguments.append(ranking.embeddings() if is_diversity else ranking.popularity())
            values[key] = spec.function(*arguments, **options)
    return values


def _call(
    key: str, function: Callable[..., Any], ranked: np.ndarray, relevant: sp.csr_matrix
) -> np.ndarray:
    """The checked values of a metric that is a callable, (n_queries,)."""
    values = np.asarray(function(ranked, sp.csr_array(relevant)), dtype=np.float64)
    if values.shape != (len(ranked),):
        raise ValueError(
            f"Metric {key!r} returned shape {values.shape} for {len(ranked)} users; it "
            "must return one value a user."
        )
    return values


def _measure_rows(
    source: Source,
    interactions: Interactions,
    specs: MetricSpecs,
    predictions: Callable[[], ArrayLike] | None,
) -> dict[str, float]:
    """Pointwise metrics of the rows."""
    labels = interactions.positive
    if labels.all() or not labels.any():
        what = "only positives (y is None, or all of y > 0)" if labels.all() else "none"
        raise ValueError(
            f"{next(iter(specs))!r} needs rows of both classes, y > 0 and y <= 0; X "
            f"has {what}."
        )
    if isinstance(source, EvaluationSource):
        scores = np.asarray(source.pair_scores(interactions), np.float64)
        temperature = source.temperature
    elif predictions is None:
        raise TypeError(
            f"{next(iter(specs))!r} needs a score for each row, and {name_of(source)} has "
            "no predict."
        )
    else:
        scores = np.asarray(predictions(), np.float64)
        temperature = float(getattr(source, "temperature_", 1.0))
    return {
        key: spec.function(labels, scores, temperature, interactions.weights)
        for key, spec in specs.items()
    }
