"""Scorers for scikit-learn made of ranking metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import (
    Interactions,
    read_interactions,
    warn_of_other_kinds,
)
from sktwotower._data.roles import ColumnRoles, Rows, as_interactions
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._matched import DEFAULT_K, check_positive_int
from sktwotower.metrics._registry import Metrics, metrics_of_users, read_metrics
from sktwotower.metrics._slices import slices_of
from sktwotower.metrics._sources import (
    EvaluationSource,
    Model,
    Source,
    name_of,
    source_of,
    unwrap,
)
from sktwotower.metrics._task import RankingOptions
from sktwotower.utils._columns import Column
from sktwotower.utils._forms import check_bool


class _RankingScorer:
    """The scorer of :func:`make_ranking_scorer`; a class, so that it can be pickled."""

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
        per_row: bool,
    ) -> None:
        self.metrics = metrics
        self.user_column = user_column
        self.item_column = item_column
        self.exclude_seen = exclude_seen
        self.candidates = candidates
        self.n_ranked = n_ranked
        self.by = by
        self.with_counts = with_counts
        self.per_row = per_row
        self.weight_request: bool | str | None = None

    def __repr__(self) -> str:
        return f"make_ranking_scorer({self.metrics!r})"

    @property
    def __name__(self) -> str:
        """What scikit-learn's displays call the score."""
        return ", ".join(read_metrics(self.metrics, n_ranked=self.n_ranked))

    def _accept_sample_weight(self) -> bool:
        """What scikit-learn asks the members of a dict of scorers."""
        return True

    def set_score_request(self, *, sample_weight: bool | str | None) -> _RankingScorer:
        """Request weights in scikit-learn's metadata routing, or refuse them."""
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing; enable it with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self.weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """The request for metadata routing; weights that are not requested are an error."""
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
        index = X.index if isinstance(X, pd.DataFrame) else None
        source, rows, interactions = read_rows(
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
            RankingOptions(
                exclude_seen=self.exclude_seen,
                candidates=self.candidates,
                per_row=self.per_row,
                X=rows_of_weight(rows, sample_weight) if self.per_row else None,
                predictions=predictions_of(source, rows, sample_weight),
            ),
            n_ranked=self.n_ranked,
        )
        evaluation.warn()
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
        kept = kept_rows(sample_weight, len(rows))
        slices = slices_of(self.by, source, users, kept, index=index, takes_rows=False)
        for name, chosen in slices.items():
            of_slice = {key: users.value(key, spec, chosen) for key, spec in specs.items()}
            if self.with_counts:
                of_slice |= users.counts(chosen)
            values |= {f"{key}[{name}]": value for key, value in of_slice.items()}
        return values


def predictions_of(
    source: Source, rows: Rows, sample_weight: ArrayLike | None
) -> Callable[[], np.ndarray] | None:
    """Calls ``predict`` of an external recommender for the rows that have a weight."""
    if isinstance(source, EvaluationSource) or not hasattr(source, "predict"):
        return None
    predict = source.predict

    def scores_of_rows() -> np.ndarray:
        scores = np.asarray(predict(rows))
        return scores[kept_rows(sample_weight, len(scores))]

    return scores_of_rows


def kept_rows(sample_weight: ArrayLike | None, n: int) -> np.ndarray:
    """Which of n rows have a weight, a mask."""
    weights = 1 if sample_weight is None else sample_weight
    return np.broadcast_to(np.asarray(weights) > 0, n)


