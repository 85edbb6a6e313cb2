"""What a step takes as the catalogue grows, and how near it comes to the machine's peak.

    python -m benchmarks.scaling [--repeats 5] [--threads 2] [--sizes 100000 1000000]
                                 [--rows 2000000] [--dense] [--large [--users N] [--items N]
                                 [--interactions N] [--large-batch N] [--folder DIR]]

1. Seconds a step with as many users and as many items as each of ``--sizes``, by turns,
   each in a process of its own. The first rows name every user and every item once, and
   the others are uniform draws, so that a batch of 2,048 holds about as many distinct ones
   at every size ("distinct users a batch"). Timed is the second epoch, which has a share of
   what is done once an epoch for all users and items: the average of the weights, and what
   a lazy optimizer puts off. "peak MB" is that of the process.
2. Three steps on synthetic rows: their matrix products, counted by torch from their shapes,
   forward and backward, against the best product of two float32 matrices of 2,048 x 2,048
   that was measured in between; where the processor has bf16, its peak is beside it. One
   has layers of 512 and 256, a batch of 4,096 and the entities of MovieLens 1M. The others
   are a softmax over a whole catalogue, with users' whole histories: the defaults but
   ``negatives="full"`` and a batch of 16,384, with 10,000 users, and with 31,000 and 41,000
   items that have a row. The vectors of the latter take more than the 32 MB up to which
   the C library of Linux keeps memory that is let go.

With ``--large`` these are left out. Instead `make_interactions` generates 50 million rows
of a million users and a million items and writes them to a Parquet file (in a temporary
directory of ``--folder``), and a model is fitted to the file by its path, for an epoch:
seconds and the peak of the memory, each in a process of its own. What is mapped from files
counts in the peak as long as there is room for it; "without mapped files" is what there
has to be room for.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    Anonymous,
    arguments,
    call_after_reading,
    cpu_info,
    peak_megabytes,
    seconds_of_epochs,
    write,
)
from sktwotower import TwoTowerRecommender
from sktwotower._nn.products import counted_products
from sktwotower.datasets import make_interactions

BATCH_SIZE = 2048
CATALOGUE = {"negatives": "full", "batch_size": 16_384}
LAYERS = {"hidden_layer_sizes": (512, 256), "batch_size": 4096, "learning_rate": 1e-3}


@dataclass(frozen=True)
class DenseStep:
    """A model of which the matrix products are counted.

    Attributes
    ----------
    n_users, n_items, n_rows : int
        Of synthetic rows.
    parameters : dict
        Of the model.
    with_tables : bool
        Whether it has the features of users and items.
    """

    n_users: int
    n_items: int
    n_rows: int
    parameters: dict[str, Any]
    with_tables: bool


DENSE = {
    # The entities of MovieLens 1M; fewer rows, so that it takes seconds.
    "layers of 512 and 256": DenseStep(
        *(6040, 3706, 100_000),
        BY_ID | LAYERS,
        with_tables=True,
    ),
    "31,000 items": DenseStep(*(10_000, 41_000, 300_000), CATALOGUE, with_tables=False),
    "41,000 items": DenseStep(*(10_000, 65_000, 300_000), CATALOGUE, with_tables=False),
}
ROW_GROUP = 2**20
SIDE = 2048  # of the matrices that measure the peak


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dense", action="store_true", help="the second part alone")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--interactions", type=int, default=50_000_000)
    parser.add_argument("--large-batch", type=int, default=8192)
    parser.add_argument("--folder", type=Path, help="of the file of --large")
    options = parser.parse_args()
    if options.rows < max(options.sizes):
        parser.error(
            f"--rows {options.rows} cannot name each of {max(options.sizes)} users once."
        )
    torch.set_num_threads(options.threads)
    if options.large:
        row = large(
            options.users,
            options.items,
            options.interactions,
            options.large_batch,
            options.folder,
        )
        write("scaling-large", [row], seed=0)
        return
    if not options.dense:
        rows = sizes(options.sizes, options.rows, options.repeats, options.threads)
        write("scaling", rows, repeats=options.repeats, batch_size=BATCH_SIZE, seed=0)
    steps = [{"step": name} | dense(one, options.repeats) for name, one in DENSE.items()]
    write("scaling-dense", steps, repeats=options.repeats, seed=0)


def sizes(
    n_entities: list[int], n_rows: int, repeats: int, threads: int
) -> list[dict[str, Any]]:
    """A row for each size; each is measured in a new process, by turns."""
    found: dict[int, list[dict[str, float]]] = {n: [] for n in n_entities}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for _ in range(repeats):
            for n in n_entities:
                found[n].append(pool.submit(step, n, n_rows, threads).result())
                print(n, found[n][-1], flush=True)
    rows: list[dict[str, Any]] = []
    for n, measured in found.items():
        seconds = [one["ms a step"] for one in measured]
        row = {"users": n, "items": n, "rows": n_rows, **measured[0]}
        row |= {"ms a step": float(np.median(seconds))}
        row |= {"best": min(seconds), "worst": max(seconds)}
        if rows:
            row["ratio"] = row["ms a step"] / rows[0]["ms a step"]
        rows.append(row)
    return rows


def step(n: int, n_rows: int, threads: int) -> dict[str, float]:
    """Milliseconds of a step with n users and n items, and the memory of the process."""
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    ids = {
        column: np.concatenate([rng.permutation(n), rng.integers(n, size=n_rows - n)])
        for column in ("user_id", "item_id")
    }
    frame = pd.DataFrame(ids)
    drawn = frame["user_id"].sample(BATCH_SIZE, random_state=0)
    seconds = epoch_seconds(frame, **BY_ID, negatives="in_batch", batch_size=BATCH_SIZE)
    return {
        "distinct users a batch": drawn.nunique(),
        "ms a step": 1e3 * seconds / -(-n_rows // BATCH_SIZE),
        "peak MB": peak_megabytes() or float("nan"),
    }


def dense(step: DenseStep, repeats: int) -> dict[str, Any]:
    """How much of the machine's peak a step reaches."""
    data = make_interactions(step.n_users, step.n_items, step.n_rows, random_state=0)
    rows, parameters = data.interactions[list(COLUMNS.values())], step.parameters
    if step.with_tables:
        tables = {"user_table": data.user_table, "item_table": data.item_table}
        parameters = parameters | tables
    n_steps = -(-step.n_rows // parameters["batch_size"])
    flops = products(rows, 2, parameters) - products(rows, 1, parameters)
    # Without bf16 in the processor a product of this size would take a quarter of a minute.
    has_bf16 = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_info("flags").split()))
    dtypes = (torch.float32, torch.bfloat16) if has_bf16 else (torch.float32,)
    seconds: list[float] = []
    peaks: dict[torch.dtype, list[float]] = {dtype: [] for dtype in dtypes}
    for _ in range(repeats):
        seconds.append(epoch_seconds(rows, **parameters) / n_steps)
        for dtype, rates in peaks.items():
            rates.append(peak(dtype))
    gflops = flops / n_steps / 1e9
    rate, most = gflops / float(np.median(seconds)), max(peaks[torch.float32])
    return {
        "batch_size": parameters["batch_size"],
        "GFLOP a step": gflops,
        "ms a step": 1e3 * float(np.median(seconds)),
        "best": 1e3 * min(seconds),
        "worst": 1e3 * max(seconds),
        "GFLOP/s": rate,
        "peak GFLOP/s": most,
        "share": rate / most,
        "peak MB": peak_megabytes(),
        "processor has bf16": has_bf16,
        "bf16 peak GFLOP/s": max(peaks[torch.bfloat16]) if has_bf16 else None,
    }


