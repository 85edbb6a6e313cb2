"""What `estimate_cost` says from a sample, beside what fits to all rows take.

    python -m benchmarks.sizes [--threads 1] [--repeats 3] [--only NAME ...] [--paper]

1. The bundled ratings by default; rows of 100,000 users and 100,000 items by their ids; and
   rows of 100,000 users and 200,000 items, where users are their histories and candidates
   are mixed. The sample is a fifth of the users (half of the bundled ones) with all of
   their rows. By turns, each in a process of its own: the estimate, and a fit of two epochs
   to all rows in a Parquet file. Compared are the seconds of the second epoch (of the
   processor if there is one thread, so that other jobs hardly matter), and the peak of the
   memory of the process, to which the estimate adds what it had before the fit.
2. With ``--paper`` instead: what the page "To internet scale" says of a billion rows, a
   hundred million users and ten million items, setting by setting, from a sample of 10,000
   users and 100,000 rows that `make_interactions` generates.
"""

from __future__ import annotations

import gc
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._common import (
    COLUMNS,
    arguments,
    peak_megabytes,
    seconds_of_epochs,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower.datasets import load_movielens_small, make_interactions
from sktwotower.history import PooledHistory
from sktwotower.inspection import CostEstimate, estimate_cost

TIMED = {**COLUMNS, "timestamp_column": "timestamp"}
BY_HISTORY = {**TIMED, "history": PooledHistory(size=20), "user_id_embedding": False}
FITS: dict[str, dict[str, Any]] = {
    "bundled": TIMED,
    "by id": {**COLUMNS, "history": None, "batch_size": 2048},
    "by history": {
        **BY_HISTORY,
        "negatives": "mixed",
        "n_negatives": 1024,
        "embedding_dim": 128,
        "batch_size": 4096,
    },
}
# Users, items and rows of the data that is generated, and the share of users in a sample.
SIZES = {
    "by id": (100_000, 100_000, 500_000),
    "by history": (100_000, 200_000, 500_000),
}
SHARES = {"bundled": 0.5}
SHARE = 0.2

INTERNET = {"n_rows": 10**9, "n_users": 10**8, "n_items": 10**7}
SAMPLE = 10_000, 250_000, 100_000  # users, items and rows: ten of each user
LARGE_BATCH = {"batch_size": 4096}
NARROW = {**BY_HISTORY, **LARGE_BATCH, "embedding_dim": 32}
SAVING = {**NARROW, "average": False}
# Parameters, and an index over their embeddings.
SETTINGS: dict[str, tuple[dict[str, Any], str | None]] = {
    "ids of users": ({**COLUMNS, "history": None, **LARGE_BATCH}, None),
    "history": ({**BY_HISTORY, **LARGE_BATCH}, None),
    "embedding_dim=32": (NARROW, "flat"),
    "average=False": (SAVING, "hnsw"),
    'optimizer="adagrad"': ({**SAVING, "optimizer": "adagrad"}, "SQfp16"),
    "mask_known_positives=False": ({**SAVING, "mask_known_positives": False}, None),
}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.set_defaults(threads=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--paper", action="store_true")
    options = parser.parse_args()
    if options.paper:
        _start(options.threads)
        write("sizes-paper", paper())
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            path = Path(folder) / f"{name}.parquet"
            _apart(generate, name, path)
            row = compared(name, path, options.repeats, options.threads)
            print(row, flush=True)
            rows.append(row)
    write("sizes", rows, repeats=options.repeats)


def generate(name: str, path: Path) -> None:
    """Write the rows of a fit to a file."""
    if name in SIZES:
        data = make_interactions(*SIZES[name], random_state=0)
    else:
        data = load_movielens_small()
    data.interactions.to_parquet(path, index=False)


def compared(name: str, path: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Medians of the estimates and of the fits, which take turns."""
    pairs = [
        (_apart(estimate, name, path, threads), _apart(fit, name, path, threads))
        for _ in range(repeats)
    ]
    row: dict[str, Any] = {"fit": name}
    for one, other in pairs:
        row["before MB"] = other["before MB"]
        one["MB"] += other["before MB"]
    for quantity in ("MB", "epoch s"):
        estimated, measured = np.median([[p[quantity] for p in pair] for pair in pairs], 0)
        row |= {f"estimated {quantity}": estimated, f"measured {quantity}": measured}
        ratios = [one[quantity] / other[quantity] for one, other in pairs]
        row |= {f"ratio of {quantity}": estimated / measured}
        row |= {f"from {quantity}": min(ratios), f"to {quantity}": max(ratios)}
    return row


def estimate(name: str, path: Path, threads: int) -> dict[str, float]:
    """Of a sample of users."""
    _start(threads)
    X = pd.read_parquet(path)
    users = pd.Series(X["user_id"].unique())
    some = users.sample(frac=SHARES.get(name, SHARE), random_state=0)
    cost = estimate_cost(
        TwoTowerRecommender(**FITS[name]),
        X[X["user_id"].isin(some)].reset_index(drop=True),
        n_rows=len(X),
        n_users=len(users),
        n_items=X["item_id"].nunique(),
    )
    print(name, cost, sep="\n", flush=True)
    return {"MB": cost.memory.sum() / 2**20, "epoch s": cost.seconds}


def fit(name: str, path: Path, threads: int) -> dict[str, float]:
    """Of all rows."""
    _start(threads)
    tiny = make_interactions(50, 30, 500, random_state=0).interactions
    for X in (tiny, path):  # the first loads what the second uses
        gc.collect()
        before = _resident()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        model = TwoTowerRecommender(**FITS[name], max_iter=2, random_state=0)
        if X is tiny:
            model.set_params(batch_size="auto", n_negatives="auto")
        seconds = seconds_of_epochs(model, X)[1]
    peak = peak_megabytes()
    assert peak is not None
    return {"MB": peak, "before MB": before, "epoch s": seconds}


def paper() -> list[dict[str, Any]]:
    """A row for each setting."""
    X = make_interactions(*SAMPLE, random_state=0).interactions
    rows = []
    for name, (parameters, index) in SETTINGS.items():
        model = TwoTowerRecommender(**parameters)
        cost = estimate_cost(model, X, **INTERNET, index=index)
        rows.append(_as_row(name, cost, index))
        print(name, cost, sep="\n", flush=True)
    return rows


def _as_row(name: str, cost: CostEstimate, index: str | None) -> dict[str, Any]:
    return {
        "setting": name,
        **(cost.memory / 1e9),
        "memory": cost.memory.sum() / 1e9,
        "disk": cost.disk / 1e9,
        "steps": cost.n_steps,
        "GFLOP": cost.flops / 1e9,
        "epoch h": cost.seconds / 3600,
        "index": index,
        "of index": None if cost.index is None else cost.index / 1e9,
    }


def _apart(call: Any, *args: Any) -> Any:
    """The result of a call in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def _start(threads: int) -> None:
    """Of a process that measures."""
    torch.set_num_threads(threads)
    if threads == 1:
        time.perf_counter = time.process_time


def _resident() -> float:
    """Resident megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
