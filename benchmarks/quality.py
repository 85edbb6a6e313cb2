"""NDCG@10 and seconds to fit of two towers and of other recommenders, on the same rows.

    python -m benchmarks.quality [--data DIR] [--implicit PYTHON] [--peer PYTHON]
                                 [--seeds 3] [--threads 2] [--target 0.185] [--no-order]

The first table has a row per data set and model. The models are the most popular items,
item-kNN, BPR and ALS of the package implicit, EASE, LibRecommender's two-tower model, and
`TwoTowerRecommender` with its defaults. ``--implicit`` and ``--peer`` are the pythons of
environments with implicit and with LibRecommender (benchmarks/peers/README.md); without
them these rows are left out.

The whole comparison takes about a quarter of an hour on two cores, more than half of it in
LibRecommender. ``DIR`` is MovieLens 100k:

    python -m benchmarks.quality --data DIR --implicit IMPLICIT/bin/python
                                 --peer PEER/bin/python

``DIR`` holds train.parquet and test.parquet (user_id, item_id, timestamp) and maybe
users.parquet and items.parquet. The data sets are the split of ``DIR``, a random split of
the same rows, and the bundled data. Without ``--data`` it is the bundled data alone.

- **Settings.** Item-kNN, EASE, BPR and ALS have the best of the settings in ``GRIDS``,
  chosen by NDCG@10 on a slice of train, which is the same for all of them. LibRecommender
  has the best configuration that is known for MovieLens 100k, chosen on the test rows.
- **Features.** Our model has the side tables, LibRecommender has their categories
  (``benchmarks/_peers.py``), and the others have ids only.
- **Seeds.** Models with random initial values are fitted once per seed, in turns. NDCG@10,
  recall@10 and coverage@10 are means over the seeds, and "fit s" is the median.
- **Seconds.** "fit s" is the call of ``fit`` with the chosen settings on all of train. For
  our classes it includes reading the frame. For the peers it does not include reading the
  file and building their own data set.

The second table is about the split of ``DIR``. It has the seconds of a ``fit`` with the
defaults but fewer epochs: the fewest of ``EPOCHS`` whose mean NDCG@10 is at least
``--target``, or the most of them where none is that good. The default of ``--target`` is
what LibRecommender reaches on MovieLens 100k. Beside it is LibRecommender's row of the
first table. Both numbers of epochs are chosen on the test rows, so this table is about
time, not quality.

With ``--no-order`` there is another table instead, of the split of ``DIR`` only: EASE
beside the settings for many rows without an order in time (``NO_ORDER``, chosen on parts
of train of MovieLens 1M). Users are represented by the items they have.
``benchmarks.without_order`` measures what each of these settings is worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    slice_of_train,
    splits_of,
    write,
)
from benchmarks._peers import BEST, Peer, add_peer, peer_of
from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer

LIBRECOMMENDER = "LibRecommender TwoTower"
METRICS = ["ndcg@10", "recall@10", "coverage@10"]
EPOCHS = (2, 3, 4, 6, 8, 10)  # what is tried to reach the target
# What is tried on a slice of train.
GRIDS: dict[str, list[dict[str, Any]]] = {
    "item-kNN": [{"n_neighbors": n} for n in (20, 50, 100, 200)],
    "implicit BPR": [
        {"factors": f, "learning_rate": lr, "regularization": r, "iterations": n}
        for f, lr, r, n in (
            (16, 0.01, 0.003, 50),
            (64, 0.01, 0.003, 50),
            (32, 0.003, 0.01, 100),
            (32, 0.003, 0.01, 200),
        )
    ],
    "implicit ALS": [
        {"factors": 32, "regularization": 30, "alpha": 5},
        {"factors": 64, "regularization": 10, "alpha": 1},
        {"factors": 64, "regularization": 20, "alpha": 3},
        {"factors": 128, "regularization": 10, "alpha": 1},
    ],
    "EASE": [{"regularization": r} for r in (100, 300, 600, 1000)],
}
NO_ORDER: dict[str, Any] = {
    "user_id_embedding": False,
    "history": PooledHistory(size=None, dropout=0.5, tied=True),
    "hidden_layer_sizes": None,
    "popularity_prior": 1.3,
    "embedding_dim": 256,
    "temperature": 0.12,
    "weight_decay": 0.0,
    "learning_rate": 2e-2,
    "batch_size": 32_768,
    "max_iter": 30,
}


@dataclass(frozen=True)
class Fit:
    """What one fit took, and its metrics on the test rows of the split."""

    scores: dict[str, float]
    seconds: float
    versions: dict[str, str] | None = None  # of the packages of a peer


@dataclass(frozen=True)
class Model:
    """What a row of the table is about.

    Attributes
    ----------
    name : str
    fit : callable
        Takes a split, a seed and settings, and returns a `Fit`.
    is_random : bool
        Whether it is fitted once per seed.
    """

    name: str
    fit: Callable[[Split, int, dict[str, Any]], Fit]
    is_random: bool = False


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3)
    add_peer(parser, "implicit")
    add_peer(parser)
    parser.add_argument("--target", type=float, default=0.185)
    parser.add_argument("--no-order", action="store_true")
    options = parser.parse_args()
    models = models_of(peer_of(parser, options, "implicit"), peer_of(parser, options))
    torch.set_num_threads(options.threads)
    splits = splits_of(options.data)
    if options.no_order:
        rows = no_order(splits[0], options.seeds)
        write("quality-no-order", rows, seeds=options.seeds, no_order=NO_ORDER)
        return
    rows = []
    versions: dict[str, dict[str, str]] = {}
    for split in splits:
        for model, settings, fits in measure(split, models, options.seeds):
            rows.append(summary(split, model.name, settings, fits))
            if fits[0].versions is not None:
                versions[model.name] = fits[0].versions
    write("quality", rows, peer_versions=versions, seeds=options.seeds, grids=GRIDS)
    if options.data is not None:
        peer = next((row for row in rows if row["model"] == LIBRECOMMENDER), None)
        row = time_to_reach(splits[0], options.target, options.seeds, peer)
        write(
            "quality-time",
            [row],
            peer_versions=versions,
            seeds=options.seeds,
            epochs_tried=EPOCHS,
        )


def models_of(implicit: Peer | None, librecommender: Peer | None) -> list[Model]:
    """The models of the table, in the order of its rows."""
    models = [
        Model("most popular", partial(fit_baseline, PopularRecommender)),
        Model("item-kNN", partial(fit_baseline, ItemKNNRecommender)),
    ]
    if implicit is not None:
        models += [
            Model(f"implicit {kind.upper()}", partial(fit_implicit, implicit, kind), True)
            for kind in ("bpr", "als")
        ]
    models.append(Model("EASE", partial(fit_baseline, EASERecommender)))
    if librecommender is not None:
        fit = partial(fit_librecommender, librecommender)
        models.append(Model(LIBRECOMMENDER, fit, is_random=True))
    models.append(Model("TwoTowerRecommender", fit_two_tower, is_random=True))
    return models


def measure(
    split: Split, models: list[Model], n_seeds: int
) -> list[tuple[Model, dict[str, Any], list[Fit]]]:
    """The settings and the fits of each model; random models take turns, seed by seed."""
    settings: dict[str, dict[str, Any]] = {LIBRECOMMENDER: BEST}
    inner = slice_of_train(split)
    for model in models:
        if model.name in GRIDS:
            settings[model.name] = best_settings(model, inner)
    fits: dict[str, list[Fit]] = {model.name: [] for model in models}
    for seed in range(n_seeds):
        for model in models:
            if seed == 0 or model.is_random:
                fit = model.fit(split, seed, settings.get(model.name, {}))
                print(split.name, model.name, seed, fit, flush=True)
                fits[model.name].append(fit)
    return [(model, settings.get(model.name, {}), fits[model.name]) for model in models]


def best_settings(model: Model, inner: Split) -> dict[str, Any]:
    """The settings of the model's grid with the best NDCG@10 on a slice of train."""
    return max(
        GRIDS[model.name], key=lambda one: model.fit(inner, 0, one).scores["ndcg@10"]
    )


