"""The bundled ratings: known facts of the published set, types and licence."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest

from sktwotower.datasets import load_movielens_small


@pytest.fixture(scope="module")
def data():
    return load_movielens_small()


def test_published_counts(data):
    # The counts that the README of the set states.
    assert data.interactions.shape == (100_836, 4)
    assert data.item_table.shape == (9_742, 4)
    assert data.tags.shape == (3_683, 4)
    assert data.interactions["user_id"].nunique() == 610
    assert data.interactions["user_id"].value_counts().min() >= 20
    assert data.interactions["timestamp"].min() == pd.Timestamp("1996-03-29 18:36:55")
    assert data.interactions["timestamp"].max() == pd.Timestamp("2018-09-24 14:27:30")
    assert set(data.interactions["rating"]) == set(np.arange(0.5, 5.5, 0.5))


def test_keys_and_column_names(data):
    assert (
        data.interaction_columns
        == list(data.interactions)
        == ["user_id", "item_id", "rating", "timestamp"]
    )
    assert (
        data.item_columns == list(data.item_table) == ["item_id", "title", "year", "genres"]
    )
    assert data.tag_columns == list(data.tags) == ["user_id", "item_id", "tag", "timestamp"]
    assert data.user_table is data.user_columns is None


def test_types(data):
    assert data.interactions.dtypes.astype(str).to_dict() == {
        "user_id": "int64",
        "item_id": "int64",
        "rating": "float64",
        "timestamp": "datetime64[s]",
    }
    assert data.item_table["item_id"].dtype == np.int64
    assert data.item_table["year"].dtype == pd.Int64Dtype()
    assert data.tags["timestamp"].dtype == "datetime64[s]"
    assert not data.item_table.drop(columns="year").isna().any(axis=None)
    assert not data.tags.isna().any(axis=None)


def test_first_rows(data):
    first = data.interactions.iloc[0]
    assert first.tolist() == [1, 1, 4.0, pd.Timestamp(964982703, unit="s")]
    assert data.item_table.iloc[0].tolist() == [
        1,
        "Toy Story (1995)",
        1995,
        "Adventure|Animation|Children|Comedy|Fantasy",
    ]


@pytest.mark.parametrize(
    "item_id, year",
    [
        (58404, 2008),  # a blank behind the year
        (171749, 2006),  # a series, "(2006–2007)"
        (104017, 1973),  # "3 dev adam (Three Giant Men) (1973) "
        (69757, 2009),  # "(500) Days of Summer (2009)"
    ],
)
def test_year_of_title(data, item_id, year):
    assert data.item_table.set_index("item_id").loc[item_id, "year"] == year


def test_missing_year_and_missing_genres(data):
    items = data.item_table.set_index("item_id")
    assert items["year"].isna().sum() == 12
    assert items.loc[40697, "title"] == "Babylon 5"
    assert pd.isna(items.loc[40697, "year"])
    assert (items["genres"] == "").sum() == 34
    assert not items["genres"].str.contains("no genres").any()


def test_every_interaction_has_its_item(data):
    assert data.interactions["item_id"].isin(data.item_table["item_id"]).all()
    assert data.tags["item_id"].isin(data.item_table["item_id"]).all()
    assert not data.interactions.duplicated(["user_id", "item_id"]).any()
    assert data.item_table["item_id"].is_unique
    assert len(set(data.item_table["item_id"]) - set(data.interactions["item_id"])) == 18


def test_licence_travels_with_the_data(data):
    folder = resources.files("sktwotower.datasets") / "data" / "ml-latest-small"
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    assert "may redistribute the data set" in readme
    assert "commercial or revenue-bearing purposes" in readme
    assert "https://doi.org/10.1145/2827872" in readme
    assert data.DESCR.endswith(readme)
    assert "non-commercial" in data.DESCR.splitlines()[1]
    assert "10.1145/2827872" in load_movielens_small.__doc__


def test_arrays(data):
    arrays = load_movielens_small(as_frame=False)
    assert arrays.interactions.dtype == np.float64
    assert arrays.interactions.shape == (100_836, 4)
    assert arrays.interactions[0].tolist() == [1, 1, 4.0, 964982703]
    assert arrays.item_table.dtype == object
    assert arrays.item_table[0, 1] == "Toy Story (1995)"
    missing = arrays.item_table[data.item_table["year"].isna().to_numpy(), 2]
    assert missing.tolist() == [None] * 12
    assert arrays.tags[0].tolist() == [2, 60756, "funny", 1445714994]
    assert arrays.user_table is None
    for key in (
        "interaction_columns",
        "item_columns",
        "user_columns",
        "tag_columns",
        "DESCR",
    ):
        assert arrays[key] == data[key]


def test_each_call_returns_fresh_tables(data):
    other = load_movielens_small()
    other.interactions.loc[0, "rating"] = 0.5
    assert load_movielens_small().interactions.loc[0, "rating"] == 4.0
