"""Encoding a million interactions with features in X: seconds and memory.

    python -m benchmarks.encoding [--rows 1000000]

Five feature columns for users and five for items ride along in X: two categories, a
number, a boolean, and a delimited string each. What is timed is all that fit does with
them before training: distinct rows, categories, encoded matrices, for both sides.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pandas as pd

from benchmarks._common import arguments, write
from sktwotower._data.entities import Entities
from sktwotower._data.entity_building import build_entities
from sktwotower.preprocessing import FeatureEncoder


def make(n_rows: int) -> pd.DataFrame:
    """Interactions of 50,000 users and 20,000 items with their features."""
    rng = np.random.default_rng(0)
    frame = {}
    for side, n in (("user", 50_000), ("item", 20_000)):
        ids = rng.integers(n, size=n_rows)
        tags = np.array([f"t{i}" for i in range(30)])
        values = {
            "city": np.array([f"c{i}" for i in range(1000)])[rng.integers(1000, size=n)],
            "kind": np.array(["a", "b", "c"])[rng.integers(3, size=n)],
            "size": rng.normal(size=n),
            "flag": rng.random(n) < 0.3,
            "tags": np.char.add(
                np.char.add(tags[rng.integers(30, size=n)], "|"),
                tags[rng.integers(30, size=n)],
            ).astype(object),
        }
        frame[side] = ids
        frame |= {f"{side}_{name}": column[ids] for name, column in values.items()}
    return pd.DataFrame(frame)


def encode(X: pd.DataFrame, side: str) -> Entities:
    """What fit does with one side before training."""
    columns = [name for name in X if name.startswith(f"{side}_")]
    entities, *_ = build_entities(
        X[side].to_numpy(),
        np.ones(len(X), dtype=bool),
        None,
        FeatureEncoder(),
        parameter=f"{side}_table",
        features=X[columns],
        every_row=side == "user",
    )
    return entities


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    X = make(options.rows)
    rows = []
    for side in ("user", "item"):
        started = time.perf_counter()
        entities = encode(X, side)
        seconds = time.perf_counter() - started
        tracemalloc.start()  # once more, since it slows things down
        encode(X, side)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append(
            {
                "side": side,
                "rows": len(X),
                "distinct": entities.features.shape[0],
                "columns": entities.features.shape[1],
                "seconds": seconds,
                "matrix MB": entities.features.data.nbytes / 2**20,
                "peak MB beyond X": peak / 2**20,
            }
        )
    write("encoding", rows)


if __name__ == "__main__":
    main()
