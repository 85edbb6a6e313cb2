"""What the benchmarks share: data, and results with the machine that made them."""

from __future__ import annotations

import argparse
import json
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn.utils import shuffle

from sktwotower import EntityTable, TwoTowerRecommender, __version__
from sktwotower._training.data import read_training_rows
from sktwotower.baselines import EASERecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.metrics import match_relevance, ndcg, recall
from sktwotower.model_selection import LastInteractionsSplit

COLUMNS = {"user_column": "user_id", "item_column": "item_id"}
# Users by their id, as the models of others have them: the defaults then follow no history.
BY_ID: dict[str, Any] = {"history": None}
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Split:
    """Interactions to train on and to find, and the tables beside them."""

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    tables: dict[str, EntityTable]


def arguments(
    description: str | None, *, seeds: int | None, several: bool = False
) -> argparse.ArgumentParser:
    """The options that all benchmarks have; with ``several``, more than one folder."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append" if several else "store",
        help="a folder with train and test parquet" + "; may be given again" * several,
    )
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def splits_of(folder: Path | None) -> list[Split]:
    """The data of a folder as it lies there and split at random, and the bundled data."""
    if folder is None:
        return [bundled()]
    given = from_folder(folder)
    return [given, at_random(given), bundled()]


def bundled() -> Split:
    """The bundled data; of each user the last fifth in time is test."""
    data = load_movielens_small()
    rows = LastInteractionsSplit(
        fraction=0.2, timestamp_column="timestamp", user_column="user_id"
    )
    train, test = next(rows.split(data.interactions))
    return Split(
        "bundled ml-latest-small, by time",
        data.interactions.iloc[train],
        data.interactions.iloc[test],
        {"item_table": EntityTable(data.item_table, "item_id")},
    )


def from_folder(folder: Path) -> Split:
    """``train``, ``test`` and maybe ``users`` and ``items`` of a folder, all parquet."""
    tables = {}
    for side in ("user", "item"):
        path = folder / f"{side}s.parquet"
        if path.exists():
            tables[f"{side}_table"] = EntityTable(pd.read_parquet(path), f"{side}_id")
    return Split(
        f"{folder.name}, as it lies there",
        pd.read_parquet(folder / "train.parquet"),
        pd.read_parquet(folder / "test.parquet"),
        tables,
    )


def at_random(split: Split) -> Split:
    """The same data, a random fifth of each user's rows as test."""
    rows = pd.concat([split.train, split.test])
    name = f"{split.name.split(',')[0]}, random split"
    return slice_of_train(Split(name, rows, rows[:0], split.tables), by_time=False)


def slice_of_train(split: Split, *, by_time: bool | None = None) -> Split:
    """Train once more cut in two, for choices that must not see the test rows.

    The validation rows are the last in time, or the last in a random order. With None it
    is time where there are timestamps that differ, and the split is not a random one.
    """
    rows = split.train
    if by_time is None:
        by_time = "random" not in split.name and rows["timestamp"].nunique() > 1
    if not by_time:
        rows = shuffle(rows, random_state=0)
    cut = LastInteractionsSplit(
        fraction=0.2,
        timestamp_column="timestamp" if by_time else None,
        user_column="user_id",
    )
    train, test = next(cut.split(rows))
    return Split(split.name, rows.iloc[train], rows.iloc[test], split.tables)


def best_ease(split: Split) -> EASERecommender:
    """EASE with the regularization that is best on a slice of train; not fitted."""
    inner = slice_of_train(split)
    models = [
        EASERecommender(**COLUMNS, regularization=value) for value in (100, 300, 600, 1000)
    ]
    return max(models, key=lambda model: model.fit(inner.train).score(inner.test))


