"""Two processes that train one model, beside one process, on the same two cores.

    python -m benchmarks.distributed [--data DIR] [--repeats 3] [--rows 400000]
                                     [--only in-batch large bag sequences]
                                     [--batch-size N]

One process with one thread, one with two, and two processes (gloo, torchrun) with a thread
each, by turns: samples a second of the epochs after the first, the ratio to one thread, and
how far the losses are from those of one process. The batch is the same for all; with
``--batch-size`` it is that one, else the model's. Four models:

- in-batch: a layer of 128, candidates of the batch of 4,096, users by their ids;
- large: the same on made data of 50,000 users, 50,000 items and 400,000 rows, whose
  tables are stepped where rows are looked up;
- bag: the defaults, on ids alone;
- sequences: the defaults with a transformer over the user's last items, on made data of
  5,000 users, 5,000 items and 100,000 rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    arguments,
    seconds_of_epochs,
    splits_of,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import TransformerHistory

CLOSE = 0.01  # of the losses, relative
# Processes and threads of each.
WAYS = {"one, one thread": (1, 1), "one, two threads": (1, 2), "two, one thread": (2, 1)}
LAYERS = BY_ID | {"hidden_layer_sizes": (128,), "negatives": "in_batch", "batch_size": 4096}
MODELS: dict[str, dict[str, Any]] = {
    "in-batch": LAYERS | {"max_iter": 3},
    "large": LAYERS | {"max_iter": 2},
    "bag": {"max_iter": 3},
    "sequences": {
        "max_iter": 3,
        "history": TransformerHistory(),
        "timestamp_column": "timestamp",
    },
}
# Users, items, and rows of made data.
MADE = {"large": (50_000, 50_000, 400_000), "sequences": (5_000, 5_000, 100_000)}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    split = splits_of(options.data)[0]
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for model in options.only:
            if model in MADE:
                data = make_interactions(*MADE[model], random_state=0).interactions
            else:
                data = split.train.sample(frac=1, random_state=0)[: options.rows]
            columns = [*COLUMNS.values(), MODELS[model].get("timestamp_column")]
            data.filter(columns).to_parquet(folder / "train.parquet")
            rows += compare(folder, model, options.batch_size, options.repeats)
    write("distributed", rows, repeats=options.repeats, seed=0, data=split.name)


def compare(
    folder: Path, model: str, batch_size: int, repeats: int
) -> list[dict[str, Any]]:
    """A row for each way to train a model."""
    reports: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, (n_processes, threads) in WAYS.items():
            reports[way].append(run(folder, model, batch_size, n_processes, threads))
            print(model, way, reports[way][-1], flush=True)
    alone = reports["one, one thread"]
    rows = []
    for way, found in reports.items():
        # Of turns, so that both had the same neighbours.
        ratios = [
            one["samples/s"] / other["samples/s"]
            for one, other in zip(found, alone, strict=True)
        ]
        losses, expected = found[0]["losses"], alone[0]["losses"]
        apart = float(np.abs(np.divide(losses, expected) - 1).max())
        speed = float(np.median([one["samples/s"] for one in found]))
        row = {"model": model, "processes": way, "samples/s": speed}
        row |= {"ratio": float(np.median(ratios)), "losses apart": apart}
        assert apart < CLOSE, found
        rows.append(row)
    return rows


def run(
    folder: Path, model: str, batch_size: int, n_processes: int, threads: int
) -> dict[str, Any]:
    """Fit in so many processes; what the first of them says."""
    command = [sys.executable]
    if n_processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(n_processes)]
    subprocess.run(
        [*command, __file__, folder, model, str(batch_size), str(threads)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.getcwd()},
    )
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def fit(folder: Path, name: str, batch_size: int, threads: int) -> None:
    """In each of the processes."""
    import pandas as pd

    torch.set_num_threads(threads)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    data = pd.read_parquet(folder / "train.parquet")
    parameters = MODELS[name] | ({"batch_size": batch_size} if batch_size else {})
    model = TwoTowerRecommender(**COLUMNS, **parameters, random_state=0)
    speed = len(data) / float(np.mean(seconds_of_epochs(model, data)[1:]))
    if "RANK" not in os.environ or dist.get_rank() == 0:
        report = json.dumps({"samples/s": speed, "losses": model.loss_curve_})
        (folder / "report.json").write_text(report)
    if "RANK" in os.environ:
        dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) == 5 and Path(sys.argv[1]).is_dir():
        fit(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main()
