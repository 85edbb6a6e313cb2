"""From a recommender and interactions to metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._labelled_rows import LabelledRows
from sktwotower.metrics._matched import DEFAULT_K
from sktwotower.metrics._registry import POINTWISE, Metrics, read_metrics
from sktwotower.metrics._sources import Source, source_of
from sktwotower.metrics._task import MetricSpecs, RankingOptions, Task
from sktwotower.metrics._user_metrics import Evaluation, UserMetrics


def evaluate(
    recommender: Source,
    interactions: Interactions,
    metrics: Metrics,
    options: RankingOptions | None = None,
    *,
    n_ranked: int = DEFAULT_K,
) -> Evaluation:
    """Rank once for each user of the interactions and measure the ranking.

    Where several processes have a share of the interactions each, all of them find the
    metrics of all rows.

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

    Raises
    ------
    ValueError
        If no row is positive.
    """
    source, options = source_of(recommender), options or RankingOptions()
    specs = read_metrics(metrics, n_ranked=n_ranked)
    pointwise = {key: spec for key, spec in specs.items() if spec.name in POINTWISE}
    of_users = {key: spec for key, spec in specs.items() if key not in pointwise}
    rows = LabelledRows(source, interactions, options.predictions)
    means = {}
    users = None
    if of_users:
        users = _measure(source, rows, of_users, options)
        means = {key: users.value(key, spec) for key, spec in of_users.items()}
        counts = users.counts()
    else:
        n_users = interactions.share.sum(np.array(len(pd.unique(interactions.users))))
        counts = {"n_users": int(n_users), "n_left_out": 0, "n_dropped": 0, "n_seen": 0}
    if pointwise:
        means |= rows.of_all(pointwise)
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
    source = source_of(recommender)
    rows = LabelledRows(source, interactions, options.predictions)
    return _measure(source, rows, specs, options)


def _measure(
    source: Source, rows: LabelledRows, specs: MetricSpecs, options: RankingOptions
) -> UserMetrics:
    """The same, of rows whose scores other metrics need, too."""
    of_rankings, within_users = _split(specs)
    if of_rankings:
        task = Task.of(source, rows.interactions, of_rankings, options)
        is_training = not options.held_out and task.has_nothing_left(task.seen)
        users = task.measured(task.seen, is_training=is_training)
    else:
        users = UserMetrics.of_rows(rows.interactions)
    return users.with_rows(rows, within_users)


def _split(specs: MetricSpecs) -> tuple[MetricSpecs, MetricSpecs]:
    """Metrics that need rankings, and metrics of the labelled rows of each user."""
    within = {key: spec for key, spec in specs.items() if spec.is_within_users}
    return {key: spec for key, spec in specs.items() if key not in within}, within


class Question(NamedTuple):
    """What one of several models is asked."""

    source: Source
    interactions: Interactions
    options: RankingOptions


def compared(
    questions: Mapping[str, Question], specs: MetricSpecs
) -> dict[str, UserMetrics]:
    """Metrics of several models, of rankings without the pairs that one has seen.

    Raises
    ------
    ValueError
        Unless all models have the same users.
    """
    of_rankings, within_users = _split(specs)
    if of_rankings:
        measured = measured_alike(
            {
                name: Task.of(one.source, one.interactions, of_rankings, one.options)
                for name, one in questions.items()
            }
        )
    else:
        measured = {
            name: UserMetrics.of_rows(one.interactions) for name, one in questions.items()
        }
        _refuse_other_users({name: users.user_ids for name, users in measured.items()})
    return {
        name: measured[name].with_rows(
            LabelledRows(one.source, one.interactions, one.options.predictions),
            within_users,
        )
        for name, one in questions.items()
    }


def measured_alike(tasks: Mapping[str, Task]) -> dict[str, UserMetrics]:
    """Metrics of the rankings of several models, as in :func:`compared`."""
    _refuse_other_users({name: task.queries.user_ids for name, task in tasks.items()})
    seen = np.logical_or.reduce([task.seen for task in tasks.values()])
    is_training = any(task.has_nothing_left(seen) for task in tasks.values())
    return {
        name: task.measured(seen, is_training=is_training) for name, task in tasks.items()
    }


def _refuse_other_users(user_ids: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless all models have the same users."""
    (first, baseline), *others = user_ids.items()
    for name, ids in others:
        if list(ids) != list(baseline):
            raise ValueError(
                f"Models {first!r} and {name!r} read different users from X; do they name "
                "the same user_column, and do their pipelines leave the ids alone?"
            )
