"""The data sets of the suite: rows to learn from and to find, and what else a user has.

``load(name, shared)`` returns a record for each fold of a data set; most have one fold.
``slice_of_train(record)`` cuts the train rows of a record once more, in the way that train
and test were cut, for choices that must not see the test rows:

    from benchmarks.suite.data import load, slice_of_train
    record, = load("ml-100k", Path("../shared"))
    part = slice_of_train(record)
    model = TwoTowerRecommender(**part.given()).fit(part.train)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils import shuffle

from sktwotower import EntityTable
from sktwotower.datasets import (
    load_movielens_small,
    load_online_retail,
    make_interactions,
)
from sktwotower.model_selection import InteractionKFold, LastInteractionsSplit
from sktwotower.preprocessing import FeatureEncoder

Cut = Callable[[pd.DataFrame], tuple[pd.DataFrame, ...]]


@dataclass(frozen=True, eq=False)
class DataSet:
    """One fold of a data set.

    Attributes
    ----------
    name : str
    train, test : DataFrame
        Interactions. All rows are positives.
    cut : callable
        Cuts rows in two, as train and test were cut.
    user_column, item_column : str
    timestamp_column : str or None
        None where time does not say what is held out.
    user_table, item_table : EntityTable or None
    item_encoder : transformer or None
        None: the default.
    metric : str
        The one that models are compared by.
    exclude_seen : bool
        Whether a user's train items leave the ranking.
    counts_unknown : bool
        Whether a test item that cannot be recommended counts as not found. If not, it is
        dropped, and so is a user without another one.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    cut: Cut
    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str | None = None
    user_table: EntityTable | None = None
    item_table: EntityTable | None = None
    item_encoder: BaseEstimator | None = None
    metric: str = "ndcg@10"
    exclude_seen: bool = True
    counts_unknown: bool = False

    @property
    def ids(self) -> dict[str, str]:
        """The parameters of a model that has ids alone."""
        return {"user_column": self.user_column, "item_column": self.item_column}

    @property
    def has_ids_only(self) -> bool:
        """Whether there is nothing else to give."""
        return len(self.given()) == len(self.ids)

    def given(self) -> dict[str, Any]:
        """The parameters of a two-tower model that has all that the data has."""
        others = ("timestamp_column", "user_table", "item_table", "item_encoder")
        values = {name: getattr(self, name) for name in others}
        return self.ids | {k: value for k, value in values.items() if value is not None}


def load(name: str, shared: Path) -> tuple[DataSet, ...]:
    """The folds of a data set; ``shared`` is the folder with the folder ``data``."""
    return DATA_SETS[name](name, shared / "data")


def slice_of_train(record: DataSet) -> DataSet:
    """The train rows of a record, cut once more."""
    train, test = record.cut(record.train)
    return replace(record, train=train, test=test)


