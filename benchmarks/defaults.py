"""What each default is worth: NDCG@10 on a slice of train, one parameter changed at a time.

    python -m benchmarks.defaults [--data DIR] [--seeds 2] [--threads 2]

No test row is read. The last column is the ratio to the defaults, averaged over the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks._common import COLUMNS, arguments, slice_of_train, splits_of, write
from sktwotower import TwoTowerRecommender

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
]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=2).parse_args()
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    slices = [slice_of_train(split) for split in splits]
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        row: dict[str, Any] = {"changed": ", ".join(f"{k}={v}" for k, v in variant.items())}
        for part in slices:
            scores = [
                TwoTowerRecommender(**COLUMNS, **part.tables, **variant, random_state=seed)
                .fit(part.train)
                .score(part.test)
                for seed in range(options.seeds)
            ]
            row[part.name] = float(np.mean(scores))
        first = rows[0] if rows else row
        row["ratio"] = float(
            np.mean([row[part.name] / first[part.name] for part in slices])
        )
        rows.append(row)
        print(row, flush=True)
    write("defaults", rows, seeds=options.seeds)


if __name__ == "__main__":
    main()
