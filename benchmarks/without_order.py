"""What an inner product lacks beside EASE where rows have no order in time.

    python -m benchmarks.without_order --data DIR [--threads 2] [--seed 0]

On a slice of train, since it compares settings (``DIR`` has train.parquet and test.parquet;
the test rows are not looked at). First EASE, and what is left of it when its matrix of item
by item is cut to a rank: an inner product of so many dimensions. Then a model of the same
form, in a few lines of torch so that a setting takes half a minute: a user is the sum of
one table over half of the items that the user has, an item a row of another, the score is
the cosine over the temperature, and the loss is the softmax over all items for the other
half. Each row of the table keeps what the row above it has changed.
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
BATCH_USERS = 500


@dataclass(frozen=True)
class Setting:
    """What is varied."""

    embedding_dim: int = 64
    temperature: float = 0.1
    learning_rate: float = 3e-3
    epochs: int = 40
    user_weight: float = 0.0  # a user of n items weighs n ** (1 - user_weight)
    popularity: bool = False  # log of the number of rows beside the score


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is missing.")
    torch.set_num_threads(options.threads)
    problem = Problem.of(slice_of_train(splits_of(options.data)[0]))
    rows = ease(problem)
    setting = Setting()
    for change in (
        {},
        {"user_weight": 0.5},
        {"temperature": 0.2},
        {"learning_rate": 1e-2},
        {"popularity": True},
        {"embedding_dim": 128, "learning_rate": 2e-2, "epochs": 80},
    ):
        setting = replace(setting, **change)
        started = time.perf_counter()
        row: dict[str, Any] = {"model": "cosine, softmax", "change": change or ""}
        row["ndcg@10"] = problem.score(train(problem.seen, setting, options.seed))
        row |= {"of EASE": row["ndcg@10"] / rows[0]["ndcg@10"]}
        rows.append(row | {"s": time.perf_counter() - started, **asdict(setting)})
        print(rows[-1], flush=True)
    table = [{key: row.get(key, "") for key in rows[-1]} for row in rows]
    write("without-order", table, seed=options.seed, regularization=REGULARIZATION)


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
    of_users, of_items = (
        (
            0.05 * torch.randn(n_items, setting.embedding_dim, generator=generator)
        ).requires_grad_()
        for _ in range(2)
    )
    prior = torch.log((seen.sum(0) + 1) / seen.sum()) * setting.popularity
    weights = seen.sum(1, keepdim=True) ** -setting.user_weight

    def scores(items: Tensor) -> Tensor:
        users = F.normalize(items @ of_users, dim=1)
        return users @ F.normalize(of_items, dim=1).T / setting.temperature + prior

    optimizer = torch.optim.Adam([of_users, of_items], lr=setting.learning_rate)
    n_steps = setting.epochs * -(-n_users // BATCH_USERS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, n_steps)
    for _ in range(setting.epochs):
        for users in torch.randperm(n_users, generator=generator).split(BATCH_USERS):
            items = seen[users]
            given = items * (torch.rand(items.shape, generator=generator) < 0.5)
            logits = scores(given)
            wanted = (items - given) * weights[users]
            totals = logits.masked_fill(given > 0, -torch.inf).logsumexp(1)
            loss = (totals * wanted.sum(1) - (logits * wanted).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return scores(seen)


if __name__ == "__main__":
    main()
