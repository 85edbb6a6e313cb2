"""NDCG@10 of the defaults beside most-popular and EASE, same rows, same evaluator.

    python -m benchmarks.quality [--data DIR] [--seeds 3] [--threads 2]

``DIR`` holds train.parquet and test.parquet (user_id, item_id, timestamp) and maybe
users.parquet and items.parquet. It is measured as it lies there and on a random split of
the same rows; the bundled data is measured always. EASE's regularization is chosen on a
slice of train; the two-tower model has its defaults.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks._common import COLUMNS, Split, arguments, slice_of_train, splits_of, write
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.metrics import make_ranking_scorer

METRICS = ["ndcg@10", "recall@10", "coverage@10"]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=3).parse_args()
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    rows = [row for split in splits for row in measure(split, options.seeds)]
    write("quality", rows, seeds=options.seeds)


def measure(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """One row a model."""
    scorer = make_ranking_scorer(METRICS)
    rows = []
    for name, make in {
        "most popular": lambda seed: PopularRecommender(**COLUMNS),
        "EASE": lambda seed: best_ease(split),
        "TwoTowerRecommender": lambda seed: TwoTowerRecommender(
            **COLUMNS, **split.tables, random_state=seed
        ),
    }.items():
        seeds = range(n_seeds if name == "TwoTowerRecommender" else 1)
        scores, seconds = [], []
        for seed in seeds:
            model = make(seed)
            started = time.perf_counter()
            model.fit(split.train)
            seconds.append(time.perf_counter() - started)
            scores.append(scorer(model, split.test))
        row = {"data": split.name, "model": name, "seeds": len(seeds)}
        row |= {m: float(np.mean([score[m] for score in scores])) for m in METRICS}
        row["ndcg@10 by seed"] = [round(score["ndcg@10"], 4) for score in scores]
        rows.append({**row, "fit s": float(np.median(seconds))})
    return rows


def best_ease(split: Split) -> EASERecommender:
    """EASE with the regularization that is best on a slice of train."""
    inner = slice_of_train(split)
    models = [EASERecommender(**COLUMNS, regularization=r) for r in (100, 300, 600, 1000)]
    return max(models, key=lambda model: model.fit(inner.train).score(inner.test))


if __name__ == "__main__":
    main()