def rows_of_weight(rows: Rows, sample_weight: ArrayLike | None) -> Rows:
    """The rows that have a weight, for an external recommender."""
    return rows[kept_rows(sample_weight, len(rows))]


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
    per_row: bool = False,
) -> _RankingScorer:
    """Make a scorer of ranking metrics for cross-validation, searches and curves.

    Use it wherever scikit-learn takes ``scoring``. The scorer ranks the whole catalogue
    for each user of X. The relevant items of a user are the items of its rows with
    ``y > 0``, or of all its rows without y. Relevant pairs that no ranking can contain are
    dropped: those whose item is not a candidate and, with `exclude_seen`, those that were
    seen in training. Users without another one are left out of the mean; `with_counts`
    returns how many. Start with ``"ndcg@10"``.

    Parameters
    ----------
    metrics : str, callable, or list or dict of them
        A single metric makes a scorer that returns a number. A list, or a dict of names
        and metrics, makes a scorer that returns a dict; all metrics share one ranking.

        - Names with a cut-off, such as ``"ndcg@10"``: ``ndcg``, ``graded_ndcg``,
          ``recall``, ``precision``, ``map``, ``mrr``, ``hit_rate``, ``serendipity``,
          ``popularity``, ``novelty``, ``diversity``, ``coverage`` and ``gini``. The
          cut-off may exceed the size of the catalogue. ``graded_ndcg`` takes y as the gain
          of an item, and the largest y of a repeated pair; the other metrics only ask
          whether y is above 0.
        - Names without a cut-off: ``r_precision``, ``auc`` (of each user), and metrics of
          rows, which read ``predict`` instead of rankings and need a y with both classes.
          ``roc_gauc`` is the area under the ROC curve among the rows of each user; users
          with rows of one class are left out, and the others count with the number of
          their rows, or the sum of their weights. Of all rows together are ``roc_auc``,
          ``pr_auc`` (average precision), ``neg_log_loss`` and ``balanced_accuracy``; the
          last two read ``sigmoid(predict(X) / temperature_)``.
        - Callables of rows, made with :func:`within_users`.
        - Callables ``metric(ranked, relevant)`` that return one value a user, an
          array-like of shape (n_users,). `ranked` has shape (n_users, n_ranked) and holds
          columns of items, best first, padded with -1. `relevant` is a CSR array of shape
          (n_users, n_items) with the y of each relevant item, or 1 without y. The mean is
          over users with a relevant item whose value is not NaN. The name of the metric is
          the name of the function.
    user_column, item_column : str or int, default=None
        Columns of X with the ids. None: the columns of the estimator, or the first two
        columns if it has no such parameters.
    exclude_seen : bool, default=True
        Leave pairs of the training data out of the rankings, and drop them where they are
        relevant, with a warning if they are more than 1 % of the relevant pairs. Set it to
        False to evaluate repeat purchases: if users return to items that they had. If *all*
        relevant pairs that could be recommended were seen, nothing would be left, so they
        stay in the ranking. The value is then one of training rows, as in learning curves
        and with ``return_train_score``; a warning says so if X is only a part of them.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank, for all users; None: the catalogue. Unknown ids are left
        out, since folds know different items.
    by : {"activity", "cold"}, Series or dict, default=None
        Also measure slices of users, as in :func:`ranking_report`. The scorer then returns
        a dict, with ``"ndcg@10[new]"`` beside ``"ndcg@10"``; the value of a slice without
        users is NaN. Labels must be by user id: those of rows would not fit other folds, so
        a Series with the index of X is refused, unless its labels are those of users, too.
    with_counts : bool, default=False
        Also return, in a dict, ``"n_users"``, the users that the means are over,
        ``"n_left_out"``, the users without a relevant pair that counts, ``"n_dropped"``,
        the relevant pairs that were dropped, and ``"n_seen"``, those of them that were
        seen in training.
    n_ranked : int, default=10
        Length of the rankings that callables get; at most the number of candidates.
    per_row : bool, default=False
        Rank for each relevant row by itself, with the user features of the row and its
        item as the only relevant one. Use it if features in X are a context, such as the
        time of day or the device. The value of a user is the mean over its rows. By
        default a user is ranked once, with the features of the earliest relevant row if X
        has the timestamp column; of several earliest rows, or without timestamps, with the
        features that most rows have, and of equally frequent ones the smallest. So the
        order of rows does not matter.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, sample_weight=None)``. The estimator is a fitted
        recommender of this package, a Pipeline that ends in one, a fitted search over
        either, or any fitted estimator with ``recommend(X, n_recommendations=...,
        exclude_seen=...)``, which also needs ``candidates`` if they are given; see Notes.
        With weights, a user counts with the mean weight of its relevant rows, and rows of
        weight 0 do not count. With metadata routing, request weights by
        ``scorer.set_score_request(sample_weight=True)``.

    Raises
    ------
    ValueError
        If a metric is unknown (the message proposes the nearest one), or `by` is given
        with a metric of rows such as ``roc_auc``.

    See Also
    --------
    ranking_report : A table with confidence intervals, also for labels of rows.
    compare : Test whether one model is better than another.

    Notes
    -----
    A recommender of another package is asked by user ids, so features in X have no effect;
    with `per_row` it is asked by rows of X, and must take them. A scorer asks its method
    ``seen_items(user_ids)``, if it has one, for the items of each user in training. Without
    it, the scorer finds them out: if a relevant item is not among the first ones, it asks
    for the complete ranking of the user, with and without ``exclude_seen``, which can cost
    more than everything else. If the recommender refuses so long a ranking, a warning says
    that seen pairs count as misses. Unlike the catalogue here, items that it never
    recommends count as misses, too, unless it has ``item_ids_``.

    A search takes the largest value as the best. Small values of ``popularity`` and
    ``gini`` are usually preferred, so do not choose models by them.

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

    For known and for new users, with the number of both:

    >>> scorer = make_ranking_scorer("recall@20", by="cold", with_counts=True)
    >>> scores = scorer(PopularRecommender().fit(X[::2]), X[1::2])
    >>> scores["n_users[known]"] + scores["n_users[new]"] == scores["n_users"]
    True

    A metric of your own, whether a relevant item is at rank 1 or 2:

    >>> from sktwotower.metrics import reciprocal_rank
    >>> def found_early(ranked, relevant):
    ...     return reciprocal_rank(ranked, relevant) >= 0.5
    >>> scorer = make_ranking_scorer([found_early, "hit_rate@2"])
    >>> scores = scorer(PopularRecommender().fit(X), X)
    >>> scores["found_early"] == scores["hit_rate@2"]
    True
    """
    check_positive_int("n_ranked", n_ranked)
    check_bool("exclude_seen", exclude_seen)
    check_bool("with_counts", with_counts)
    check_bool("per_row", per_row)
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
    scorer = _RankingScorer(
        metrics,
        user_column,
        item_column,
        exclude_seen,
        candidates,
        n_ranked,
        by,
        with_counts,
        per_row,
    )
    is_one = isinstance(metrics, str) or callable(metrics)
    if not is_one or by is not None or with_counts:
        return scorer
    from sktwotower.metrics._single_scorer import SingleScorer  # slow to import

    return SingleScorer(scorer)


