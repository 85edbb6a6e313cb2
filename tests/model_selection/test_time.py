"""GlobalTimeSplit: no row of train is later than a row of test."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit, cross_validate

from sktwotower.baselines import PopularRecommender
from sktwotower.model_selection import GlobalTimeSplit

DAYS = pd.to_datetime(["2024-01-05", "2024-01-01", "2024-01-09", "2024-01-03"])
FRAME = pd.DataFrame({"user": list("abab"), "item": list("xxyy"), "timestamp": DAYS})


def split(X, *args, **parameters):
    return [
        (train.tolist(), test.tolist())
        for train, test in GlobalTimeSplit(*args, **parameters).split(X)
    ]


@settings(max_examples=50)
@given(
    times=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    n_splits=st.integers(1, 4),
    test_size=st.one_of(st.none(), st.integers(1, 5), st.floats(0.05, 0.6)),
)
def test_properties(times, n_splits, test_size):
    """Also with ties: rows with one timestamp are in one part."""
    X = pd.DataFrame({"timestamp": times})
    before = X.copy()
    times = X["timestamp"]
    cv = GlobalTimeSplit(n_splits, test_size=test_size)
    try:
        parts = list(cv.split(X))
    except ValueError as error:
        assert "n_splits=" in str(error)
        return
    assert len(parts) == n_splits == cv.get_n_splits(X)
    seen = 0
    for train, test in parts:
        assert len(train) and len(test)
        assert times[train].max() < times[test].min()
        assert train.tolist() == sorted(train)
        assert test.tolist() == sorted(test)
        # Train holds all earlier rows, and each test follows the previous one.
        assert train.tolist() == np.flatnonzero(times < times[test].min()).tolist()
        assert seen in (0, len(train))
        seen = len(train) + len(test)
    assert seen == len(X)
    for one, other in zip(parts, cv.split(X), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    pd.testing.assert_frame_equal(X, before)


@settings(max_examples=50)
@given(st.permutations(range(23)), st.integers(1, 4), st.integers(1, 4))
def test_without_ties_as_scikit_learn_on_sorted_rows(times, n_splits, test_size):
    X = np.asarray(times)[:, None]
    order = np.argsort(times)
    parts = split(X, n_splits, test_size=test_size, timestamp_column=0)
    if n_splits == 1:  # scikit-learn needs two
        assert parts == [(sorted(order[:-test_size]), sorted(order[-test_size:]))]
        return
    expected = TimeSeriesSplit(n_splits, test_size=test_size).split(X)
    assert parts == [(sorted(order[a]), sorted(order[b])) for a, b in expected]


def test_by_hand():
    X = FRAME.assign(timestamp=[2, 1, 2, 3])
    assert split(X, 1, test_size=1) == [([0, 1, 2], [3])]
    assert split(X, 1, test_size=2) == [([1], [0, 2, 3])]  # rows 0 and 2 tie
    assert split(X, 1, test_size=0.25) == [([0, 1, 2], [3])]
    assert split(X, 2, test_size=1) == [([1], [0, 2]), ([0, 1, 2], [3])]
    assert split(X, cutoffs=[3, 1.5]) == [([1], [0, 2]), ([0, 1, 2], [3])]
    assert GlobalTimeSplit(cutoffs=[3, 1.5]).get_n_splits() == 2


@pytest.mark.parametrize(
    "days", [dt.timedelta(days=4), pd.Timedelta("4D"), np.timedelta64(4, "D")]
)
def test_a_duration(days):
    # The latest day is the 9th, so the cut-offs are the 5th and the 1st.
    assert split(FRAME, 1, test_size=days) == [([1, 3], [0, 2])]
    ages = FRAME.assign(timestamp=FRAME["timestamp"] - DAYS.min())
    assert split(ages, 1, test_size=days) == [([1, 3], [0, 2])]
    with pytest.raises(ValueError, match="no row is before the first cut-off"):
        split(FRAME, 2, test_size=days)


@pytest.mark.parametrize(
    "cutoffs",
    [
        ["2024-01-05", "2024-01-03"],
        pd.to_datetime(["2024-01-03", "2024-01-05"]),
        np.array(["2024-01-03", "2024-01-05"], dtype="datetime64[D]"),
        [dt.datetime(2024, 1, 3), dt.datetime(2024, 1, 5, tzinfo=dt.UTC)],
    ],
)
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_cutoffs_of_datetimes(cutoffs, zone):
    X = FRAME.assign(timestamp=DAYS.tz_localize(zone))
    assert split(X, cutoffs=cutoffs) == [([1], [3]), ([1, 3], [0, 2])]
    objects = X.assign(timestamp=X["timestamp"].astype(object))
    assert split(objects, cutoffs=cutoffs) == [([1], [3]), ([1, 3], [0, 2])]


def test_cutoffs_of_durations():
    X = FRAME.assign(timestamp=DAYS - DAYS.min())
    assert split(X, cutoffs=["3 days"]) == [([1, 3], [0, 2])]


def test_in_cross_validate_and_repr():
    cv = GlobalTimeSplit(2, test_size=1)
    scores = cross_validate(PopularRecommender(), FRAME, cv=cv)["test_score"]
    assert len(scores) == 2
    assert repr(clone(cv, safe=False)) == repr(cv)
    assert "n_splits=2" in repr(cv)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_splits": 0}, ValueError, "n_splits=0 must be at least 1"),
        ({"n_splits": 2.0}, TypeError, "n_splits=2.0 is not an integer"),
        ({"test_size": 0}, ValueError, "test_size=0 must be at least 1"),
        ({"test_size": 1.0}, ValueError, "test_size=1.0 must be between 0 and 1"),
        ({"test_size": True}, TypeError, "test_size=True is not an integer"),
        ({"test_size": "7D"}, TypeError, "test_size='7D' is not a number"),
        ({"test_size": dt.timedelta(0)}, ValueError, "must be longer than nothing"),
        ({"test_size": 1, "cutoffs": [3]}, ValueError, "exclude each other"),
        ({"cutoffs": 3}, ValueError, "cutoffs=3 must be a list"),
        ({"cutoffs": []}, ValueError, "must be a list"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        GlobalTimeSplit(**parameters)


NUMBERS = FRAME.assign(timestamp=[1, 2, 2, 3])


@pytest.mark.parametrize(
    ("X", "parameters", "message"),
    [
        (FRAME[["user"]], {}, "timestamp_column='timestamp' is not a column of X"),
        (
            FRAME.assign(timestamp=[*DAYS[:3], pd.NaT]),
            {},
            r"1 row with a missing timestamp in column 'timestamp' .*first at row 3",
        ),
        (FRAME[:0], {}, "X has no rows"),
        (FRAME, {"n_splits": 4}, "n_splits=4 is too much for the 4 rows of X"),
        (FRAME, {"n_splits": 2, "test_size": 2}, "n_splits=2 of test_size=2 is too much"),
        (FRAME, {"n_splits": 1, "test_size": 0.1}, "too much for the 4 rows"),
        (NUMBERS, {"n_splits": 3}, "leaves a test part empty: X has 3 distinct"),
        (
            NUMBERS.assign(timestamp=7),
            {"n_splits": 1},
            "no row is before the first cut-off. X has 1 distinct timestamps",
        ),
        (NUMBERS, {"test_size": dt.timedelta(1)}, "is a duration, but .* are numbers"),
        (NUMBERS, {"cutoffs": [1]}, "train part would be empty"),
        (NUMBERS, {"cutoffs": [2, 9]}, "a test part would be empty"),
        (NUMBERS, {"cutoffs": DAYS[:1]}, "cannot be compared .*'timestamp'.*int64"),
        (NUMBERS, {"cutoffs": ["2024"]}, "cannot be compared"),
        (NUMBERS, {"cutoffs": [np.nan]}, "cannot be compared"),
        (FRAME, {"cutoffs": [3]}, "cannot be compared"),
        (FRAME, {"cutoffs": ["soon"]}, "cannot be compared"),
    ],
)
def test_bad_data(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        split(X, **parameters)