def products(rows: pd.DataFrame, epochs: int, parameters: dict[str, Any]) -> int:
    """Floating-point operations of all matrix products of a fit, by their shapes."""
    with counted_products() as counter:
        TwoTowerRecommender(**COLUMNS, **parameters, max_iter=epochs, random_state=0).fit(
            rows
        )
    return counter.get_total_flops()


def peak(
    dtype: torch.dtype,
    device: str = "cpu",
    side: int = SIDE,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """GFLOP/s of a large matrix product, the best of ten."""
    one = torch.randn(side, side, device=device).to(dtype)

    def product() -> None:
        one @ one
        synchronize(device)

    product()
    return 2 * side**3 / 1e9 / min(seconds_of(product, now) for _ in range(10))


def epoch_seconds(rows: pd.DataFrame, **parameters: Any) -> float:
    """Seconds of the second epoch."""
    model = TwoTowerRecommender(**COLUMNS, **parameters, max_iter=2, random_state=0)
    return seconds_of_epochs(model, rows)[1]


def large(
    n_users: int, n_items: int, n_interactions: int, batch_size: int, folder: Path | None
) -> dict[str, Any]:
    """Generate and train at a size at which nothing may hold all pairs.

    The rows go through a file, and each half has a process of its own.
    """
    row: dict[str, Any] = {"users": n_users, "items": n_items}
    threads = torch.get_num_threads()
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        path = Path(place) / "rows.parquet"
        row |= pool.submit(generate, n_users, n_items, n_interactions, path).result()
        print(row, flush=True)
        row |= pool.submit(train_on, path, batch_size, threads).result()
    return row


def generate(n_users: int, n_items: int, n_interactions: int, path: Path) -> dict[str, Any]:
    """Write rows in groups of a million."""
    started = time.perf_counter()
    rows = make_interactions(n_users, n_items, n_interactions, random_state=0).interactions
    generated = time.perf_counter()
    rows.to_parquet(path, row_group_size=ROW_GROUP, index=False)
    return {
        "rows": len(rows),
        "generate s": generated - started,
        "write s": time.perf_counter() - generated,
        "generate peak MB": peak_megabytes(),
    }


def train_on(path: Path, batch_size: int, threads: int) -> dict[str, Any]:
    """An epoch on the rows of a file."""
    torch.set_num_threads(threads)
    memory = Anonymous()
    started = time.perf_counter()
    model = TwoTowerRecommender(
        **COLUMNS,
        **BY_ID,
        negatives="in_batch",
        batch_size=batch_size,
        max_iter=1,
        random_state=0,
    )
    read: list[float] = []
    with call_after_reading(lambda: read.append(time.perf_counter())):
        (of_epoch,) = seconds_of_epochs(model, path)
    seconds = time.perf_counter() - started
    return {
        "batch_size": batch_size,
        "read s": read[0] - started,
        "epoch s": of_epoch,
        "samples/s": pq.read_metadata(path).num_rows / of_epoch,
        "fit s": seconds,
        "fit peak MB": peak_megabytes(),
        "without mapped files": memory.peak(),
    }


def synchronize(device: str) -> None:
    """Wait for what a device was given to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(
    call: Callable[[], object], now: Callable[[], float] = time.perf_counter
) -> float:
    """How long it takes."""
    started = now()
    call()
    return now() - started


if __name__ == "__main__":
    main()
