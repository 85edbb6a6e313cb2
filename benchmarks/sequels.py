"""Whether ``similar_items`` of a film finds its sequel.

    python -m benchmarks.sequels [--seeds 3] [--threads 2] [--recommend]

Thirty pairs of a film and its sequel, both with at least 20 ratings in the bundled data.
A model is fitted on all ratings, and ``similar_items`` of the one film ranks all others.
"mrr" is the mean reciprocal rank of the other film, from the first film to its sequel, from
the sequel to the first film, and the mean of both.

The rows are item-kNN; EASE; two towers with the defaults and ids alone, with one parameter
changed, with the timestamps, and with the genres and years of the films. With
``--recommend`` each model is fitted once more, on a slice of the train part of the bundled
split, for the NDCG@10 of ``recommend``: what finds sequels must not recommend worse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._common import COLUMNS, arguments, bundled, slice_of_train, write
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import EASERecommender, ItemKNNRecommender
from sktwotower.datasets import load_movielens_small

PAIRS = (
    ("Ace Ventura: Pet Detective (1994)", "Ace Ventura: When Nature Calls (1995)"),
    ("Alien (1979)", "Aliens (1986)"),
    (
        "Austin Powers: International Man of Mystery (1997)",
        "Austin Powers: The Spy Who Shagged Me (1999)",
    ),
    ("Back to the Future (1985)", "Back to the Future Part II (1989)"),
    ("Batman Begins (2005)", "Dark Knight, The (2008)"),
    ("Bourne Identity, The (2002)", "Bourne Supremacy, The (2004)"),
    ("Die Hard (1988)", "Die Hard 2 (1990)"),
    ("Ghostbusters (a.k.a. Ghost Busters) (1984)", "Ghostbusters II (1989)"),
    ("Godfather, The (1972)", "Godfather: Part II, The (1974)"),
    (
        "Harry Potter and the Sorcerer's Stone "
        "(a.k.a. Harry Potter and the Philosopher's Stone) (2001)",
        "Harry Potter and the Chamber of Secrets (2002)",
    ),
    ("Home Alone (1990)", "Home Alone 2: Lost in New York (1992)"),
    ("Ice Age (2002)", "Ice Age 2: The Meltdown (2006)"),
    ("Iron Man (2008)", "Iron Man 2 (2010)"),
    ("Jurassic Park (1993)", "Lost World: Jurassic Park, The (1997)"),
    ("Kill Bill: Vol. 1 (2003)", "Kill Bill: Vol. 2 (2004)"),
    ("Lethal Weapon (1987)", "Lethal Weapon 2 (1989)"),
    (
        "Lord of the Rings: The Fellowship of the Ring, The (2001)",
        "Lord of the Rings: The Two Towers, The (2002)",
    ),
    ("Matrix, The (1999)", "Matrix Reloaded, The (2003)"),
    (
        "Men in Black (a.k.a. MIB) (1997)",
        "Men in Black II (a.k.a. MIIB) (a.k.a. MIB 2) (2002)",
    ),
    ("Mission: Impossible (1996)", "Mission: Impossible II (2000)"),
    ("Ocean's Eleven (2001)", "Ocean's Twelve (2004)"),
    (
        "Pirates of the Caribbean: The Curse of the Black Pearl (2003)",
        "Pirates of the Caribbean: Dead Man's Chest (2006)",
    ),
    (
        "Raiders of the Lost Ark (Indiana Jones and the Raiders of the Lost Ark) (1981)",
        "Indiana Jones and the Temple of Doom (1984)",
    ),
    ("Shrek (2001)", "Shrek 2 (2004)"),
    ("Spider-Man (2002)", "Spider-Man 2 (2004)"),
    (
        "Star Wars: Episode IV - A New Hope (1977)",
        "Star Wars: Episode V - The Empire Strikes Back (1980)",
    ),
    ("Terminator, The (1984)", "Terminator 2: Judgment Day (1991)"),
    ("The Hunger Games (2012)", "The Hunger Games: Catching Fire (2013)"),
    ("Toy Story (1995)", "Toy Story 2 (1999)"),
    ("X-Men (2000)", "X2: X-Men United (2003)"),
)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"embedding_dim": 64},
    {"popularity_prior": None},
    {"user_id_embedding": True},
    {"hidden_layer_sizes": ()},
    {"history": None},
    {"timestamp_column": "timestamp"},
)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seeds=3)
    parser.add_argument("--recommend", action="store_true")
    options = parser.parse_args()
    if options.data is not None:
        parser.error("--data is of no use here: the films are those of the bundled data.")
    torch.set_num_threads(options.threads)
    films = load_movielens_small()
    inner = slice_of_train(bundled())
    rows = []
    for name, model in models(films.item_table):
        is_random = isinstance(model, TwoTowerRecommender)
        found, scores = [], []
        for seed in range(options.seeds if is_random else 1):
            if is_random:
                model.set_params(random_state=seed)
            found.append(reciprocal_ranks(model.fit(films.interactions), films.item_table))
            if options.recommend:
                scores.append(model.fit(inner.train).score(inner.test))
        there, back = np.mean(found, axis=(0, 2)).tolist()
        row = {"model": name, "mrr there": there, "mrr back": back}
        row["mrr"] = (there + back) / 2
        row["sd of seeds"] = float(np.mean(found, axis=(1, 2)).std())
        if options.recommend:
            row["ndcg@10"] = float(np.mean(scores))
        rows.append(row)
        print(row, flush=True)
    write("sequels", rows, seeds=options.seeds, pairs=PAIRS)


def models(table: pd.DataFrame) -> list[tuple[str, Any]]:
    """Names and models of the rows."""
    known = EntityTable(table.drop(columns="title"), "item_id")
    return [
        ("item-kNN", ItemKNNRecommender(**COLUMNS)),
        ("EASE", EASERecommender(**COLUMNS)),
        *(
            (f"two towers {change or ''}".strip(), TwoTowerRecommender(**COLUMNS, **change))
            for change in CHANGES
        ),
        ("two towers, item table", TwoTowerRecommender(**COLUMNS, item_table=known)),
    ]


def reciprocal_ranks(model: Any, table: pd.DataFrame) -> np.ndarray:
    """Of the second film for the first, and of the first for the second, (2, n_pairs)."""
    ids = table.set_index("title")["item_id"]
    pairs = np.array([[ids[title] for title in pair] for pair in PAIRS])
    found = []
    for asked, wanted in (pairs.T, pairs.T[::-1]):
        ranked, _ = model.similar_items(asked, n_recommendations=len(model.item_ids_))
        ranks = np.argmax(ranked == wanted[:, None], axis=1) + 1
        found.append(1.0 / ranks)
    return np.array(found)


if __name__ == "__main__":
    main()