def fit_baseline(
    estimator: type[Any], split: Split, seed: int, settings: dict[str, Any]
) -> Fit:
    """A baseline of ours; none of them is random."""
    return fit_and_score(estimator(**COLUMNS, **settings), split)


def fit_two_tower(split: Split, seed: int, settings: dict[str, Any]) -> Fit:
    """Two towers with the side tables, and with defaults for all other parameters."""
    return fit_and_score(two_tower(split, seed, **settings), split)


def fit_and_score(model: Any, split: Split) -> Fit:
    """Fit an estimator on train and score it on test."""
    seconds = seconds_of_fit(model, split)
    return Fit(make_ranking_scorer(METRICS)(model, split.test), seconds)


def fit_implicit(
    peer: Peer, kind: str, split: Split, seed: int, settings: dict[str, Any]
) -> Fit:
    """ALS or BPR of implicit, which take no features."""
    fit = peer.fit(split, with_tables=False, model=kind, parameters=settings, seed=seed)
    return Fit(fit.score(split), fit.report["fit s"], fit.report["versions"])


def fit_librecommender(
    peer: Peer, split: Split, seed: int, settings: dict[str, Any]
) -> Fit:
    """LibRecommender's two-tower model with the categories of the side tables."""
    fit = peer.fit(split, **settings, seed=seed)
    return Fit(fit.score(split), fit.report["fit s"], fit.report["versions"])


