"""Fits models in this process, or in each of a group that torchrun has started."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from sktwotower import TwoTowerRecommender
from sktwotower._nn import lazy_tables
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit

WHOLE_USERS = dict(
    user_id_embedding=False,
    history=PooledHistory(100, dropout=0.5, tied=True),
    popularity_prior=1.0,
    hidden_layer_sizes=None,
)
SEQUENCES = dict(
    history=TransformerHistory(size=5, n_layers=1, dropout=0.0),
    timestamp_column="timestamp",
    negatives="mixed",
)
# What processes exchange differs from one to the next: candidates, frequencies, gradients
# of rows and of whole tables, the temperature, masked fields, validation, users.
MODELS = {
    "in batch": dict(negatives="in_batch", mask_known_positives=False),
    "refined": dict(
        negatives="mixed",
        sampling_correction="refined",
        temperature="learned",
        max_grad_norm=0.1,
        hidden_layer_sizes=(8,),
    ),
    "full, history": dict(
        negatives="full", history=PooledHistory(3), timestamp_column="timestamp"
    ),
    "masked fields": dict(ssl_pattern="rfm-complementary", early_stopping=True, max_iter=4),
    "weights": dict(negatives="random"),
    "pairs": dict(loss="cross_entropy", temperature="learned", max_grad_norm=0.1),
    "whole users": WHOLE_USERS,
    "whole users, rows of a tied table": WHOLE_USERS,
    "sequences": SEQUENCES,
    "sequences, rows of the tables": SEQUENCES,
    "few users": dict(batch_size=2, max_iter=1),
    "one user": dict(SEQUENCES, max_iter=1),  # the other rank has no rows
    "explicit negatives": dict(negatives="mixed", sampling_correction="refined"),
}
# These are trained by the rows of the batch; the others' tables are trained as a whole.
LAZY = [
    "in batch",
    "weights",
    "pairs",
    "whole users, rows of a tied table",
    "sequences, rows of the tables",
    "few users",
]

# On so many rows that the noise of the batches is small.
MANY_ROWS = {
    "rows of ids": dict(history=None, negatives="in_batch", hidden_layer_sizes=(16,)),
    "default bags": dict(),
}


def fit_many_rows():
    """Loss curves, and NDCG@10 of held-out rows, of models on more rows."""
    X = make_interactions(600, 300, 20_000, random_state=0).interactions
    split = LastInteractionsSplit(
        fraction=0.2, timestamp_column="timestamp", user_column="user_id"
    )
    train, test = (X.iloc[rows] for rows in next(split.split(X)))
    score, results = make_ranking_scorer("ndcg@10"), {}
    for name, parameters in MANY_ROWS.items():
        model = TwoTowerRecommender(
            user_column="user_id",
            item_column="item_id",
            batch_size=1024,
            max_iter=4,
            embedding_dim=16,
            random_state=0,
            **parameters,
        )
        model.fit(train[["user_id", "item_id"]])
        results[f"{name}: loss"] = np.array(model.loss_curve_)
        results[f"{name}: ndcg"] = np.array(score(model, test))
    return results


def fit_models(random_state=0):
    """Loss curves and embeddings of all models, by name."""
    data = make_interactions(60, 40, 900, random_state=0)
    X = data.interactions
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    labels = np.random.RandomState(1).uniform(size=len(X)) < 0.7
    results, rows_before = {}, lazy_tables.ROWS_FOR_ONE_OF_A_BATCH
    for name, parameters in MODELS.items():
        lazy_tables.ROWS_FOR_ONE_OF_A_BATCH = 0.1 if name in LAZY else rows_before
        defaults = dict(
            batch_size=128, max_iter=3, embedding_dim=8, random_state=random_state
        )
        model = TwoTowerRecommender(
            user_column="user_id",
            item_column="item_id",
            user_table=data.user_table,
            item_table=data.item_table,
            **defaults | parameters,
        )
        some = {"few users": X[:40], "one user": X[X["user_id"] == X["user_id"].iloc[0]]}
        model.fit(
            some.get(name, X),
            labels if name == "explicit negatives" else None,
            sample_weight=weights if name == "weights" else None,
        )
        results[f"{name}: loss"] = np.array(model.loss_curve_)
        results[f"{name}: users"] = model.user_embeddings_
        results[f"{name}: items"] = model.item_embeddings_
    lazy_tables.ROWS_FOR_ONE_OF_A_BATCH = rows_before
    unseeded = TwoTowerRecommender(
        max_iter=2,
        embedding_dim=4,
        hidden_layer_sizes=(6,),
        batch_norm=True,
        dropout=0.2,
        id_dropout=0.2,
        early_stopping=True,
    )
    pairs = X[["user_id", "item_id"]]
    unseeded.fit(pairs).partial_fit(pairs[:50])
    results["unseeded: users"] = unseeded.user_embeddings_
    return results


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = fit_models() | fit_many_rows()
    dist.destroy_process_group()
    if (tasks := Path("/proc/self/task")).exists():
        results["threads"] = [(task / "comm").read_text() for task in tasks.iterdir()]
    np.savez(Path(sys.argv[1]) / f"{os.environ['RANK']}.npz", **results)


if __name__ == "__main__":
    main()
