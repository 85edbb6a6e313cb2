"""What a grid search takes, how much of it is scoring, and what one scorer call takes.

    python -m benchmarks.tuning [--data DIR] [--scorer-data DIR] [--repeats 5] [--threads 2]

The search has six candidates, three folds and early stopping. It runs with ``n_jobs=1`` on
one thread of torch, and with ``n_jobs=2``, where joblib shares the cores out. The scorer
takes five metrics at three cut-offs, and is called ``--repeats`` times.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

from benchmarks._common import COLUMNS, Split, arguments, splits_of, write
from sktwotower import TwoTowerRecommender
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import InteractionKFold

GRID = {"embedding_dim": [32, 64], "temperature": [0.08, 0.12, 0.2]}
METRICS = [
    f"{name}@{k}"
    for name in ("ndcg", "recall", "precision", "map", "mrr")
    for k in (5, 10, 50)
]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--scorer-data", type=Path, help="as --data, for the scorer")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    split = splits_of(options.data)[0]
    torch.set_num_threads(1)
    write("tuning-search", [search(split, n_jobs) for n_jobs in (1, 2)])
    scored = splits_of(options.scorer_data)[0] if options.scorer_data else split
    row = call_scorer(scored, options.repeats, options.threads)
    write("tuning-scorer", [row], metrics=METRICS, threads=options.threads)


def search(split: Split, n_jobs: int) -> dict[str, Any]:
    """Seconds of a search: of the clock, and of all fits and scorings together."""
    grid = GridSearchCV(
        TwoTowerRecommender(
            **COLUMNS,
            **split.tables,
            timestamp_column="timestamp",
            history=None,
            early_stopping=True,
            random_state=0,
        ),
        GRID,
        cv=InteractionKFold(3, random_state=0, user_column="user_id"),
        scoring=make_ranking_scorer("ndcg@10"),
        n_jobs=n_jobs,
        refit=False,
    )
    started = time.perf_counter()
    grid.fit(split.train)
    wall = time.perf_counter() - started
    fit = 3 * float(np.sum(grid.cv_results_["mean_fit_time"]))
    score = 3 * float(np.sum(grid.cv_results_["mean_score_time"]))
    return {
        "data": split.name,
        "n_jobs": n_jobs,
        "wall s": wall,
        "fit s": fit,
        "score s": score,
        "share of scoring": score / (fit + score),
        "best ndcg@10": float(np.max(grid.cv_results_["mean_test_score"])),
    }


def call_scorer(split: Split, repeats: int, n_threads: int) -> dict[str, Any]:
    """Seconds of a call with all metrics, after one that is not counted.

    On a machine that has other things to do, the seconds of the processor tell more.
    """
    model = TwoTowerRecommender(**COLUMNS, max_iter=1, random_state=0).fit(split.train)
    scorer = make_ranking_scorer(METRICS)
    clock, processor = [], []
    with threadpool_limits(n_threads):
        scorer(model, split.test)
        for _ in range(repeats):
            started = time.perf_counter(), time.process_time()
            scorer(model, split.test)
            clock.append(time.perf_counter() - started[0])
            processor.append(time.process_time() - started[1])
    return {
        "data": split.name,
        "users": split.test["user_id"].nunique(),
        "items": len(model.item_ids_),
        "rows": len(split.test),
        "seconds median": float(np.median(clock)),
        "best": min(clock),
        "worst": max(clock),
        "of the processor": float(np.median(processor)),
    }


if __name__ == "__main__":
    main()
