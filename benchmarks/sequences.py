"""What the order of a history is worth: a transformer beside a bag, on ordered data.

    python -m benchmarks.sequences --shared DIR [--only NAME ...] [--histories NAME ...]
                                   [--ids] [--seeds 3] [--threads 2] [--validation]
                                   [--rectools PYTHON --epochs 30] [--sizes 50 100 200]

The data sets are ordered ones of ``benchmarks.suite``; ``ml-1m-ordered``, of which each
user's last item is the test; and ``retail-shuffled``, which is ``retail-first`` with the
articles of a basket in random order, not by number. Models are given the columns of ids and
of times; "and tables" has the tables as well, unless ``--ids`` is given. All other
parameters are the defaults. ``--validation`` measures on slices of train. ``--rectools``
also trains SASRec of RecTools for so many epochs, by turns with the transformer, with the
same width, layers, heads, dropout and size. ``--sizes`` prints the seconds of an epoch of
ml-1m-ordered with histories of so many items instead, the shorter one of two, and the
shares of matrix products and of attention.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks._common import seconds_of_epochs, write
from benchmarks._peers import Peer, add_peer, peer_of
from benchmarks.suite.data import (
    DATA_SETS,
    DataSet,
    last_item,
    load,
    ordered_rows,
    slice_of_train,
)
from benchmarks.suite.scores import ListedItems, Pairs
from benchmarks.suite.scoring import evaluate
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory, TransformerHistory

ORDERED = [
    *("beauty", "toys", "ml-1m-ordered", "ml-100k", "ml-latest-small"),
    *("retail-first", "retail-shuffled"),
]
WIDTH = 128  # of vectors, as by default
HISTORIES = {
    "bag 20": PooledHistory(size=20),
    "bag 50": PooledHistory(size=50),
    "transformer": TransformerHistory(),
}
# What takes the time, by operations of torch.
SHARES = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::_scaled_dot_product",),
}
Measure = Callable[[int], dict[str, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, metavar="DIR", required=True)
    parser.add_argument("--only", nargs="+", choices=ORDERED, default=ORDERED)
    names = list(HISTORIES)
    parser.add_argument("--histories", nargs="+", choices=names, default=names)
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[])
    parser.add_argument("--epochs", type=int, default=30)
    add_peer(parser, "rectools")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.sizes:
        rows = seconds_by_size(movielens_1m_ordered(options.shared), options.sizes)
        write("sequences-sizes", rows)
        return
    rectools = peer_of(parser, options, "rectools")
    rows = []
    for name in options.only:
        record = record_of(name, options.shared)
        part = slice_of_train(record) if options.validation else record
        measures: dict[str, Measure] = {}
        for history in options.histories:
            measures[history] = partial(measure, part, history, False)
            if part.item_table is not None and not options.ids:
                measures[f"{history} and tables"] = partial(measure, part, history, True)
        if rectools is not None:
            measures[f"RecTools, {options.epochs} epochs"] = partial(
                measure_rectools, rectools, part, options.epochs
            )
        fits: dict[str, list[dict[str, float]]] = {model: [] for model in measures}
        for seed in range(options.seeds):
            for model, of_seed in measures.items():
                fits[model].append(of_seed(seed))
                print(name, model, seed, fits[model][-1], flush=True)
        rows += [summary(name, model, values) for model, values in fits.items()]
    write("sequences", rows, seeds=options.seeds, validation=options.validation)


def summary(name: str, model: str, fits: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the seeds, and the metric of each."""
    return {
        "data": name,
        "history": model,
        **{key: float(np.mean([fit[key] for fit in fits])) for key in fits[0]},
        "ndcg@10 of each": [round(fit["ndcg@10"], 4) for fit in fits],
    }


def record_of(name: str, shared: Path) -> DataSet:
    """A data set, of which rows have an order in time."""
    if name in DATA_SETS:
        return load(name, shared)[0]
    if name == "retail-shuffled":
        (record,) = load("retail-first", shared)
        rows = pd.concat([record.train, record.test]).sample(frac=1, random_state=0)
        train, test = record.cut(rows.sort_values("time", kind="stable"))
        return replace(record, name=name, train=train, test=test)
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


def measure_rectools(
    peer: Peer, part: DataSet, n_epochs: int, seed: int
) -> dict[str, float]:
    """The same of SASRec of RecTools."""
    history = TransformerHistory()
    columns = [part.user_column, part.item_column, str(part.timestamp_column)]
    rows = part.train[columns].set_axis(["user_id", "item_id", "position"], axis=1)
    report, lists = peer.recommend(
        rows,
        seed=seed,
        parameters={
            "n_factors": WIDTH,
            "n_blocks": history.n_layers,
            "n_heads": history.n_heads,
            "dropout_rate": history.dropout,
            "session_max_len": history.size,
            "epochs": n_epochs,
        },
    )
    scores = evaluate(ListedItems(Pairs.of(part), lists), part)
    return {**scores, "fit s": round(report["fit s"], 1)}


def seconds_by_size(record: DataSet, sizes: list[int]) -> list[dict[str, Any]]:
    """Seconds of an epoch with histories of some sizes, and what takes them.

    The shares are those of torch's own time in a fit of one epoch, of a tenth of the users.
    """
    rows = []
    for size in sizes:
        model = TwoTowerRecommender(
            **record.ids,
            timestamp_column=record.timestamp_column,
            history=TransformerHistory(size=size),
            max_iter=2,
            random_state=0,
        )
        row = {"size": size, "epoch s": min(seconds_of_epochs(model, record.train))}
        some = record.train[record.train[record.user_column] % 10 == 0]
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            model.set_params(max_iter=1).fit(some)
        times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
        for share, names in SHARES.items():
            taken = sum(t for key, t in times.items() if key.startswith(names))
            row[share] = taken / sum(times.values())
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
