"""Training throughput in samples a second, beside that of a peer.

    python -m benchmarks.train [--data DIR ...] [--peer PYTHON] [--repeats 5] [--threads 2]
                               [--epochs N] [--batch-size N ...] [--losses NAME ...]
                               [--busy N] [--profile]

Counted is what ``fit`` does in its epochs, without reading and encoding, and without the
first epoch: ``--epochs`` more (by default 4, 1 above 500,000 rows). A sample is a positive.

The first rows are the default parameters, with all of the tables; not with ``--losses``,
which names those of the others that are wanted. These have the
layers, the batch and the loss that the peer is given, and as features a few categories (see
benchmarks/_peers.py). ``--peer`` is the python of an environment with LibRecommender, made
as benchmarks/peers/README.md says. The two take turns. The peer counts as many epochs, by
its own clock and also without its first one. Its last hidden layer is its embedding, so
that its layers of 128 and 64 are one hidden layer of ours.

``--busy`` processes keep a core each busy meanwhile, as on a machine that is shared.

``--profile`` measures nothing. It prints what torch's profiler says of an epoch of each
loss.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks._common import (
    BY_ID,
    COLUMNS,
    Split,
    arguments,
    bundled,
    from_folder,
    seconds_of_epochs,
    write,
)
from benchmarks._peers import Peer, add_peer, categories, peer_of
from sktwotower import TwoTowerRecommender

# What the peer does, in our words.
SHARED = BY_ID | {"hidden_layer_sizes": (128,), "embedding_dim": 64, "batch_size": 2048}
SHARED |= {"temperature": 0.2, "learning_rate": 3e-3, "mask_known_positives": False}
PAIRS = {"negatives": "random", "n_negatives": 1}
LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"negatives": "in_batch"},
    "cross_entropy": PAIRS,
    "max_margin": PAIRS,
}
# The same for the peer.
PEER = {key: SHARED[key] for key in ("batch_size", "temperature")}
PEER["hidden_layer_sizes"] = (*SHARED["hidden_layer_sizes"], SHARED["embedding_dim"])


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None, several=True)
    add_peer(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[])
    parser.add_argument("--losses", nargs="+", choices=LOSSES)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    peer = peer_of(parser, options)
    torch.set_num_threads(options.threads)
    losses = options.losses or list(LOSSES)
    splits = [from_folder(folder) for folder in options.data or []] or [bundled()]
    if options.profile:
        for split, loss in product(splits, losses):
            print(split.name, loss)
            print(profiled(split, loss))
        return
    with busy(options.busy):
        rows, versions = measured(splits, losses, peer, options)
    write(
        "train",
        rows,
        peer_versions=versions,
        repeats=options.repeats,
        busy=options.busy,
        epochs=options.epochs or "4, or 1 above 500,000 rows",
        seed=0,
    )


def measured(
    splits: list[Split],
    losses: list[str],
    peer: Peer | None,
    options: argparse.Namespace,
) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
    """The rows of the table, and the versions of the peer."""
    batch_sizes = options.batch_size or [512]
    rows, versions = [], None
    for split in splits:
        epochs = options.epochs or (1 if len(split.train) > 500_000 else 4)
        for batch_size in [] if options.losses else batch_sizes:
            rates = [
                rate(split, epochs, **BY_ID, **split.tables, batch_size=batch_size)
                for _ in range(options.repeats)
            ]
            rows.append(summary(split, "softmax, users by id", batch_size, rates, []))
        for loss in losses:
            rates, others = [], []
            for _ in range(options.repeats):
                rates.append(rate(split, epochs, **like_the_peer(split, loss)))
                if peer is not None:
                    speed, versions = rate_of_peer(peer, split, loss, epochs)
                    others.append(speed)
            rows.append(summary(split, loss, SHARED["batch_size"], rates, others))
    return rows, versions


@contextmanager
def busy(n: int) -> Iterator[None]:
    """With processes that take a core each, as other people's do."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command, start_new_session=True) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def like_the_peer(split: Split, loss: str) -> dict[str, Any]:
    """Our parameters for what the peer does."""
    return {**categories(split), "loss": loss, **SHARED, **LOSSES[loss]}


def profiled(split: Split, loss: str) -> str:
    """Where an epoch spends its time, by operator."""
    model = TwoTowerRecommender(**COLUMNS, **like_the_peer(split, loss), max_iter=1)
    model.fit(split.train)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.fit(split.train)
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=16)


def rate(split: Split, epochs: int, **parameters: Any) -> float:
    """Rows a second of the epochs after the first."""
    model = TwoTowerRecommender(
        **COLUMNS, **parameters, max_iter=1 + epochs, random_state=0
    )
    return len(split.train) / float(np.mean(seconds_of_epochs(model, split.train)[1:]))


def rate_of_peer(
    peer: Peer, split: Split, loss: str, epochs: int
) -> tuple[float, dict[str, str]]:
    """Rows a second of the epochs after the first, and the versions."""
    report = peer.fit(split, loss=loss, epochs=1 + epochs, **PEER).report
    return report["rows"] / float(np.mean(report["epoch s"][1:])), report["versions"]


def summary(
    split: Split, loss: str, batch_size: int, rates: list[float], others: list[float]
) -> dict[str, Any]:
    """A row of the table, printed as soon as it is there."""
    row: dict[str, Any] = {"data": split.name, "loss": loss, "batch_size": batch_size}
    row["epoch s"] = len(split.train) / float(np.median(rates))
    row |= spread("samples/s", rates)
    if others:
        row |= spread("peer", others)
        row["ratio"] = row["samples/s median"] / row["peer median"]
    print(row, flush=True)
    return row


def spread(name: str, rates: list[float]) -> dict[str, float]:
    """The middle one, the best and the worst."""
    return {
        f"{name} median": float(np.median(rates)),
        f"{name} best": max(rates),
        f"{name} worst": min(rates),
    }


if __name__ == "__main__":
    main()
