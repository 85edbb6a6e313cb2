"""What bounds a training step: calls of torch, bytes moved, and matrix products.

    python -m benchmarks.roofline [--data DIR] [--losses max_margin cross_entropy softmax]
                                  [--repeats 5] [--alternatives]

The models are those that ``benchmarks.train`` has beside LibRecommender, in one thread, by
the seconds of the processor. The calls of an epoch are recorded with the bytes of their
arguments and results, and with the operations of their products. The machine is measured in
the same run:

- an addition of two arrays, from a few numbers to many megabytes: what a call that moves so
  many bytes takes at best. Small ones are the cost of a call; those between the caches and
  the memory have the speed of where they lie;
- the best product of two float32 matrices of 2,048 x 2,048.

A call takes at least the larger one of what its bytes and its products take. "bound ms" is
the sum over the calls of a step: no step of these calls is faster. It knows nothing of the
Python around a call, and of products that are too narrow for the peak.

With ``--alternatives`` two that are not taken are measured instead: layers that torch has
compiled, with the seconds of compilation (which torch keeps on disk for the next time) and
the epochs after which a fit has won them back; and a step of AdamW on one flat buffer of
all parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    bundled,
    from_folder,
    seconds_of_epochs,
    write,
)
from benchmarks.scaling import peak, seconds_of
from benchmarks.train import LOSSES, like_the_peer
from sktwotower import TwoTowerRecommender
from sktwotower._nn.towers import Tower

SIZES = 2 ** np.arange(4, 27)  # bytes of an array
PRODUCTS = {"mm", "addmm", "addmm_"}


class Calls(TorchDispatchMode):
    """Counts the calls of torch by bytes and floating-point operations.

    Attributes
    ----------
    counts : Counter
        How often each (bytes, operations) has been called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[int, int]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call it, and count it."""
        found = func(*args, **(kwargs or {}))
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
        n_bytes = 0
        if not (made and func.is_view):
            n_bytes = sum(one.numel() * one.element_size() for one in given + made)
        n_operations = 0
        if func.overloadpacket.__name__ in PRODUCTS:
            one, other = given[-2:]
            n_operations = 2 * one.shape[0] * one.shape[1] * other.shape[1]
        self.counts[n_bytes, n_operations] += 1
        return found


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--alternatives", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = bundled() if options.data is None else from_folder(options.data)
    if options.alternatives:
        rows = [alternatives(split, loss) for loss in options.losses]
        write("roofline-alternatives", rows, data=split.name, seed=0)
        return
    rows = [bound(split, loss, options.repeats) for loss in options.losses]
    write("roofline", rows, data=split.name, repeats=options.repeats, seed=0)


def bound(split: Split, loss: str, repeats: int) -> dict[str, Any]:
    """What a step takes, and what its calls take at least."""
    parameters = like_the_peer(split, loss)
    n_steps = -(-len(split.train) // parameters["batch_size"])
    calls = recorded(split, parameters)
    seconds, moved, rates = [], [], []
    for _ in range(repeats):
        model = TwoTowerRecommender(**COLUMNS, **parameters, max_iter=3, random_state=0)
        epochs = seconds_of_epochs(model, split.train, process_time)
        seconds.append(min(epochs[1:]) / n_steps)
        moved.append([seconds_to_move(size) for size in SIZES])
        rates.append(peak(torch.float32, now=process_time))
    of_size, rate = np.min(moved, axis=0), max(rates) * 1e9
    keys = np.array(list(calls))  # bytes and operations
    counts = np.array(list(calls.values())) / n_steps
    of_bytes = np.interp(keys[:, 0], 3 * SIZES, of_size)
    of_products = keys[:, 1] / rate
    bounds = np.maximum(of_bytes, of_products)
    of_calls = np.minimum(of_bytes, of_size[0])
    measured = float(np.median(seconds))
    return {
        "loss": loss,
        "calls": counts.sum(),
        "MB": counts @ keys[:, 0] / 2**20,
        "MFLOP": counts @ keys[:, 1] / 1e6,
        "ms a step": 1e3 * measured,
        "calls ms": 1e3 * counts @ of_calls,
        "bytes ms": 1e3 * counts @ (of_bytes - of_calls),
        "products ms": 1e3 * counts @ of_products,
        "bound ms": 1e3 * counts @ bounds,
        "share": counts @ bounds / measured,
        "peak GFLOP/s": rate / 1e9,
        "GB/s in the cache": 3 * 2**18 / of_size[SIZES == 2**18][0] / 1e9,
        "GB/s in memory": 3 * SIZES[-1] / of_size[-1] / 1e9,
    }


def recorded(split: Split, parameters: dict[str, Any]) -> Counter[tuple[int, int]]:
    """The calls of one epoch."""

    def calls(n_epochs: int) -> Counter[tuple[int, int]]:
        model = TwoTowerRecommender(
            **COLUMNS, **parameters, max_iter=n_epochs, random_state=0
        )
        with Calls() as recorder:
            model.fit(split.train)
        return recorder.counts

    return calls(2) - calls(1)


def seconds_to_move(n_bytes: int, n_times: int = 20) -> float:
    """Of an addition of two arrays of so many bytes into a third one, the best of some."""
    one, other, total = torch.ones(3, n_bytes // 4).unbind()

    def add(n: int) -> float:
        def call() -> None:
            for _ in range(n):
                torch.add(one, other, out=total)

        return seconds_of(call, process_time) / n

    n = max(2**20 // n_bytes, 1)  # of small ones many, since the clock is a call, too
    return min(add(n) for _ in range(n_times))


def alternatives(split: Split, loss: str) -> dict[str, Any]:
    """Compiled layers, and one flat buffer for AdamW, beside what is done."""
    parameters = like_the_peer(split, loss)

    def epochs(n: int) -> list[float]:
        model.set_params(max_iter=n)
        return seconds_of_epochs(model, split.train, process_time)

    model = TwoTowerRecommender(**COLUMNS, **parameters, random_state=0)
    plain = epochs(6)
    shapes = [one.shape for one in model._state.towers.parameters()]
    with compiled_layers():
        found = epochs(6)
    before, after = min(plain[1:]), min(found[1:])
    extra = sum(found) - len(found) * after
    return {
        "loss": loss,
        "epoch s": before,
        "compiled epoch s": after,
        "ratio": before / after,
        "compilation s": extra,
        "pays after epochs": extra / (before - after) if before > after else float("inf"),
        "AdamW ms": adamw_ms(shapes),
        "flat AdamW ms": adamw_ms([torch.Size([sum(map(torch.Size.numel, shapes))])]),
    }


def adamw_ms(shapes: list[torch.Size], n: int = 300) -> float:
    """Milliseconds of a step of AdamW, fused as ours."""
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for one in parameters:
        one.grad = torch.randn_like(one)
    optimizer = torch.optim.AdamW(parameters, fused=True)
    optimizer.step()  # makes its state
    return 1e3 / n * seconds_of(lambda: [optimizer.step() for _ in range(n)], process_time)


@contextmanager
def compiled_layers() -> Iterator[None]:
    """Compile the layers of towers that are made meanwhile."""
    make: Callable[..., None] = Tower.__init__

    def made(self: Tower, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self._through_layers = torch.compile(self._through_layers, dynamic=True)

    with mock.patch.object(Tower, "__init__", made):
        yield


if __name__ == "__main__":
    main()
