"""Quality and seconds of the defaults and of other recommenders, on every kind of data.

    python -m benchmarks.suite --shared DIR [--implicit PYTHON] [--only NAME ...]
                               [--models NAME ...] [--seeds 3] [--threads 2]
                               [--validation] [--again] [--table]

``DIR`` has the folder ``data`` with the data sets that may not be copied into the project
(`benchmarks/README.md` lists them). ``--only`` names data sets, and ``--models`` models.

- **Resumable.** A cell is a data set, a model and a seed. Each is a line of
  ``benchmarks/suite/results.jsonl``: metrics, seconds of ``fit``, settings, date, machine,
  versions and commit. A cell that is there is skipped; ``--again`` first removes those
  that are asked for.
- **Protocol.** All rows are positives, and every item of train is a candidate. A user's
  train items are left out of the ranking, but not in ``retail-repeats``. A test item that
  train does not have is dropped, and so is a user without another one; in ``beauty`` and
  ``toys`` it counts as not found. Metrics are means over users, by one scorer for all.
- **Settings.** Item-kNN, EASE and the models of implicit have the best of a grid, chosen
  once per data set, on a slice of train that is cut as train and test were.
- **Two towers** have their defaults. "two-tower" is given what the data has: timestamps
  where they say what is held out, and tables; titles of articles go through a
  ``TfidfVectorizer``. "two-tower, ids" has the columns of ids.
- **Seeds.** Random models are fitted once per seed, by turns; the table has medians.
- ``--validation`` measures on slices of train instead of the test rows, to choose defaults
  by. There are two more models: early stopping, and the epoch of the same fit that is the
  best on the slice.
- ``--table`` prints the table, and draws ``suite.png``, without measuring anything.

Without ``--implicit`` its rows are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks._peers import add_peer, peer_of
from benchmarks.suite.cells import Cell, Cells, markdown, provenance
from benchmarks.suite.data import DATA_SETS, DataSet, load, slice_of_train
from benchmarks.suite.models import Model, best_settings, models_of, warm_up
from benchmarks.suite.picture import STYLES, draw
from benchmarks.suite.scoring import METRICS, evaluate

FOLDER = Path(__file__).parent


def main() -> None:
    """Measure and print."""
    parser = arguments()
    options = parser.parse_args()
    models = models_of(peer_of(parser, options, "implicit"))
    names = [model.name for model in models]
    unknown = sorted({*options.models} - {*names})
    if unknown:
        parser.error(f"--models {unknown} are none of {names}.")
    cells = Cells(options.results)
    part = "slice" if options.validation else "test"
    if not options.table:
        if options.shared is None:
            parser.error("--shared is missing.")
        chosen = [
            model
            for model in models
            if (not options.models or model.name in options.models)
            and (options.validation or not model.for_slices)
        ]
        if options.again:
            forget(cells, options.only, part, chosen)
        torch.set_num_threads(options.threads)
        warm_up()
        with threadpool_limits(options.threads):
            for name in options.only:
                run(name, part, chosen, cells, options)
    table = cells.frame(part)
    print(markdown(table, list(STYLES)))
    if not table.empty:
        is_slice = "-slice" if options.validation else ""
        draw(table, options.results.with_name(f"suite{is_slice}.png"))


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    for flag in ("validation", "again", "table"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--results", type=Path, default=FOLDER / "results.jsonl")
    add_peer(parser, "implicit")
    return parser


def forget(cells: Cells, names: list[str], part: str, models: list[Model]) -> None:
    """Remove the cells of these data sets and models."""
    chosen = {(name, part, model.name) for name in names for model in models}
    cells.forget(lambda cell: (cell["data"], cell["part"], cell["model"]) in chosen)


def run(
    name: str, part: str, models: list[Model], cells: Cells, options: argparse.Namespace
) -> None:
    """Measure the cells of a data set that are not there yet, seed by seed."""
    records: tuple[DataSet, ...] = ()
    for seed in range(options.seeds):
        for model in models:
            key: Cell = {"data": name, "part": part, "model": model.name, "seed": seed}
            if (seed > 0 and not model.is_random) or cells.has(**key):
                continue
            records = records or load(name, options.shared)
            if not model.suits(records[0]):
                continue
            cell: Cell = key | measure(model, records, part, seed, cells)
            cells.add(cell)
            metric = cell["metric"]
            values = f"{metric} {cell['metrics'][metric]:.4f}, {cell['fit s']:.1f} s"
            print(f"{name}, {part}: {model.name} {seed} {values}", flush=True)


def measure(
    model: Model, records: tuple[DataSet, ...], part: str, seed: int, cells: Cells
) -> Cell:
    """Fit and score a model on each fold; the cell has means over the folds."""
    settings = cells.settings(records[0].name, model.name)
    if settings is None:
        settings = best_settings(model, [slice_of_train(one) for one in records])
    scores, seconds = [], []
    for record in records:
        measured = record if part == "test" else slice_of_train(record)
        fit = model.fit(measured, seed, settings)
        scores.append(evaluate(fit.recommender, measured))
        seconds.append(fit.seconds)
    return {
        "metric": records[0].metric,
        "metrics": {name: round(mean(one[name] for one in scores), 5) for name in METRICS},
        "fit s": round(mean(seconds), 3),
        "folds": len(records),
        "settings": settings,
        "fitted": fit.details,  # of the last fold
        **provenance(),
    }


def mean(values: Any) -> float:
    """The mean of some numbers."""
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