def no_order(split: Split, n_seeds: int) -> list[dict[str, Any]]:
    """EASE, and users that are represented by their items."""
    ease = best_ease(split)
    settings = {"regularization": ease.regularization}
    fits = [fit_two_tower(split, seed, NO_ORDER) for seed in range(n_seeds)]
    rows = [
        summary(split, "EASE", settings, [fit_and_score(ease, split)]),
        summary(split, "TwoTowerRecommender, no order", {}, fits),
    ]
    rows[1]["of EASE"] = rows[1]["ndcg@10"] / rows[0]["ndcg@10"]
    return rows


def time_to_reach(
    split: Split, target: float, n_seeds: int, peer: dict[str, Any] | None
) -> dict[str, Any]:
    """The fewest epochs that reach the target, their seconds, and those of the peer."""
    row: dict[str, Any] = {"data": split.name, "target ndcg@10": target}
    for epochs in EPOCHS:
        fits = [fit_two_tower(split, seed, {"max_iter": epochs}) for seed in range(n_seeds)]
        row |= {"epochs": epochs, **means(fits)}
        if row["ndcg@10"] >= target:
            break
    if peer is not None:
        row["peer epochs"] = BEST["epochs"]
        row |= {f"peer {key}": peer[key] for key in ("ndcg@10", "fit s")}
        row["ratio"] = row["fit s"] / row["peer fit s"]
    return row


def two_tower(split: Split, seed: int, **parameters: Any) -> TwoTowerRecommender:
    """Two towers with the side tables, and with defaults for the other parameters."""
    return TwoTowerRecommender(**COLUMNS, **split.tables, **parameters, random_state=seed)


def seconds_of_fit(model: Any, split: Split) -> float:
    """Seconds of the call of ``fit``."""
    started = time.perf_counter()
    model.fit(split.train)
    return time.perf_counter() - started


def summary(
    split: Split, model: str, settings: dict[str, Any], fits: list[Fit]
) -> dict[str, Any]:
    """A row of the table."""
    scores = [round(fit.scores["ndcg@10"], 4) for fit in fits]
    return {
        "data": split.name,
        "model": model,
        **means(fits),
        "seeds": len(fits),
        "ndcg@10 by seed": scores,
        "settings": ", ".join(f"{key}={value}" for key, value in settings.items()),
    }


def means(fits: list[Fit]) -> dict[str, float]:
    """Means of the metrics over the seeds, and the median of the seconds."""
    row = {m: float(np.mean([fit.scores[m] for fit in fits])) for m in METRICS}
    return {**row, "fit s": float(np.median([fit.seconds for fit in fits]))}


def best_ease(split: Split) -> EASERecommender:
    """EASE with the regularization that is best on a slice of train."""
    model = Model("EASE", partial(fit_baseline, EASERecommender))
    return EASERecommender(**COLUMNS, **best_settings(model, slice_of_train(split)))


if __name__ == "__main__":
    main()
