"""What the order of a history is worth: a transformer beside a bag, on ordered data.

    python -m benchmarks.sequences --shared DIR [--only NAME ...] [--seeds 3]
                                   [--threads 2] [--validation] [--sizes 50 100 200]

The data sets are ordered ones of ``benchmarks.suite`` and ``ml-1m-ordered``, of which each
user's last item is the test. Models are given the columns of ids and of times; "and tables"
has the tables as well. All other parameters are the defaults. ``--validation`` measures on
slices of train. ``--sizes`` prints the seconds of an epoch of ml-1m-ordered with histories
of so many items instead, for two epochs each.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import seconds_of_epochs, write
from benchmarks.suite.data import (
    DATA_SETS,
    DataSet,
    last_item,
    load,
    ordered_rows,
    slice_of_train,
)
from benchmarks.suite.scoring import evaluate
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory, TransformerHistory

ORDERED = ["beauty", "toys", "ml-1m-ordered", "ml-100k", "ml-latest-small", "retail-first"]
HISTORIES = {
    "a bag of the last 20": PooledHistory(size=20),
    "a bag of the last 50": PooledHistory(size=50),
    "a transformer": TransformerHistory(),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, metavar="DIR", required=True)
    parser.add_argument("--only", nargs="+", choices=ORDERED, default=ORDERED)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.sizes:
        rows = seconds_by_size(movielens_1m_ordered(options.shared), options.sizes)
        write("sequences-sizes", rows)
        return
    rows = []
    for name in options.only:
        record = record_of(name, options.shared)
        part = slice_of_train(record) if options.validation else record
        for history in HISTORIES:
            for with_tables in (False, True)[: 2 - (part.item_table is None)]:
                fits = [
                    measure(part, history, with_tables, seed)
                    for seed in range(options.seeds)
                ]
                row: dict[str, Any] = {
                    "data": name,
                    "history": history + " and tables" * with_tables,
                    **{key: float(np.mean([x[key] for x in fits])) for key in fits[0]},
                    "ndcg@10 of each": [round(x["ndcg@10"], 4) for x in fits],
                }
                rows.append(row)
                print(row, flush=True)
    write("sequences", rows, seeds=options.seeds, validation=options.validation)


def record_of(name: str, shared: Path) -> DataSet:
    """A data set, of which rows have an order in time."""
    if name in DATA_SETS:
        return load(name, shared)[0]
    return movielens_1m_ordered(shared)


def movielens_1m_ordered(shared: Path) -> DataSet:
    """MovieLens 1M in order, with gaps; the last item of each user is test."""
    train, test = ordered_rows(shared / "data/sequences/ml-1m-ordered")
    return DataSet(
        "ml-1m-ordered",
        train,
        test,
        partial(last_item, "position", "user_id"),
        timestamp_column="position",
        counts_unknown=True,
    )


def measure(part: DataSet, history: str, with_tables: bool, seed: int) -> dict[str, float]:
    """Metrics and seconds of one fit."""
    given = part.given() if with_tables else part.ids
    model = TwoTowerRecommender(**given, history=HISTORIES[history], random_state=seed)
    model.set_params(timestamp_column=part.timestamp_column)
    started = time.perf_counter()
    model.fit(part.train)
    seconds = time.perf_counter() - started
    return {**evaluate(model, part), "fit s": round(seconds, 1)}


def seconds_by_size(record: DataSet, sizes: list[int]) -> list[dict[str, Any]]:
    """Seconds of an epoch with histories of some sizes."""
    rows = []
    for size in sizes:
        model = TwoTowerRecommender(
            **record.ids,
            timestamp_column=record.timestamp_column,
            history=TransformerHistory(size=size),
            max_iter=2,
            random_state=0,
        )
        rows.append({"size": size, "epoch s": min(seconds_of_epochs(model, record.train))})
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
