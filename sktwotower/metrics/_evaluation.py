"""From a recommender and interactions to metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._matched import DEFAULT_K
from sktwotower.metrics._registry import POINTWISE, Metrics, read_metrics
from sktwotower.metrics._sources import EvaluationSource, Source, name_of, source_of
from sktwotower.metrics._task import MetricSpecs, RankingOptions, Task
from sktwotower.metrics._user_metrics import Evaluation, UserMetrics


def evaluate(
    recommender: Source,
    interactions: Interactions,
    metrics: Metrics,
    options: RankingOptions | None = None,
    *,
    n_ranked: int = DEFAULT_K,
    predictions: Callable[[], ArrayLike] | None = None,
) -> Evaluation:
    """Rank once for each user of the interactions and measure the ranking.

    Parameters
    ----------
    recommender : EvaluationSource or Recommender
        A recommender of this package, its source, or any other recommender.
    interactions : Interactions
        The positive rows are relevant, and their labels are the gains.
    metrics : str, callable, list or dict of them
        As in :func:`~sktwotower.metrics.make_ranking_scorer`.
    options : RankingOptions, optional
        How the rankings are made; None: the defaults.
    n_ranked : int, default=10
        Length of the rankings that callables get.
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
        users = measure(source, interactions, of_rankings, options or RankingOptions())
        means = {key: users.value(key, spec) for key, spec in of_rankings.items()}
        counts = users.counts()
    else:
        n_users = len(pd.unique(interactions.users))
        counts = {"n_users": n_users, "n_left_out": 0, "n_dropped": 0, "n_seen": 0}
    if pointwise:
        means |= _measure_rows(source, interactions, pointwise, predictions)
    return Evaluation({key: means[key] for key in specs}, counts, users)


def measure(
    recommender: Source,
    interactions: Interactions,
    specs: MetricSpecs,
    options: RankingOptions,
) -> UserMetrics:
    """Rank and measure user by user; no pointwise metrics.

    A relevant pair that was seen in training is dropped, as rankings leave it out. If all
    relevant pairs that could be recommended were seen, they stay: training rows are scored.

    Parameters
    ----------
    recommender : EvaluationSource or Recommender
        As in :func:`evaluate`.
    interactions : Interactions
        The positive rows are relevant.
    specs : dict of str to MetricSpec
        The metrics.
    options : RankingOptions
        How the rankings are made.
    """
    task = Task.of(source_of(recommender), interactions, specs, options)
    is_training = not options.held_out and task.has_nothing_left(task.seen)
    return task.measured(task.seen, is_training=is_training)


def measured_alike(tasks: Mapping[str, Task]) -> dict[str, UserMetrics]:
    """Metrics of several models, all of them without the pairs that one has seen.

    Raises
    ------
    ValueError
        Unless all models have the same users.
    """
    (first, baseline), *others = tasks.items()
    for name, task in others:
        if list(task.queries.user_ids) != list(baseline.queries.user_ids):
            raise ValueError(
                f"Models {first!r} and {name!r} read different users from X; do they name "
                "the same user_column, and do their pipelines leave the ids alone?"
            )
    seen = np.logical_or.reduce([task.seen for task in tasks.values()])
    is_training = any(task.has_nothing_left(seen) for task in tasks.values())
    return {
        name: task.measured(seen, is_training=is_training) for name, task in tasks.items()
    }


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
