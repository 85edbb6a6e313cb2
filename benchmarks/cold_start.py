"""New items and new users: what their features are worth, beside what training is.

    python -m benchmarks.cold_start [--data DIR] [--id-dropout 0.3] [--max-iter 15]

``DIR`` is ml-1m or ml-100k as benchmarks/README.md describes such a folder; without it the
bundled data is measured, which has features of items alone.

*Items*: a tenth of the items with at least five training rows leave training; the item
table keeps them. Truth is the test rows about them of users that training still knows,
ranked among the new items alone and among all items that train had. "Warm" is the same
model trained with the rows of these items.

*Users*, where there is a user table: a tenth of the users leave training. Truth is their
test rows, and what they had in train is their ``history``, so that it is recommended by
nobody; it enters a model only if ``history`` says so.

What a user had in train is left out of everyone's ranking. Each seed draws who is new and
the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    bundled,
    from_folder,
    ranking_metrics,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory

# Ids of items for users, best first: (users, number, candidates) -> (n_users, number).
Recommend = Callable[[np.ndarray, int, np.ndarray], np.ndarray]
METRICS = {"recall": 50, "ndcg": 10}


class Models:
    """Fitted models of one seed; what is asked for twice is trained once."""

    def __init__(self, split: Split, seed: int, max_iter: int) -> None:
        self.split = split
        self.seed = seed
        self.max_iter = max_iter
        self._fitted: dict[tuple[str, str], TwoTowerRecommender] = {}

    def fitted(
        self, rows: pd.DataFrame, called: str, *, without: str = "", **parameters: Any
    ) -> TwoTowerRecommender:
        """A model of these rows; ``without`` is a table that it does not get."""
        key = called, f"{parameters}{without}"
        if key not in self._fitted:
            timed = self.split.train["timestamp"].nunique() > 1
            tables = {k: v for k, v in self.split.tables.items() if k != without}
            started = time.perf_counter()
            self._fitted[key] = TwoTowerRecommender(
                **COLUMNS,
                **tables,
                timestamp_column="timestamp" if timed else None,
                random_state=self.seed,
                max_iter=self.max_iter,
                **{"history": None, **parameters},
            ).fit(rows)
            seconds = time.perf_counter() - started
            print(f"trained on {called} in {seconds:.0f} s: {parameters}", flush=True)
        return self._fitted[key]


def two_tower(
    model: TwoTowerRecommender,
    users: np.ndarray,
    number: int,
    candidates: np.ndarray,
    **more: Any,
) -> np.ndarray:
    """What the estimator recommends, ids alone."""
    return model.recommend(users, n_recommendations=number, candidates=candidates, **more)[
        0
    ]


def by_score(
    score_of: pd.Series | None,
    seen: pd.DataFrame,
    seed: int,
    users: np.ndarray,
    number: int,
    candidates: np.ndarray,
) -> np.ndarray:
    """Items by a number of their own, ties at random; None: at random altogether."""
    rng = np.random.RandomState(seed)
    of_item = np.zeros(len(candidates))
    if score_of is not None:
        of_item = score_of.reindex(candidates, fill_value=0).to_numpy(dtype=float)
    scores = of_item + rng.uniform(0, 0.5, size=(len(users), len(candidates)))
    row = pd.Index(users).get_indexer(seen["user_id"])
    column = pd.Index(candidates).get_indexer(seen["item_id"])
    inside = (row >= 0) & (column >= 0)
    scores[row[inside], column[inside]] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :number]
    found = candidates.astype(object)[best]
    found[np.isneginf(np.take_along_axis(scores, best, axis=1))] = None
    return found


def new_items(models: Models, id_dropouts: list[float]) -> Iterator[dict[str, Any]]:
    """Rows of the table about items that training has not seen."""
    split, seed, train = models.split, models.seed, models.split.train
    counts = train["item_id"].value_counts().sort_index()
    often = counts.index[counts >= 5].to_numpy()
    cold = np.random.RandomState(seed).choice(often, len(often) // 10, replace=False)
    is_cold = train["item_id"].isin(cold)
    rows, gone = train[~is_cold], train[is_cold]
    everything = train["item_id"].unique()
    test = split.test[
        split.test["user_id"].isin(rows["user_id"])
        & split.test["item_id"].isin(train["item_id"])
    ]
    truth = test[test["item_id"].isin(cold)]
    print(
        f"seed {seed}: {len(cold)} new items with {len(gone)} training rows; "
        f"{len(truth)} test rows of {truth['user_id'].nunique()} users",
        flush=True,
    )

    def row(name: str, of: str, recommend: Recommend) -> dict[str, Any]:
        users, everyone = truth["user_id"].unique(), test["user_id"].unique()
        among_cold = ranking_metrics(recommend(users, 50, cold), users, truth, METRICS)
        among_all = ranking_metrics(recommend(users, 50, everything), users, truth, METRICS)
        top = recommend(everyone, 10, everything)
        share = float(np.isin(top, cold).mean())
        return {
            "model": name,
            "items": of,
            **{f"{k} among new": v for k, v in among_cold.items()},
            **among_all,
            "share in top 10": share,
            "share in truth": len(truth) / len(test),
            "ndcg@10 all rows": ranking_metrics(top, everyone, test, {"ndcg": 10})[
                "ndcg@10"
            ],
        }

    variants: dict[str, dict[str, Any]] = {"id_dropout=0": {}}
    variants |= {f"id_dropout={d}": {"id_dropout": d} for d in id_dropouts}
    variants["item_id_embedding=False"] = {"item_id_embedding": False}
    for name, parameters in variants.items():
        # What is gone says what has been seen, so that all leave out the same.
        model = models.fitted(rows, "rows without the new items", **parameters)
        yield row(name, "new", partial(two_tower, model, history=gone))
        model = models.fitted(train, "all rows", **parameters)
        yield row(name, "warm", partial(two_tower, model))
    for of, seen in (("new", rows), ("warm", train)):
        popularity = seen["item_id"].value_counts()
        yield row("popular", of, partial(by_score, popularity, train, seed))
    yield row("random", "new", partial(by_score, None, train, seed))


def new_users(models: Models, id_dropouts: list[float]) -> Iterator[dict[str, Any]]:
    """Rows of the table about users that training has not seen."""
    split, seed, train = models.split, models.seed, models.split.train
    users = np.sort(train["user_id"].unique())
    cold = np.random.RandomState(seed).choice(users, len(users) // 10, replace=False)
    is_cold = train["user_id"].isin(cold)
    rows, gone = train[~is_cold], train[is_cold]
    candidates = rows["item_id"].unique()
    truth = split.test[
        split.test["user_id"].isin(cold) & split.test["item_id"].isin(candidates)
    ]
    asked = truth["user_id"].unique()
    print(f"seed {seed}: {len(cold)} new users, {len(truth)} test rows", flush=True)

    def row(name: str, of: str, recommend: Recommend) -> dict[str, Any]:
        found = ranking_metrics(recommend(asked, 50, candidates), asked, truth, METRICS)
        return {"model": name, "users": of, **found}

    variants: dict[str, dict[str, Any]] = {"id_dropout=0": {}}
    variants |= {f"id_dropout={d}": {"id_dropout": d} for d in id_dropouts}
    variants["user_id_embedding=False"] = {"user_id_embedding": False}
    variants["user_id_embedding=False, history=PooledHistory(20)"] = {
        "user_id_embedding": False,
        "history": PooledHistory(20),
    }
    for name, parameters in variants.items():
        model = models.fitted(rows, "rows without the new users", **parameters)
        yield row(name, "new", partial(two_tower, model, history=gone))
        model = models.fitted(train, "all rows", **parameters)
        yield row(name, "warm", partial(two_tower, model))
    bare = models.fitted(rows, "rows without the new users", without="user_table")
    for cold_start in ("tower", "mean"):
        yield row(
            f"no user table, cold_start={cold_start!r}",
            "new",
            partial(two_tower, bare, history=gone, cold_start=cold_start),
        )
    popularity = rows["item_id"].value_counts()
    yield row("popular", "new", partial(by_score, popularity, train, seed))
    yield row("random", "new", partial(by_score, None, train, seed))


def mean_over_seeds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a model, in the order in which they came."""
    frame = pd.DataFrame(rows)
    keys = [name for name in ("model", "items", "users") if name in frame]
    grouped = frame.groupby(keys, sort=False)
    means = grouped.mean().reset_index()
    means.insert(len(keys), "seeds", grouped.size().to_numpy())
    by_seed = grouped["ndcg@10"].agg(lambda values: [round(v, 4) for v in values])
    means["ndcg@10 by seed"] = by_seed.to_numpy()
    return means.to_dict("records")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3)
    parser.add_argument("--id-dropout", type=float, nargs="+", default=[0.3])
    parser.add_argument("--max-iter", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = bundled() if options.data is None else from_folder(options.data)
    name = "bundled" if options.data is None else options.data.name
    models = [Models(split, seed, options.max_iter) for seed in range(options.seeds)]
    parts = {"items": new_items}
    if "user_table" in split.tables:
        parts["users"] = new_users
    for part, measure in parts.items():
        rows = []
        for of_seed in models:
            for row in measure(of_seed, options.id_dropout):
                print(row, flush=True)
                rows.append(row)
        write(
            f"cold_start-{part}-{name}",
            mean_over_seeds(rows),
            data=split.name,
            seeds=options.seeds,
        )


if __name__ == "__main__":
    main()
