"""What ``diversify`` costs in accuracy and time, and what it gains in variety.

    python -m benchmarks.diversity [--seeds 3] [--threads 2]

Two models with the defaults and the timestamps: of the bundled ratings, and of the first
purchases of the bundled shop; of each user the last fifth in time is test. For each value
of ``diversify``, on lists of ten: NDCG@10; the intra-list diversity by the genres of the
films, or by the words in the titles of the articles, and by the item vectors of the model;
the coverage of the catalogue. "ms" is ``recommend`` for 1,000 users, the shortest of twenty
turns. Means over seeds.

``docs/user_guide/diversity.png`` shows each value relative to ``diversify=0``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from benchmarks._common import (
    COLUMNS,
    Split,
    arguments,
    bundled,
    ranking_metrics,
    write,
)
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.datasets import load_online_retail
from sktwotower.metrics import catalogue_coverage, intra_list_diversity
from sktwotower.model_selection import LastInteractionsSplit
from sktwotower.preprocessing import MultiHotEncoder

VALUES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
PICTURE = Path(__file__).parents[1] / "docs" / "user_guide" / "diversity.png"
# What an item is described by, and what the measure is called.
DESCRIPTIONS = {
    "films": ("genres", MultiHotEncoder()),
    "shop": ("title", TfidfVectorizer()),
}
DRAWN = {
    "NDCG@10": ("#d1495b", "o"),
    "diversity": ("#1f6fab", "s"),
    "coverage": ("#2e8b57", "^"),
}


def shop() -> Split:
    """The first purchases of the bundled shop; of each customer the last fifth is test."""
    data = load_online_retail()
    names = {"customer_id": "user_id", "time": "timestamp"}
    rows = data.interactions.rename(columns=names)
    rows = rows.drop_duplicates(["user_id", "item_id"])
    cut = LastInteractionsSplit(
        fraction=0.2, timestamp_column="timestamp", user_column="user_id"
    )
    train, test = next(cut.split(rows))
    table = EntityTable(data.item_table, "item_id")
    return Split("shop", rows.iloc[train], rows.iloc[test], {"item_table": table})


def measure(name: str, split: Split, seed: int) -> list[dict[str, Any]]:
    """One row for each value of ``diversify``, of a model without the features."""
    model = TwoTowerRecommender(
        **COLUMNS, timestamp_column="timestamp", random_state=seed
    ).fit(split.train)
    is_new = split.test.merge(
        split.train, "left", on=["user_id", "item_id"], indicator=True
    )
    is_known = split.test["item_id"].isin(model.item_ids_).to_numpy()
    truth = split.test[(is_new["_merge"] == "left_only").to_numpy() & is_known]
    users = truth["user_id"].unique()
    items = pd.Index(model.item_ids_)
    column, encoder = DESCRIPTIONS[name]
    table = split.tables["item_table"].frame.set_index("item_id").loc[items]
    described = table[[column]] if name == "films" else table[column]
    described = encoder.fit_transform(described).toarray()
    vectors = model.item_embeddings_[:, : model.embedding_dim_]  # without popularity
    thousand = np.random.default_rng(0).choice(model.user_ids_, 1000)
    times = milliseconds(model, thousand)
    rows = []
    for value in VALUES:
        ids, _ = model.recommend(users, diversify=value)
        found = items.get_indexer(ids.ravel()).reshape(ids.shape)
        rows.append(
            {
                "data": name,
                "seed": seed,
                "diversify": value,
                "NDCG@10": ranking_metrics(ids, users, truth, {"ndcg": 10})["ndcg@10"],
                "diversity": float(np.nanmean(intra_list_diversity(found, described))),
                "of vectors": float(np.nanmean(intra_list_diversity(found, vectors))),
                "coverage": catalogue_coverage(found, len(items)),
                "ms": times[value],
            }
        )
    return rows


def milliseconds(model: TwoTowerRecommender, users: np.ndarray) -> dict[float, float]:
    """The shortest time of ``recommend`` for each value, by turns."""
    times: dict[float, list[float]] = {value: [] for value in VALUES}
    for _ in range(20):
        for value in VALUES:
            started = time.perf_counter()
            model.recommend(users, diversify=value)
            times[value].append(1e3 * (time.perf_counter() - started))
    return {value: min(of_value) for value, of_value in times.items()}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the measures relative to ``diversify=0``, one panel for each data set."""
    names = table["data"].unique()
    figure, panels = plt.subplots(1, len(names), figsize=(8.5, 3.2), sharey=True)
    for axes, name in zip(panels, names, strict=True):
        rows = table[table["data"] == name].set_index("diversify")
        for measure_name, (colour, marker) in DRAWN.items():
            relative = rows[measure_name] / rows.loc[0.0, measure_name]
            axes.plot(relative, marker, color=colour, linestyle="-", label=measure_name)
        axes.axhline(1.0, color="#222222", linewidth=1, zorder=0)
        axes.set_xlabel("diversify")
        axes.set_title(f"{name}, diversity by {DESCRIPTIONS[name][0]}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("relative to diversify=0")
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    """Measure, print and draw."""
    options = arguments(__doc__, seeds=3).parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    with threadpool_limits(options.threads):
        for name, split in {"films": bundled(), "shop": shop()}.items():
            for seed in range(options.seeds):
                rows += measure(name, split, seed)
    table = pd.DataFrame(rows).drop(columns="seed")
    table = table.groupby(["data", "diversify"], as_index=False).mean()
    write("diversity", table.to_dict("records"), seeds=options.seeds)
    draw(table, PICTURE)
    print(f"drawn to {PICTURE}")


if __name__ == "__main__":
    main()