def last_fifth(time: str, user: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """The last 20 % of each user's rows in time are test."""
    return _last(rows, user_column=user, timestamp_column=time, fraction=0.2)


def last_item(time: str, user: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """The last row of each user is test."""
    return _last(rows, user_column=user, timestamp_column=time, n_last=1)


def random_fifth(user: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """A random 20 % of each user's rows is test."""
    return _last(shuffle(rows, random_state=0), user_column=user, fraction=0.2)


def random_fifth_of_some(n: int, user: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """A random 20 % of the rows of ``n`` random users is test."""
    users = rows[user].unique()
    chosen = np.random.default_rng(0).choice(users, size=n, replace=False)
    is_chosen = rows[user].isin(chosen)
    train, test = random_fifth(user, rows[is_chosen])
    return pd.concat([rows[~is_chosen], train]), test


def last_days(n: int, time: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """The last ``n`` days of the data are test."""
    is_last = rows[time] > rows[time].max() - pd.Timedelta(days=n)
    return rows[~is_last], rows[is_last]


def random_fold(rows: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """A random quarter of the rows is test."""
    train, test = next(InteractionKFold(4, random_state=0).split(rows))
    return rows.iloc[train], rows.iloc[test]


def _last(rows: pd.DataFrame, **parameters: Any) -> tuple[pd.DataFrame, ...]:
    train, test = next(LastInteractionsSplit(**parameters).split(rows))
    return rows.iloc[train], rows.iloc[test]


def movielens_100k(name: str, data: Path) -> tuple[DataSet, ...]:
    """MovieLens 100k, by time, with what users and films are described by."""
    items = pd.read_parquet(data / "ml-100k/items.parquet")
    items["release_date"] = pd.to_datetime(items["release_date"], format="%d-%b-%Y")
    users = pd.read_parquet(data / "ml-100k/users.parquet")
    record = DataSet(
        name,
        pd.read_parquet(data / "ml-100k/train.parquet"),
        pd.read_parquet(data / "ml-100k/test.parquet"),
        partial(last_fifth, "timestamp", "user_id"),
        timestamp_column="timestamp",
        user_table=EntityTable(users, "user_id", features=["age", "gender", "occupation"]),
        item_table=EntityTable(items, "item_id", features=["genres", "release_date"]),
    )
    return (record,)


def movielens_100k_at_random(name: str, data: Path) -> tuple[DataSet, ...]:
    """The same, a random fifth of each user's rows held out."""
    (record,) = movielens_100k(name, data)
    rows = pd.concat([record.train, record.test])
    cut = partial(random_fifth, "user_id")
    train, test = cut(rows)
    return (replace(record, train=train, test=test, cut=cut, timestamp_column=None),)


def movielens_1m(name: str, data: Path) -> tuple[DataSet, ...]:
    """MovieLens 1M, at random: this copy has no timestamps."""
    items = pd.read_parquet(data / "ml-1m/items.parquet")
    users = pd.read_parquet(data / "ml-1m/users.parquet")
    features = ["gender", "age_bucket", "occupation"]
    record = DataSet(
        name,
        pd.read_parquet(data / "ml-1m/train.parquet", columns=["user_id", "item_id"]),
        pd.read_parquet(data / "ml-1m/test.parquet", columns=["user_id", "item_id"]),
        partial(random_fifth, "user_id"),
        user_table=EntityTable(users, "user_id", features=features),
        item_table=EntityTable(items, "item_id", features=["genres"]),
    )
    return (record,)


def movielens_small(name: str, data: Path) -> tuple[DataSet, ...]:
    """The bundled films, by time, with the features of the README."""
    films = load_movielens_small()
    cut = partial(last_fifth, "timestamp", "user_id")
    record = DataSet(
        name,
        *cut(films.interactions),
        cut,
        timestamp_column="timestamp",
        item_table=EntityTable(films.item_table, "item_id", features=["genres", "year"]),
    )
    return (record,)


def gowalla(name: str, data: Path) -> tuple[DataSet, ...]:
    """Check-ins: ids alone, and the metric that others have published."""
    record = DataSet(
        name,
        pd.read_parquet(data / "gowalla/train.parquet"),
        pd.read_parquet(data / "gowalla/test.parquet"),
        partial(random_fifth, "user_id"),
        metric="recall@20",
    )
    return (record,)


def retail_first(name: str, data: Path) -> tuple[DataSet, ...]:
    """What customers of a gift shop buy for the first time, by time."""
    rows = load_online_retail().interactions.sort_values("time", kind="stable")
    rows = rows.drop_duplicates(["customer_id", "item_id"])
    return (_retail(name, rows, partial(last_fifth, "time", "customer_id")),)


def retail_repeats(name: str, data: Path) -> tuple[DataSet, ...]:
    """All that they buy in the last 28 days, again or for the first time."""
    rows = load_online_retail().interactions
    record = _retail(name, rows, partial(last_days, 28, "time"))
    return (replace(record, exclude_seen=False),)


def _retail(name: str, rows: pd.DataFrame, cut: Cut) -> DataSet:
    shop = load_online_retail()
    texts = ColumnTransformer(
        [("title", TfidfVectorizer(), "title")], remainder=FeatureEncoder()
    )
    return DataSet(
        name,
        *cut(rows),
        cut,
        user_column="customer_id",
        timestamp_column="time",
        user_table=EntityTable(shop.user_table, "customer_id"),
        item_table=EntityTable(shop.item_table, "item_id"),
        item_encoder=texts,
    )


def sequences(name: str, data: Path) -> tuple[DataSet, ...]:
    """Reviews in order; the last item of each user is test, the one before valid."""
    folder = data / "sequences" / name
    items = pd.read_parquet(folder / "items.parquet")
    record = DataSet(
        name,
        *ordered_rows(folder),
        partial(last_item, "position", "user_id"),  # of train and valid this is valid
        timestamp_column="position",
        item_table=EntityTable(items, "item_id"),
        counts_unknown=True,
    )
    return (record,)


def ordered_rows(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to learn from, which are train and valid, and those of test."""
    train, valid, test = (
        pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "valid", "test")
    )
    return pd.concat([train, valid], ignore_index=True), test


def few_rows(name: str, data: Path) -> tuple[DataSet, ...]:
    """820 pairs of 63 users in three groups, each of which likes a third of the items."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 188) ** 0.8
    groups = rng.integers(0, 3, 63)
    of_groups = [popularity * np.where(np.arange(187) % 3 == k, 6, 1) for k in range(3)]
    users = rng.integers(0, 63, 1026)
    weights = [of_groups[groups[user]] for user in users]
    items = [rng.choice(187, p=weight / weight.sum()) for weight in weights]
    rows = pd.DataFrame({"user_id": users, "item_id": items}).drop_duplicates()
    return tuple(
        DataSet(name, rows.iloc[train], rows.iloc[test], random_fold)
        for train, test in InteractionKFold(4, random_state=0).split(rows)
    )


def made(name: str, data: Path) -> tuple[DataSet, ...]:
    """Two million generated rows of 100,000 users and 200,000 items.

    The generator puts the rows of a user in a random order, so that time says nothing.
    """
    drawn = make_interactions(100_000, 200_000, 2_000_000, random_state=0)
    cut = partial(random_fifth_of_some, 10_000, "user_id")
    record = DataSet(
        name,
        *cut(drawn.interactions[["user_id", "item_id"]]),
        cut,
        user_table=EntityTable(drawn.user_table, "user_id"),
        item_table=EntityTable(drawn.item_table, "item_id"),
    )
    return (record,)


DATA_SETS: dict[str, Callable[[str, Path], tuple[DataSet, ...]]] = {
    "ml-100k": movielens_100k,
    "ml-100k-random": movielens_100k_at_random,
    "ml-1m": movielens_1m,
    "ml-latest-small": movielens_small,
    "gowalla": gowalla,
    "retail-first": retail_first,
    "retail-repeats": retail_repeats,
    "beauty": sequences,
    "toys": sequences,
    "few-rows": few_rows,
    "made-2m": made,
}
