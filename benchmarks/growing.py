"""partial_fit on ten chunks against one fit on all: NDCG@10, their ratio, seconds.

    python -m benchmarks.growing --data DIR [--seeds 3] [--threads 2]

``DIR`` is ml-100k as benchmarks/README.md describes such a folder. The training rows are
cut into ten chunks, in time order and in random order, and each is given once to
``partial_fit``, for one epoch or two; with and without a history. The test rows are those
that lie there. ``fit`` has the same parameters and all rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import shuffle

from benchmarks._common import COLUMNS, Split, arguments, bundled, from_folder, write
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory

N_CHUNKS = 10


def chunks_of(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Ten pieces of equal length, in their order."""
    edges = np.linspace(0, len(rows), N_CHUNKS + 1).astype(int)
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return [rows.iloc[start:end] for start, end in pairs]


def fit(model: TwoTowerRecommender, rows: pd.DataFrame, seed: int) -> None:
    """All rows at once."""
    model.fit(rows)


def grow(
    order: str, n_epochs: int
) -> Callable[[TwoTowerRecommender, pd.DataFrame, int], None]:
    """A training chunk by chunk."""

    def train(model: TwoTowerRecommender, rows: pd.DataFrame, seed: int) -> None:
        if order == "time":
            rows = rows.sort_values("timestamp", kind="stable")
        else:
            rows = shuffle(rows, random_state=seed)
        for chunk in chunks_of(rows):
            model.partial_fit(chunk, n_epochs=n_epochs)

    return train


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=3).parse_args()
    torch.set_num_threads(options.threads)
    split = bundled() if options.data is None else from_folder(options.data)
    rows = [
        row
        for history in (None, PooledHistory(20))
        for row in measure(split, history, options.seeds)
    ]
    write("growing", rows, seeds=options.seeds, n_chunks=N_CHUNKS)


def measure(
    split: Split, history: PooledHistory | None, n_seeds: int
) -> list[dict[str, Any]]:
    """One row a way to train; the first is ``fit``."""
    ways: dict[str, Any] = {"fit": fit}
    for order in ("time", "random"):
        for n_epochs in (1, 2):
            ways[f"partial_fit, {order} order, n_epochs={n_epochs}"] = grow(order, n_epochs)
    rows: list[dict[str, Any]] = []
    for way, train in ways.items():
        scores, seconds = [], []
        for seed in range(n_seeds):
            model = TwoTowerRecommender(
                **COLUMNS,
                **split.tables,
                timestamp_column="timestamp",
                history=history,
                random_state=seed,
            )
            started = time.perf_counter()
            train(model, split.train, seed)
            seconds.append(time.perf_counter() - started)
            scores.append(model.score(split.test))
        size = 0 if history is None else history.size
        row: dict[str, Any] = {"history of": size, "trained by": way, "seeds": n_seeds}
        row |= {"ndcg@10": float(np.mean(scores))}
        row["ndcg@10 by seed"] = [round(score, 4) for score in scores]
        row["of fit"] = row["ndcg@10"] / (rows[0] if rows else row)["ndcg@10"]
        row["s"] = float(np.median(seconds))
        rows.append(row)
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
