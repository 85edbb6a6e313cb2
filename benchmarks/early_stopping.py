"""What early stopping costs, and what a refit on all rows gives back.

    python -m benchmarks.early_stopping [--data DIR] [--seeds 2] [--threads 2]

Three models on a slice of train: all epochs on all rows; early stopping, which holds out a
tenth of the rows; and the same with ``refit=True``.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks._common import COLUMNS, Split, arguments, slice_of_train, splits_of, write
from sktwotower import TwoTowerRecommender


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=2).parse_args()
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    rows = []
    for split in splits:
        runs = [measure(split, seed) for seed in range(options.seeds)]
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        rows.append({"data": f"slice of train, {split.name}", **means})
    write("early_stopping", rows, seeds=options.seeds)


def measure(split: Split, seed: int) -> dict[str, float]:
    """NDCG@10 of the three models on the slice that train leaves out."""
    inner = slice_of_train(split)
    parameters = {**COLUMNS, **inner.tables, "random_state": seed}
    timestamp = None if "random" in split.name else "timestamp"
    early = {**parameters, "timestamp_column": timestamp, "early_stopping": True}
    plain = TwoTowerRecommender(**parameters).fit(inner.train)
    stopped = TwoTowerRecommender(**early).fit(inner.train)
    again = TwoTowerRecommender(**early, refit=True).fit(inner.train)
    return {
        "all epochs, all rows": plain.score(inner.test),
        "early stopping": stopped.score(inner.test),
        "refit on all rows": again.score(inner.test),
        "best epoch": int(np.argmax(stopped.validation_scores_)) + 1,
    }


if __name__ == "__main__":
    main()
