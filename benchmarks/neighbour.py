"""How much slower a default fit gets when another process keeps a core busy.

    python -m benchmarks.neighbour [--shared DIR] [--only NAME ...] [--repeats 3]
                                   [--threads 2] [--busy 1]

Fits with all defaults, alone and beside ``--busy`` processes that take a core each, by
turns: seconds, and the median ratio of the turns. ``--only`` names data sets of
``benchmarks.suite``, of which ids alone are given, and all that there is; by default the
bundled films and purchases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import arguments, write
from benchmarks.scaling import seconds_of
from benchmarks.suite.data import DATA_SETS, DataSet, load
from benchmarks.suite.models import warm_up
from benchmarks.train import busy
from sktwotower import TwoTowerRecommender


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--shared", type=Path)
    parser.add_argument(
        "--only", nargs="+", choices=DATA_SETS, default=["ml-latest-small", "retail-first"]
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--busy", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warm_up()
    rows = []
    for name in options.only:
        record, *_ = load(name, options.shared or Path())
        for model, parameters in (("ids", record.ids), ("all", record.given())):
            row = {"data": name, "given": model}
            rows.append(row | compared(record, parameters, options.repeats, options.busy))
            print(rows[-1], flush=True)
    write("neighbour", rows, repeats=options.repeats, busy=options.busy, seed=0)


def compared(
    record: DataSet, parameters: dict[str, Any], repeats: int, n_busy: int
) -> dict[str, Any]:
    """Seconds of a fit alone and beside others, by turns."""

    def seconds() -> float:
        model = TwoTowerRecommender(**parameters, random_state=0)
        return seconds_of(lambda: model.fit(record.train))

    alone, beside = [], []
    for _ in range(repeats):
        alone.append(seconds())
        with busy(n_busy):
            beside.append(seconds())
    return {
        "alone s": float(np.median(alone)),
        "beside s": float(np.median(beside)),
        "ratio": float(np.median(np.divide(beside, alone))),
    }


if __name__ == "__main__":
    main()
