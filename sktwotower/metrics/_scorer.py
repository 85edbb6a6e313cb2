"""Scorers for scikit-learn made of ranking metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import Interactions, read_interactions
from sktwotower._data.roles import ColumnRoles, as_interactions
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._matched import DEFAULT_K, check_positive_int
from sktwotower.metrics._registry import Metrics, metrics_of_users, read_metrics
from sktwotower.metrics._slices import slices_of
from sktwotower.metrics._sources import EvaluationSource, Model, Source, source_of, unwrap
from sktwotower.utils._columns import Column


class _RankingScorer:
    """What :func:`make_ranking_scorer` returns; a class so that it can be pickled."""

    def __init__(
        self,
        metrics: Metrics,
        user_column: Column | None,
        item_column: Column | None,
        exclude_seen: bool,
        candidates: ArrayLike | None,
        n_ranked: int,
        by: str | Mapping[Any, Any] | pd.Series | None,
        with_counts: bool,
    ) -> None:
        self.metrics = metrics
        self.user_column = user_column
        self.item_column = item_column
        self.exclude_seen = exclude_seen
        self.candidates = candidates
        self.n_ranked = n_ranked
        self.by = by
        self.with_counts = with_counts
        self.weight_request: bool | str | None = None

    def __repr__(self) -> str:
        return f"make_ranking_scorer({self.metrics!r})"

    def set_score_request(self, *, sample_weight: bool | str | None) -> _RankingScorer:
        """Whether weights are passed on, as scikit-learn's metadata routing has it."""
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing; enable it with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self.weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """What routing asks: an error for weights that nobody has spoken of."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=self.weight_request)
        return request

    def __call__(
        self,
        estimator: Model,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float | dict[str, float]:
        source, X, interactions = read_rows(
            estimator,
            X,
            y,
            sample_weight,
            user_column=self.user_column,
            item_column=self.item_column,
            owner="A ranking scorer",
        )
        evaluation = evaluate(
            source,
            interactions,
            self.metrics,
            n_ranked=self.n_ranked,
            exclude_seen=self.exclude_seen,
            candidates=self.candidates,
            predictions=_predictions(source, X, sample_weight),
        )
        evaluation.warn_if_undefined()
        is_single = isinstance(self.metrics, str) or callable(self.metrics)
        if is_single and self.by is None and not self.with_counts:
            return next(iter(evaluation.means.values()))
        values: dict[str, float] = dict(evaluation.means)
        if self.with_counts:
            values |= evaluation.counts
        users = evaluation.users
        if users is None:
            return values
        specs = read_metrics(self.metrics, n_ranked=self.n_ranked)
        kept = kept_rows(sample_weight, len(X))
        for name, chosen in slices_of(self.by, source, users, kept).items():
            of_slice = {key: users.value(key, spec, chosen) for key, spec in specs.items()}
            if self.with_counts:
                of_slice |= users.counts(chosen)
            values |= {f"{key}[{name}]": value for key, value in of_slice.items()}
        return values


def _predictions(
    source: Source, X: Any, sample_weight: ArrayLike | None
) -> Callable[[], np.ndarray] | None:
    """Calls ``predict`` of an external recommender for the rows that have a weight."""
    if isinstance(source, EvaluationSource) or not hasattr(source, "predict"):
        return None
    predict = source.predict

    def scores_of_rows() -> np.ndarray:
        scores = np.asarray(predict(X))
        return scores[kept_rows(sample_weight, len(scores))]

    return scores_of_rows


def kept_rows(sample_weight: ArrayLike | None, n: int) -> np.ndarray:
    """Which of n rows have a weight, a mask."""
    weights = 1 if sample_weight is None else sample_weight
    return np.broadcast_to(np.asarray(weights) > 0, n)


def make_ranking_scorer(
    metrics: Metrics,
    *,
    user_column: Column | None = None,
    item_column: Column | None = None,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
    by: str | Mapping[Any, Any] | pd.Series | None = None,
    with_counts: bool = False,
    n_ranked: int = DEFAULT_K,
) -> _RankingScorer:
    """A scorer of ranking metrics for everything in scikit-learn that takes one.

    Each user of X is given a ranking of the whole catalogue; their relevant items are
    those of their rows with ``y > 0`` (all rows when y is None). Users without a relevant
    item among the candidates are left out of the mean, and relevant items that are no
    candidates are dropped; `with_counts` says how many. With weights a user counts with
    the mean weight of their relevant rows.

    Parameters
    ----------
    metrics : str, callable, or list or dict of them
        A single one makes a scorer that returns a number; a list, of any length, or a
        dict of names and metrics, one that returns a dict, all from one ranking.

        - Names with a cut-off, such as ``"ndcg@10"``, of ``ndcg``, ``graded_ndcg``,
          ``recall``, ``precision``, ``map``, ``mrr``, ``hit_rate``, ``serendipity``,
          ``popularity``, ``novelty``, ``diversity``, ``coverage`` and ``gini``. The
          cut-off may exceed the catalogue. ``graded_ndcg`` takes y for the gain of an
          item, the largest one where a pair is repeated; the others only ask whether y
          is above 0.
        - Names without one: ``r_precision``, ``auc`` (of each user), and those of all
          rows, ``roc_auc``, ``pr_auc``, ``neg_log_loss`` and ``balanced_accuracy``, which
          look at ``predict`` and need a y with both classes. The last two look at
          ``sigmoid(predict(X) / temperature_)``.
        - Callables ``metric(ranked, relevant)`` that return one value a user, an
          array-like of shape (n_users,). `ranked` has shape (n_users, n_ranked) and holds
          columns of items, best first, padded with -1; `relevant` is a CSR array of
          shape (n_users, n_items) with the y of each relevant item, or 1 without y. The
          mean is over the users with a relevant item whose value is not NaN. Its name is
          ``__name__``; name a lambda in a dict.
    user_column, item_column : str or int, default=None
        Columns of X; None: those of the estimator, or the first two for an estimator that
        names none.
    exclude_seen : bool, default=True
        Leave the training pairs out of the ranking, except those that are being scored.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items that are ranked, for everybody; None: the catalogue. Ids that the
        estimator does not know are left out: folds differ in what they know.
    by : {"activity", "cold"}, Series or dict, default=None
        Also measure slices of users, as :func:`ranking_report` does: the scorer returns a
        dict, with ``"ndcg@10[new]"`` beside ``"ndcg@10"``. A slice without users is NaN.
        Labels are by user id; those of rows would not fit another fold.
    with_counts : bool, default=False
        Also return, in a dict, ``"n_users"``, the users that the means are over,
        ``"n_left_out"``, users without a relevant candidate, and ``"n_dropped"``, relevant
        items that are no candidates.
    n_ranked : int, default=10
        Length of the rankings that callables see, at most the number of candidates.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, sample_weight=None)``. It takes a recommender of
        this package, a Pipeline that ends in one, a fitted search over either, or any
        fitted estimator with ``recommend(X, n_recommendations=..., exclude_seen=...)``
        (and ``candidates`` if they are given). With metadata routing enabled, ask for
        weights with ``scorer.set_score_request(sample_weight=True)``.

    Raises
    ------
    ValueError
        For an unknown metric; the message proposes the nearest known one. For `by` with
        a metric of rows, such as ``roc_auc``.

    See Also
    --------
    ranking_report : The same with confidence intervals, also for groups of users.
    compare : Whether one model is better than another.

    Notes
    -----
    A search takes the largest value for the best, of whatever metric. Small values of
    ``popularity`` and ``gini`` are what one usually wants, so do not let these decide.

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

    For users of training and for new ones, and how many they are:

    >>> scorer = make_ranking_scorer("recall@20", by="cold", with_counts=True)
    >>> scores = scorer(PopularRecommender().fit(X[::2]), X[1::2])
    >>> scores["n_users[known]"] + scores["n_users[new]"] == scores["n_users"]
    True

    A metric of your own: is a relevant item at rank 1 or 2?

    >>> from sktwotower.metrics import reciprocal_rank
    >>> def found_early(ranked, relevant):
    ...     return reciprocal_rank(ranked, relevant) >= 0.5
    >>> scorer = make_ranking_scorer([found_early, "hit_rate@2"])
    >>> scores = scorer(PopularRecommender().fit(X), X)
    >>> scores["found_early"] == scores["hit_rate@2"]
    True
    """
    check_positive_int("n_ranked", n_ranked)
    if not isinstance(metrics, str | Mapping) and not callable(metrics):
        metrics = list(metrics)
    read_metrics(metrics, n_ranked=n_ranked)
    if by is not None:
        metrics_of_users(metrics, "by")
        is_name = isinstance(by, str) and by in ("activity", "cold")
        if not is_name and not isinstance(by, Mapping | pd.Series):
            got = repr(by) if isinstance(by, str) else f"a {type(by).__name__}"
            raise ValueError(
                "by must be 'activity', 'cold', or labels by user id (a Series or a dict); "
                f"got {got}. Labels of rows would not fit other rows."
            )
    return _RankingScorer(
        metrics,
        user_column,
        item_column,
        exclude_seen,
        candidates,
        n_ranked,
        by,
        with_counts,
    )


def read_rows(
    model: Model,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
    *,
    user_column: Column | None,
    item_column: Column | None,
    owner: str,
) -> tuple[Source, Any, Interactions]:
    """The source inside a model, X as it reaches the recommender, and its checked rows."""
    if hasattr(model, "fit"):
        check_is_fitted(model)
    recommender, X = unwrap(model, X)
    source = source_of(recommender)
    roles = _roles_of(source, user_column, item_column)
    rows = as_interactions(X, owner=owner)
    return source, X, read_interactions(rows, y, sample_weight, roles=roles)


def _roles_of(
    source: Source,
    user_column: Column | None,
    item_column: Column | None,
) -> ColumnRoles:
    """The columns given by the caller, else the estimator's, else the first two."""
    if isinstance(source, EvaluationSource):
        roles = replace(source.roles, timestamp_column=None)
    else:
        roles = ColumnRoles(
            user_column=getattr(source, "user_column", ColumnRoles.user_column),
            item_column=getattr(source, "item_column", ColumnRoles.item_column),
        )
    columns = {"user_column": user_column, "item_column": item_column}
    chosen: dict[str, Any] = {
        role: column for role, column in columns.items() if column is not None
    }
    return replace(roles, **chosen)
