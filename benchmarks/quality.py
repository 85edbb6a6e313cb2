"""NDCG@10 of the defaults beside most-popular and EASE, same rows, same evaluator.

    python -m benchmarks.quality [--data DIR] [--peer PYTHON] [--seeds 3] [--threads 2]
                                 [--target 0.185] [--no-order]

``DIR`` holds train.parquet and test.parquet (user_id, item_id, timestamp) and maybe
users.parquet and items.parquet. It is measured as it lies there and on a random split of
the same rows; the bundled data is measured always. EASE's regularization is chosen on a
slice of train; the two-tower model has its defaults. ``--peer`` is the python of an
environment with LibRecommender (benchmarks/peers/README.md): its two-tower model then has a
row, with the best configuration that is known of it on MovieLens 100k.

The second table, of ``DIR`` as it lies there, is how long a ``fit`` with the defaults takes
to reach an NDCG@10 of ``--target``, by default what the peer reaches on MovieLens 100k: the
fewest epochs, of a few numbers, whose mean over the seeds is that high. Beside it is the
``fit`` of the peer, which takes turns with ours. Both numbers of epochs are chosen on the
test rows: this says something about time, not about quality.

With ``--no-order`` these are left out. Instead there are the settings for many rows
without an order in time (``NO_ORDER``; chosen on parts of train of MovieLens 1M), of
``DIR`` as it lies there, beside EASE: a user is the items that the user has. What each of
them is worth is what ``benchmarks.without_order`` measures.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    slice_of_train,
    splits_of,
    verdict,
    write,
)
from benchmarks._peers import BEST, Peer, add_peer, peer_of
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.metrics import make_ranking_scorer

METRICS = ["ndcg@10", "recall@10", "coverage@10"]
EPOCHS = (2, 3, 4, 6, 8, 10)  # what is tried to reach the target
GOAL = 0.1  # of the seconds of the peer
NO_ORDER: dict[str, Any] = {
    "user_id_embedding": False,
    "history_size": 10_000,  # all
    "history_dropout": 0.5,
    "tie_history": True,
    "hidden_layer_sizes": None,
    "popularity_prior": 1.3,
    "embedding_dim": 256,
    "temperature": 0.12,
    "weight_decay": 0.0,
    "learning_rate": 2e-2,
    "batch_size": 32_768,
    "max_iter": 30,
}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3)
    add_peer(parser)
    parser.add_argument("--target", type=float, default=0.185)
    parser.add_argument("--no-order", action="store_true")
    options = parser.parse_args()
    peer = peer_of(parser, options)
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    if options.no_order:
        write("quality-no-order", no_order(splits[0], options.seeds), seeds=options.seeds)
        return
    rows, versions = [], None
    for split in splits:
        rows += measure(split, options.seeds)
        if peer is not None:
            row, versions = measure_peer(peer, split)
            rows.append(row)
    write("quality", rows, peer_versions=versions, seeds=options.seeds)
    if options.data is not None:
        row = time_to_reach(splits[0], options.target, options.seeds, peer)
        write(
            "quality-time",
            [row],
            peer_versions=versions,
            seeds=options.seeds,
            epochs_tried=EPOCHS,
        )


def measure(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """One row a model."""
    scorer = make_ranking_scorer(METRICS)
    rows = []
    for name, make in {
        "most popular": lambda seed: PopularRecommender(**COLUMNS),
        "EASE": lambda seed: best_ease(split),
        "TwoTowerRecommender": lambda seed: two_tower(split, seed),
    }.items():
        seeds = range(n_seeds if name == "TwoTowerRecommender" else 1)
        scores, seconds = [], []
        for seed in seeds:
            model = make(seed)
            seconds.append(seconds_of_fit(model, split))
            scores.append(scorer(model, split.test))
        rows.append(summary(split, name, scores, seconds))
    return rows


def measure_peer(peer: Peer, split: Split) -> tuple[dict[str, Any], dict[str, str]]:
    """The row of the peer, one seed, and its versions."""
    fit = peer.fit(split, **BEST)
    row = summary(split, "LibRecommender", [fit.score(split)], [fit.report["fit s"]])
    return row, fit.report["versions"]


def no_order(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """EASE, and users that are what they have."""
    scorer, ease = make_ranking_scorer(METRICS), best_ease(split)
    seconds = [seconds_of_fit(ease, split)]
    rows = [summary(split, "EASE", [scorer(ease, split.test)], seconds)]
    scores, seconds = [], []
    for seed in range(n_seeds):
        model = TwoTowerRecommender(**COLUMNS, **NO_ORDER, random_state=seed)
        seconds.append(seconds_of_fit(model, split))
        scores.append(scorer(model, split.test))
    rows.append(summary(split, "TwoTowerRecommender, no order", scores, seconds))
    ratio = rows[1]["ndcg@10"] / rows[0]["ndcg@10"]
    rows[1] |= {"of EASE": ratio, "goal": ">= 1", "result": verdict(ratio, 1.0)}
    return rows


def time_to_reach(
    split: Split, target: float, n_seeds: int, peer: Peer | None
) -> dict[str, Any]:
    """The seconds of the cheapest fit that is good enough, and of the peer's."""
    row: dict[str, Any] = {"data": split.name, "target ndcg@10": target}
    for epochs in EPOCHS:
        scores = [
            two_tower(split, seed, max_iter=epochs).fit(split.train).score(split.test)
            for seed in range(n_seeds)
        ]
        row |= {"epochs": epochs, "ndcg@10": float(np.mean(scores))}
        if row["ndcg@10"] >= target:
            break
    seconds, others, peer_scores = [], [], []
    for seed in range(n_seeds):
        model = two_tower(split, seed, max_iter=row["epochs"])
        seconds.append(seconds_of_fit(model, split))
        if peer is not None:
            fit = peer.fit(split, **BEST, seed=seed)
            others.append(fit.report["fit s"])
            peer_scores.append(fit.score(split)["ndcg@10"])
    row["fit s"] = float(np.median(seconds))
    if row["ndcg@10"] < target:
        row["result"] = f"the target is missed by {target - row['ndcg@10']:.4f}"
    elif others:
        row |= {"peer epochs": BEST["epochs"], "peer ndcg@10": float(np.mean(peer_scores))}
        row["peer fit s"] = float(np.median(others))
        row["ratio"] = row["fit s"] / row["peer fit s"]
        row |= {"goal": f"<= {GOAL}", "result": verdict(row["ratio"], GOAL, at_most=True)}
    return row


