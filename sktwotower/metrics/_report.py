"""Tables of metrics with bootstrap intervals over users, and comparisons of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.metrics._bootstrap import (
    Resampling,
    bootstrap_means,
    interval,
    mean_of,
    paired_bootstrap,
)
from sktwotower.metrics._evaluation import Question, compared, measure
from sktwotower.metrics._registry import AGGREGATE, Metrics, metrics_of_users
from sktwotower.metrics._scorer import (
    kept_rows,
    predictions_of,
    read_rows,
    rows_of_weight,
)
from sktwotower.metrics._slices import ALL, By, slices_of
from sktwotower.metrics._sources import Model
from sktwotower.metrics._task import MetricSpecs, RankingOptions
from sktwotower.metrics._user_metrics import UserMetrics, warn_of_notes
from sktwotower.utils._columns import Column


def ranking_report(
    model: Model,
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
    per_row: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Means of ranking metrics with confidence intervals, for all users and for slices.

    Use it to report how good a model is, how certain the number is, and for which users
    it holds. Each user is ranked once, as :func:`make_ranking_scorer` does it. The
    intervals are percentiles of a bootstrap [1]_: users are drawn with replacement
    `n_bootstrap` times, and each time the mean is taken. They cover the variation over
    users of the same kind, not the variation over training runs.

    Parameters
    ----------
    model : estimator
        As a scorer of :func:`make_ranking_scorer` takes it.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions that were held out from training.
    y, sample_weight : array-like of shape (n_samples,), default=None
        As a scorer of :func:`make_ranking_scorer` takes them. The resampled means are
        weighted, too.
    metrics : str, callable, or list or dict of them, default=("ndcg@10", "recall@10")
        As in :func:`make_ranking_scorer`, except the metrics of rows such as ``roc_auc``.
        ``coverage`` and ``gini`` are not means over users and have no interval. In the mean
        of ``roc_gauc``, a user counts with the number of its rows.
    by : {"activity", "cold"}, Series, dict, array-like or callable, default=None
        Slices of users, each with rows of its own in the report.

        - ``"activity"``: terciles of the number of items of a user in the training data,
          called ``"low"``, ``"medium"`` and ``"high"``. Users with equal numbers stay
          together, so terciles can differ in size.
        - ``"cold"``: ``"new"`` users without training data and ``"known"`` users.
        - a Series indexed by user id, or a dict: the label of each user. Other users are
          in no slice. A Series with the index of X has labels of rows if this index holds
          no user id; if it could be both, it is refused.
        - an array of n_samples labels: the label of a user is the most frequent one of its
          rows, and of equally frequent ones the smallest.
        - a callable: takes an array of user ids and returns their labels.
    n_bootstrap : int, default=1000
        Number of resamples. 1000 is enough for intervals of 95 %.
    confidence : float, default=0.95
        Share of the resampled means inside the interval.
    user_column, item_column, exclude_seen, candidates, per_row
        As in :func:`make_ranking_scorer`. Relevant pairs that were seen in training are
        dropped; if all were seen, they stay, and the values are ones of training rows.
    random_state : int, RandomState instance or None, default=None
        Draws the users. An int gives the same intervals at every call.

    Returns
    -------
    report : DataFrame
        One row for each slice and metric, the slice ``"all"`` first. The columns are
        ``slice``, ``metric``, ``mean``, ``low``, ``high`` and ``n_users``, the number of
        users in the mean. ``report.attrs["n_left_out"]`` has, by slice, the number of
        users without a relevant pair that counts, ``report.attrs["n_dropped"]`` the number
        of relevant pairs that were dropped, and ``report.attrs["n_seen"]`` those of them
        that were seen in training.

    Raises
    ------
    ValueError
        If no row is relevant, or a metric or slice is unknown.

    See Also
    --------
    compare : Test whether one model is better than another.
    make_ranking_scorer : The means alone, for cross-validation and searches.

    References
    ----------
    .. [1] Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

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
    resampling = Resampling.checked(n_bootstrap, confidence, random_state)
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
        source,
        interactions,
        specs,
        RankingOptions(
            exclude_seen=exclude_seen,
            candidates=candidates,
            per_row=per_row,
            X=rows_of_weight(rows_of_X, sample_weight) if per_row else None,
            predictions=predictions_of(source, rows_of_X, sample_weight),
        ),
    )
    warn_of_notes([users])
    slices = {ALL: np.ones(len(users.user_ids), dtype=bool)}
    kept = kept_rows(sample_weight, len(rows_of_X))
    index = X.index if isinstance(X, pd.DataFrame) else None
    labelled = slices_of(by, source, users, kept, index=index)
    slices |= {name: chosen for name, chosen in labelled.items() if chosen.any()}
    rows: list[tuple[Any, ...]] = []
    for name, chosen in slices.items():
        rows += _rows_of_slice(name, chosen, users, specs, resampling)
    columns = ["slice", "metric", "mean", "low", "high", "n_users"]
    report = pd.DataFrame(rows, columns=columns)
    counts = {name: users.counts(chosen) for name, chosen in slices.items()}
    for count in ("n_left_out", "n_dropped", "n_seen"):
        report.attrs[count] = {name: of_slice[count] for name, of_slice in counts.items()}
    return report


def compare(
    models: Mapping[str, Model],
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
    per_row: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Test whether models are better than the first one, by a paired bootstrap over users.

    Use it before you prefer a model for a small difference of means. All models rank for
    the same users, and the differences of two models user by user are resampled [1]_. What
    makes a user hard for both models cancels out, so the test finds smaller differences
    than two separate intervals do.

    Parameters
    ----------
    models : dict of str to estimator
        At least two models, each as a scorer of :func:`make_ranking_scorer` takes it. The
        others are compared with the first one.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions that were held out from the training of all models.
    y, sample_weight : array-like of shape (n_samples,), default=None
        As in :func:`ranking_report`.
    metrics : str, callable, or list or dict of them, default=("ndcg@10", "recall@10")
        As in :func:`make_ranking_scorer`, but only metrics with a value for each user.
    n_bootstrap : int, default=1000
        Number of resamples. The p-value is at least ``2 / (n_bootstrap + 1)``.
    confidence : float, default=0.95
        Share of the resampled differences inside the interval.
    user_column, item_column, per_row
        As in :func:`make_ranking_scorer`.
    exclude_seen : bool, default=True
        As in :func:`make_ranking_scorer`. A pair that one of the models has seen is dropped
        for all of them, so that all are measured on the same pairs; the pairs stay if none
        would be left.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank. None: the catalogue of each model. If the catalogues
        differ, so do the tasks: give candidates to compare models fairly.
    random_state : int, RandomState instance or None, default=None
        Draws the users. An int gives the same table at every call.

    Returns
    -------
    comparison : DataFrame
        One row for each metric and each model but the first. The columns are ``model``,
        ``metric``, ``mean``, ``baseline`` (the mean of the first model), ``difference``
        with the interval from ``low`` to ``high``, ``below`` and ``above`` (shares of the
        resampled differences below and above 0), ``p_value`` (two-sided) and ``n_users``.
        Means are over the users for which the metric is defined for both models.

    Raises
    ------
    ValueError
        If there are fewer than two models, no row is relevant, or a metric has no value
        for each user.

    See Also
    --------
    ranking_report : Means with intervals of one model, also for slices of users.

    Notes
    -----
    The test is about users, for the given fitted models. Another training run of the same
    model differs, too: fit on several seeds before you believe a small difference. With
    many models and metrics some p-values are small by chance.

    References
    ----------
    .. [1] Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and
       15.

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
    resampling = Resampling.checked(n_bootstrap, confidence, random_state)
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
    questions = {}
    for name, model in models.items():
        source, rows_of_X, interactions = read_rows(
            model,
            X,
            y,
            sample_weight,
            user_column=user_column,
            item_column=item_column,
            owner="compare",
        )
        questions[name] = Question(
            source,
            interactions,
            RankingOptions(
                exclude_seen=exclude_seen,
                candidates=candidates,
                per_row=per_row,
                X=rows_of_weight(rows_of_X, sample_weight) if per_row else None,
                predictions=predictions_of(source, rows_of_X, sample_weight),
            ),
        )
    measured = compared(questions, specs)
    warn_of_notes(measured.values())
    (first, baseline), *others = measured.items()
    rows = []
    for name, users in others:
        rows += _rows_of_model(name, users, baseline, specs, resampling)
    columns = ["model", "metric", "mean", "baseline", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "below", "above", "p_value", "n_users"])


def _rows_of_slice(
    name: Any,
    chosen: np.ndarray,
    users: UserMetrics,
    specs: MetricSpecs,
    resampling: Resampling,
) -> list[tuple[Any, ...]]:
    """The rows of a report for a mask of users."""
    with_means = [key for key, spec in specs.items() if spec.name not in AGGREGATE]
    values, weights = _values(users, with_means), _weights(users, specs, with_means)
    counted = chosen & (users.measured | ~np.isnan(values).all(axis=1))
    values = values[counted]
    means = bootstrap_means(
        values, resampling.n_bootstrap, resampling.random_state, weights[counted]
    )
    lows, highs = interval(means, resampling.confidence)
    rows: list[tuple[Any, ...]] = []
    for key, spec in specs.items():
        value = users.value(key, spec, chosen)
        if spec.name in AGGREGATE:
            n_users = int((chosen & users.measured).sum())
            rows.append((name, key, value, np.nan, np.nan, n_users))
            continue
        column = with_means.index(key)
        n_users = int(np.count_nonzero(~np.isnan(values[:, column])))
        rows.append((name, key, value, lows[column], highs[column], n_users))
    return rows


def _rows_of_model(
    name: str,
    users: UserMetrics,
    baseline: UserMetrics,
    specs: MetricSpecs,
    resampling: Resampling,
) -> list[tuple[Any, ...]]:
    """The rows of a comparison of one model with the baseline."""
    values, base = _values(users, specs), _values(baseline, specs)
    differences = values - base
    weights = _weights(baseline, specs, specs)
    tests = paired_bootstrap(
        differences,
        resampling.n_bootstrap,
        resampling.random_state,
        confidence=resampling.confidence,
        weights=weights,
    )
    rows = []
    for column, (metric, test) in enumerate(zip(specs, tests, strict=True)):
        both = ~np.isnan(differences[:, column])
        of_users = weights[both, column]
        means = [mean_of(of_model[both, column], of_users) for of_model in (values, base)]
        interval_of_mean = (test.mean, test.low, test.high)
        sides = (test.below, test.above, test.p_value, test.n_users)
        rows.append((name, metric, *means, *interval_of_mean, *sides))
    return rows


def _values(users: UserMetrics, metrics: Iterable[str]) -> np.ndarray:
    """Values of these metrics, (n_users, n_metrics); NaN where not defined."""
    columns = [users.per_user[metric] for metric in metrics]
    return np.column_stack([np.empty((len(users.user_ids), 0)), *columns])


def _weights(users: UserMetrics, specs: MetricSpecs, metrics: Iterable[str]) -> np.ndarray:
    """Weights of users in the means of these metrics, (n_users, n_metrics)."""
    n_users = len(users.user_ids)
    of_metrics = (users.weights_of(specs[metric]) for metric in metrics)
    columns = [np.ones(n_users) if each is None else each for each in of_metrics]
    return np.column_stack([np.empty((n_users, 0)), *columns])
