"""Quality after each epoch against seconds: a table and a picture of such cells."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmarks.suite.cells import Cell
from benchmarks.suite.data import DATA_SETS
from benchmarks.suite.picture import STYLES as SUITE

BASELINE, LINEAR = "most popular", "EASE"
NEURAL_PEERS = {
    "LibRecommender TwoTower": ("s", "#8a6fb0", 5),
    "RecTools DSSM": ("P", "#2e8b57", 5),
}
TWO_TOWERS = ("two-tower, ids", "two-tower")
# In the order of the table; what is drawn later is on top.
STYLES = {name: SUITE[name] for name in (BASELINE, "implicit BPR", "implicit ALS", LINEAR)}
STYLES |= NEURAL_PEERS | {name: SUITE[name] for name in TWO_TOWERS}
SHARE = 0.95  # of another model's best quality


def summary(cells: list[Cell]) -> pd.DataFrame:
    """A row for each data set and model, in the order of the data sets and of ``STYLES``.

    The columns are the best quality, the seconds to it, and the seconds until ``SHARE`` of
    the best quality of EASE and of the best neural peer. NaN: there is no such model, or
    this one is never that good.
    """
    best = {(cell["data"], cell["model"]): max(cell["quality"]) for cell in cells}
    rows = []
    for cell in in_order(cells):
        data, quality = cell["data"], np.array(cell["quality"])
        neural = [best[data, name] for name in NEURAL_PEERS if (data, name) in best]
        linear = best.get((data, LINEAR), np.nan)
        rows.append(
            {
                "data": data,
                "metric": cell["metric"],
                "model": cell["model"],
                "best": quality.max(),
                "seconds": cell["seconds"][int(quality.argmax())],
                f"until {SHARE:.0%} of EASE": until(cell, linear),
                f"until {SHARE:.0%} of a neural peer": until(
                    cell, max(neural, default=np.nan)
                ),
            }
        )
    return pd.DataFrame(rows)


def until(cell: Cell, quality: float) -> float:
    """The seconds of a cell until it has reached ``SHARE`` of a quality; NaN: never."""
    pairs = zip(cell["seconds"], cell["quality"], strict=True)
    return next((seconds for seconds, one in pairs if one >= SHARE * quality), np.nan)


def in_order(cells: list[Cell]) -> list[Cell]:
    """The cells by data set, and by model as in ``STYLES``."""
    data, models = list(DATA_SETS), list(STYLES)
    return sorted(
        cells, key=lambda cell: (data.index(cell["data"]), models.index(cell["model"]))
    )


def draw(cells: list[Cell], path: Path) -> None:
    """A panel for each data set: a line for each model, a point for one without epochs."""
    names = list(dict.fromkeys(cell["data"] for cell in in_order(cells)))
    n_rows = (len(names) + 1) // 2
    figure, grid = plt.subplots(
        n_rows, 2, figsize=(9, 3.4 * n_rows), squeeze=False, layout="constrained"
    )
    labelled = {}
    for axes, name in zip(grid.flat, names, strict=False):
        of_data = [cell for cell in in_order(cells) if cell["data"] == name]
        for cell in of_data:
            labelled[cell["model"]] = _line(axes, cell)
        axes.set_title(f"{name}: {of_data[0]['metric']}", fontsize=10, loc="left")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("seconds of training")
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    models = [name for name in STYLES if name in labelled]
    figure.legend(
        [labelled[name] for name in models],
        models,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _line(axes: plt.Axes, cell: Cell) -> plt.Line2D:
    """Quality against seconds; that of the most popular items is the same at any time."""
    marker, colour, size = STYLES[cell["model"]]
    if cell["model"] == BASELINE:
        return axes.axhline(cell["quality"][0], color=colour, linestyle="--", linewidth=1)
    place = cell["seconds"], cell["quality"]
    style = {"color": colour, "markersize": 0.7 * size, "linewidth": 1.5}
    return axes.plot(*place, marker=marker, **style)[0]
