"""Quality relative to EASE, one row a data set."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

# Marker, colour and size, in the order of the table; what is drawn later is on top.
STYLES = {
    "most popular": ("x", "#999999", 6),
    "item-kNN": ("s", "#999999", 5),
    "implicit BPR": ("v", "#56a0d3", 6),
    "implicit ALS": ("^", "#1f6fab", 6),
    "EASE": ("D", "#222222", 5),
    "two-tower, ids": ("o", "#f2a65a", 8),
    "two-tower": ("o", "#d1495b", 9),
    "two-tower, early stopping": ("P", "#2e8b57", 7),
    "two-tower, best epoch": ("*", "#7b4fa3", 9),
}
LEFT = 0.5  # a model that is worse is drawn at the edge, with its ratio beside it


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the table of ``Cells.frame`` into a file."""
    table = table.dropna(subset="ratio")
    names = list(table["data"].unique())
    heights = {data: len(names) - n for n, data in enumerate(names)}
    figure, axes = plt.subplots(figsize=(8.5, 0.45 * len(names) + 1.6))
    axes.axvline(1.0, color="#222222", linewidth=1, zorder=0)
    for model, (marker, colour, size) in STYLES.items():
        rows = table[table["model"] == model]
        if rows.empty:
            continue
        y = rows["data"].map(heights)
        least, most = (
            rows["least ratio"].clip(lower=LEFT),
            rows["most ratio"].clip(lower=LEFT),
        )
        axes.hlines(y, least, most, color=colour, linewidth=1.5, alpha=0.6)
        place = rows["ratio"].clip(lower=LEFT), y
        axes.plot(*place, marker, color=colour, markersize=size, label=model)
    _worse(axes, table[table["ratio"] < LEFT], heights)
    labels = [_label(table, data) for data in names]
    axes.set_yticks(list(heights.values()), labels, fontsize=9)
    axes.set_ylim(0.4, len(names) + 0.6)
    axes.set_xlim(LEFT - 0.03, max(1.1, table["most ratio"].max() + 0.03))
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("quality relative to EASE (higher is better)")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.42, 1.0), ncols=4, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _worse(axes: plt.Axes, rows: pd.DataFrame, heights: dict[str, int]) -> None:
    """The ratios of models that are left of the axis, beside their markers."""
    for data, of_data in rows.groupby("data"):
        ratios = ", ".join(f"{ratio:.2f}" for ratio in sorted(of_data["ratio"]))
        place = (LEFT, heights[data])
        offset = {"xytext": (8, 0), "textcoords": "offset points"}
        axes.annotate(f"← {ratios}", place, **offset, va="center", fontsize=7)


def _label(table: pd.DataFrame, data: str) -> str:
    """The name of a data set, its metric, and its reference where that is not EASE."""
    row = table[table["data"] == data].iloc[0]
    label = f"{data}\n{row['metric']}"
    return (
        label if row["reference"] == "EASE" else f"{label}, relative to {row['reference']}"
    )
