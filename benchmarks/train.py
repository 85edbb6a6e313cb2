"""Training throughput in samples a second, with the default parameters.

    python -m benchmarks.train [--data DIR] [--threads 2] [--repeats 5] [--batch-size N ...]

Counted is what ``fit`` does in its epochs, without reading and encoding: the difference
between a fit of 1 + ``--epochs`` epochs and one of 1.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks._common import COLUMNS, Split, arguments, splits_of, write
from sktwotower import TwoTowerRecommender


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = splits_of(options.data)[0]
    default = TwoTowerRecommender().batch_size
    rows = []
    for batch_size in options.batch_size or [default]:
        rates = [rate(split, batch_size, options.epochs) for _ in range(options.repeats)]
        rows.append(
            {
                "data": split.name,
                "batch_size": batch_size,
                "samples/s median": float(np.median(rates)),
                "best": max(rates),
                "worst": min(rates),
            }
        )
    write("train", rows, repeats=options.repeats, epochs=options.epochs)


def rate(split: Split, batch_size: int, epochs: int) -> float:
    """Rows a second of the epochs alone."""
    seconds = []
    for n in (1, 1 + epochs):
        model = TwoTowerRecommender(
            **COLUMNS, **split.tables, batch_size=batch_size, max_iter=n, random_state=0
        )
        started = time.perf_counter()
        model.fit(split.train)
        seconds.append(time.perf_counter() - started)
    return epochs * len(split.train) / (seconds[1] - seconds[0])


if __name__ == "__main__":
    main()
