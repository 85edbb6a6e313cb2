"""What an inner product lacks beside EASE where rows have no order in time.

    python -m benchmarks.without_order --data DIR [--threads 2] [--seed 0] [--test]

On a slice of train, since it compares settings (``DIR`` has train.parquet, test.parquet);
with ``--test`` the last setting alone, on the test rows. First EASE, and what is left of it
when its matrix of item by item is cut to a rank: an inner product of so many dimensions.
Then a model of the same form, in a few lines of torch so that a setting takes a minute: a
user is the sum of one table over a random part of the items that the user has, an item a
row of another (or of the same), the score is the cosine over the temperature beside the log
of the item's popularity, and the loss is the softmax over all items for the items that the
user has and that were dropped. Each row of the table keeps what the row above it has
changed; the rows of the last kind are what one change takes from the last setting.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from benchmarks._common import COLUMNS, Split, arguments, slice_of_train, splits_of, write
from sktwotower.metrics import match_relevance, ndcg

REGULARIZATION = 1000.0  # best on the slice of MovieLens 1M, of 100, 300, 500, 1000, 2000
RANKS = (64, 256, 1024)


@dataclass(frozen=True)
class Setting:
    """What is varied."""

    embedding_dim: int = 128
    temperature: float = 0.1
    learning_rate: float = 2e-2
    epochs: int = 30
    batch_users: int = 500
    dropped: float = 0.5  # share of a user's items to predict from the others
    popularity: float = 0.0  # weight of its log beside the score, in training
    extra_popularity: float = 0.0  # and what is added to that weight afterwards
    shared: bool = False  # one table for a user's items and for the items to score
    unit_users: bool = True  # else the sum over the root of the number of items
    user_weight: float = 0.0  # a user of n items weighs n ** (1 - user_weight)


CHAIN: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.17},
    {"popularity": 1.0},
    {"batch_users": 250},
    {"shared": True},
    {"extra_popularity": 0.3},
)
WORSE: tuple[dict[str, Any], ...] = (
    {"dropped": 0.1},
    {"unit_users": False, "temperature": 0.5},
    {"user_weight": 1.0},
)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="the last setting, on test")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing.")
    torch.set_num_threads(options.threads)
    split = splits_of(options.data)[0]
    problem = Problem.of(split if options.test else slice_of_train(split))
    rows = ease(problem)
    for change, setting in settings()[len(CHAIN) - 1 :][:1] if options.test else settings():
        started = time.perf_counter()
        row: dict[str, Any] = {"model": "cosine, softmax", "change": change or ""}
        row["ndcg@10"] = problem.score(train(problem.seen, setting, options.seed))
        row |= {"of EASE": row["ndcg@10"] / rows[0]["ndcg@10"]}
        rows.append(row | {"s": time.perf_counter() - started, **asdict(setting)})
        print(rows[-1], flush=True)
    table = [{key: row.get(key, "") for key in rows[-1]} for row in rows]
    name = "without-order-test" if options.test else "without-order"
    write(name, table, seed=options.seed, regularization=REGULARIZATION)


def settings() -> list[tuple[dict[str, Any], Setting]]:
    """Changes and what they lead to: the chain, then its end with one change each."""
    pairs = []
    setting = Setting()
    for change in CHAIN:
        setting = replace(setting, **change)
        pairs.append((change, setting))
    return pairs + [(change, replace(setting, **change)) for change in WORSE]


@dataclass(frozen=True)
class Problem:
    """Who has what, dense, of the users and items of train.

    Attributes
    ----------
    seen, hidden : Tensor of shape (n_users, n_items)
        1 for a row to train on, and to find.
    """

    seen: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, split: Split) -> Problem:
        """The rows of a split, without those of items that train lacks."""
        users, items = (pd.Index(split.train[name].unique()) for name in COLUMNS.values())
        matrices = []
        for rows in (split.train, split.test):
            codes = items.get_indexer(rows[COLUMNS["item_column"]])
            matrix = torch.zeros(len(users), len(items))
            places = users.get_indexer(rows[COLUMNS["user_column"]])[codes >= 0]
            matrix[places, codes[codes >= 0]] = 1.0
            matrices.append(matrix)
        return cls(*matrices)

    def score(self, scores: Tensor) -> float:
        """NDCG@10 of the unseen items in the order of their scores (n_users, n_items)."""
        best = scores.masked_fill(self.seen > 0, -torch.inf).topk(10, dim=1).indices
        matched = match_relevance(best.numpy(), csr_matrix(self.hidden.numpy()))
        return float(np.nanmean(ndcg(matched, k=10)))


def ease(problem: Problem) -> list[dict[str, Any]]:
    """EASE, and its matrix cut to each rank."""
    seen = problem.seen
    gram = (seen.T @ seen).double()
    gram.diagonal().add_(REGULARIZATION)
    inverse = torch.linalg.inv(gram)
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0.0)
    weights = weights.float()
    rows: list[dict[str, Any]] = [
        {"model": "EASE", "ndcg@10": problem.score(seen @ weights)}
    ]
    left, sizes, right = torch.linalg.svd(weights)
    for rank in RANKS:
        users = seen @ (left[:, :rank] * sizes[:rank])
        row = {
            "model": f"EASE of rank {rank}",
            "ndcg@10": problem.score(users @ right[:rank]),
        }
        rows.append(row)
    for row in rows:
        row["of EASE"] = row["ndcg@10"] / rows[0]["ndcg@10"]
        print(row, flush=True)
    return rows


def train(seen: Tensor, setting: Setting, seed: int) -> Tensor:
    """Scores (n_users, n_items) after training."""
    generator = torch.Generator().manual_seed(seed)
    n_users, n_items = seen.shape
    shape = (1 if setting.shared else 2, n_items, setting.embedding_dim)
    tables = (0.05 * torch.randn(shape, generator=generator)).requires_grad_()
    log_popularity = torch.log((seen.sum(0) + 1) / seen.sum())
    weights = seen.sum(1, keepdim=True) ** -setting.user_weight

    def scores(items: Tensor, popularity: float) -> Tensor:
        users = items @ tables[0]
        if setting.unit_users:
            users = F.normalize(users, dim=1)
        else:
            users = users / items.sum(1, keepdim=True).clamp(min=1).sqrt()
        cosines = users @ F.normalize(tables[-1], dim=1).T
        return cosines / setting.temperature + popularity * log_popularity

    optimizer = torch.optim.Adam([tables], lr=setting.learning_rate)
    n_steps = setting.epochs * -(-n_users // setting.batch_users)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, n_steps)
    for _ in range(setting.epochs):
        order = torch.randperm(n_users, generator=generator)
        for users in order.split(setting.batch_users):
            items = seen[users]
            kept = torch.rand(items.shape, generator=generator) >= setting.dropped
            given = items * kept
            logits = scores(given, setting.popularity)
            wanted = (items - given) * weights[users]
            totals = logits.masked_fill(given > 0, -torch.inf).logsumexp(1)
            loss = (totals * wanted.sum(1) - (logits * wanted).sum(1)).sum()
            optimizer.zero_grad()
            (loss / wanted.sum()).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return scores(seen, setting.popularity + setting.extra_popularity)


if __name__ == "__main__":
    main()
