"""Two towers beside LibRecommender's two-tower model: NDCG@10 and seconds to fit.

    python -m benchmarks.quality --peer PYTHON [--data DIR] [--seeds 3] [--threads 2]
                                 [--target 0.185]

The first table has a row per data set and model, on the same rows and with one evaluator.
``--peer`` is the python of an environment with LibRecommender (benchmarks/peers/README.md).
It takes about ten minutes on two cores, most of them in LibRecommender. Other recommenders
and other data are in ``benchmarks.suite``.

``DIR`` holds train.parquet and test.parquet (user_id, item_id, timestamp) and maybe
users.parquet and items.parquet, such as MovieLens 100k. The data sets are the split of
``DIR``, a random split of the same rows, and the bundled data. Without ``--data`` it is the
bundled data alone.

- **Settings.** LibRecommender has the best configuration that is known for MovieLens 100k,
  chosen on the test rows. `TwoTowerRecommender` has its defaults.
- **Features.** Our model has the side tables, LibRecommender has their categories
  (``benchmarks/_peers.py``).
- **Seeds.** The models are fitted once per seed, in turns. NDCG@10, recall@10 and
  coverage@10 are means over the seeds, and "fit s" is the median.
- **Seconds.** "fit s" is the call of ``fit``. For our class it includes reading the frame.
  For the peer it does not include reading the file and building its own data set.

The second table is about the split of ``DIR``. It has the seconds of a ``fit`` with the
defaults but fewer epochs: the fewest of ``EPOCHS`` whose mean NDCG@10 is at least
``--target``, or the most of them where none is that good. The default of ``--target`` is
what LibRecommender reaches on MovieLens 100k. Beside it is LibRecommender's row of the
first table. Both numbers of epochs are chosen on the test rows, so this table is about
time, not quality.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks._common import COLUMNS, Split, arguments, splits_of, write
from benchmarks._peers import BEST, Peer, add_peer, peer_of
from sktwotower import TwoTowerRecommender
from sktwotower.metrics import make_ranking_scorer

LIBRECOMMENDER = "LibRecommender TwoTower"
METRICS = ["ndcg@10", "recall@10", "coverage@10"]
EPOCHS = (2, 3, 4, 6, 8, 10)  # what is tried to reach the target


@dataclass(frozen=True)
class Fit:
    """What one fit took, and its metrics on the test rows of the split."""

    scores: dict[str, float]
    seconds: float
    versions: dict[str, str] | None = None  # of the packages of the peer


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3)
    add_peer(parser)
    parser.add_argument("--target", type=float, default=0.185)
    options = parser.parse_args()
    peer = peer_of(parser, options)
    if peer is None:
        parser.error("--peer is missing.")
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    models: dict[str, Callable[[Split, int], Fit]] = {
        LIBRECOMMENDER: partial(fit_librecommender, peer),
        "TwoTowerRecommender": fit_two_tower,
    }
    rows = []
    versions: dict[str, Any] = {}
    for split in splits:
        fits: dict[str, list[Fit]] = {name: [] for name in models}
        for seed in range(options.seeds):  # by turns
            for name, fit in models.items():
                fits[name].append(fit(split, seed))
                print(split.name, name, seed, fits[name][-1], flush=True)
        rows += [summary(split, name, fits[name]) for name in models]
        versions[LIBRECOMMENDER] = fits[LIBRECOMMENDER][0].versions
    write("quality", rows, peer_versions=versions, seeds=options.seeds, settings=BEST)
    if options.data is not None:
        row = time_to_reach(splits[0], options.target, options.seeds, rows[0])
        write(
            "quality-time",
            [row],
            peer_versions=versions,
            seeds=options.seeds,
            epochs_tried=EPOCHS,
        )


def fit_two_tower(split: Split, seed: int, **parameters: Any) -> Fit:
    """Two towers with the side tables, and with defaults for the other parameters."""
    model = TwoTowerRecommender(**COLUMNS, **split.tables, **parameters, random_state=seed)
    started = time.perf_counter()
    model.fit(split.train)
    seconds = time.perf_counter() - started
    return Fit(make_ranking_scorer(METRICS)(model, split.test), seconds)


def fit_librecommender(peer: Peer, split: Split, seed: int) -> Fit:
    """LibRecommender's two-tower model with the categories of the side tables."""
    fit = peer.fit(split, **BEST, seed=seed)
    return Fit(fit.score(split), fit.report["fit s"], fit.report["versions"])


def time_to_reach(
    split: Split, target: float, n_seeds: int, peer: dict[str, Any]
) -> dict[str, Any]:
    """The fewest epochs that reach the target, their seconds, and those of the peer."""
    row: dict[str, Any] = {"data": split.name, "target ndcg@10": target}
    for epochs in EPOCHS:
        fits = [fit_two_tower(split, seed, max_iter=epochs) for seed in range(n_seeds)]
        row |= {"epochs": epochs, **means(fits)}
        if row["ndcg@10"] >= target:
            break
    row["peer epochs"] = BEST["epochs"]
    row |= {f"peer {key}": peer[key] for key in ("ndcg@10", "fit s")}
    row["ratio"] = row["fit s"] / row["peer fit s"]
    return row


def summary(split: Split, model: str, fits: list[Fit]) -> dict[str, Any]:
    """A row of the table."""
    scores = [round(fit.scores["ndcg@10"], 4) for fit in fits]
    return {
        "data": split.name,
        "model": model,
        **means(fits),
        "seeds": len(fits),
        "ndcg@10 by seed": scores,
    }


def means(fits: list[Fit]) -> dict[str, float]:
    """Means of the metrics over the seeds, and the median of the seconds."""
    row = {m: float(np.mean([fit.scores[m] for fit in fits])) for m in METRICS}
    return {**row, "fit s": float(np.median([fit.seconds for fit in fits]))}


if __name__ == "__main__":
    main()
