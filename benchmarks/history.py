"""What a history of recent items is worth, for known users and for new ones.

    python -m benchmarks.history --data DIR [--seeds 3] [--threads 2]

``DIR`` is ml-100k as benchmarks/README.md describes such a folder. Known users: the test
rows as they lie there, with and without a history. New users: a seeded fifth of all users
is not in training; of all their rows in time order the first half is their history, which
the models are given when they are asked, and the second half is to be found. EASE applies
its item-item weights to the history; its regularization is chosen on a slice of train. What
is in the history is recommended by nobody. Each seed draws users and weights.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    best_ease,
    bundled,
    from_folder,
    ranking_metrics,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.metrics import make_ranking_scorer

METRICS = ["ndcg@10", "recall@10"]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=3).parse_args()
    torch.set_num_threads(options.threads)
    split = bundled() if options.data is None else from_folder(options.data)
    rows = known_users(split, options.seeds) + new_users(split, options.seeds)
    write("history", rows, seeds=options.seeds)


def known_users(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """The test rows of users that training knows; EASE beside."""
    scorer = make_ranking_scorer(METRICS)
    ease = best_ease(split)
    started = time.perf_counter()
    ease.fit(split.train)
    seconds = time.perf_counter() - started
    reference = scorer(ease, split.test)
    rows = [summary("known", f"EASE({ease.regularization})", [reference], [seconds])]
    for history in (None, PooledHistory(20), TransformerHistory()):
        scores, seconds_of = [], []
        for seed in range(n_seeds):
            model = TwoTowerRecommender(
                **COLUMNS,
                **split.tables,
                timestamp_column="timestamp",
                history=history,
                random_state=seed,
            )
            started = time.perf_counter()
            model.fit(split.train)
            seconds_of.append(time.perf_counter() - started)
            scores.append(scorer(model, split.test))
        rows.append(summary("known", f"history={history}", scores, seconds_of, [reference]))
    return rows


def new_users(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """Users that training has never seen, by what they had before."""
    histories: dict[str, Any] = {
        "EASE": None,
        "history of 20": PooledHistory(20),
        "history of 50": PooledHistory(50),
        "transformer of 50": TransformerHistory(),
    }
    names = list(histories)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(n_seeds):
        inner, history, truth = without_users(split, seed)
        users = truth["user_id"].unique()
        for name in names:
            model: Any = (
                best_ease(inner)
                if name == "EASE"
                else two_tower(inner, histories[name], seed)
            )
            started = time.perf_counter()
            model.fit(inner.train)
            seconds[name].append(time.perf_counter() - started)
            if name == "EASE":
                ids = ease_of_history(model, users, history)
            else:
                ids = model.recommend(users, history=history)[0]
            found = ranking_metrics(ids, users, truth, {"ndcg": 10, "recall": 10})
            scores[name].append(found)
            print(f"new users, seed {seed}, {name}: {found}", flush=True)
    return [
        summary("new", name, scores[name], seconds[name], scores["EASE"]) for name in names
    ]


def two_tower(split: Split, history: Any, seed: int) -> TwoTowerRecommender:
    """A model that describes users by their history and their features."""
    return TwoTowerRecommender(
        **COLUMNS,
        **split.tables,
        timestamp_column="timestamp",
        user_id_embedding=False,
        history=history,
        random_state=seed,
    )


def without_users(split: Split, seed: int) -> tuple[Split, pd.DataFrame, pd.DataFrame]:
    """Four fifths of the users to train on; history and truth of the others."""
    rows = pd.concat([split.train, split.test], ignore_index=True)
    users = np.sort(rows["user_id"].unique())
    new = np.random.RandomState(seed).choice(users, len(users) // 5, replace=False)
    is_new = rows["user_id"].isin(new)
    train = rows[~is_new]
    theirs = rows[is_new & rows["item_id"].isin(train["item_id"].unique())]
    theirs = theirs.sort_values(["user_id", "timestamp"], kind="stable")
    of_user = theirs.groupby("user_id")["item_id"]
    is_early = of_user.cumcount() < of_user.transform("size") // 2
    inner = Split(f"{split.name}, new users", train, train.iloc[:0], split.tables)
    return inner, theirs[is_early], theirs[~is_early]


def ease_of_history(
    model: EASERecommender, users: np.ndarray, history: pd.DataFrame
) -> np.ndarray:
    """The ten best items by EASE's weights for users that it has not seen."""
    pairs = np.zeros((len(users), len(model.item_ids_)), dtype=np.float32)
    items = pd.Index(model.item_ids_).get_indexer(history["item_id"])
    pairs[pd.Index(users).get_indexer(history["user_id"]), items] = 1.0
    scores = np.where(pairs > 0, -np.inf, pairs @ model.item_weights_)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return np.asarray(model.item_ids_)[best]


def summary(
    users: str,
    model: str,
    scores: list[dict[str, float]],
    seconds: list[float],
    ease: list[dict[str, float]] | None = None,
) -> dict[str, Any]:
    """A row of the table: means over seeds."""
    row: dict[str, Any] = {"users": users, "model": model, "seeds": len(scores)}
    row |= {metric: float(np.mean([s[metric] for s in scores])) for metric in METRICS}
    row["ndcg@10 by seed"] = [round(s["ndcg@10"], 4) for s in scores]
    reference = float(np.mean([s["ndcg@10"] for s in ease or scores]))
    row |= {"of EASE": row["ndcg@10"] / reference, "fit s": float(np.median(seconds))}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
