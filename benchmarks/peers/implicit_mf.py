"""Train ALS or BPR of the package implicit, and write its factors.

The script runs in the environment of the peer, which has no sktwotower. It reads a JSON
object from standard input and writes one to standard output.

    echo '{"train": "train.parquet", "model": "bpr"}' | PYTHON implicit_mf.py

``train`` is a Parquet file with the columns user_id and item_id; each distinct pair is a
positive. ``model`` is als or bpr. ``parameters`` go to the constructor of the model; those
that are left out have the defaults of implicit. ``embeddings`` is a file to write the
factors to (.npz). ``each_epoch`` is a folder to write those after some iterations to, and
``budget`` ends the fit after the iteration that exceeds it (`protocol.Epochs`). The other
keys are in ``DEFAULTS``. ``fit s`` is the call of ``fit``;
reading the file and building the sparse matrix is ``prepare s``.

The score of a pair is the dot product of its factors. BPR has a bias per item; implicit
stores it as the last column of the item factors, where the user factors are 1.

BPR with more than one thread updates the factors without locks, so two runs with the same
seed differ a little.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from protocol import EACH_EPOCH, BudgetSpentError, Epochs, read_configuration, versions_of

DEFAULTS: dict[str, Any] = {
    **EACH_EPOCH,
    "model": "als",
    "parameters": {},
    "embeddings": None,
    "seed": 0,
    "threads": 2,
}
PACKAGES = ("implicit", "numpy", "scipy", "pandas")


def main() -> None:
    """Read the configuration, train, answer."""
    config = read_configuration(DEFAULTS)
    if config["model"] not in ("als", "bpr"):
        raise SystemExit(f'"model" is als or bpr, not {config["model"]}.')
    json.dump(train(config), sys.stdout)


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Fit, and write the factors if asked to."""
    # implicit has threads of its own and wants a BLAS with one; read when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking

    started = time.perf_counter()
    rows = pd.read_parquet(config["train"], columns=["user_id", "item_id"])
    classes = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}
    model = classes[config["model"]](
        **config["parameters"],
        use_gpu=False,
        num_threads=config["threads"],
        random_state=config["seed"],
    )
    epochs = Epochs(config, model.iterations)
    rows = rows.drop_duplicates()
    users, user_ids = pd.factorize(rows["user_id"], sort=True)
    items, item_ids = pd.factorize(rows["item_id"], sort=True)
    matrix = sp.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (users, items)),
        shape=(len(user_ids), len(item_ids)),
    )
    prepared = time.perf_counter()

    def write(path: Path) -> None:
        unknown = model.user_factors.mean(axis=0, keepdims=True)
        np.savez(
            path,
            user_ids=np.asarray(user_ids),
            item_ids=np.asarray(item_ids),
            users=np.concatenate([model.user_factors, unknown]),  # the last is unknown
            items=model.item_factors,
        )

    with contextlib.suppress(BudgetSpentError):
        model.fit(matrix, show_progress=False, callback=lambda *_: epochs.end(write))
    fitted = time.perf_counter()
    if config["embeddings"] is not None:
        write(config["embeddings"])
    return {
        "rows": len(rows),
        "prepare s": prepared - started,
        "fit s": fitted - prepared,
        "epochs": epochs.seconds,
        "versions": versions_of(PACKAGES),
    }


if __name__ == "__main__":
    main()
