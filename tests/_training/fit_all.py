"""Fits models in this process, or in each of a group; run by test_distributed."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from sktwotower import TwoTowerRecommender
from sktwotower._nn import lazy_tables as lazy
from sktwotower.datasets import make_interactions

MODELS = {
    "in_batch": dict(negatives="in_batch", mask_known_positives=False),
    "masked": dict(negatives="in_batch"),
    "refined": dict(negatives="mixed", sampling_correction="refined"),
    "full, history": dict(negatives="full", history_size=3, timestamp_column="timestamp"),
    "learned": dict(temperature="learned", max_grad_norm=0.1, hidden_layer_sizes=(8,)),
    "ssl": dict(ssl_pattern="rfm-complementary"),
    "weights": dict(negatives="random"),
    "cross_entropy": dict(loss="cross_entropy"),
    "early stopping": dict(early_stopping=True, max_iter=6),
    "whole users": dict(
        user_id_embedding=False,
        history_size=100,
        history_dropout=0.5,
        tie_history=True,
        popularity_prior=1.0,
        hidden_layer_sizes=None,
    ),
    "few users": dict(batch_size=2, max_iter=1),
}


def main():
    folder, n_before = Path(sys.argv[1]), lazy.ROWS_FOR_ONE_OF_A_BATCH
    torch.set_num_threads(1)
    rank = "alone"
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        rank = dist.get_rank()
    data = make_interactions(60, 40, 900, random_state=0)
    X = data.interactions
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    results = {}
    for rows in (n_before, 0.1):  # tables as a whole, and by the rows of the batch
        lazy.ROWS_FOR_ONE_OF_A_BATCH = rows
        for name, parameters in MODELS.items():
            defaults = dict(batch_size=128, max_iter=3, embedding_dim=8, random_state=0)
            model = TwoTowerRecommender(
                user_column="user_id",
                item_column="item_id",
                user_table=data.user_table,
                item_table=data.item_table,
                **defaults | parameters,
            )
            some = X[:40] if name == "few users" else X
            model.fit(some, sample_weight=weights if name == "weights" else None)
            key = f"{name}, {'lazy' if rows < 1 else 'whole'}"
            results[f"{key}: loss"] = model.loss_curve_
            results[f"{key}: users"] = model.user_embeddings_
            results[f"{key}: items"] = model.item_embeddings_
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
    np.savez(folder / f"{rank}.npz", **results)
    if rank != "alone":
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
