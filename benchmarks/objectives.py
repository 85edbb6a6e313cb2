"""Every loss x negatives x correction: NDCG@10, recall@10, coverage and samples a second.

    python -m benchmarks.objectives [--data DIR] [--full] [--loss LOSS ...] [--seeds 3]

``DIR`` is ml-100k as benchmarks/README.md describes such a folder; without it the bundled
data is measured. With ``--full``, meant for ml-1m, where a fit takes minutes, there is one
seed unless told otherwise, and the results have a file of their own. Each loss is tuned on
a slice of the training rows, one seed: temperature, margin, negatives a row. The table is
measured on the test rows. Nothing is made of timestamps.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    Split,
    arguments,
    bundled,
    from_folder,
    slice_of_train,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower.metrics import make_ranking_scorer

METRICS = ["ndcg@10", "recall@10", "coverage@10"]
# What is tried on the slice of train, for the loss with its first negatives.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "softmax": {"temperature": [0.08, 0.12, 0.17]},
    "cross_entropy": {"temperature": [0.06, 0.08, 0.12], "n_negatives": [1, 8]},
    "bpr": {"temperature": [0.04, 0.06, 0.12], "n_negatives": [1, 8]},
    "max_margin": {"margin": [0.5, 1.0, 2.0], "n_negatives": [1, 8]},
}
NEGATIVES = {
    "softmax": ["in_batch", "mixed", "full", "random", "popular"],
    "cross_entropy": ["unconsumed", "random", "popular"],
    "bpr": ["unconsumed", "random", "popular"],
    "max_margin": ["unconsumed", "random", "popular"],
}


def configurations(loss: str) -> list[dict[str, Any]]:
    """What goes with a loss; a correction only where it corrects something."""
    found: list[dict[str, Any]] = []
    for negatives in NEGATIVES[loss]:
        corrections: list[str | None] = ["logq", "refined", None]
        if negatives in ("full", "unconsumed"):
            corrections = [None]
        elif loss != "softmax":
            corrections = ["logq", None] if negatives == "popular" else [None]
        found += [
            {"negatives": negatives, "sampling_correction": correction}
            for correction in corrections
        ]
    if loss == "softmax":
        found.append({"negatives": "in_batch", "temperature": "learned"})
        found += [
            {"negatives": "in_batch", "ssl_pattern": pattern}
            for pattern in ("rfm", "rfm-complementary", "cfm")
        ]
    return found


def tune(split: Split, loss: str) -> dict[str, Any]:
    """The settings of a loss that are best on a slice of train."""
    inner = slice_of_train(split)
    grid = GRIDS[loss]
    best, best_score = {}, -1.0
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        score = (
            TwoTowerRecommender(
                **COLUMNS,
                **BY_ID,
                **inner.tables,
                loss=loss,
                negatives=NEGATIVES[loss][0],
                random_state=0,
                **settings,
            )
            .fit(inner.train)
            .score(inner.test)
        )
        print(f"slice of train: {loss} {settings} {score:.4f}", flush=True)
        if score > best_score:
            best, best_score = settings, score
    return best


def measure(split: Split, n_seeds: int, **parameters: Any) -> dict[str, Any]:
    """Mean metrics over seeds, and the median throughput."""
    scorer = make_ranking_scorer(METRICS)
    scores, rates = [], []
    for seed in range(n_seeds):
        model = TwoTowerRecommender(
            **COLUMNS, **BY_ID, **split.tables, **parameters, random_state=seed
        )
        started = time.perf_counter()
        model.fit(split.train)
        seconds = time.perf_counter() - started
        rates.append(model.n_iter_ * len(split.train) / seconds)
        scores.append(scorer(model, split.test))
    row = {"data": split.name, **parameters, "seeds": n_seeds}
    row |= {metric: float(np.mean([s[metric] for s in scores])) for metric in METRICS}
    row["ndcg@10 by seed"] = [round(s["ndcg@10"], 4) for s in scores]
    return {**row, "samples/s": float(np.median(rates))}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--full", action="store_true", help="the data is ml-1m")
    parser.add_argument("--loss", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = bundled() if options.data is None else from_folder(options.data)
    seeds = options.seeds or (1 if options.full else 3)
    rows = []
    for loss in options.loss:
        settings = tune(split, loss)
        for configuration in configurations(loss):
            row = measure(split, seeds, **{"loss": loss, **settings, **configuration})
            rows.append(row)
            print(row, flush=True)
    write("objectives-full" if options.full else "objectives", rows, seeds=seeds)


if __name__ == "__main__":
    main()
