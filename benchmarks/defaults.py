"""What each default is worth: quality on slices of train, one parameter changed at a time.

    python -m benchmarks.defaults --shared DIR [--only NAME ...] [--ids] [--seeds 2]
                                  [--threads 2]

The data sets are those of ``benchmarks.suite``, and so is what the models are given of
them; with ``--ids`` it is the columns of ids. No test row is read. The metric is the one of
the data set, and the last column is the ratio to the defaults, averaged over the data.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import write
from benchmarks.suite.data import DATA_SETS, DataSet, load, slice_of_train
from benchmarks.suite.scoring import evaluate
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory

# A float weight_decay is the decay of every step whatever the length of an epoch.
VARIANTS: list[dict[str, Any]] = [
    {},
    {"average": False},
    {"mask_known_positives": False},
    {"sampling_correction": None},
    {"weight_decay": 0.0},
    {"weight_decay": 0.6},
    {"weight_decay": 6.0},
    {"temperature": 0.08},
    {"temperature": 0.2},
    {"learning_rate": 0.002},
    {"learning_rate": 0.01},
    {"hidden_layer_sizes": (128,)},
    {"batch_size": 2048},
    {"max_iter": 10},
    {"popularity_prior": None},
    {"history": PooledHistory(100)},
    {"id_dropout": 0.1},
    {"id_dropout": 0.3},
]
# With ids alone, where a user is a bag.
OF_BAGS: list[dict[str, Any]] = [
    {},
    {"history": None},
    {"history": PooledHistory(None, dropout=0.5), "learning_rate": 3e-3},
    {"hidden_layer_sizes": (), "learning_rate": 3e-3},
    {"max_iter": 20},
    {"max_iter": 40},
    {"negatives": "in_batch"},
    {"negatives": "mixed", "n_negatives": 128},
    {"sampling_correction": None, "negatives": "mixed", "n_negatives": 128},
    {"temperature": 0.05},
    {"temperature": 0.25},
    {"popularity_prior": None},
    {"embedding_dim": 64},
    {"embedding_dim": 512},
    {"weight_decay": 6.0},
    {"mask_known_positives": False},
    {"average": False},
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, metavar="DIR", required=True)
    parser.add_argument("--only", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    slices = {
        name: [slice_of_train(one) for one in load(name, options.shared)]
        for name in options.only
    }
    rows: list[dict[str, Any]] = []
    for variant in OF_BAGS if options.ids else VARIANTS:
        row: dict[str, Any] = {"changed": ", ".join(f"{k}={v}" for k, v in variant.items())}
        for name, parts in slices.items():
            scores = [
                score(part, variant, seed, ids_only=options.ids)
                for seed in range(options.seeds)
                for part in parts
            ]
            row[name] = float(np.mean(scores))
        first = rows[0] if rows else row
        row["ratio"] = float(np.mean([row[name] / first[name] for name in slices]))
        rows.append(row)
        print(row, flush=True)
    write("defaults", rows, seeds=options.seeds, ids_only=options.ids)


def score(part: DataSet, variant: dict[str, Any], seed: int, *, ids_only: bool) -> float:
    """Quality on a slice of train."""
    given = part.ids if ids_only else part.given()
    model = TwoTowerRecommender(**given, **variant, random_state=seed).fit(part.train)
    return evaluate(model, part)[part.metric]


if __name__ == "__main__":
    main()
