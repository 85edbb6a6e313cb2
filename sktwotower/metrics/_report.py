"""How good, how sure, for whom: tables of metrics with bootstrap intervals over users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.metrics._bootstrap import (
    bootstrap_means,
    check_bootstrap,
    generator,
    interval,
    paired_bootstrap,
)
from sktwotower.metrics._evaluation import UserMetrics, mean_of, measure
from sktwotower.metrics._registry import AGGREGATE, Metrics, MetricSpec, metrics_of_users
from sktwotower.metrics._scorer import kept_rows, read_rows
from sktwotower.metrics._slices import ALL, By, slices_of
from sktwotower.utils._columns import Column


def ranking_report(
    model: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    metrics: Metrics = ("ndcg@10", "recall@10"),
    by: By = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    user_column: Column | None = None,
    item_column: Column | None = None,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Means of ranking metrics with confidence intervals, for all and for groups of users.

    Every user is ranked once, as by :func:`make_ranking_scorer`. The intervals are those
    of the percentile bootstrap: users are drawn with replacement `n_bootstrap` times. They
    say how far the mean would be off with other users of the same kind; they say nothing
    of what another training run would give.

    Parameters
    ----------
    model : estimator
        What :func:`make_ranking_scorer` takes: fitted, with ``recommend``, maybe in a
        Pipeline or a search.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions that were held out.
    y : array-like of shape (n_samples,), default=None
        A row is relevant when its y is above 0; None: all are. ``graded_ndcg`` takes it
        for the gain.
    sample_weight : array-like of shape (n_samples,), default=None
        A user counts with the mean weight of their relevant rows, in the means and in
        the resamples; rows of weight 0 do not count.
    metrics : str, callable, or list or dict of them, default=("ndcg@10", "recall@10")
        As :func:`make_ranking_scorer` takes them, but for those of rows such as
        ``roc_auc``. ``coverage`` and ``gini`` are no means over users and have no interval.
    by : {"activity", "cold"}, mapping, array-like, or callable, default=None
        Slices of users.

        - ``"activity"``: terciles of the number of items that a user has in the training
          data, ``"low"``, ``"medium"`` and ``"high"``. Users with equal numbers are never
          separated, so that terciles can differ in size.
        - ``"cold"``: ``"new"`` users who are not in the training data, ``"known"`` others.
        - a Series indexed by user id, or a dict: label of each user. Users who are not in
          it are in no slice.
        - an array of n_samples labels: a user has that of their first row.
        - a callable, which gets an array of user ids and returns their labels.
    n_bootstrap : int, default=1000
        Number of resamples.
    confidence : float, default=0.95
        Share of the bootstrap means that the interval holds.
    user_column, item_column : str or int, default=None
        Columns of X; None: those of the estimator.
    exclude_seen : bool, default=True
        Leave the training pairs out of the ranking, except those that are being scored.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items that are ranked; None: the catalogue.
    random_state : int or RandomState, default=None
        Draws the users.

    Returns
    -------
    report : DataFrame
        A row a slice and metric, ``"all"`` first, with the columns ``slice``, ``metric``,
        ``mean``, ``low``, ``high`` and ``n_users``, the users that the mean is over.
        ``report.attrs`` has for each slice ``"n_left_out"``, users without a relevant
        item among the candidates, and ``"n_dropped"``, relevant items that are not among
        them.

    Raises
    ------
    ValueError
        If no row is relevant, or for an unknown metric or slice.

    See Also
    --------
    compare : Whether one model is better than another.

    References
    ----------
    B. Efron, R. Tibshirani (1993). An Introduction to the Bootstrap, chapter 13.

    Examples
    --------
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.metrics import ranking_report
    >>> X = make_interactions(random_state=0).interactions
    >>> model = PopularRecommender().fit(X[::2])
    >>> report = ranking_report(
    ...     model, X[1::2], metrics="recall@10", by="activity", random_state=0)
    >>> report["slice"].tolist()
    ['all', 'low', 'medium', 'high']
    >>> all(report["low"] <= report["mean"]) and all(report["mean"] <= report["high"])
    True
    """
    check_bootstrap(n_bootstrap, confidence)
    specs = metrics_of_users(metrics, "ranking_report")
    source, rows_of_X, interactions = read_rows(
        model,
        X,
        y,
        sample_weight,
        user_column=user_column,
        item_column=item_column,
        owner="ranking_report",
    )
    users = measure(
        source, interactions, specs, exclude_seen=exclude_seen, candidates=candidates
    )
    rng = generator(random_state)
    kept = kept_rows(sample_weight, len(rows_of_X))
    slices = {ALL: np.ones(len(users.user_ids), dtype=bool)}
    groups = slices_of(by, source, users, kept)
    slices |= {name: chosen for name, chosen in groups.items() if chosen.any()}
    means = [key for key, spec in specs.items() if spec.name not in AGGREGATE]
    rows: list[tuple[Any, ...]] = []
    for name, chosen in slices.items():
        rows += _rows_of_slice(
            name,
            chosen & users.measured,
            users,
            specs,
            means,
            n_bootstrap,
            confidence,
            rng,
        )
    columns = ["slice", "metric", "mean", "low", "high", "n_users"]
    report = pd.DataFrame(rows, columns=columns)
    counts = {name: users.counts(chosen) for name, chosen in slices.items()}
    for count in ("n_left_out", "n_dropped"):
        report.attrs[count] = {name: of_slice[count] for name, of_slice in counts.items()}
    return report


