"""Train SASRec of the package RecTools with its softmax loss, and write recommendations.

The script runs in the environment of the peer, which has no sktwotower. It reads a JSON
object from standard input and writes one to standard output.

    echo '{"train": "train.parquet", "recommended": "out.parquet"}' |
        PYTHON rectools_sasrec.py

``train`` is a Parquet file with the columns user_id, item_id and position, the order of a
user's rows. ``recommended`` is a file to write the best items of each user to, without
those that the user has: user_id, item_id and rank. ``parameters`` go to the constructor of
the model; those that are left out have the defaults of RecTools. The other keys are in
``DEFAULTS``. ``fit s`` is the call of ``fit``; making the dataset is ``prepare s``.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from typing import Any

from protocol import read_configuration, versions_of

DEFAULTS: dict[str, Any] = {
    "parameters": {},
    "recommended": None,
    "n_recommendations": 20,
    "seed": 0,
    "threads": 2,
}
PACKAGES = ("RecTools", "torch", "pytorch-lightning", "numpy", "pandas")


def main() -> None:
    """Read the configuration, train, answer."""
    config = read_configuration(DEFAULTS)
    json.dump(train(config), sys.stdout)


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Fit, and write recommendations if asked to."""
    warnings.filterwarnings("ignore")  # of a missing GPU, and of workers
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    import pandas as pd
    import torch
    from pytorch_lightning import seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(config["threads"])
    seed_everything(config["seed"], verbose=False)
    started = time.perf_counter()
    rows = pd.read_parquet(config["train"], columns=["user_id", "item_id", "position"])
    minutes = pd.to_timedelta(rows["position"], unit="min")
    interactions = pd.DataFrame(
        {
            Columns.User: rows["user_id"],
            Columns.Item: rows["item_id"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01") + minutes,
        }
    )
    dataset = Dataset.construct(interactions)
    prepared = time.perf_counter()
    model = SASRecModel(loss="softmax", deterministic=True, **config["parameters"])
    model.fit(dataset)
    fitted = time.perf_counter()
    if config["recommended"] is not None:
        users = rows["user_id"].unique()
        lists = model.recommend(
            users=users,
            dataset=dataset,
            k=config["n_recommendations"],
            filter_viewed=True,
        )
        lists = lists[[Columns.User, Columns.Item, Columns.Rank]]
        lists.set_axis(["user_id", "item_id", "rank"], axis=1).to_parquet(
            config["recommended"]
        )
    return {
        "rows": len(rows),
        "prepare s": prepared - started,
        "fit s": fitted - prepared,
        "versions": versions_of(PACKAGES),
    }


if __name__ == "__main__":
    main()
