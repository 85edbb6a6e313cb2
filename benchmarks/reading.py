"""Reading a Parquet file by its path beside reading it as a frame: seconds and memory.

    python -m benchmarks.reading [--rows 20000000] [--folder DIR] [--ways path]
                                 [--processes 1 2]

The file has string ids of a million users and 100,000 items, a timestamp, and a column
without a role; it is written into DIR (or a temporary folder) first. Each way runs in a
process of its own, or in several under torchrun, of which the first one reports. What is
timed is ``fit`` up to its first batch, with 8 dimensions, so that the tables take little:
reading, codes, the matrix of seen pairs, known positives.
The peaks are beyond what was there before, and have files that are mapped into memory;
"without mapped files" is what there has to be room for, all in all.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch.distributed as dist

from benchmarks._common import (
    Anonymous,
    EpochClock,
    arguments,
    call_after_reading,
    write,
)
from sktwotower import TwoTowerRecommender

_BLOCK_SIZE = 1_000_000


class ReadyError(Exception):
    """A fit would now train."""


class StopBeforeTraining(EpochClock):
    """A callback that ends a fit before its first batch."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Raise an error."""
        raise ReadyError


def megabytes() -> float:
    """The most that this process has had so far."""
    status = Path("/proc/self/status")  # of Linux, where ru_maxrss begins with the parent's
    if status.exists():
        return int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def make(path: Path, n_rows: int) -> None:
    """Write random interactions, block by block."""
    rng = np.random.default_rng(0)
    users = pa.array([f"user-{i:08d}" for i in range(1_000_000)])
    items = pa.array([f"item-{i:07d}" for i in range(100_000)])
    writer = None
    for start in range(0, n_rows, _BLOCK_SIZE):
        n = min(_BLOCK_SIZE, n_rows - start)
        seconds = rng.integers(1_600_000_000, 1_700_000_000, n)
        block = {
            "user": users.take(pa.array((rng.random(n) ** 2 * len(users)).astype(int))),
            "item": items.take(pa.array((rng.random(n) ** 3 * len(items)).astype(int))),
            "time": pa.array(seconds).cast(pa.timestamp("s")),
            "page": pa.array(["https://shop.example/some/page"] * n),
        }
        table = pa.table(block)
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def get_ready(way: str, path: Path) -> dict[str, Any]:
    """One way, in this process."""
    memory = Anonymous()
    before, started = megabytes(), time.perf_counter()
    X: Any = path
    if way == "frame":
        X = pd.read_parquet(path, columns=["user", "item", "time"])
    model = TwoTowerRecommender(
        user_column="user",
        item_column="item",
        timestamp_column="time",
        history=None,
        embedding_dim=8,
        batch_size=8192,
        random_state=0,
    ).set_callbacks(StopBeforeTraining())
    of_reading: list[float] = []
    with (
        call_after_reading(lambda: of_reading.extend((time.perf_counter(), megabytes()))),
        contextlib.suppress(ReadyError),
    ):
        model.fit(X)
    return {
        "X": way,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "rows": pq.read_metadata(path).num_rows,
        "read s": of_reading[0] - started,
        "read peak MB": of_reading[1] - before,
        "ready s": time.perf_counter() - started,
        "ready peak MB": megabytes() - before,
        "without mapped files": memory.peak(),
        "file MB": path.stat().st_size / 2**20,
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ways", nargs="+", default=["path", "frame"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1])
    parser.add_argument("--file", type=Path, help="read it in this process")
    options = parser.parse_args()
    if options.file is not None:
        in_group = "RANK" in os.environ
        if in_group:
            dist.init_process_group("gloo")
        row = get_ready(options.ways[0], options.file)
        if not in_group or dist.get_rank() == 0:
            print(json.dumps(row))
        if in_group:
            dist.destroy_process_group()
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "rows.parquet"
        make(path, options.rows)
        rows = []
        for way, n in itertools.product(options.ways, options.processes):
            torchrun = f"torch.distributed.run --standalone --nproc-per-node {n} -m"
            command = [sys.executable, "-m", *(torchrun.split() if n > 1 else [])]
            command += ["benchmarks.reading", "--ways", way, "--file", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    write("reading", rows)


if __name__ == "__main__":
    main()
