"""The cells of the suite: one data set, model and seed, as a line of JSON."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._common import machine, versions
from benchmarks.suite.data import DATA_SETS

Cell = dict[str, Any]
KEY = ("data", "part", "model", "seed")
# What the others are compared with, where there is one; EASE has no room everywhere.
REFERENCES = ("EASE", "item-kNN")


class Cells:
    """The cells of a file; a new one is appended to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: list[Cell] = []
        if path.exists():
            self.cells = [json.loads(line) for line in path.read_text().splitlines()]

    def has(self, **key: Any) -> bool:
        """Whether there is a cell of this data set, part, model and seed."""
        return any(matches(cell, **key) for cell in self.cells)

    def add(self, cell: Cell) -> None:
        """Keep a cell, now and in the file."""
        self.cells.append(cell)
        with self.path.open("a") as file:
            file.write(json.dumps(cell) + "\n")

    def forget(self, is_old: Callable[[Cell], bool]) -> None:
        """Remove cells, also from the file."""
        self.cells = [cell for cell in self.cells if not is_old(cell)]
        lines = [json.dumps(cell) + "\n" for cell in self.cells]
        self.path.write_text("".join(lines))

    def settings(self, data: str, model: str) -> dict[str, Any] | None:
        """The settings that were chosen for a model, of any part and seed; None: none."""
        chosen = [c["settings"] for c in self.cells if matches(c, data=data, model=model)]
        return chosen[0] if chosen else None

    def frame(self, part: str) -> pd.DataFrame:
        """Each data set and model of a part: value, seconds and spread over the seeds.

        The value is the median of the metric that models of this data set are compared
        by; ``ratio`` is this value by that of the reference.
        """
        rows = [
            {**cell, "value": cell["metrics"][cell["metric"]]}
            for cell in self.cells
            if cell["part"] == part
        ]
        if not rows:
            return pd.DataFrame()
        frame = pd.DataFrame(rows).groupby(["data", "model"], sort=False)
        table = frame.agg(
            metric=("metric", "first"),
            value=("value", "median"),
            least=("value", "min"),
            most=("value", "max"),
            seconds=("fit s", "median"),
        ).reset_index()
        references = {data: reference(rows) for data, rows in table.groupby("data")}
        table["reference"] = table["data"].map(lambda data: references[data][0])
        unit = table["data"].map(lambda data: references[data][1])
        for column in ("value", "least", "most"):
            name = "ratio" if column == "value" else f"{column} ratio"
            table[name] = table[column] / unit
        in_order = table["data"].map(list(DATA_SETS).index)
        return table.iloc[np.argsort(in_order, kind="stable")].reset_index(drop=True)


def provenance() -> Cell:
    """When, where and of what code a cell is."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the code, with a plus where the package differs from it."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, cwd=folder, check=True
        )
        return done.stdout.strip()

    is_changed = git("status", "--porcelain", "--", "../../sktwotower")
    return git("rev-parse", "--short", "HEAD") + "+" * bool(is_changed)


def matches(cell: Cell, **key: Any) -> bool:
    """Whether a cell has these values."""
    return all(cell[name] == value for name, value in key.items())


def reference(rows: pd.DataFrame) -> tuple[str, float]:
    """The name and the value of the model of a data set that others are compared with."""
    values = rows.set_index("model")["value"]
    for name in REFERENCES:
        if name in values.index:
            return name, values[name]
    return "", float("nan")


def markdown(table: pd.DataFrame, models: list[str]) -> str:
    """A row for each data set: value, ratio to the reference, and seconds of each model."""
    if table.empty:
        return "There is no cell yet."
    names = [name for name in models if name in set(table["model"])]
    lines = [
        "| data | metric | " + " | ".join(names) + " |",
        "|" + "---|" * (2 + len(names)),
    ]
    for data, rows in table.groupby("data", sort=False):
        of_models = rows.set_index("model")
        entries = [
            entry(of_models.loc[name]) if name in of_models.index else "" for name in names
        ]
        metric = of_models["metric"].iloc[0]
        lines.append(f"| {data} | {metric} | " + " | ".join(entries) + " |")
    return "\n".join(lines)


def entry(row: pd.Series) -> str:
    """What a table says of one model on one data set."""
    value = f"{row['value']:.4f}".removeprefix("0")
    seconds = f"{row['seconds']:.2g}" if row["seconds"] < 10 else f"{row['seconds']:.0f}"
    ratio = "" if np.isnan(row["ratio"]) else f" {row['ratio']:.3f}"
    return f"{value}{ratio} ({seconds} s)"
