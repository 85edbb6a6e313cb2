"""Warnings of columns whose values a tower cannot tell apart."""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktwotower.datasets import load_movielens_small, make_interactions
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder

TITLES = ["red shoe", "blue shoe", "red hat", "green hat"]


def frame(values):
    return pd.DataFrame({"c": pd.Series(list(values), dtype=object)})


def messages(X, encoder=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(encoder or FeatureEncoder()).fit(X)
    return [str(warning.message) for warning in caught]


def tail(n_frequent, n_rare):
    """Values of which ``n_rare`` occur once, and two others ``n_frequent`` times each."""
    return ["a", "b"] * n_frequent + [f"rare {i}" for i in range(n_rare)]


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (TITLES, "4 different values, of which 4 are rare .*TfidfVectorizer"),
        (pd.Categorical(TITLES), "TfidfVectorizer"),
        (["2020-01-03", "2020-02-04", "2021-03-05"], "pandas.to_datetime"),
        (["3/1/2020", "4/2/2020", "5/3/2021"], "pandas.to_datetime"),
        (["2020-01-03T10:00:00", "2020-02-04"] * 5, "astype..category"),
        (["1.5", "2.5", "3"], "pandas.to_numeric"),
        ([["x", "y"], ["z"], ["v", "w"]], "lists of floats"),
        ([datetime.time(i) for i in range(4)], "min_frequency=1"),
        (tail(10, 15), "15 are rare"),
        ([["a", name] for name in "uvwxyz"], "6 are rare"),
        (["a,b", "a", "b,a", "c"], "separator=','"),
        (["x; y", "y", "x"], "separator=';'"),
        (["['a', 'b']", "['a']", "[]"], "ast.literal_eval"),
        (['["a", "b"]', '["a"]'], "json.loads"),
        (["(1, 2)", "(3, 4)"], "ast.literal_eval"),
        ([*(f"['a', 'b{i}']" for i in range(19)), ""], "ast.literal_eval"),
        (["[0.1 0.2]", "[0.3 0.4]"], "written as text"),
        (["[rock]", "[rock, pop]", "[]"], r"such as '\[rock, pop\]'"),
        (["{rock}", "{rock,pop}"], "written as text"),
        ([["a", "b"], ["b", "a"]], "encoded alike"),
        ([1.0, 2.0, 3.0, 1e30], "QuantileTransformer"),
        ([2**60, 2**60 + 1, 2**60 + 2, 2**60 + 3], "astype"),
        ([1e-300, 2e-300], "only 1"),
        ([[1e300, 1.0], [1e200, 1.0]], "encoded alike"),
        (["a", "b"], "min_frequency=1"),
    ],
)
def test_one_warning_names_the_column_and_what_to_do(values, advice):
    X = pd.DataFrame({"c": values, "number": np.arange(len(values)) % 3})
    (message,) = messages(X)
    assert message.startswith("Column 'c' ")
    with pytest.warns(UserWarning, match=advice):
        FeatureEncoder().fit(X)


@pytest.mark.parametrize(
    "values",
    [
        ["a"] * 5,  # constant
        [None, "a", None, "a", "a"],
        tail(10, 1),
        tail(40, 20),  # most categories are rare, but few values
        ["a", "b"] * 10,
        ["a", "a", "b", "b", "c"],
        [f"City {i}, State {i % 7}" for i in range(80)] * 2,
        ["a|b", "a", "b,a", "b|a"],
        pd.Categorical(["2020-01-03", "2020-02-04"] * 2),
        ["1.2.3", "1.2.3", "10.0.1", "10.0.1"],  # versions
        ["(none)", "a", "(none)", "a"],
        ["(none)"] * 4,
        ["[new]", "[used]"] * 2,
        ["(a)", "(b)"] * 2,
        ["(a, b)", "(c)"] * 2,
        ["(1)", "(2)"] * 2,
        ["{a}", "[]"] * 2,
        pd.cut(range(40), 4).astype(str),
        [1, 2, 3, 4],
        [1.0, 1.0, 1.0],
        [5.0, None, None],
        [None, None],
        [1900 + i for i in range(100)],
        pd.date_range("2020", periods=50, freq="s"),
        [[0.5, 1.0], [0.5, 1.0]],
        [["a", "b"], ["a", "b"]],
        [["a"], [], ["a"]],
        [True, False, False, False],
        np.r_[np.zeros(999), 1.0],
    ],
)
def test_no_warning_of_columns_that_are_told_apart(values):
    assert messages(pd.DataFrame({"c": pd.Series(values)})) == []


def test_one_warning_for_each_column():
    X = pd.DataFrame({"title": TITLES, "name": list("abcd"), "price": [1, 2, 3, 4]})
    title, name = messages(X)
    assert "'title'" in title and "'name'" in name
    assert len(messages(X, MultiHotEncoder())) == 3  # each price is a rare value


def test_what_the_caller_asks_for_is_not_warned_of():
    X = frame(tail(2, 30))
    assert messages(X, FeatureEncoder(min_frequency=1)) == []
    assert messages(X, FeatureEncoder(max_categories=3)) == []
    assert len(messages(X, FeatureEncoder(max_categories=1))) == 1
    assert messages(frame(["a,b", "a", "b"]), FeatureEncoder(separator=",")) == []
    whole = FeatureEncoder(separator=None, min_frequency=1)
    assert messages(frame(["a,b", "a", "b"]), whole) == []


def test_flags_in_a_multi_hot_encoder():
    (message,) = messages(frame([[1, 0, 1], [0, 0, 1], [1, 1, 0]]), MultiHotEncoder())
    assert "to a FeatureEncoder" in message


@pytest.mark.parametrize(
    "name", ["id", "genre_id", "genreId", "ZIP", "zip_code", "Brand Code", "postcode"]
)
def test_integers_that_are_called_codes(name):
    X = pd.DataFrame({name: [12, 13, 12, 14]})
    (message,) = messages(X)
    assert repr(name) in message and "astype(str)" in message
    assert messages(X.astype(str).replace("14", "13")) == []
    assert messages(X / 5) == []  # no codes


@pytest.mark.parametrize("name", ["age", "year", "n_ids_seen", "width", "paid", "number"])
def test_other_integers_are_numbers(name):
    assert messages(pd.DataFrame({name: [12, 13, 12, 14]})) == []


def test_no_flood_in_partial_fit():
    encoder = FeatureEncoder()
    with pytest.warns(UserWarning, match="share one column") as caught:
        encoder.partial_fit(frame(TITLES))
    assert len(caught) == 1
    encoder.partial_fit(frame(["more", "titles"]))  # a warning would be an error
    encoder.transform(frame(["others"]))


def test_the_data_of_the_package_are_told_apart():
    for data in (load_movielens_small(), make_interactions(random_state=0)):
        for table in (data.user_table, data.item_table):
            if table is not None:
                messages_ = messages(table.iloc[:, 1:])
                assert [m for m in messages_ if "'title'" not in m] == []
