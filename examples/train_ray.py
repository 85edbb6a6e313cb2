"""Train one model with several workers of Ray, and load it.

    python examples/train_ray.py FOLDER

FOLDER is one that all machines see; the rows, the films and the model are written there.
Ray Train starts the workers and their process group. RAY_ADDRESS names a running cluster,
whose Python has this package; without it the cluster is this machine.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch.distributed as dist
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

import sktwotower
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.datasets import load_movielens_small


def train(config):
    """Train and save with the other workers."""
    folder = config["folder"]
    films = pd.read_parquet(folder / "films.parquet")
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        item_table=EntityTable(films, "item_id", features=["genres", "year"]),
        max_iter=3,
        random_state=0,
    )
    model.fit(folder / "ratings.parquet")
    model.save(folder / "model")  # each saves the users that it has
    if dist.get_rank() == 0:
        print("trained by", dist.get_world_size(), "processes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder that all machines see")
    parser.add_argument("--processes", type=int, default=2, help="workers of Ray")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each worker")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = load_movielens_small()
    data.interactions.to_parquet(folder / "ratings.parquet", row_group_size=20_000)
    data.item_table.to_parquet(folder / "films.parquet")

    trainer = TorchTrainer(
        train,
        train_loop_config={"folder": folder},
        scaling_config=ScalingConfig(num_workers=given.processes, use_gpu=given.gpu),
        run_config=RunConfig(storage_path=str(folder)),  # Ray wants one that all see
    )
    trainer.fit()

    model = sktwotower.load(folder / "model")
    print("loss", *(f"{loss:.3f}" for loss in model.loss_curve_))
    best = model.recommend([1], n_recommendations=3, as_frame=True)
    print(best.merge(data.item_table)[["title", "score"]].to_string(index=False))
