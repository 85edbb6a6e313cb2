"""train_test_split_interactions: the same rows as the splitters."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower.model_selection import (
    ColdItemSplit,
    GlobalTimeSplit,
    LastInteractionsSplit,
    train_test_split_interactions,
)

rng = np.random.default_rng(0)
X = pd.DataFrame({"user": rng.integers(0, 8, 60), "item": rng.integers(0, 20, 60)})
X["time"] = rng.integers(0, 30, 60)
X = X.set_axis(np.arange(60) + 100)
y = rng.integers(0, 2, 60)


@pytest.mark.parametrize(
    ("parameters", "cv"),
    [
        ({}, LastInteractionsSplit(fraction=0.2)),
        ({"test_size": 3}, LastInteractionsSplit(n_last=3)),
        (
            {"timestamp_column": "time", "user_column": "user"},
            LastInteractionsSplit(fraction=0.2, timestamp_column=2),
        ),
        (
            {"method": "time", "timestamp_column": "time"},
            GlobalTimeSplit(1, test_size=0.2, timestamp_column="time"),
        ),
        (
            {"method": "time", "timestamp_column": "time", "test_size": 7},
            GlobalTimeSplit(1, test_size=7, timestamp_column="time"),
        ),
        (
            {"method": ColdItemSplit(3, random_state=0)},
            ColdItemSplit(3, random_state=0),
        ),
    ],
)
def test_as_the_splitters(parameters, cv):
    train, test = next(cv.split(X))
    parts = train_test_split_interactions(X, y, **parameters)
    pd.testing.assert_frame_equal(parts[0], X.iloc[train])
    pd.testing.assert_frame_equal(parts[1], X.iloc[test])
    np.testing.assert_array_equal(parts[2], y[train])
    np.testing.assert_array_equal(parts[3], y[test])
    assert len(train_test_split_interactions(X, **parameters)) == 2


@settings(max_examples=50)
@given(
    users=st.lists(st.sampled_from("abcd"), max_size=25),
    test_size=st.one_of(st.integers(1, 4), st.floats(0.05, 0.99)),
    seed=st.integers(0, 2**32 - 1),
)
def test_per_user(users, test_size, seed):
    """Random rows, as many of each user as with `last`."""
    frame = pd.DataFrame({"user": users + ["z"] * 21, "item": 1})
    parameters = {"method": "per_user", "test_size": test_size, "random_state": seed}
    train, test = train_test_split_interactions(frame, **parameters)
    assert sorted([*train.index, *test.index]) == list(range(len(frame)))
    assert train.index.is_monotonic_increasing
    assert test.index.is_monotonic_increasing
    last = train_test_split_interactions(frame, test_size=test_size)[1]
    assert test["user"].value_counts().to_dict() == last["user"].value_counts().to_dict()
    again = train_test_split_interactions(frame, **parameters)[1]
    pd.testing.assert_frame_equal(test, again)


def test_random():
    train, test = train_test_split_interactions(X, method="random", random_state=0)
    assert (len(train), len(test)) == (48, 12)
    assert sorted([*train.index, *test.index]) == X.index.tolist()
    assert test.index.is_monotonic_increasing
    for method in ("random", "per_user"):
        one, other = (
            train_test_split_interactions(X, method=method, random_state=seed)[1]
            for seed in (0, 1)
        )
        assert one.index.tolist() != other.index.tolist()


def test_a_duration():
    frame = X.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(X["time"], "D"))
    train, test = train_test_split_interactions(
        frame, method="time", test_size=dt.timedelta(days=5), timestamp_column="time"
    )
    assert test["time"].min() >= frame["time"].max() - dt.timedelta(days=5)
    assert train["time"].max() < frame["time"].max() - dt.timedelta(days=5)


def test_drop_unknown():
    """The option filter_unknown of LibRecommender."""
    parameters = {"method": "time", "timestamp_column": "time", "test_size": 20}
    odd = pd.concat([X, pd.DataFrame({"user": [99, 1], "item": [1, 99], "time": 99})])
    train, test, _, y_test = train_test_split_interactions(odd, odd["item"], **parameters)
    kept = train_test_split_interactions(odd, odd["item"], drop_unknown=True, **parameters)
    expected = test["user"].isin(train["user"]) & test["item"].isin(train["item"])
    assert not expected[-2:].any()
    pd.testing.assert_frame_equal(kept[0], train)
    pd.testing.assert_frame_equal(kept[1], test[expected.to_numpy()])
    pd.testing.assert_series_equal(kept[3], y_test[expected.to_numpy()])


def test_three_parts_in_two_lines():
    """The split multi_ratios=[0.8, 0.1, 0.1] of LibRecommender."""
    rest, test = train_test_split_interactions(X, method="random", test_size=6)
    train, validation = train_test_split_interactions(rest, method="random", test_size=6)
    assert (len(train), len(validation), len(test)) == (48, 6, 6)
    assert sorted([*train.index, *validation.index, *test.index]) == X.index.tolist()


def test_other_forms():
    train, test = train_test_split_interactions(X, test_size=1)
    array = train_test_split_interactions(X.to_numpy(), test_size=1)
    np.testing.assert_array_equal(array[1], test)
    rows = train_test_split_interactions(X.to_numpy().tolist(), list(y), test_size=1)
    assert rows[1] == test.to_numpy().tolist()
    assert rows[2] == y[~X.index.isin(test.index)].tolist()
    table = pa.Table.from_pandas(X, preserve_index=False)
    found = train_test_split_interactions(table, test_size=1, timestamp_column="time")
    expected = train_test_split_interactions(X, test_size=1, timestamp_column="time")
    pd.testing.assert_frame_equal(found[1].to_pandas(), expected[1].reset_index(drop=True))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"method": "first"}, ValueError, r"method='first' must be one of \['last', 'per"),
        ({"method": "time"}, ValueError, "method='time' needs timestamp_column"),
        ({"test_size": 1.5}, ValueError, "test_size=1.5 must be between 0 and 1"),
        ({"test_size": 0}, ValueError, "test_size=0 must be at least 1"),
        ({"test_size": "few"}, TypeError, "test_size='few' is not a number"),
        ({"test_size": 0.01}, ValueError, "test part would be empty"),
        (
            {"test_size": 0.01, "method": "per_user"},
            ValueError,
            "would be empty: test_size=0.01 of no user's rows is a row",
        ),
        (
            {"method": "time", "timestamp_column": "when"},
            ValueError,
            "timestamp_column='when' is not a column of X; the columns are",
        ),
        (
            {"method": "last", "timestamp_column": "when"},
            ValueError,
            "timestamp_column='when' is not a column of X; the columns are",
        ),
        ({"user_column": "who"}, ValueError, "user_column='who' is not a column of X"),
        (
            {"item_column": "what", "drop_unknown": True},
            ValueError,
            "item_column='what' is not a column of X",
        ),
    ],
)
def test_bad_input(parameters, error, message):
    with pytest.raises(error, match=message):
        train_test_split_interactions(X, **parameters)


@pytest.mark.parametrize("method", ["last", "time"])
def test_a_missing_time(method):
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(X["time"], "D")
    frame = X.assign(time=days.where(np.arange(60) != 7))
    message = (
        r"1 row with a missing timestamp in column 'time' \(NaN or NaT\) \(first at row 7"
    )
    with pytest.raises(ValueError, match=message):
        train_test_split_interactions(frame, method=method, timestamp_column="time")
    # Other methods do not read the timestamps.
    assert len(train_test_split_interactions(frame, method="random", random_state=0)) == 2


def test_y_of_another_length():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        train_test_split_interactions(X, y[:5])
