"""Run a peer in its own environment, and score its embeddings on the same test rows."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._common import Split, ranking_metrics
from sktwotower import EntityTable

FOLDER = Path(__file__).parent / "peers"
# The option that names the environment of a peer: the peer's name and its script.
PEERS = {
    "peer": ("LibRecommender", "librecommender.py"),
    "implicit": ("implicit", "implicit_mf.py"),
    "rectools": ("RecTools", "rectools_sasrec.py"),
}
# Columns of the tables that both are given, where there are any; the first three of
# several values become a column each, since the peer's towers do not pool.
FEATURES = {"user": ["gender", "age_bucket", "occupation", "country"], "item": ["genres"]}
N_VALUES = 3
# The best that is known of the peer on MovieLens 100k; the rest is in the script.
BEST = {"loss": "softmax", "temperature": 0.2, "learning_rate": 3e-3, "epochs": 20}


@dataclass(frozen=True)
class PeerFit:
    """What a fit of the peer took, and what came out.

    Attributes
    ----------
    report : dict
        What the script of the peer answers.
    user_ids, item_ids : ndarray of shape (n_users,), (n_items,)
    users : ndarray of shape (n_users + 1, dim)
        The last row is that of an unknown user.
    items : ndarray of shape (n_items, dim)
    """

    report: dict[str, Any]
    user_ids: np.ndarray
    item_ids: np.ndarray
    users: np.ndarray
    items: np.ndarray

    def score(self, split: Split) -> dict[str, float]:
        """Metrics on the test rows, by the protocol of benchmarks/README.md."""
        is_known = split.test["item_id"].isin(self.item_ids)
        truth = split.test[is_known].drop_duplicates(["user_id", "item_id"])
        user_ids = truth["user_id"].unique()
        rows = pd.Index(self.user_ids).get_indexer(user_ids)  # -1 is the last one
        scores = self.users[rows] @ self.items.T  # (n_users, n_items)
        seen = split.train[split.train["user_id"].isin(user_ids)]
        of = pd.Index(user_ids).get_indexer(seen["user_id"])
        scores[of, pd.Index(self.item_ids).get_indexer(seen["item_id"])] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        ranked = np.where(
            np.isinf(np.take_along_axis(scores, best, axis=1)), None, self.item_ids[best]
        )
        metrics = ranking_metrics(ranked, user_ids, truth, {"ndcg": 10, "recall": 10})
        n_shown = len(pd.unique(ranked[~pd.isna(ranked)]))
        return {**metrics, "coverage@10": n_shown / len(self.item_ids)}


@dataclass(frozen=True)
class Peer:
    """A package that is not ours, in a process of its own for each fit."""

    name: str
    python: Path
    script: Path
    threads: int

    def fit(self, split: Split, *, with_tables: bool = True, **config: Any) -> PeerFit:
        """Train on the same rows, and on the tables of `categories` unless told not to."""
        with TemporaryDirectory() as name:
            config |= self._files(split, Path(name), with_tables)
            config["embeddings"] = Path(name) / "embeddings.npz"
            report = self._run(config)
            with np.load(config["embeddings"]) as arrays:
                return PeerFit(report, **arrays)

    def fit_epochs(
        self, split: Split, *, with_tables: bool = True, **config: Any
    ) -> Iterator[tuple[int, float, PeerFit]]:
        """The number of an epoch, the seconds up to it, and what came out by then.

        Not of all epochs: ``protocol.Epochs`` chooses. ``budget`` is the most seconds.
        """
        with TemporaryDirectory() as name:
            config |= self._files(split, Path(name), with_tables) | {"each_epoch": name}
            report = self._run(config)
            for epoch, seconds in report["epochs"].items():
                with np.load(Path(name) / f"{epoch}.npz") as arrays:
                    yield int(epoch), seconds, PeerFit(report, **arrays)

    def recommend(
        self, train: pd.DataFrame, **config: Any
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """What a fit took, and the best items of each user: user_id, item_id, rank."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            train.to_parquet(folder / "train.parquet")
            config |= {"train": folder / "train.parquet", "threads": self.threads}
            config["recommended"] = folder / "recommended.parquet"
            report = self._run(config)
            return report, pd.read_parquet(config["recommended"])

    def _files(self, split: Split, folder: Path, with_tables: bool) -> dict[str, Any]:
        """The settings that name the files of a split, which are written."""
        train = folder / "train.parquet"
        split.train[["user_id", "item_id"]].to_parquet(train)
        config: dict[str, Any] = {"train": train, "threads": self.threads}
        tables = categories(split) if with_tables else {}
        for parameter, table in tables.items():
            config[parameter] = folder / f"{parameter}.parquet"
            table.frame.to_parquet(config[parameter])
        return config

    def _run(self, config: dict[str, Any]) -> dict[str, Any]:
        """What the script answers."""
        done = subprocess.run(
            [self.python, self.script],
            input=json.dumps(config, default=str),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} failed:\n{done.stderr[-2000:]}")
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def add_peer(parser: argparse.ArgumentParser, option: str = "peer") -> None:
    """Add the option that names the environment of a peer."""
    parser.add_argument(
        f"--{option}",
        type=Path,
        metavar="PYTHON",
        help=f"the python of an environment with {PEERS[option][0]} "
        "(benchmarks/peers/README.md)",
    )


def peer_of(
    parser: argparse.ArgumentParser, options: argparse.Namespace, option: str = "peer"
) -> Peer | None:
    """The peer that the options name, or None; an error if that file does not exist."""
    python: Path | None = getattr(options, option)
    if python is None:
        return None
    if not python.is_file():
        parser.error(
            f"--{option} {python} is not a file. Name the python of an environment made "
            "as benchmarks/peers/README.md says."
        )
    name, script = PEERS[option]
    return Peer(name, python.absolute(), FOLDER / script, options.threads)


def categories(split: Split) -> dict[str, EntityTable]:
    """The tables cut down to categories that both can read: the same fields for both."""
    tables = {}
    for side, columns in FEATURES.items():
        table = split.tables.get(f"{side}_table")
        if table is None:
            continue
        ids = table.frame[table.id_column]
        parts = []
        for column in table.frame.columns.intersection(columns):
            values = table.frame[column].astype(str).str.split("|", expand=True)
            values = values.iloc[:, :N_VALUES].fillna("missing")
            parts.append(values.add_prefix(f"{column}_"))
        frame = pd.concat([ids, *parts], axis=1)
        tables[f"{side}_table"] = EntityTable(frame, table.id_column)
    return tables
