"""Two processes that train one model, beside one process, on the same two cores.

    python -m benchmarks.distributed [--data DIR] [--repeats 3] [--rows 400000]

Alone with two threads, alone with one, and two processes (gloo, torchrun) with a thread
each, by turns: samples a second of the epochs after the first, and the losses, which are to
be those of one process. The batch of 4,096 rows is the same for all.
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

CLOSE = 1e-4  # of the losses
# Processes and threads of each.
WAYS = {"one, two threads": (1, 2), "one, one thread": (1, 1), "two, one thread": (2, 1)}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=400_000)
    options = parser.parse_args()
    split = splits_of(options.data)[0]
    reports: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with TemporaryDirectory() as name:
        folder = Path(name)
        split.train[: options.rows].to_parquet(folder / "train.parquet")
        for _ in range(options.repeats):
            for way, (n_processes, threads) in WAYS.items():
                reports[way].append(run(folder, n_processes, threads))
    alone = reports["one, two threads"]
    rows = []
    for way, found in reports.items():
        speed = float(np.median([one["samples/s"] for one in found]))
        ratio = speed / float(np.median([one["samples/s"] for one in alone]))
        apart = np.abs(np.subtract(found[0]["losses"], alone[0]["losses"])).max()
        row = {"processes": way, "samples/s": speed, "ratio": ratio, "loss apart": apart}
        if way.startswith("two"):
            assert apart < CLOSE, found
        rows.append(row)
    write("distributed", rows, repeats=options.repeats, seed=0, data=split.name)


def run(folder: Path, n_processes: int, threads: int) -> dict[str, Any]:
    """Fit in so many processes; what the first of them says."""
    command = [sys.executable]
    if n_processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(n_processes)]
    subprocess.run(
        [*command, __file__, folder, str(threads)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.getcwd()},
    )
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def fit(folder: Path, threads: int) -> None:
    """In each of the processes."""
    import pandas as pd

    torch.set_num_threads(threads)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    data = pd.read_parquet(folder / "train.parquet")
    model = TwoTowerRecommender(
        **COLUMNS,
        **BY_ID,
        hidden_layer_sizes=(128,),
        negatives="in_batch",
        batch_size=4096,
        max_iter=3,
        random_state=0,
    )
    speed = len(data) / float(np.mean(seconds_of_epochs(model, data)[1:]))
    if "RANK" not in os.environ or dist.get_rank() == 0:
        report = json.dumps({"samples/s": speed, "losses": model.loss_curve_})
        (folder / "report.json").write_text(report)
    if "RANK" in os.environ:
        dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) == 3 and Path(sys.argv[1]).is_dir():
        fit(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
