"""Train DSSM of RecTools, two towers with a triplet loss, and write its vectors.

The script runs in the environment of the peer, which has no sktwotower. It reads a JSON
object from standard input and writes one to standard output.

    echo '{"train": "train.parquet", "each_epoch": "FOLDER"}' | PYTHON rectools_dssm.py

``train`` is a Parquet file with the columns user_id and item_id; each distinct pair is a
positive. ``user_table`` and ``item_table``, if given, are Parquet files with one row an id,
whose other columns are categories. ``each_epoch`` is a folder to write the vectors after
some epochs to, and ``budget`` ends the fit after the epoch that exceeds it
(`protocol.Epochs`). ``parameters`` go to the constructor of the model; those that are left
out have the defaults of RecTools. The other keys are in ``DEFAULTS``. ``fit s`` is the call
of ``fit``; making the dataset is ``prepare s``.

The model needs features on both sides. An item has its id as a category beside those of
its table. A user has those of the table, or one that is the same for all; the tower reads
the user's items in any case. The model ranks by Euclidean distance. One more column of the
vectors makes a dot product of it, with the same ranking.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from protocol import EACH_EPOCH, BudgetSpentError, Epochs, read_configuration, versions_of

DEFAULTS: dict[str, Any] = {
    **EACH_EPOCH,
    "user_table": None,
    "item_table": None,
    "parameters": {},
    "epochs": 5,
    "seed": 0,
    "threads": 2,
}
PACKAGES = ("RecTools", "torch", "pytorch-lightning", "numpy", "pandas")


def main() -> None:
    """Read the configuration, train, answer."""
    config = read_configuration(DEFAULTS)
    with contextlib.redirect_stdout(io.StringIO()):
        answer = train(config)
    json.dump(answer, sys.stdout)


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Fit, and write vectors if asked to."""
    warnings.filterwarnings("ignore")  # of a missing GPU, and of workers
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    import numpy as np
    import pandas as pd
    import torch
    from pytorch_lightning import seed_everything
    from pytorch_lightning.callbacks import (
        LambdaCallback,
        ModelCheckpoint,
        TQDMProgressBar,
    )
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.dataset.torch_datasets import DSSMItemDataset, DSSMUserDataset
    from rectools.models.nn.dssm import DSSMModel
    from torch.utils.data import DataLoader

    torch.set_num_threads(config["threads"])
    seed_everything(config["seed"], verbose=False)
    rows = pd.read_parquet(config["train"], columns=["user_id", "item_id"])
    features = {side: features_of(config, side, rows) for side in ("user", "item")}
    epochs = Epochs(config, config["epochs"])
    started = time.perf_counter()
    rows = rows.drop_duplicates()
    interactions = pd.DataFrame(
        {
            Columns.User: rows["user_id"],
            Columns.Item: rows["item_id"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01"),
        }
    )
    dataset = Dataset.construct(
        interactions,
        user_features_df=features["user"],
        cat_user_features=features["user"]["feature"].unique(),
        item_features_df=features["item"],
        cat_item_features=features["item"]["feature"].unique(),
    )
    prepared = time.perf_counter()

    def write(path: Path, towers: Any) -> None:
        of_users, of_items = (
            DataLoader(kind.from_dataset(dataset), batch_size=1024)
            for kind in (DSSMUserDataset, DSSMItemDataset)
        )
        users, items = towers.inference_users(of_users), towers.inference_items(of_items)
        towers.train()
        # |u - v|^2 = |u|^2 - 2 (u v - |v|^2 / 2), and |u| is the same for all items.
        items = np.column_stack([items, -(items**2).sum(axis=1) / 2])
        users = np.column_stack([users, np.ones(len(users), users.dtype)])
        user_ids = dataset.user_id_map.external_ids
        item_ids = dataset.item_id_map.external_ids
        in_order, items_in_order = np.argsort(user_ids), np.argsort(item_ids)
        unknown = users.mean(axis=0, keepdims=True)
        np.savez(
            path,
            user_ids=user_ids[in_order],
            item_ids=item_ids[items_in_order],
            users=np.concatenate([users[in_order], unknown]),  # the last is unknown
            items=items[items_in_order],
        )

    model = DSSMModel(
        max_epochs=config["epochs"],
        loggers=False,
        callbacks=[  # two for no files and no bar
            ModelCheckpoint(save_top_k=0),
            TQDMProgressBar(refresh_rate=0),
            LambdaCallback(
                on_train_epoch_end=lambda trainer, towers: epochs.end(
                    lambda path: write(path, towers)
                )
            ),
        ],
        **config["parameters"],
    )
    with contextlib.suppress(BudgetSpentError):
        model.fit(dataset)
    fitted = time.perf_counter()
    return {
        "rows": len(rows),
        "prepare s": prepared - started,
        "fit s": fitted - prepared,
        "epochs": epochs.seconds,
        "versions": versions_of(PACKAGES),
    }


def features_of(config: dict[str, Any], side: str, rows: Any) -> Any:
    """The features of the ids of the rows, as RecTools wants them: id, feature, value."""
    import pandas as pd

    ids = pd.DataFrame({"id": rows[f"{side}_id"].unique()})
    parts = []
    if side == "item":
        parts.append(ids.assign(feature="id", value=ids["id"].astype(str)))
    if config[f"{side}_table"] is not None:
        table = pd.read_parquet(config[f"{side}_table"])
        table = ids.merge(table.rename(columns={f"{side}_id": "id"}), on="id", how="left")
        columns = table.columns.drop("id")
        table = table.astype({column: object for column in columns}).fillna("missing")
        parts.append(table.melt("id", var_name="feature"))
    if side == "user" and sum(map(len, parts)) == 0:
        parts.append(ids.assign(feature="user", value="any"))
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    main()
