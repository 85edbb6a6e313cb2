"""From an estimator and interactions to the metrics of each user: the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._matched import RankedRelevance, match_relevance
from sktwotower.metrics._rankers import ExternalRanker, NativeRanker, Ranking, RelevantPairs
from sktwotower.metrics._registry import (
    ACCURACY,
    AGGREGATE,
    BEYOND,
    POINTWISE,
    Metrics,
    MetricSpec,
    read_metrics,
)

# Ranks that are held at a time: complete rankings are as large as all scores.
_BLOCK_SIZE = 2**23


@dataclass(frozen=True, eq=False)
class UserMetrics:
    """Metrics of one evaluation, user by user.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        Every user of the rows, in order of appearance.
    first_rows : ndarray of shape (n_users,)
        The first row of each.
    per_user : dict of str to ndarray of shape (n_users,)
        NaN where a metric is not defined, as for users without a relevant candidate.
    measured : ndarray of shape (n_users,), bool
        Users with a relevant candidate.
    n_dropped : ndarray of shape (n_users,), int64
        Relevant items of each that are not among the candidates.
    weights : ndarray of shape (n_users,) or None
        Mean weight of the relevant rows of each.
    ranked : ndarray of shape (n_users, n_ranked), int64
        -1 throughout for users who are not measured.
    n_items : int
        The number of candidates.
    """

    user_ids: np.ndarray
    first_rows: np.ndarray
    per_user: dict[str, np.ndarray]
    measured: np.ndarray
    n_dropped: np.ndarray
    weights: np.ndarray | None
    ranked: np.ndarray
    n_items: int

    def value(self, metric: str, of: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all users, or of some (a mask); NaN where nobody has it."""
        if of.name in AGGREGATE:
            return self.aggregate(of, users)
        values = self.per_user[metric]
        defined = ~np.isnan(values)
        if users is not None:
            defined &= users
        weights = None if self.weights is None else self.weights[defined]
        return mean_of(values[defined], weights)

    def aggregate(self, wanted: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all rankings together, or of some users' (a mask)."""
        rows = self.measured if users is None else self.measured & users
        if not rows.any():
            return float("nan")
        return float(wanted.function(self.ranked[rows], self.n_items, k=wanted.k))

    def counts(self, users: np.ndarray | None = None) -> dict[str, int]:
        """How many users were measured and left out, and how many items dropped."""
        users = np.ones(len(self.measured), dtype=bool) if users is None else users
        return {
            "n_users": int((self.measured & users).sum()),
            "n_left_out": int((~self.measured & users).sum()),
            "n_dropped": int(self.n_dropped[users].sum()),
        }


@dataclass(frozen=True, eq=False)
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
    users : UserMetrics or None
        The same user by user; None if nothing was ranked.
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
    metrics: Metrics | dict[str, MetricSpec],
    *,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
    predictions: Callable[[], np.ndarray] | None = None,
) -> Evaluation:
    """Rank once for each user of the interactions and measure the ranking.

    Parameters
    ----------
    recommender : estimator with ``recommend``
        One of this package's has the pairs that are scored ranked even if it has seen
        them in training; of another one ``recommend`` is called as it is.
    interactions : Interactions
        Their positive rows are relevant, and their labels are the gains.
    metrics : str, callable, list or dict of them
        As :func:`~sktwotower.metrics.make_ranking_scorer` takes them.
    exclude_seen : bool, default=True
        Whether training pairs are left out of the ranking.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items that are ranked; None: the catalogue.
    predictions : callable, default=None
        Scores of the rows, for pointwise metrics of a foreign recommender.

    Raises
    ------
    ValueError
        If no row is positive.
    """
    wanted = _as_wanted(metrics)
    pointwise = {key: of for key, of in wanted.items() if of.name in POINTWISE}
    ranking = {key: of for key, of in wanted.items() if key not in pointwise}
    means = {}
    users = None
    if ranking:
        users = measure(
            recommender,
            interactions,
            ranking,
            exclude_seen=exclude_seen,
            candidates=candidates,
        )
        means = {key: users.value(key, of) for key, of in ranking.items()}
        counts = users.counts()
    else:
        counts = {"n_users": len(pd.unique(interactions.users))}
    if pointwise:
        means |= _measure_rows(recommender, interactions, pointwise, predictions)
    return Evaluation({key: means[key] for key in wanted}, users=users, **counts)


