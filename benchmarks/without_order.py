"""What rows without an order in time take to be ranked as EASE ranks them.

    python -m benchmarks.without_order --data DIR [--threads 2] [--seeds 1]

On a slice of train, since it compares settings (``DIR`` has train.parquet and test.parquet;
the test rows are not looked at): a random 8 % of each user's rows, so that what is learnt
from is nearly all of train. EASE first, and what is left of it when its matrix of item by
item is cut to a rank: an inner product of so many dimensions. Then the settings of
``benchmarks.quality --no-order``, and those with one of them changed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.linalg
import torch

from benchmarks._common import COLUMNS, Split, arguments, slice_of_train, splits_of, write
from benchmarks.quality import NO_ORDER, best_ease
from sktwotower import TwoTowerRecommender

FRACTION = 0.08
RANKS = (64, 256, 1024)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"popularity_prior": 1.0},
    {"popularity_prior": None},
    {"history__tied": False},
    {"hidden_layer_sizes": ()},
    {"history__dropout": 0.1},
    {"mask_known_positives": False},
    {"user_id_embedding": True},
    {"temperature": 0.2},
    {"embedding_dim": 64},
    {"batch_size": 65_536},
)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=1)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing.")
    torch.set_num_threads(options.threads)
    split = slice_of_train(splits_of(options.data)[0], fraction=FRACTION, by_time=False)
    rows = ease(split)
    for change in CHANGES:
        started = time.perf_counter()
        scores = [
            TwoTowerRecommender(**COLUMNS, **NO_ORDER, random_state=seed)
            .set_params(**change)
            .fit(split.train)
            .score(split.test)
            for seed in range(options.seeds)
        ]
        row: dict[str, Any] = {"model": "two towers", "change": change or ""}
        row["ndcg@10"] = float(np.mean(scores))
        row["of EASE"] = row["ndcg@10"] / rows[0]["ndcg@10"]
        row["s"] = (time.perf_counter() - started) / options.seeds
        rows.append(row)
        print(row, flush=True)
    write("without-order", rows, seeds=options.seeds, settings=NO_ORDER)


def ease(split: Split) -> list[dict[str, Any]]:
    """EASE, and its matrix cut to each rank."""
    model = best_ease(split)
    model.fit(split.train)
    rows = [{"model": "EASE", "ndcg@10": model.score(split.test)}]
    left, sizes, right = scipy.linalg.svd(model.item_weights_)
    for rank in RANKS:
        model.item_weights_ = ((left[:, :rank] * sizes[:rank]) @ right[:rank]).astype(
            np.float32
        )
        score = model.score(split.test)
        rows.append({"model": f"EASE of rank {rank}", "ndcg@10": score})
    for row in rows:
        row |= {"of EASE": row["ndcg@10"] / rows[0]["ndcg@10"], "change": ""}
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