def two_tower(split: Split, seed: int, **parameters: Any) -> TwoTowerRecommender:
    """Ours, with defaults where nothing is said."""
    return TwoTowerRecommender(**COLUMNS, **split.tables, **parameters, random_state=seed)


def seconds_of_fit(model: Any, split: Split) -> float:
    """How long it takes."""
    started = time.perf_counter()
    model.fit(split.train)
    return time.perf_counter() - started


def summary(
    split: Split, model: str, scores: list[dict[str, float]], seconds: list[float]
) -> dict[str, Any]:
    """A row of the table: means over seeds."""
    row: dict[str, Any] = {"data": split.name, "model": model, "seeds": len(scores)}
    row |= {m: float(np.mean([score[m] for score in scores])) for m in METRICS}
    row["ndcg@10 by seed"] = [round(score["ndcg@10"], 4) for score in scores]
    row["fit s"] = float(np.median(seconds))
    print(row, flush=True)
    return row


def best_ease(split: Split) -> EASERecommender:
    """EASE with the regularization that is best on a slice of train."""
    inner = slice_of_train(split)
    models = [EASERecommender(**COLUMNS, regularization=r) for r in (100, 300, 600, 1000)]
    return max(models, key=lambda model: model.fit(inner.train).score(inner.test))


if __name__ == "__main__":
    main()
