"""When X has other item features than training: by value, whatever the dtypes are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sktwotower._serving.evaluation_source import _differ
from tests.helpers import make_model

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


@pytest.mark.parametrize("kind", KINDS)
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
        model.score(other.assign(price=other["price"] * 1.01))
