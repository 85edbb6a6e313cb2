"""When X has other item features than training: by value, whatever the dtypes are."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.model_selection import cross_validate

from sktwotower import load
from sktwotower._serving.evaluation_source import _differ
from tests.helpers import make_model, needs_pandas_3

# Values of one column, and the dtypes in which people have them.
FLOATS = [0.1, 2.5, None, 7.125, 1e-6, -0.3]
WHOLE = [3, 1, None, 2, 0, 120]
TEXTS = ["b", "a", None, "c", "1", "b"]
FLAGS = [True, False, None, True, False, True]
LISTS = [[0.1, 2.0], [], None, [0.3], [1.5, 0.7], [2.0]]
ARROW_FLOATS = pd.ArrowDtype(pa.float32())
KINDS = {
    "floats": (
        FLOATS,
        ["float64", "float32", "float16", "Float64", "Float32", "object", "category"]
        + [ARROW_FLOATS, pd.ArrowDtype(pa.float64()), pd.SparseDtype("float64")],
    ),
    "whole numbers": (
        WHOLE,
        ["float64", "float32", "Float32", "Int64", "Int8", "object", "category"]
        + [ARROW_FLOATS, pd.ArrowDtype(pa.int32())],
    ),
    "texts": (
        TEXTS,
        ["object", "category", "str", "string", pd.ArrowDtype(pa.string())],
    ),
    "flags": (FLAGS, ["object", "boolean", "category", pd.ArrowDtype(pa.bool_())]),
    "times": (
        pd.to_datetime(["2020-01-01 00:00", "2021-05-06 07:08", None]),
        ["datetime64[ns]", "datetime64[s]", "object"],
    ),
    "lists": (LISTS, ["object", pd.ArrowDtype(pa.list_(pa.float32()))]),
}


def columns_of(kind):
    values, dtypes = KINDS[kind]
    columns = [pd.Series(values).astype(dtype) for dtype in dtypes]
    if kind == "lists":
        arrays = [None if v is None else np.asarray(v, dtype=np.float32) for v in values]
        columns += [pd.Series(arrays, dtype=object), columns[0].map(tuple, "ignore")]
    if kind == "floats":  # as DataFrame.to_numpy gives them
        columns.append(columns[1].astype(object))
    return columns


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=needs_pandas_3) if k == "texts" else k for k in KINDS]
)
def test_the_same_values_in_two_dtypes(kind):
    columns = columns_of(kind)
    for known in columns:
        for given in columns:
            assert not _differ(given, known).any(), (given.dtype, known.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_other_values_in_two_dtypes(kind):
    columns = columns_of(kind)
    order = np.roll(np.arange(len(columns[0])), 1)
    expected = _differ(columns[0][order].reset_index(drop=True), columns[0])
    assert (
        expected.sum() >= len(order) - 1
    )  # all texts and numbers but 0 and 1, "b" and "b"
    for known in columns:
        for given in columns:
            rolled = given.iloc[order].reset_index(drop=True)
            assert (_differ(rolled, known) == expected).all(), (given.dtype, known.dtype)


def test_numbers_that_differ_little():
    """Integers are exact, and floats as exact as the coarser type."""
    ids = pd.Series([123456789, 2**60])
    assert _differ(ids + 1, ids).all()
    assert _differ(pd.Series([0.1]), pd.Series([0.1 + 1e-9])).all()
    assert not _differ(pd.Series([0.1]), pd.Series([0.1 + 1e-9], dtype="float32")).any()
    assert _differ(pd.Series([0.1]), pd.Series([0.1001], dtype="float32")).all()
    assert _differ(pd.Series(["1"]), pd.Series([1])).all()


def test_a_score_of_rows_in_another_dtype():
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"user": rng.randint(0, 12, 90), "item": rng.randint(0, 9, 90)})
    X["price"] = (X["item"] + 1) / 7
    X["kind"] = X["item"].map(lambda item: "ab"[item % 2])
    names = {"user_column": "user", "item_column": "item"}
    model = make_model(**names, item_features=["price", "kind"]).fit(X)
    other = X.astype({"price": "float32", "kind": "category"})
    assert model.score(other) == model.score(X)
    with pytest.warns(UserWarning, match=r"other values of the item features \['price'\]"):
        model.score(other.assign(price=other["price"].to_numpy()[::-1]))


def drifting(n=400):
    """Rows whose price and offer change by the row, and whose kind is the item's."""
    rng = np.random.RandomState(0)
    rows = pd.DataFrame({"user": rng.randint(0, 20, n), "item": rng.randint(0, 12, n)})
    rows["time"] = np.arange(n)
    rows["price"] = rows["time"] // 4.0
    rows["offer"] = rng.choice(["yes", "no"], n)
    rows["kind"] = "k" + (rows["item"] % 4).astype(str)
    return rows


NAMES = {"user_column": "user", "item_column": "item", "timestamp_column": "time"}


@pytest.mark.parametrize("feature", ["price", "offer"])
def test_features_that_change_from_row_to_row(feature, tmp_path):
    rows = drifting()
    model = make_model(**NAMES, item_features=[feature, "kind"]).fit(rows)
    assert model._state.item.entities.varying == (feature,)
    model.score(rows)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    shuffled = rows.assign(**{feature: rows[feature].to_numpy()[::-1]})
    assert loaded.score(shuffled) == model.score(rows)
    other = rows.assign(kind=rows["kind"].to_numpy()[::-1])
    with pytest.warns(UserWarning, match=r"other values of the item features \['kind'\]"):
        loaded.score(other)
    cross_validate(model, rows, cv=2, error_score="raise", scoring=silent_score)


def silent_score(model, X):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* were seen in training")
        return model.score(X)


def test_new_values_are_no_shuffle():
    rows = drifting().assign(price=lambda rows: rows["item"] / 7)
    model = make_model(**NAMES, item_features=["price"]).fit(rows)
    assert model._state.item.entities.varying == ()
    assert model.score(rows.assign(price=rows["price"] * 1.01)) == model.score(rows)


def test_a_value_that_a_later_training_changes():
    rows = drifting().assign(price=lambda rows: rows["item"] * 1.0)
    model = make_model(**NAMES, item_features=["price", "kind"]).fit(rows)
    later = rows.assign(time=rows["time"] + 1000)
    model.partial_fit(later)
    assert model._state.item.entities.varying == ()
    model.partial_fit(later.assign(price=rows["price"] + 1))
    assert model._state.item.entities.varying == ("price",)
    model.partial_fit(later)
    model.score(rows)
    assert model._state.item.entities.varying == ("price",)
    assert model._state.user.entities.varying == ()
