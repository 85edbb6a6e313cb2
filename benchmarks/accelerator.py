"""What an accelerator does to training: the same losses, and how much faster.

    python -m benchmarks.accelerator [--device cuda] [--budget 300] [--threads N] [--tiny]

On generated data, in at most ``--budget`` seconds: what there is no time for is left out,
and the table says so. Each part prints a table and writes JSON. They are

1. losses of an epoch on the CPU and on the device, which may differ by 1e-4 of their size
   (without dropout in the transformer, which each device draws with its own generator);
2. waiting: the lines at which a step of these models waits for the device, by
   ``torch.cuda.set_sync_debug_mode``; there may be none;
3. throughput: samples a second on the device and on the CPU, of some steps after some
   others and not of an epoch. "50 million rows" has the tables and the batch of
   ``benchmarks.scaling --large`` and two million rows, since more change no step;
4. dense: a step with wide layers, as in ``benchmarks.scaling``, as a share of the best
   product of matrices of the same precision. In bfloat16 the towers run under
   ``torch.autocast``, and the softmax in float32 or in TF32. "to float32" divides the
   loss of the last of three epochs by that in float32;
5. too large: what is said when the tables do not fit on the card.

"device MB" is the peak of what torch has allocated on the device. Where "as it should be"
is False the other measurements go on, and the exit status is 1. ``--device cpu`` runs all
that needs no accelerator, ``--tiny`` in seconds.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    arguments,
    machine,
    seconds_of_epochs,
    write,
)
from benchmarks.scaling import LAYERS, peak, products, synchronize
from sktwotower import TwoTowerRecommender
from sktwotower._nn import trainer
from sktwotower._nn.towers import Tower
from sktwotower._training import memory
from sktwotower.datasets import make_interactions
from sktwotower.history import TransformerHistory

TOLERANCE = 1e-4  # of a loss
GOOD = "as it should be"
LARGE_BATCH = 8192
PRECISIONS = ("float32", "TF32", "bfloat16", "bfloat16 and TF32")
Row = dict[str, Any]
Parts = Iterator[tuple[str, Callable[[], Row]]]


@dataclass(frozen=True)
class Sizes:
    """Users, items and rows of each data set; steps that are timed; sides of products."""

    losses: tuple[int, int, int] = (2_000, 1_000, 40_000)
    throughput: tuple[tuple[str, int, int, int], ...] = (
        ("MovieLens 1M", 6_040, 3_706, 1_000_000),
        ("Gowalla", 30_000, 41_000, 800_000),
        ("50 million rows", 1_000_000, 1_000_000, 2_000_000),
    )
    steps: tuple[int, int] = (20, 200)  # before, and timed; on the CPU a tenth
    dense: tuple[int, int, int] = (6_040, 3_706, 100_000)
    layers: tuple[tuple[int, ...], ...] = ((512, 256), (4096, 2048))
    side: int = 8192
    card: tuple[int, int] = (500_000, 2**26)  # items, and bytes that are too few for them


TINY = Sizes(
    losses=(60, 40, 600),
    throughput=(("MovieLens 1M", 60, 40, 600), ("50 million rows", 500, 500, 1_000)),
    steps=(1, 10),
    dense=(60, 40, 600),
    layers=((8, 4),),
    side=64,
    card=(300, 2**10),
)


class OutOfTime(Exception):
    """The budget is spent."""


class Enough(Exception):
    """All steps that are wanted have been made."""


def main(argv: list[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds")
    parser.add_argument("--tiny", action="store_true")
    parser.set_defaults(threads=torch.get_num_threads())
    options = parser.parse_args(argv)
    device, sizes = options.device, TINY if options.tiny else Sizes()
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu runs without one.")
    torch.set_num_threads(options.threads)
    started, is_good = time.perf_counter(), True
    for part in (losses, waiting, throughput, dense, too_large):
        rows: list[Row] = []
        for name, measure in part(sizes, device):
            seconds = time.perf_counter() - started
            print(f"{seconds:5.0f} s  {part.__name__}: {name}", flush=True)
            row = measured(measure, device, options.budget - seconds)
            rows.append({"measured": name} | row)
            is_good &= row.get(GOOD, True)
        name = f"accelerator-{part.__name__.replace('_', '-')}"
        write(name, rows, device=name_of(device), budget=options.budget, seed=0)
    return int(not is_good)


def measured(measure: Callable[[], Row], device: str, seconds: float) -> Row:
    """What was measured within some seconds, or why nothing was; the device's memory."""
    if seconds <= 0:
        return {"note": "skipped: no time is left"}
    on_card = torch.device(device).type == "cuda"
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with stopped_after(seconds):
            row = measure()
    except OutOfTime:
        row = {"note": "stopped: no time is left"}
    except Exception as error:  # the other measurements go on
        traceback.print_exc()
        row = {GOOD: False, "note": f"{type(error).__name__}: {error}"[:200]}
    if on_card:
        row["device MB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return row


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Raise an OutOfTime when some seconds have passed."""

    def stop(*_: object) -> None:
        raise OutOfTime

    if not hasattr(signal, "setitimer"):  # Windows: what has begun goes on
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def looking_at(over: Callable[[Iterator[Any]], Iterator[Any]]) -> Iterator[None]:
    """The loops of an epoch get what ``over`` yields of their batches."""

    class Loop(trainer.Prefetched):
        def __iter__(self) -> Iterator[Any]:
            return over(super().__iter__())

    with mock.patch.object(trainer, "Prefetched", Loop):
        yield


def losses(sizes: Sizes, device: str) -> Parts:
    """The models on the CPU and on the device."""

    def compare(loss: Callable[[str], float]) -> Row:
        here, there = loss("cpu"), loss(device)
        error = abs(here - there) / abs(here)
        row = {"CPU": here, "device": there, "difference": error}
        return row | {GOOD: error <= TOLERANCE}

    for name, loss in models(sizes):
        yield name, partial(compare, loss)


def waiting(sizes: Sizes, device: str) -> Parts:
    """The lines of the loop of an epoch that wait for the device."""

    def watched(batches: Iterator[Any]) -> Iterator[Any]:
        torch.cuda.set_sync_debug_mode("warn")  # an error would show the first line alone
        try:
            yield from batches
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def look(loss: Callable[[str], float]) -> Row:
        if torch.device(device).type != "cuda":
            return {"note": "not applicable"}
        with warnings.catch_warnings(record=True) as caught, looking_at(watched):
            warnings.simplefilter("always")
            loss(device)
        places = {
            f"{Path(one.filename).name}:{one.lineno}"
            for one in caught
            if "synchronizing CUDA operation" in str(one.message)
        }
        return {GOOD: not places, "note": ", ".join(sorted(places)) or "nothing waits"}

    for name, loss in models(sizes):
        yield name, partial(look, loss)


def models(sizes: Sizes) -> Iterator[tuple[str, Callable[[str], float]]]:
    """Models, and the loss of an epoch of each on a device."""
    data = make_interactions(*sizes.losses, random_state=0)
    tables = {"user_table": data.user_table, "item_table": data.item_table}
    pairs = {"loss": "max_margin", "negatives": "random"}
    transformer = TransformerHistory(dropout=0.0)

    def loss(parameters: dict[str, Any], device: str) -> float:
        model = TwoTowerRecommender(
            **COLUMNS, **parameters, max_iter=1, device=device, random_state=0
        )
        return float(model.fit(data.interactions).loss_curve_[0])

    for name, parameters in {
        "defaults, ids alone": {},
        "softmax in batch, features": {**BY_ID, **tables, "negatives": "in_batch"},
        "max-margin, features": {**BY_ID, **tables, **pairs},
        "ids, lazy tables": {**BY_ID, "batch_size": sizes.losses[0] // 10},
        "transformer": {"timestamp_column": "timestamp", "history": transformer},
    }.items():
        yield name, partial(loss, parameters)


def throughput(sizes: Sizes, device: str) -> Parts:
    """Samples a second of the device and of the CPU."""

    def compare(name: str, n_users: int, n_items: int, n_rows: int) -> Row:
        parameters: dict[str, Any] = {"timestamp_column": "timestamp"}
        if name == "50 million rows":
            parameters = {**BY_ID, "negatives": "in_batch", "batch_size": LARGE_BATCH}
        rows = drawn(n_users, n_items, n_rows)
        n_before, n_timed = sizes.steps
        there = rate(rows, n_before, n_timed, device, parameters)
        here = rate(rows, max(n_before // 10, 1), max(n_timed // 10, 1), "cpu", parameters)
        return {"CPU": here, "device": there, "ratio": there / here, "steps": n_timed}

    for one in sizes.throughput:
        yield one[0], partial(compare, *one)


def drawn(n_users: int, n_items: int, n_rows: int) -> pd.DataFrame:
    """At most so many distinct pairs of long-tailed users and items, drawn quickly."""
    rng = np.random.default_rng(0)
    ids = {}
    for column, n, exponent in (("user_id", n_users, 0.5), ("item_id", n_items, 0.8)):
        weights = np.arange(1.0, n + 1) ** -exponent
        ids[column] = rng.choice(n, size=2 * n_rows, p=weights / weights.sum())
    rows = pd.DataFrame(ids).drop_duplicates(ignore_index=True)[:n_rows]
    return rows.assign(timestamp=np.arange(len(rows)))


def rate(
    rows: pd.DataFrame, n_before: int, n_timed: int, device: str, parameters: dict[str, Any]
) -> float:
    """Samples a second of some steps after some others."""
    steps = count()
    found: list[float] = []

    def timed(batches: Iterator[Any]) -> Iterator[Any]:
        for gathered in batches:
            step = next(steps)
            if step in (n_before, n_before + n_timed):
                synchronize(device)
                found.append(time.perf_counter())
            if step == n_before + n_timed:
                raise Enough
            n_rows.append(gathered.n_rows)
            yield gathered

    n_rows: list[int] = []
    model = TwoTowerRecommender(
        **COLUMNS, **parameters, max_iter=1000, device=device, random_state=0
    )
    with suppress(Enough), looking_at(timed):
        model.fit(rows)
    return sum(n_rows[n_before:]) / (found[1] - found[0])


def dense(sizes: Sizes, device: str) -> Parts:
    """A step with wide layers as a share of the peak, in each precision."""
    data = make_interactions(*sizes.dense, random_state=0)
    tables = {"user_table": data.user_table, "item_table": data.item_table}
    n_steps = -(-len(data.interactions) // LAYERS["batch_size"])
    parameters = BY_ID | LAYERS | tables | {"device": device}
    exact: dict[tuple[int, ...], float] = {}  # losses

    @cache
    def gflops(layers: tuple[int, ...]) -> float:
        one, two = (
            products(data.interactions, n, parameters | {"hidden_layer_sizes": layers})
            for n in (1, 2)
        )
        return (two - one) / n_steps / 1e9

    def measure(layers: tuple[int, ...], precision: str) -> Row:
        model = TwoTowerRecommender(
            **COLUMNS,
            **parameters | {"hidden_layer_sizes": layers},
            max_iter=3,
            random_state=0,
        )
        work = gflops(layers)
        with precisely(precision, device):
            seconds = min(seconds_of_epochs(model, data.interactions)[1:]) / n_steps
            dtype = torch.bfloat16 if "bfloat16" in precision else torch.float32
            most = peak(dtype, device, sizes.side)
        loss = float(model.loss_curve_[-1])
        exact.setdefault(layers, loss)  # float32 comes first
        return {
            "GFLOP": work,
            "ms a step": 1e3 * seconds,
            "TFLOP/s": work / seconds / 1e3,
            "peak TFLOP/s": most / 1e3,
            "share": work / seconds / most,
            "loss": loss,
            "to float32": loss / exact[layers],
        }

    for layers, precision in product(sizes.layers, PRECISIONS):
        name = " and ".join(map(str, layers))
        yield f"layers of {name}, {precision}", partial(measure, layers, precision)


@contextmanager
def precisely(precision: str, device: str) -> Iterator[None]:
    """Matrix products of a precision, one of ``PRECISIONS``."""
    forward, add = Tower.forward, torch.Tensor.addmm_

    def cast(*arguments: Any, **others: Any) -> torch.Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return forward(*arguments, **others).float()

    def add_cast(out: torch.Tensor, *both: torch.Tensor, beta: float = 1) -> torch.Tensor:
        # Autocast leaves it alone.
        return add(out, *(one.to(out.dtype) for one in both), beta=beta)

    with ExitStack() as stack:
        if "TF32" in precision:
            stack.callback(
                torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()
            )
            torch.set_float32_matmul_precision("high")
        if "bfloat16" in precision:
            stack.enter_context(mock.patch.object(Tower, "forward", cast))
            stack.enter_context(mock.patch.object(torch.Tensor, "addmm_", add_cast))
        yield


def too_large(sizes: Sizes, device: str) -> Parts:
    """Tables for which there is too little memory: what is said."""
    n_items, limit = sizes.card
    numbers = np.arange(2 * n_items)
    rows = pd.DataFrame({"user_id": numbers % 99, "item_id": numbers % n_items})
    model = TwoTowerRecommender(**COLUMNS, **BY_ID, max_iter=1, device=device)

    def warned() -> Row:
        with warnings.catch_warnings(record=True) as caught, looking_at(stopped):
            warnings.simplefilter("always")
            with suppress(Enough), mock.patch.object(memory, "free_bytes", lambda _: limit):
                model.fit(rows)
        found = [str(one.message) for one in caught if one.category is RuntimeWarning]
        return said(*found)

    def refused() -> Row:
        if torch.device(device).type != "cuda":
            return {"note": "not applicable"}
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(limit / total, device)
        try:
            with suppress(Enough), looking_at(stopped):
                model.fit(rows)
        except MemoryError as error:
            return said(f"MemoryError: {error}")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return said()

    def stopped(batches: Iterator[Any]) -> Iterator[Any]:
        next(batches)
        yield from batches
        raise Enough

    def said(what: str = "nothing") -> Row:
        return {GOOD: "embedding_dim" in what, "note": what}

    yield "the warning before", warned
    yield "the error", refused


def name_of(device: str) -> str:
    """What the device is called."""
    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return str(machine()["processor"])


if __name__ == "__main__":
    sys.exit(main())
