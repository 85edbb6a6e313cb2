"""Train one model with several processes on the executors of Spark, and load it.

    python examples/train_spark.py FOLDER

FOLDER is one that the driver and all executors see; the rows, the films and the model are
written there. PySpark's ``TorchDistributor`` starts the processes, each as a task.
``spark-submit`` runs the script on a cluster whose Python has this package; PYSPARK_PYTHON
names that Python if it is not ``python3``.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
import torch.distributed as dist
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

import sktwotower
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.datasets import load_movielens_small


def train(folder):
    """Train and save with the other processes."""
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    if on_gpu:
        torch.cuda.set_device(dist.get_node_local_rank())
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
        print("trained by", dist.get_world_size(), "processes", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder that all machines see")
    parser.add_argument("--processes", type=int, default=2, help="tasks at the same time")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each process")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = load_movielens_small()
    data.interactions.to_parquet(folder / "ratings.parquet", row_group_size=20_000)
    data.item_table.to_parquet(folder / "films.parquet")

    spark = SparkSession.builder.appName("train").getOrCreate()
    distributor = TorchDistributor(given.processes, local_mode=False, use_gpu=given.gpu)
    distributor.run(train, folder)
    spark.stop()

    model = sktwotower.load(folder / "model")
    print("loss", *(f"{loss:.3f}" for loss in model.loss_curve_))
    best = model.recommend([1], n_recommendations=3, as_frame=True)
    print(best.merge(data.item_table)[["title", "score"]].to_string(index=False))
