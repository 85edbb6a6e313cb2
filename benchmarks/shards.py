"""The memory of each process where a model's users are divided among processes.

    python -m benchmarks.shards [--users 1000000] [--folder DIR]

A made Parquet file has two rows of each user, and 20,000 items. The users have ids of 64
dimensions, so that their table, its moments and its average are most of the memory. One
process fits it; then two, each of which reads a frame of all rows and ends with a model of
all users; then two, which read the file together, so that each keeps the users of its
shard. All save the model, and it is loaded: whole, and of one shard. Reported is the
process that had the most: its peak up to the end of ``fit`` and up to the end of ``save``,
beyond what it had before, and the size of the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch.distributed as dist

import sktwotower
from benchmarks._common import arguments, write
from benchmarks.reading import megabytes
from sktwotower import TwoTowerRecommender

N_ITEMS, ROWS_OF_A_USER = 20_000, 2
# What X is, and the number of processes.
WAYS = [("path", 1), ("frame", 2), ("path", 2)]


def make(path: Path, n_users: int) -> None:
    """Write random interactions."""
    rng = np.random.default_rng(0)
    users = rng.permutation(np.repeat(np.arange(n_users), ROWS_OF_A_USER))
    items = (rng.random(len(users)) ** 3 * N_ITEMS).astype(int)
    rows = pd.DataFrame({"user": users, "item": items})
    rows.to_parquet(path, row_group_size=len(rows) // 16)


def fit(way: str, path: Path) -> dict[str, Any]:
    """One way, in this process."""
    before = megabytes()
    X: Any = pd.read_parquet(path) if way == "frame" else path
    model = TwoTowerRecommender(
        user_column="user",
        item_column="item",
        user_id_embedding=True,
        history=None,
        hidden_layer_sizes=(64,),
        embedding_dim=64,
        negatives="in_batch",
        batch_size=8192,
        max_iter=1,
        random_state=0,
    ).fit(X)
    fitted = megabytes() - before
    folder = path.parent / f"{way}-{os.environ.get('WORLD_SIZE', 1)}"
    if way == "path" or dist.get_rank() == 0:
        model.save(folder)
    return {
        "fit MB": fitted,
        "save MB": megabytes() - before,
        "users": len(model.user_ids_),
        "loss": model.loss_curve_[-1],
    }


def load(folder: Path, shard: int | None) -> dict[str, Any]:
    """Load all users, or those of a shard."""
    before = megabytes()
    model = sktwotower.load(folder, shard=shard)
    return {"load MB": megabytes() - before, "users": len(model.user_ids_)}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--file", type=Path, help="fit it in this process")
    parser.add_argument("--way", help="how to read it")
    parser.add_argument("--load", type=Path, help="load it in this process")
    parser.add_argument("--shard", type=int)
    options = parser.parse_args()
    if options.load is not None:
        print(json.dumps(load(options.load, options.shard)))
        return
    if options.file is not None:
        in_group = "RANK" in os.environ
        if in_group:
            dist.init_process_group("gloo")
        row = fit(options.way, options.file)
        if in_group:
            rows = [row] * dist.get_world_size()
            dist.all_gather_object(rows, row)
            row = max(rows, key=lambda one: one["fit MB"])
        if not in_group or dist.get_rank() == 0:
            print(json.dumps(row))
        if in_group:
            dist.destroy_process_group()
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "rows.parquet"
        make(path, options.users)
        rows = []
        for way, n in WAYS:
            torchrun = f"torch.distributed.run --standalone --nproc-per-node {n} -m"
            command = [*(torchrun.split() if n > 1 else []), "benchmarks.shards"]
            row = {"X": way, "processes": n}
            rows.append(row | result_of([*command, "--way", way, "--file", str(path)]))
            print(rows[-1], flush=True)
        folder = str(path.parent / "path-2")
        whole = result_of(["benchmarks.shards", "--load", folder])
        one = result_of(["benchmarks.shards", "--load", folder, "--shard", "0"])
        rows += [{"X": "saved"} | whole, {"X": "saved, one shard"} | one]
    losses = [row["loss"] for row in rows if row.get("processes") == 2]
    assert losses[0] == losses[1], losses
    write("shards", rows, users=options.users)


def result_of(module: list[str]) -> dict[str, Any]:
    """What a module of Python prints at last."""
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
