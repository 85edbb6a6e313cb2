"""The metrics of each user beside those of ranx, on the same lists.

    python -m benchmarks.metrics_against_ranx [--data DIR]

Popularity and EASE rank 100 items for each user of test. Gains are twice the rating, since
ranx wants integers; 1 where there are no ratings. ranx divides average precision by the
number R of relevant items, ours by the smaller one of k and R: theirs is multiplied by
R / min(k, R) before the two are compared.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from ranx import Qrels, Run, evaluate
from scipy import sparse

from benchmarks._common import COLUMNS, Split, arguments, splits_of, write
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.metrics import METRICS, match_relevance

NAMES = {
    "ndcg": "ndcg",
    "graded_ndcg": "ndcg",
    "recall": "recall",
    "precision": "precision",
    "map": "map",
    "mrr": "mrr",
    "hit_rate": "hit_rate",
    "r_precision": "r-precision",
}
"""Ours -> that of ranx."""

CUT_OFFS = (1, 5, 10, 20, 100)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, seeds=None).parse_args()
    rows = []
    for split in splits_of(options.data):
        for model in (PopularRecommender(**COLUMNS), EASERecommender(**COLUMNS)):
            name = {"data": split.name, "model": type(model).__name__}
            rows += [name | row for row in compare(split, model.fit(split.train))]
    write("metrics_against_ranx", rows, ranx=version("ranx"))


def compare(split: Split, model: Any) -> list[dict[str, Any]]:
    """A row for each metric and cut-off."""
    test = split.test[split.test["item_id"].isin(model.item_ids_)]
    users, user_ids = pd.factorize(test["user_id"])
    gains = np.ones(len(test), dtype=int)
    if "rating" in test and test["rating"].notna().all():
        gains = (2 * test["rating"]).to_numpy(dtype=int)
    ids, _ = model.recommend(user_ids, n_recommendations=max(CUT_OFFS))
    items = pd.Index(model.item_ids_)
    ranked = items.get_indexer(ids.ravel()).reshape(ids.shape)
    columns = items.get_indexer(test["item_id"])
    relevant = sparse.csr_array(
        (gains, (users, columns)), shape=(len(user_ids), len(items))
    )
    matched = match_relevance(ranked, relevant)
    rows = []
    for name in NAMES:
        for k in (None,) if name == "r_precision" else CUT_OFFS:
            ours = METRICS[name](matched, **({} if k is None else {"k": k}))
            theirs = from_ranx(name, k, ranked, relevant)
            rows.append(
                {
                    "metric": name if k is None else f"{name}@{k}",
                    "n_users": len(ours),
                    "ours": float(ours.mean()),
                    "ranx": float(theirs.mean()),
                    "max_difference": float(np.abs(ours - theirs).max()),  # of one user
                }
            )
    return rows


def from_ranx(
    name: str, k: int | None, ranked: np.ndarray, relevant: sparse.csr_array
) -> np.ndarray:
    """What ranx says of each user, (n_users,)."""
    graded = name == "graded_ndcg"
    qrels, run = {}, {}
    for user, items in enumerate(ranked):
        part = slice(relevant.indptr[user], relevant.indptr[user + 1])
        gains = relevant.data[part] if graded else np.ones(part.stop - part.start)
        qrels[str(user)] = {
            str(item): int(gain)
            for item, gain in zip(relevant.indices[part], gains, strict=True)
        }
        run[str(user)] = {
            str(item): float(-rank) for rank, item in enumerate(items) if item >= 0
        }
    metric = NAMES[name] if k is None else f"{NAMES[name]}@{k}"
    scored = Run(run)
    evaluate(Qrels(qrels), scored, metric)
    values = np.array([scored.scores[metric][str(user)] for user in range(len(ranked))])
    if name == "map":
        n_relevant = np.diff(relevant.indptr)
        values = values * n_relevant / np.minimum(n_relevant, k)
    return values


if __name__ == "__main__":
    main()