def ranking_metrics(
    ranked_ids: np.ndarray,
    user_ids: np.ndarray,
    truth: pd.DataFrame,
    metrics: dict[str, int],
) -> dict[str, float]:
    """Means over users of rankings that ``recommend`` made, (n_users, n_ranked).

    For what a scorer cannot ask for: a history, candidates. ``truth`` has the relevant
    rows of these users and no others; ``metrics`` are names (ndcg, recall) and cut-offs.
    """
    items = pd.Index(truth["item_id"].unique())
    items = items.append(pd.Index(pd.unique(ranked_ids[~pd.isna(ranked_ids)]))).unique()
    users = pd.Index(user_ids).get_indexer(truth["user_id"])
    relevant = sp.csr_matrix(
        (np.ones(len(truth)), (users, items.get_indexer(truth["item_id"]))),
        shape=(len(user_ids), len(items)),
    )
    codes = items.get_indexer(ranked_ids.ravel()).reshape(ranked_ids.shape)
    matched = match_relevance(codes, relevant)  # None is no item, and its code is -1
    functions = {"ndcg": ndcg, "recall": recall}
    return {
        f"{name}@{k}": float(np.nanmean(functions[name](matched, k=k)))
        for name, k in metrics.items()
    }


class EpochClock:
    """A callback that takes the seconds of each epoch of a fit.

    ``before`` are those from the making of this object to the first epoch.

    Parameters
    ----------
    now : callable, default=time.perf_counter
        The clock; ``time.process_time`` has the seconds of the processors.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: list[float] = []
        self.before = 0.0
        self._now = now
        self._made = now()
        self._started = 0.0

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing is to be done before a fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nor after it."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Start the clock."""
        self._started = self._now()
        if context.task_name == "epoch" and not self.seconds:
            self.before = self._started - self._made

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Stop it."""
        if context.task_name == "epoch":
            self.seconds.append(self._now() - self._started)


@contextmanager
def call_after_reading(call: Callable[[], None]) -> Iterator[None]:
    """Call something when a ``fit`` has read and checked the rows of X."""

    def read(*args: Any, **kwargs: Any) -> Any:
        rows = read_training_rows(*args, **kwargs)
        call()
        return rows

    with mock.patch("sktwotower._two_tower.read_training_rows", read):
        yield


def seconds_of_epochs(
    model: TwoTowerRecommender, X: Any, now: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Of each epoch of a fit: what a step costs, and what is done once an epoch."""
    clock = EpochClock(now)
    model.set_callbacks(clock).fit(X)
    return clock.seconds


def peak_megabytes() -> float | None:
    """The largest resident size of this process so far; None where nobody knows.

    Not getrusage: its peak is that of the parent, when that is larger.
    """
    status = Path("/proc/self/status")  # of Linux
    if not status.exists():
        return None
    return int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 2**10


class Anonymous:
    """The most memory of this process that the system cannot write to a mapped file.

    Nobody keeps its peak, so it is looked at a hundred times a second.
    """

    def __init__(self) -> None:
        self._most = float("nan")
        self._status = Path("/proc/self/status")  # of Linux
        if self._status.exists():
            self._most = 0.0
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            found = re.findall(r"RssAnon:\s*(\d+)", self._status.read_text())
            self._most = max(self._most, int(found[0]) / 2**10)
            time.sleep(0.01)

    def peak(self) -> float:
        """In megabytes."""
        return self._most


def write(
    name: str,
    rows: list[dict[str, Any]],
    *,
    peer_versions: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Print rows as a table; keep them as JSON with machine and versions."""
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    RESULTS.mkdir(exist_ok=True)
    record = {
        "rows": rows,
        "settings": settings,
        "machine": machine(),
        "versions": versions(),
        "peer versions": peer_versions,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(f"written to {path}")


def machine() -> dict[str, Any]:
    """The processor, and how many threads of it are used."""
    return {
        "processor": cpu_info("model name") or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Of Python, of this package, and of those that it stands on."""
    packages = ("torch", "scikit-learn", "numpy", "scipy", "pandas")
    return {
        "python": platform.python_version(),
        "sktwotower": __version__,
        **{package: version(package) for package in packages},
    }


def cpu_info(key: str) -> str:
    """What Linux says of the first processor; empty on another system."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return ""