def read_rows(
    model: Model,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
    *,
    user_column: Column | None,
    item_column: Column | None,
    owner: str,
) -> tuple[Source, Rows, Interactions]:
    """The source inside a model, the rows of X that reach it, and what they hold.

    An index with the name of a column of ids, or of the time, is a column of the rows.

    Times are read if X has them, and refused if they are of another kind than those of
    ``fit``: they decide with which features a user is asked.
    """
    if isinstance(model, BaseEstimator):  # others have no state that is known
        check_is_fitted(model)
    recommender, X = unwrap(model, X)
    source = source_of(recommender)
    roles = _roles_of(source, user_column, item_column)
    rows = as_interactions(X, owner=owner, in_index=roles.named_columns)
    if not isinstance(source, EvaluationSource):
        named = {"user_column": user_column, "item_column": item_column}
        _refuse_unnamed_ids(rows, source, named)
    if not roles.has_times(rows):
        roles = replace(roles, timestamp_column=None)
    interactions = read_interactions(rows, y, sample_weight, roles=roles)
    if isinstance(source, EvaluationSource):
        roles.refuse_misspelt(rows)
        warn_of_other_kinds(interactions, roles, source)
    return source, rows, interactions


def _roles_of(
    source: Source,
    user_column: Column | None,
    item_column: Column | None,
) -> ColumnRoles:
    """The columns of the call, else of the estimator, else the first two."""
    if isinstance(source, EvaluationSource):
        roles = source.roles
    else:
        roles = ColumnRoles(
            user_column=_own(source, "user_column", ColumnRoles.user_column),
            item_column=_own(source, "item_column", ColumnRoles.item_column),
        )
    columns = {"user_column": user_column, "item_column": item_column}
    chosen: dict[str, Any] = {
        role: column for role, column in columns.items() if column is not None
    }
    return replace(roles, **chosen)


def _own(source: Source, role: str, default: Column) -> Column:
    """The column that a recommender of another package names, if it does."""
    column: Column | None = getattr(source, role, None)
    return default if column is None else column


def _refuse_unnamed_ids(
    rows: pd.DataFrame | np.ndarray, source: Source, named: Mapping[str, Column | None]
) -> None:
    """Raise ValueError if the first two of several named columns need not be the ids."""
    if not isinstance(rows, pd.DataFrame) or rows.shape[1] <= 2:
        return
    lacking = [
        role
        for role, column in named.items()
        if column is None and getattr(source, role, None) is None
    ]
    if lacking and any(isinstance(name, str) for name in rows.columns):
        raise ValueError(
            f"X has the columns {list(rows.columns)}, and {name_of(source)} has no "
            f"{' and no '.join(lacking)} that says which of them has the ids; pass "
            f"{' and '.join(f'{role}=' for role in lacking)} to make_ranking_scorer, "
            "ranking_report or compare."
        )
