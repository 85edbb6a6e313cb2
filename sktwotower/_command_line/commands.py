"""The three commands: each calls the estimator on what is in files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd

from sktwotower._command_line.config_file import (
    TrainingOrder,
    existing_parquet,
    read_frame,
)
from sktwotower._data.arrow_files import arrow, open_dataset
from sktwotower._persistence.folder import artefact_at
from sktwotower._persistence.loading import load
from sktwotower._persistence.saving import require_packages
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.metrics import ranking_report
from sktwotower.utils._paths import path_of
from sktwotower.utils._spelling import did_you_mean


def train(config: str) -> None:
    """Fit the model that a configuration describes, and save it.

    What ``verbose`` prints goes to stderr; it is 1 unless the parameters say otherwise.
    """
    require_packages()
    order = TrainingOrder.read(config)
    existing_parquet(order.data, "data:")
    artefact_at(path_of(order.model))  # what is wrong there is told before the training
    model = TwoTowerRecommender(**{"verbose": 1} | order.parameters)
    with redirect_stdout(sys.stderr):
        model.fit(order.data, order.y, order.sample_weight)
    model.save(order.model)
    print(
        f"{len(model.user_ids_):,} users, {len(model.item_ids_):,} items, "
        f"{model.n_iter_} epochs: saved to {order.model}"
    )


def recommend(
    model: str,
    users: str,
    output: str | None,
    *,
    batch_size: int,
    candidates: str | None,
    exclude: str | None,
    history: str | None,
    **options: Any,
) -> None:
    """Recommend for the users of a file, a block at a time.

    ``options`` are those of ``recommend``.
    """
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {batch_size}.")
    recommender = load(model)
    dataset = open_dataset(existing_parquet(users, "users:"))
    frames = {
        "candidates": candidates,
        "exclude_interactions": exclude,
        "history": history,
    }
    for name, path in frames.items():
        options[name] = None if path is None else read_frame(path, f"{name}:")

    def answer(rows: Any) -> Any:
        return recommender.recommend(rows.to_pandas(), as_frame=True, **options)

    empty = answer(dataset.schema.empty_table())  # also refuses wrong options at once
    n_users = n_written = 0
    with _answers(output) as write:
        for rows in dataset.to_batches(batch_size=batch_size, batch_readahead=1):
            found = answer(rows)
            if len(found):
                write(found)
            n_users, n_written = n_users + len(rows), n_written + len(found)
            print(f"{n_users:,} users", file=sys.stderr)
        if not n_written:
            write(empty)


def evaluate(
    model: str, data: str, *, y: str | None, as_json: bool, **options: Any
) -> None:
    """Print metrics on held-out interactions, with confidence intervals.

    ``options`` are those of ``ranking_report``.
    """
    recommender = load(model)
    X = read_frame(data, "data:")
    if y is not None and y not in X.columns:
        raise ValueError(
            f"--y {y} is not a column of {data}.{did_you_mean(y, X.columns)} The columns "
            f"are {list(X.columns)}."
        )
    relevance = None if y is None else X[y]
    report = ranking_report(recommender, X, relevance, random_state=0, **options)
    if as_json:
        print(report.to_json(orient="records", indent=1, double_precision=15))
    else:
        print(report.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


@contextmanager
def _answers(output: str | None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """What writes answers, one after the other: into a file, or as CSV to stdout."""
    if output is None:
        yield _CSV().write
        return
    path = path_of(output)
    part = path.with_name(f"{path.name}.part")  # the file appears when it is complete
    rows = _ParquetRows(part)
    try:
        try:
            yield rows.write
        finally:
            rows.close()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _CSV:
    """Prints frames, with the names of the columns above the first one."""

    def __init__(self) -> None:
        self._header = True

    def write(self, frame: pd.DataFrame) -> None:
        """Print a frame, with ids that are whole numbers without a decimal point."""
        whole = {
            name: frame[name].astype("int64")
            for name in frame.columns[:2]
            if frame[name].dtype.kind == "f" and (frame[name] % 1 == 0).all()
        }
        frame.assign(**whole).to_csv(sys.stdout, index=False, header=self._header)
        self._header = False


class _ParquetRows:
    """Writes frames into a Parquet file, with the types of the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, frame: pd.DataFrame) -> None:
        """Add the rows of a frame."""
        if self._writer is None:
            self._schema = arrow().Schema.from_pandas(frame, preserve_index=False)
            self._writer = arrow("pyarrow.parquet").ParquetWriter(self._path, self._schema)
        rows = arrow().Table.from_pandas(frame, self._schema, preserve_index=False)
        self._writer.write_table(rows)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
