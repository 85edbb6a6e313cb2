"""Quality after each epoch against the seconds of training: two towers beside others.

    python -m benchmarks.time_to_quality --shared DIR [--only NAME ...] [--models NAME ...]
                                         [--peer PYTHON] [--implicit PYTHON]
                                         [--rectools PYTHON] [--threads 2] [--budget 240]
                                         [--users 10000] [--again] [--table]

``DIR`` and the data sets are those of ``benchmarks.suite``. Everything is measured on a
slice of train, cut as train and test were: no test row is read. ``--only`` names data sets,
and ``--models`` models.

- **Resumable.** A cell is a data set and a model, fitted once. Each is a line of
  ``benchmarks/suite/time_to_quality.jsonl``, with the seconds and the quality after each
  epoch. A cell that is there is skipped; ``--again`` first removes those that are asked
  for. ``--table`` prints the table and draws ``time_to_quality.png``, without measuring.
- **Quality** is the metric of the data set, by the scorer of the suite, of at most
  ``--users`` users of the slice, the same for all models.
- **Seconds** count from the call of ``fit`` with a frame, so with the preparation of the
  rows. They are without imports and files, and without the evaluations and what only these
  need: the vectors of all users and items after an epoch.
- **Two towers** have their defaults, and train to their end. "two-tower" is given what the
  data has, "two-tower, ids" the columns of ids.
- **EASE, ALS and BPR** have the settings that ``benchmarks.suite`` has chosen on slices of
  train, EASE where the data has at most 20,000 users or items. **LibRecommender** has the
  best that is known of it on MovieLens 100k (``BEST`` in ``benchmarks/_peers.py``), and
  **DSSM** the defaults of RecTools but for the number of epochs. These two are given ids
  and the categories of the tables (`FEATURES` in ``benchmarks/_peers.py``).
- **What is capped.** A peer stops after the epoch that exceeds ``--budget`` seconds, or
  after the number of its settings: 15 for ALS, 50 to 200 for BPR, 20 for LibRecommender,
  and 60 for DSSM, an epoch of which is one row of each user. Of a peer, the epochs 1, 2,
  3, 5, 7, 10, 14, 20 and so on and the last one are evaluated.

Without ``--peer`` (LibRecommender), ``--implicit`` or ``--rectools`` their models are left
out. All data sets take about half an hour with the default options. A run should have the
machine to itself. The cells that are kept were measured with ``--threads 1 --budget 180
--users 5000``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks._common import EpochClock
from benchmarks._peers import BEST, FOLDER, Peer, add_peer, peer_of
from benchmarks.suite.cells import Cell, Cells, provenance
from benchmarks.suite.curves import draw, summary
from benchmarks.suite.data import DataSet, load, slice_of_train
from benchmarks.suite.models import (
    ALS,
    BPR,
    MOST_ITEMS,
    REGULARIZATIONS,
    EpochScores,
    by_vectors,
    coded,
    fit_baseline,
    resolved,
    warm_up,
)
from benchmarks.suite.scores import Pairs
from benchmarks.suite.scoring import evaluate
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender

SUITE = Path(__file__).parent / "suite"
NAMES = ["ml-100k", "ml-1m", "gowalla", "retail-first"]
DSSM_EPOCHS = 60

Settings = dict[str, Any]
Point = tuple[int, float, float]  # epoch, seconds, quality
# Points, and what is worth keeping of a fit.
Measured = tuple[list[Point], dict[str, Any]]


@dataclass(frozen=True)
class Curve:
    """A model, and how its points on a record are measured with some settings.

    ``settings`` are those where the suite has chosen none. ``suits`` says whether the model
    can learn a record, and is another one there than the others.
    """

    name: str
    measure: Callable[[DataSet, Settings], Measured]
    settings: Settings = field(default_factory=dict)
    suits: Callable[[DataSet], bool] = lambda record: True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=240, metavar="SECONDS")
    parser.add_argument("--users", type=int, default=10_000)
    for flag in ("again", "table"):
        parser.add_argument(f"--{flag}", action="store_true")
    results = SUITE / "time_to_quality.jsonl"
    parser.add_argument("--results", type=Path, default=results)
    peers = ("peer", "implicit", "rectools")
    for option in peers:
        add_peer(parser, option)
    options = parser.parse_args()
    curves = curves_of(
        *(peer_of(parser, options, option) for option in peers), options.budget
    )
    names = [curve.name for curve in curves]
    unknown = sorted({*options.models} - {*names})
    if unknown:
        parser.error(f"--models {unknown} are none of {names}.")
    if options.models:
        curves = [curve for curve in curves if curve.name in options.models]
    cells = Cells(options.results)
    if not options.table:
        if options.shared is None:
            parser.error("--shared is missing.")
        if options.again:
            asked = {(data, curve.name) for data in options.only for curve in curves}
            cells.forget(lambda cell: (cell["data"], cell["model"]) in asked)
        torch.set_num_threads(options.threads)
        warm_up()
        chosen = Cells(SUITE / "results.jsonl")
        with threadpool_limits(options.threads):
            for name in options.only:
                run(name, curves, cells, chosen, options)
    if cells.cells:
        table = summary(cells.cells)
        print(table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
        draw(cells.cells, options.results.with_suffix(".png"))


def curves_of(
    libre: Peer | None, implicit: Peer | None, rectools: Peer | None, budget: float
) -> list[Curve]:
    """The models; those of a peer with its environment only."""
    curves = [
        Curve("two-tower, ids", lambda record, _: of_towers(record, record.ids)),
        Curve(
            "two-tower",
            lambda record, _: of_towers(record, record.given()),
            suits=lambda record: not record.has_ids_only,
        ),
        Curve("most popular", partial(of_baseline, PopularRecommender)),
        Curve("EASE", partial(of_baseline, EASERecommender), REGULARIZATIONS[0], is_small),
    ]
    if implicit is not None:
        for kind, grid in (("als", ALS), ("bpr", BPR)):
            factors = partial(of_implicit, implicit, model=kind, budget=budget)
            curves.append(Curve(f"implicit {kind.upper()}", factors, grid[0]))
    if libre is not None:
        towers = partial(of_peer, libre, budget=budget)
        curves.append(Curve("LibRecommender TwoTower", towers, BEST))
    if rectools is not None:
        script = FOLDER / "rectools_dssm.py"
        towers = partial(of_peer, replace(rectools, script=script), budget=budget)
        curves.append(Curve("RecTools DSSM", towers, {"epochs": DSSM_EPOCHS}))
    return curves


def is_small(record: DataSet) -> bool:
    """Whether EASE takes seconds, since the matrix that it inverts is small."""
    columns = record.train[[record.user_column, record.item_column]]
    return bool(columns.nunique().min() <= MOST_ITEMS)


def run(
    name: str,
    curves: list[Curve],
    cells: Cells,
    chosen: Cells,
    options: argparse.Namespace,
) -> None:
    """Measure the cells of a data set that are not there yet."""
    missing = [curve for curve in curves if not cells.has(data=name, model=curve.name)]
    if not missing:
        return
    part = some_users(slice_of_train(load(name, options.shared)[0]), options.users)
    for curve in missing:
        if not curve.suits(part):
            continue
        settings = chosen.settings(name, curve.name) or curve.settings
        points, fitted = curve.measure(part, settings)
        epochs, seconds, quality = zip(*points, strict=True)
        cell: Cell = {
            "data": name,
            "model": curve.name,
            "metric": part.metric,
            "epochs": epochs,
            "seconds": [round(one, 3) for one in seconds],
            "quality": [round(one, 5) for one in quality],
            "settings": settings,
            "fitted": fitted,
            **provenance(),
        }
        cells.add(cell)
        print(f"{name}: {curve.name} {max(quality):.4f}, {seconds[-1]:.1f} s", flush=True)


def some_users(record: DataSet, n: int) -> DataSet:
    """The record with the test rows of at most ``n`` of its users."""
    users = record.test[record.user_column]
    chosen = np.random.default_rng(0).permutation(users.unique())[:n]
    return replace(record, test=record.test[users.isin(chosen)])


def of_towers(record: DataSet, given: dict[str, Any]) -> Measured:
    """Two towers with the defaults.

    The clock is the first callback, so that its seconds are without the vectors that are
    made for the second one.
    """
    model = TwoTowerRecommender(**given, random_state=0)
    clock, scores = EpochClock(), EpochScores(record)
    model.set_callbacks(clock, scores).fit(record.train)
    seconds = clock.before + np.cumsum(clock.seconds)
    epochs = range(1, len(seconds) + 1)
    points = list(zip(epochs, seconds.tolist(), scores.scores, strict=True))
    return points, resolved(model)


def of_baseline(estimator: type[Any], record: DataSet, settings: Settings) -> Measured:
    """A baseline of the package, which has no epochs."""
    fit = fit_baseline(estimator, record, 0, settings)
    quality = evaluate(fit.recommender, record)[record.metric]
    return [(1, fit.seconds, quality)], fit.details


def of_implicit(peer: Peer, record: DataSet, settings: Settings, **config: Any) -> Measured:
    """ALS or BPR, which reads no tables."""
    config |= {"parameters": settings, "with_tables": False}
    return of_peer(peer, record, {}, **config)


def of_peer(peer: Peer, record: DataSet, settings: Settings, **config: Any) -> Measured:
    """A peer, whose vectors are evaluated here."""
    pairs = Pairs.of(record)
    points = []
    fitted = {}
    for epoch, seconds, fit in peer.fit_epochs(coded(record, pairs), **config, **settings):
        quality = evaluate(by_vectors(fit, pairs), record)[record.metric]
        points.append((epoch, seconds, quality))
        fitted = {"versions": fit.report["versions"]}
    return points, fitted


if __name__ == "__main__":
    main()