def compare(
    models: Mapping[str, Any],
    X: Any,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    metrics: Metrics = ("ndcg@10", "recall@10"),
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    user_column: Column | None = None,
    item_column: Column | None = None,
    exclude_seen: bool = True,
    candidates: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Whether models are better than the first one, by a paired bootstrap over users.

    All models rank for the same users. What is resampled is the difference of two models
    for the same user, so that what makes a user hard for both cancels out.

    Parameters
    ----------
    models : dict of str to estimator
        At least two, fitted, as :func:`make_ranking_scorer` takes them; the first one is
        what the others are compared with.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions that were held out for all models.
    y : array-like of shape (n_samples,), default=None
        A row is relevant when its y is above 0; None: all are. ``graded_ndcg`` takes it
        for the gain.
    sample_weight : array-like of shape (n_samples,), default=None
        As in :func:`ranking_report`.
    metrics : str, callable, or list or dict of them, default=("ndcg@10", "recall@10")
        As :func:`make_ranking_scorer` takes them, but only those with a value a user.
    n_bootstrap : int, default=1000
        Number of resamples. The p-value is at least ``2 / (n_bootstrap + 1)``.
    confidence : float, default=0.95
        Share of the bootstrap means that the interval holds.
    user_column, item_column : str or int, default=None
        Columns of X; None: those of each estimator.
    exclude_seen : bool, default=True
        Leave the training pairs out of the ranking, except those that are being scored.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items that are ranked. None: each model's catalogue; where catalogues
        differ, so does the task.
    random_state : int or RandomState, default=None
        Draws the users.

    Returns
    -------
    comparison : DataFrame
        A row a model (but the first) and metric, with the columns ``model``, ``metric``,
        ``mean``, ``baseline`` (the mean of the first model), ``difference`` with ``low``
        and ``high``, ``below`` and ``above`` (shares of the resamples in which the
        difference is below and above 0), ``p_value`` (two-sided) and ``n_users``. Means
        are over the users for whom both models have the metric.

    Raises
    ------
    ValueError
        For fewer than two models, no relevant row, or a metric without a value a user.

    Notes
    -----
    The test is about users, with these fitted models: another training run of the same
    model differs, too. Fit on several seeds before you believe a small difference. With
    many models and metrics some p-values are small by chance.

    See Also
    --------
    ranking_report : Means with intervals of one model, for groups of users.

    References
    ----------
    B. Efron, R. Tibshirani (1993). An Introduction to the Bootstrap, chapters 13, 15.

    Examples
    --------
    >>> from sktwotower.baselines import EASERecommender, PopularRecommender
    >>> from sktwotower.datasets import load_movielens_small
    >>> from sktwotower.metrics import compare
    >>> X = load_movielens_small().interactions
    >>> X = X[X.groupby("item_id")["user_id"].transform("size") >= 30]
    >>> models = {
    ...     "popular": PopularRecommender().fit(X[::2]),
    ...     "ease": EASERecommender().fit(X[::2]),
    ... }
    >>> table = compare(models, X[1::2], metrics="ndcg@10", random_state=0)
    >>> table["model"].item(), table["p_value"].item() < 0.01
    ('ease', True)
    """
    check_bootstrap(n_bootstrap, confidence)
    if not isinstance(models, Mapping) or len(models) < 2:
        raise ValueError(
            "models must be a dict of at least two fitted models by name; got "
            f"{list(models) if isinstance(models, Mapping) else type(models).__name__}."
        )
    specs = metrics_of_users(metrics, "compare")
    aggregate = [key for key, spec in specs.items() if spec.name in AGGREGATE]
    if aggregate:
        raise ValueError(
            f"{aggregate[0]!r} is one number for all users together; compare needs metrics "
            "with a value a user, such as 'ndcg@10'."
        )
    measured = {}
    for name, model in models.items():
        source, _, interactions = read_rows(
            model,
            X,
            y,
            sample_weight,
            user_column=user_column,
            item_column=item_column,
            owner="compare",
        )
        measured[name] = measure(
            source,
            interactions,
            specs,
            exclude_seen=exclude_seen,
            candidates=candidates,
        )
    (first, baseline), *others = measured.items()
    rng = generator(random_state)
    rows = []
    for name, users in others:
        values = _values(_aligned(users, baseline, name, first), specs)
        base = _values(baseline, specs)
        differences = values - base
        tests = paired_bootstrap(
            differences, n_bootstrap, rng, confidence=confidence, weights=baseline.weights
        )
        for column, (metric, test) in enumerate(zip(specs, tests, strict=True)):
            both = ~np.isnan(differences[:, column])
            weights = None if baseline.weights is None else baseline.weights[both]
            rows.append(
                (
                    name,
                    metric,
                    mean_of(values[both, column], weights),
                    mean_of(base[both, column], weights),
                    test.mean,
                    test.low,
                    test.high,
                    test.below,
                    test.above,
                    test.p_value,
                    test.n_users,
                )
            )
    columns = ["model", "metric", "mean", "baseline", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "below", "above", "p_value", "n_users"])


def _rows_of_slice(
    name: Any,
    chosen: np.ndarray,
    users: UserMetrics,
    specs: dict[str, MetricSpec],
    means: list[str],
    n_bootstrap: int,
    confidence: float,
    rng: np.random.RandomState,
) -> list[tuple[Any, ...]]:
    """The report's rows of some users (a mask)."""
    values = _values(users, means)[chosen]
    weights = None if users.weights is None else users.weights[chosen]
    drawn = bootstrap_means(values, n_bootstrap, rng, weights)
    lows, highs = interval(drawn, confidence)
    rows: list[tuple[Any, ...]] = []
    for key, spec in specs.items():
        value = users.value(key, spec, chosen)
        if spec.name in AGGREGATE:
            rows.append((name, key, value, np.nan, np.nan, int(chosen.sum())))
            continue
        column = means.index(key)
        n = int(np.count_nonzero(~np.isnan(values[:, column])))
        rows.append((name, key, value, lows[column], highs[column], n))
    return rows


def _values(users: UserMetrics, metrics: Any) -> np.ndarray:
    """(n_users, n_metrics), NaN where not defined."""
    out = np.empty((len(users.user_ids), len(metrics)))
    for column, metric in enumerate(metrics):
        out[:, column] = users.per_user[metric]
    return out


def _aligned(
    users: UserMetrics, baseline: UserMetrics, name: str, first: str
) -> UserMetrics:
    """Refuse users of another order or kind: rows are compared one by one."""
    if list(users.user_ids) != list(baseline.user_ids):
        raise ValueError(
            f"Models {first!r} and {name!r} read different users from X; do they name the "
            "same user_column, and do their pipelines leave the ids alone?"
        )
    return users
