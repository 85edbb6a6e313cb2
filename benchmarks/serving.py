"""A model that leaves the notebook: sizes, seconds, latencies, and memory of a batch.

    python -m benchmarks.serving [--users 100000] [--items 500000]

Two models: one of the bundled MovieLens data with features and a history of 10 items, and
one of random interactions without features, trained for an epoch. Latencies are of one
known user, over 500 users: the 10 best items by ``recommend``, and the 100 best by the
exported graphs, through ``examples/serve_onnx.py``. The memory of ``python -m sktwotower
recommend`` is the peak of its process, for a tenth of the users and for all of them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from benchmarks._common import BY_ID, COLUMNS, arguments, bundled, write
from sktwotower import TwoTowerRecommender, load
from sktwotower.history import PooledHistory

EXAMPLES = Path(__file__).parents[1] / "examples"
# Not getrusage: its peak is that of the parent, when that is larger. Linux has this file.
RUN = """
import re, sys
from sktwotower.__main__ import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def films() -> TwoTowerRecommender:
    """A model of the bundled data."""
    split = bundled()
    return TwoTowerRecommender(
        **COLUMNS,
        **split.tables,
        timestamp_column="timestamp",
        history=PooledHistory(10),
        random_state=0,
    ).fit(split.train)


def large(n_users: int, n_items: int) -> TwoTowerRecommender:
    """A model of random interactions, in which every item has two rows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(n_users, size=2 * n_items),
            "item_id": rng.permutation(np.arange(n_items).repeat(2)),
        }
    )
    return TwoTowerRecommender(
        **COLUMNS,
        **BY_ID,
        negatives="in_batch",
        batch_size=8192,
        max_iter=1,
        random_state=0,
    ).fit(frame)


def measure(name: str, model: TwoTowerRecommender, folder: Path) -> dict[str, Any]:
    """A row of the table."""
    first = seconds(lambda: model.save(folder / "whole"))
    saving = seconds(lambda: model.save(folder / "whole"))
    with mock.patch("sktwotower._persistence.saving._read_back"):
        without = seconds(lambda: model.save(folder / "whole"))
    loading = seconds(lambda: load(folder / "whole"))
    model.save(folder / "small", optimizer=False)
    exporting = seconds(lambda: model.export_onnx(folder / "onnx"))
    spec: Any = importlib.util.spec_from_file_location("serve", EXAMPLES / "serve_onnx.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    server = example.Server(folder / "onnx")
    users = model.user_ids_[:: max(1, len(model.user_ids_) // 500)][:500].tolist()
    row = {
        "model": name,
        "users": len(model.user_ids_),
        "items": len(model.item_ids_),
        "MB saved": megabytes(folder / "whole"),
        "MB without optimizer": megabytes(folder / "small"),
        "first save s": first,
        "save s": saving,
        "save s without reading back": without,
        "load s": loading,
        "MB onnx": megabytes(folder / "onnx"),
        "export s": exporting,
    }
    row |= agreement(model, server)
    row |= latencies("recommend", model.recommend, users)
    row |= latencies("onnx", server.recommend, users)
    for share in (10, 1):
        ids = model.user_ids_[::share]
        name = "MB peak" if share == 1 else f"MB peak, 1/{share} of users"
        row[name] = peak_of_batch(ids, folder)
    return row


def agreement(model: TwoTowerRecommender, server: Any) -> dict[str, float]:
    """Whether the graphs find what the model does, for up to 1,000 users."""
    users = model.user_ids_[:1000].tolist()
    ids, scores = model.recommend(users, n_recommendations=server.contract["k"])
    found = server.recommend(users)
    same = [
        [item for item, _ in row] == list(best)
        for row, best in zip(found, ids, strict=True)
    ]
    found_scores = np.array([[score for _, score in row] for row in found])
    return {
        "rows in equal order": float(np.mean(same)),
        "largest difference": float(np.abs(found_scores - scores).max()),
    }


def peak_of_batch(ids: np.ndarray, folder: Path) -> float:
    """Megabytes of the process that recommends for a file of users."""
    pd.DataFrame({"user_id": ids}).to_parquet(folder / "users.parquet")
    done = subprocess.run(
        [
            *(sys.executable, "-c", RUN, "recommend", folder / "whole"),
            *(folder / "users.parquet", "--output", folder / "out.parquet"),
        ],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    return int(done.stdout.splitlines()[-1]) / 2**10


def latencies(name: str, recommend: Callable[[list], Any], users: list) -> dict[str, float]:
    """The middle one and the 99th of a hundred, in milliseconds."""
    recommend(users[:1])
    times = [1e3 * seconds(lambda user=user: recommend([user])) for user in users]
    return {
        f"{name} p50 ms": float(np.quantile(times, 0.5)),
        f"{name} p99 ms": float(np.quantile(times, 0.99)),
    }


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def megabytes(folder: Path) -> float:
    """Of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=500_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models: dict[str, Callable[[], TwoTowerRecommender]] = {
        "bundled": films,
        "random": lambda: large(options.users, options.items),
    }
    rows = []
    for name, make in models.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, make(), Path(folder)))
        print(pd.Series(rows[-1]).to_string(), flush=True)
    write("serving", rows)


if __name__ == "__main__":
    main()
