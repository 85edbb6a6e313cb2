"""Train LibRecommender's TwoTower and say how long it took.

Runs in the environment of the peer, which has no sktwotower: a JSON object on standard
input, one on standard output.

    echo '{"train": "train.parquet", "epochs": 2}' | PYTHON librecommender.py

``train`` has the columns user_id and item_id, a positive a row; ``user_table`` and
``item_table``, if given, are parquet files with one row an id, whose other columns are
categories. ``embeddings`` is a file to write the vectors to (.npz). ``each_epoch`` is a
folder to write those after some epochs to, and ``budget`` ends the fit after the epoch that
exceeds it (`protocol.Epochs`). The other keys are in ``DEFAULTS``. An epoch's seconds are
those that the peer prints: its batches, without the data and the graph. ``fit s`` is the
whole call of ``fit``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from protocol import EACH_EPOCH, BudgetSpentError, Epochs, read_configuration, versions_of

DEFAULTS: dict[str, Any] = {
    **EACH_EPOCH,
    "user_table": None,
    "item_table": None,
    "embeddings": None,
    "embedding_dim": 64,
    "hidden_layer_sizes": [128, 64],
    "batch_size": 2048,
    "loss": "softmax",
    "n_negatives": 1,
    "normalize": True,
    "temperature": 0.2,
    "margin": 1.0,
    "batch_norm": False,
    "learning_rate": 3e-3,
    "epochs": 20,
    "seed": 0,
    "threads": 2,
}
PACKAGES = ("LibRecommender", "tensorflow-cpu", "keras", "torch", "numpy", "pandas")


def main() -> None:
    """Read, train, answer."""
    config = read_configuration(DEFAULTS)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        answer = train(config)
    epochs = re.findall(r"Epoch \d+ elapsed: +([\d.]+)s", said.getvalue())
    answer["epoch s"] = [float(seconds) for seconds in epochs]
    json.dump(answer, sys.stdout)


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Fit, and write the embeddings if asked to."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # read when TensorFlow is imported
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    import numpy as np
    from libreco.algorithms import TwoTower
    from libreco.data import DatasetFeat

    rows, columns = read(config)
    epochs = Epochs(config, config["epochs"])
    started = time.perf_counter()
    data, info = DatasetFeat.build_trainset(rows, **columns)
    prepared = time.perf_counter()
    # The peer counts the negatives of this loss in its batch size.
    per_row = 1 + config["n_negatives"] if config["loss"] == "cross_entropy" else 1
    model = TwoTower(
        "ranking",
        info,
        loss_type=config["loss"],
        embed_size=config["embedding_dim"],
        norm_embed=config["normalize"],
        n_epochs=config["epochs"],
        lr=config["learning_rate"],
        batch_size=config["batch_size"] * per_row,
        num_neg=config["n_negatives"],
        use_bn=config["batch_norm"],
        hidden_units=config["hidden_layer_sizes"],
        margin=config["margin"],
        temperature=config["temperature"],
        seed=config["seed"],
        tf_sess_config={
            "intra_op_parallelism_threads": config["threads"],
            "inter_op_parallelism_threads": config["threads"],
        },
    )

    def write(path: Path) -> None:
        users = model.user_embeds_np[: info.n_users]
        unknown = users.mean(axis=0, keepdims=True)
        np.savez(
            path,
            user_ids=info.user_unique_vals,
            item_ids=info.item_unique_vals,
            users=np.concatenate([users, unknown]),  # the last is unknown
            items=model.item_embeds_np[: info.n_items],
        )

    verbose = 1
    if config["each_epoch"] is not None:
        # With more to say, the peer sets its embeddings after each epoch. It needs them
        # only where they are kept.
        set_embeddings, verbose = model.set_embeddings, 2
        model.set_embeddings = lambda: epochs.end(
            lambda path: (set_embeddings(), write(path))
        )
    # True also for the softmax: without it the peer asks for labels of 0.
    with contextlib.suppress(BudgetSpentError):
        model.fit(data, neg_sampling=True, verbose=verbose)
    fitted = time.perf_counter()
    if config["embeddings"] is not None:
        write(config["embeddings"])
    return {
        "rows": len(rows),
        "prepare s": prepared - started,
        "fit s": fitted - prepared,
        "epochs": epochs.seconds,
        "peak MB": peak_megabytes(),
        "versions": versions_of(PACKAGES),
    }


def read(config: dict[str, Any]) -> tuple[Any, dict[str, list[str]]]:
    """The rows as the peer wants them, and what their columns are."""
    import pandas as pd

    rows = pd.read_parquet(config["train"], columns=["user_id", "item_id"])
    columns: dict[str, list[str]] = {"user_col": [], "item_col": []}
    for side in ("user", "item"):
        if config[f"{side}_table"] is not None:
            table = pd.read_parquet(config[f"{side}_table"])
            columns[f"{side}_col"] = [c for c in table.columns if c != f"{side}_id"]
            rows = rows.merge(table, on=f"{side}_id", how="left")
    rows = rows.rename(columns={"user_id": "user", "item_id": "item"})
    rows.insert(2, "label", 1)
    features = columns["user_col"] + columns["item_col"]
    rows[features] = rows[features].astype(object).fillna("missing").astype(str)
    return rows, {**columns, "sparse_col": features}


def peak_megabytes() -> float | None:
    """The largest resident size of this process so far; None where nobody knows."""
    status = Path("/proc/self/status")  # of Linux
    if not status.exists():
        return None
    return int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 2**10


if __name__ == "__main__":
    main()
