"""The bundled purchases: counts of the source, types, order and licence."""

import socket
from importlib import resources

import numpy as np
import pandas as pd
import pytest

from sktwotower.datasets import load_online_retail


@pytest.fixture(scope="module")
def data():
    return load_online_retail()


def test_counts(data):
    rows = data.interactions
    assert rows.shape == (393_612, 4)
    assert data.item_table.shape == (4_006, 3)
    assert data.user_table.shape == (4_285, 2)
    assert rows["customer_id"].nunique() == 4_285
    assert rows["item_id"].nunique() == 4_006
    assert rows["time"].nunique() == 17_809
    assert rows["time"].iloc[0] == pd.Timestamp("2009-12-01 07:45")
    assert rows["time"].iloc[-1] == pd.Timestamp("2010-12-09 20:01")
    assert rows["quantity"].agg(["min", "max", "sum"]).tolist() == [1, 19_152, 5_533_071]
    assert rows["item_id"].value_counts().head(1).to_dict() == {"85123A": 3_021}
    assert rows.duplicated(["customer_id", "item_id"]).sum() == 119_772  # 30 %


def test_a_row_is_a_customer_an_article_and_a_minute_in_order_of_time(data):
    key = data.interactions[["time", "customer_id", "item_id"]]
    assert not key.duplicated().any()
    assert key.sort_values(list(key)).index.equals(data.interactions.index)
    assert (data.interactions["time"].dt.second == 0).all()


def test_types_and_column_names(data):
    text = pd.Series(["a"]).dtype
    assert data.interactions.dtypes.to_dict() == {
        "customer_id": np.int64,
        "item_id": text,
        "time": np.dtype("datetime64[s]"),
        "quantity": np.int64,
    }
    assert data.item_table.dtypes.to_dict() == {
        "item_id": text,
        "title": text,
        "price": np.float64,
    }
    assert data.user_table.dtypes.to_dict() == {"customer_id": np.int64, "country": text}
    assert data.interaction_columns == list(data.interactions)
    assert data.item_columns == list(data.item_table)
    assert data.user_columns == list(data.user_table)
    for table in (data.interactions, data.item_table, data.user_table):
        assert not table.isna().any(axis=None)


def test_first_rows(data):
    time = pd.Timestamp("2009-12-01 07:45")
    assert data.interactions.iloc[0].tolist() == [13085, "21232", time, 24]
    assert data.item_table.iloc[0].tolist() == ["10002", "INFLATABLE POLITICAL GLOBE", 0.85]
    assert data.user_table.iloc[1].tolist() == [12347, "Iceland"]
    assert data.user_table["country"].eq("United Kingdom").sum() == 3_953


def test_the_tables_are_those_of_the_interactions(data):
    for name, table in (("item_id", data.item_table), ("customer_id", data.user_table)):
        assert table[name].is_unique
        assert set(table[name]) == set(data.interactions[name])


def test_arrays(data):
    arrays = load_online_retail(as_frame=False)
    assert arrays.interactions.shape == data.interactions.shape
    assert arrays.interactions[0].tolist() == [13085, "21232", 1259653500, 24]
    assert arrays.item_table[0].tolist() == data.item_table.iloc[0].tolist()
    assert arrays.user_table[1].tolist() == [12347, "Iceland"]
    names = ("interaction_columns", "item_columns", "user_columns", "DESCR")
    assert all(arrays[name] == data[name] for name in names)


def test_licence_travels_with_the_data(data):
    folder = resources.files("sktwotower.datasets") / "data" / "online-retail"
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    assert "Daqing Chen (2019)" in readme
    assert "https://doi.org/10.24432/C5CG6D" in readme
    assert "https://creativecommons.org/licenses/by/4.0/" in readme
    assert "Changes\n-------" in readme
    assert data.DESCR.endswith(readme)
    assert data.DESCR.splitlines()[1] == "Licensed under CC BY 4.0."


def test_no_network_and_fresh_tables(data, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    other = load_online_retail()
    pd.testing.assert_frame_equal(other.interactions, data.interactions)
    other.interactions.loc[0, "quantity"] = 0
    assert load_online_retail().interactions.loc[0, "quantity"] == 24
