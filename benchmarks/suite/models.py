"""The recommenders of the suite, and what is tried for those that have settings.

A fit returns a recommender that a ranking scorer takes, and the seconds of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._common import Split
from benchmarks._peers import Peer, PeerFit
from benchmarks.suite.data import DataSet
from benchmarks.suite.scores import Pairs, ScoredItems
from benchmarks.suite.scoring import evaluate
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender

# EASE inverts a matrix of item by item up to so many items, and beyond it one of user by
# user up to so many users.
MOST_ITEMS, MOST_USERS = 20_000, 40_000


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted recommender, what it took, and what is worth keeping of it."""

    recommender: Any
    seconds: float
    details: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A recommender of the suite.

    Attributes
    ----------
    name : str
    fit : callable
        Takes a record, a seed and settings, and returns a `Fit`.
    grid : tuple of dict
        The settings of which the best on a slice of train is taken.
    is_ordered : bool
        Whether they are those of one number, in ascending order, and the metric rises to a
        single best one. Then not all need to be tried.
    is_random : bool
        Whether it is fitted once per seed.
    suits : callable
        Whether it can learn a record, and is another model there than the others.
    for_slices : bool
        Whether it is only measured on slices of train.
    """

    name: str
    fit: Callable[[DataSet, int, dict[str, Any]], Fit]
    grid: tuple[dict[str, Any], ...] = ()
    is_ordered: bool = False
    is_random: bool = False
    suits: Callable[[DataSet], bool] = lambda record: True
    for_slices: bool = False


def models_of(implicit: Peer | None) -> list[Model]:
    """The models in the order of the table; those of implicit with its environment only."""
    two_tower = partial(Model, is_random=True)
    baseline = partial(Model, is_ordered=True)
    models = [
        Model("most popular", partial(fit_baseline, PopularRecommender)),
        baseline("item-kNN", partial(fit_baseline, ItemKNNRecommender), NEIGHBORS),
        baseline(
            "EASE",
            partial(fit_baseline, EASERecommender),
            REGULARIZATIONS,
            suits=has_room_for_ease,
        ),
    ]
    if implicit is not None:
        models += [
            Model("implicit ALS", partial(fit_implicit, implicit, "als"), ALS, False, True),
            Model("implicit BPR", partial(fit_implicit, implicit, "bpr"), BPR, False, True),
        ]
    return [
        *models,
        two_tower("two-tower, ids", fit_ids),
        two_tower("two-tower", fit_two_tower, suits=lambda record: not record.has_ids_only),
        two_tower("two-tower, early stopping", fit_early_stopping, for_slices=True),
        two_tower("two-tower, best epoch", fit_best_epoch, for_slices=True),
    ]


NEIGHBORS = tuple({"n_neighbors": n} for n in (5, 10, 20, 50, 100, 200, 500))
# From 3 to 30,000, four to a decade.
REGULARIZATIONS = tuple(
    {"regularization": digits * 10**n} for n in range(5) for digits in (1, 1.8, 3, 5.6)
)[2:-1]
ALS: tuple[dict[str, Any], ...] = tuple(
    {"factors": factors, "regularization": regularization, "alpha": alpha}
    for factors, regularization, alpha in (
        (16, 3, 1),
        (32, 30, 5),
        (64, 10, 1),
        (64, 20, 3),
        (128, 10, 1),
        (128, 1, 1),
        (128, 10, 10),
        (256, 10, 1),
    )
)
BPR: tuple[dict[str, Any], ...] = tuple(
    {"factors": f, "learning_rate": rate, "regularization": r, "iterations": n}
    for f, rate, r, n in (
        (16, 0.01, 0.003, 50),
        (64, 0.01, 0.003, 50),
        (64, 0.03, 0.01, 100),
        (32, 0.003, 0.01, 200),
    )
)


def best_settings(model: Model, slices: list[DataSet]) -> dict[str, Any]:
    """The settings of the model with the best mean metric on slices of train."""

    def score(settings: dict[str, Any]) -> float:
        fits = [(model.fit(part, 0, settings), part) for part in slices]
        values = [evaluate(fit.recommender, part)[part.metric] for fit, part in fits]
        value = float(np.mean(values))
        name = f"{slices[0].name}, slice: {model.name}"
        print(f"  {name} {settings} {value:.4f}", flush=True)
        return value

    if not model.grid:
        return {}
    if model.is_ordered:
        return climb(model.grid, score)
    return max(model.grid, key=score)


def climb(grid: tuple[Any, ...], score: Callable[[Any], float]) -> Any:
    """The best of a grid, from its middle uphill by steps of two, then of one."""
    scores: dict[int, float] = {}
    at = len(grid) // 2
    for step in (2, 1):
        best = None
        while best != at:
            at = at if best is None else best
            near = [n for n in (at, at - step, at + step) if 0 <= n < len(grid)]
            for n in near:
                if n not in scores:
                    scores[n] = score(grid[n])
            best = max(near, key=scores.__getitem__)
    return grid[at]


def fit_baseline(
    estimator: type[Any], record: DataSet, seed: int, settings: dict[str, Any]
) -> Fit:
    """A baseline of the package; none of them is random."""
    return fit_estimator(estimator(**record.ids, **settings), record)


def has_room_for_ease(record: DataSet) -> bool:
    """Whether one of the two matrices that EASE may invert is small enough."""
    n_users = record.train[record.user_column].nunique()
    n_items = record.train[record.item_column].nunique()
    return n_items <= MOST_ITEMS or n_users <= MOST_USERS


def fit_implicit(
    peer: Peer, kind: str, record: DataSet, seed: int, settings: dict[str, Any]
) -> Fit:
    """ALS or BPR of implicit."""
    pairs = Pairs.of(record)
    split = coded(record, pairs)
    fit = peer.fit(split, with_tables=False, model=kind, parameters=settings, seed=seed)
    details = {"versions": fit.report["versions"]}
    return Fit(by_vectors(fit, pairs), fit.report["fit s"], details)


def coded(record: DataSet, pairs: Pairs) -> Split:
    """A record for a peer: ids are row numbers of ``pairs``, since they may be strings."""
    users, items = pairs.matrix.nonzero()
    rows = pd.DataFrame({"user_id": users, "item_id": items})
    tables = {}
    for side in ("user", "item"):
        table = getattr(record, f"{side}_table")
        if table is not None:
            ids = pd.Index(getattr(pairs, f"{side}_ids"))
            codes = ids.get_indexer(table.frame[table.id_column])
            frame = table.frame.drop(columns=table.id_column)
            frame = frame.assign(**{f"{side}_id": codes})[codes >= 0]
            tables[f"{side}_table"] = EntityTable(frame, f"{side}_id")
    return Split(record.name, rows, rows[:0], tables)


def by_vectors(fit: PeerFit, pairs: Pairs) -> ScoredItems:
    """What a peer made of ``coded`` rows, as a recommender."""
    assert len(fit.user_ids) == len(pairs.user_ids)  # so that codes are row numbers
    assert len(fit.item_ids) == len(pairs.item_ids)
    return ScoredItems(pairs, lambda rows: fit.users[rows] @ fit.items.T)


def fit_ids(record: DataSet, seed: int, settings: dict[str, Any]) -> Fit:
    """Two towers with the defaults, and ids alone."""
    return fit_estimator(TwoTowerRecommender(**record.ids, random_state=seed), record)


def fit_two_tower(record: DataSet, seed: int, settings: dict[str, Any]) -> Fit:
    """Two towers with the defaults, and with all that the data has."""
    return fit_estimator(TwoTowerRecommender(**record.given(), random_state=seed), record)


def fit_early_stopping(record: DataSet, seed: int, settings: dict[str, Any]) -> Fit:
    """The same, with early stopping."""
    model = TwoTowerRecommender(**record.given(), early_stopping=True, random_state=seed)
    return fit_estimator(model.set_params(validation_metric=record.metric), record)


def fit_best_epoch(record: DataSet, seed: int, settings: dict[str, Any]) -> Fit:
    """The same without early stopping, as it was after its best epoch on the held-out rows.

    Those of a slice of train, that is. The seconds include the evaluation of each epoch.
    """
    epochs = EpochScores(record)
    model = TwoTowerRecommender(**record.given(), random_state=seed)
    fit = fit_estimator(model.set_callbacks(epochs), record)
    details = {**fit.details, "best epoch": int(np.argmax(epochs.scores)) + 1}
    return Fit(epochs.best, fit.seconds, details)


class EpochScores:
    """A callback that evaluates each epoch, and keeps the model of the best one."""

    def __init__(self, record: DataSet) -> None:
        self.record = record
        self.scores: list[float] = []
        self.best: Any = None

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing is to be done before a fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nor after it."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nor before an epoch."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Evaluate the model as it is after an epoch."""
        if context.task_name != "epoch":
            return
        score = evaluate(fitted_estimator, self.record)[self.record.metric]
        if not self.scores or score > max(self.scores):
            self.best = fitted_estimator
        self.scores.append(score)


def warm_up() -> None:
    """Fit once, since torch imports its compiler with the first optimizer, for seconds."""
    TwoTowerRecommender(max_iter=1).fit([["ann", "tea"], ["bob", "tea"], ["bob", "milk"]])


def fit_estimator(model: Any, record: DataSet) -> Fit:
    """Call ``fit``, and keep what it has resolved."""
    started = time.perf_counter()
    model.fit(record.train)
    return Fit(model, time.perf_counter() - started, resolved(model))


def resolved(model: Any) -> dict[str, Any]:
    """The fitted attributes that are numbers, words or a history, such as ``n_iter_``."""
    values: dict[str, Any] = {}
    for name in dir(model):
        if name.startswith("_") or not name.endswith("_"):
            continue
        value = getattr(model, name, None)
        if type(value).__module__.startswith("sktwotower.history"):
            values[name] = repr(value)
        elif isinstance(value, bool | int | float | str):
            values[name] = value
    return values