def measure(
    recommender: Any,
    interactions: Interactions,
    metrics: Metrics | dict[str, MetricSpec],
    *,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
) -> UserMetrics:
    """The same, user by user; pointwise metrics are refused."""
    wanted = _as_wanted(metrics)
    positive = interactions.positive
    if not positive.any():
        raise ValueError(
            "There is nothing to find: no row of X is relevant (y > 0), so no ranking "
            "metric is defined."
        )
    all_users, user_ids = pd.factorize(interactions.users)
    users = all_users[positive]
    # A user is asked for as in their first row: later features are not known then.
    askable, first = np.unique(users, return_index=True)
    queries = interactions.take(np.flatnonzero(positive)[first])
    place = np.full(len(user_ids), -1)
    place[askable] = np.arange(len(askable))
    labels = interactions.labels
    pairs = RelevantPairs(
        place[users],
        interactions.items[positive],
        None if labels is None else labels[positive],
    )
    is_own = hasattr(recommender, "_rank_held_out")
    source = (NativeRanker if is_own else ExternalRanker)(
        recommender, queries, pairs, exclude_seen, candidates
    )
    depth = source.depth([_depth(of, users) for of in wanted.values()])
    blocks = []
    size = max(1, _BLOCK_SIZE // max(depth, 1))
    kept = max((of.k for of in wanted.values() if of.k is not None), default=1)
    heads = []
    for start in range(0, len(askable), size):
        rows = np.arange(start, min(start + size, len(askable)))
        ranking, relevant = source.rank(rows, depth)
        blocks.append(_measure_block(ranking, relevant, wanted))
        heads.append(ranking.ranked[:, :kept])
    # A foreign recommender shows what it has only in its answers: counted afterwards.
    relevant, n_dropped = source.relevant(), source.n_dropped()
    measured = np.diff(relevant.indptr) > 0
    head = np.concatenate(heads)
    per_user = {}
    for key, of in wanted.items():
        if of.name in AGGREGATE:
            continue
        if of.name:
            values = np.concatenate([block[key] for block in blocks])
        else:
            values = _call(key, of.function, head[:, : of.k], relevant)
        per_user[key] = _spread(np.where(measured, values, np.nan), askable, len(user_ids))
    head[~measured] = -1
    weights = None
    if interactions.weights is not None:
        own = interactions.weights[positive]
        n_rows = np.bincount(users, minlength=len(user_ids))
        weights = np.bincount(users, own, len(user_ids)) / np.maximum(n_rows, 1)
    return UserMetrics(
        user_ids=user_ids,
        first_rows=np.unique(all_users, return_index=True)[1],
        per_user=per_user,
        measured=_spread(measured, askable, len(user_ids), fill=False),
        n_dropped=_spread(n_dropped, askable, len(user_ids), fill=0),
        weights=weights,
        ranked=_spread(head, askable, len(user_ids), fill=-1),
        n_items=source.n_items,
    )


def mean_of(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Mean, weighted if there are weights; NaN of nothing."""
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def _as_wanted(metrics: Any) -> dict[str, MetricSpec]:
    if isinstance(metrics, dict) and all(
        isinstance(of, MetricSpec) for of in metrics.values()
    ):
        return metrics
    return read_metrics(metrics)


def _depth(of: MetricSpec, users: np.ndarray) -> int | None:
    """Ranks that a metric looks at; None: all."""
    if of.name == "r_precision":
        return int(np.bincount(users).max())
    return of.k


def _spread(values: np.ndarray, rows: np.ndarray, n: int, fill: Any = np.nan) -> np.ndarray:
    """Put values into these rows of n."""
    out = np.full((n, *values.shape[1:]), fill, dtype=values.dtype)
    out[rows] = values
    return out


def _measure_block(
    ranking: Ranking, relevant: sp.csr_matrix, wanted: dict[str, MetricSpec]
) -> dict[str, np.ndarray]:
    """Named per-user metrics of some users."""
    matched: RankedRelevance | None = None
    values = {}
    for key, of in wanted.items():
        options = {} if of.k is None else {"k": of.k}
        if of.name in ACCURACY:
            if matched is None:
                matched = match_relevance(ranking.ranked, relevant)
            values[key] = of.function(matched, **options)
        elif of.name in BEYOND:
            given: list[Any] = [ranking.ranked]
            if of.name == "serendipity":
                given.append(relevant)
            of_items = ranking.embeddings if of.name == "diversity" else ranking.popularity
            values[key] = of.function(*given, of_items(), **options)
    return values


def _call(
    key: str, function: Callable[..., Any], ranked: np.ndarray, relevant: sp.csr_matrix
) -> np.ndarray:
    """The values of a caller's own metric, checked."""
    values = np.asarray(function(ranked, sp.csr_array(relevant)), dtype=np.float64)
    if values.shape != (len(ranked),):
        raise ValueError(
            f"Metric {key!r} returned shape {values.shape} for {len(ranked)} users; it "
            "must return one value a user."
        )
    return values


def _measure_rows(
    recommender: Any,
    interactions: Interactions,
    pointwise: dict[str, MetricSpec],
    predictions: Callable[[], np.ndarray] | None,
) -> dict[str, float]:
    """Pointwise metrics of the rows."""
    labels = interactions.positive
    if labels.all() or not labels.any():
        what = "only positives (y is None, or all of y > 0)" if labels.all() else "none"
        raise ValueError(
            f"{next(iter(pointwise))!r} needs rows of both classes, y > 0 and y <= 0; X "
            f"has {what}."
        )
    scores = np.asarray(_pair_scores(recommender, interactions, predictions), np.float64)
    temperature = float(getattr(recommender, "temperature_", 1.0))
    return {
        key: of.function(labels, scores, temperature, interactions.weights)
        for key, of in pointwise.items()
    }


def _pair_scores(
    recommender: Any,
    interactions: Interactions,
    predictions: Callable[[], np.ndarray] | None,
) -> np.ndarray:
    """What ``predict`` says of each row."""
    if predictions is not None:
        return predictions()
    codes = [
        recommender._user_vocabulary.codes(interactions.users),
        recommender._item_vocabulary.codes(interactions.items),
    ]
    if not hasattr(recommender, "_side"):
        scores: np.ndarray = recommender._score_pairs(*codes)
        return scores
    features = [interactions.user_features, interactions.item_features]
    users, items = (
        recommender._side(side).vectors(
            of_side, given.to_frame() if isinstance(given, pd.Series) else given
        )
        for side, of_side, given in zip(("user", "item"), codes, features, strict=True)
    )
    return np.asarray(np.einsum("nd,nd->n", users, items))
