"""LastInteractionsSplit: the rows held out for each user, and bad input."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, check_cv, cross_validate

from sktwotower.model_selection import LastInteractionsSplit


def split(X, **parameters):
    (parts,) = LastInteractionsSplit(**parameters).split(X)
    return parts


def held_out(n_rows, n_last, fraction):
    """The number of a user's rows in test, according to the documentation."""
    n_test = math.floor(fraction * n_rows) if fraction else (n_last or 1)
    return min(n_test, n_rows - 1)


def rows_of_test(users, times, n_last, fraction):
    """The rows of the test part, user by user in plain Python."""
    rows_of = {}
    for row, user in enumerate(users):
        rows_of.setdefault(user, []).append(row)
    test = []
    for rows in rows_of.values():
        rows.sort(key=lambda row: (times[row], row))
        test += rows[len(rows) - held_out(len(rows), n_last, fraction) :]
    return sorted(test)


sizes = st.one_of(
    st.just((None, None)),
    st.tuples(st.integers(1, 4), st.none()),
    st.tuples(st.none(), st.floats(0.05, 0.999)),
)


@st.composite
def interactions(draw, *, distinct=False):
    """A frame in which some rows are always held out, since user "z" has many."""
    users = draw(st.lists(st.sampled_from("abcd"), max_size=25)) + ["z"] * 21
    n = len(users)
    users = draw(st.permutations(users))
    times = st.integers(-(2**62), 2**62) if distinct else st.integers(0, 5)
    times = draw(st.lists(times, min_size=n, max_size=n, unique=distinct))
    return pd.DataFrame({"user": users, "item": range(n), "time": times})


@settings(max_examples=50)
@given(X=interactions(), size=sizes)
@pytest.mark.parametrize("timestamp_column", ["time", None])
def test_equals_a_plain_loop(timestamp_column, X, size):
    n_last, fraction = size
    train, test = split(
        X,
        n_last=n_last,
        fraction=fraction,
        timestamp_column=timestamp_column,
        user_column="user",
    )
    times = X[timestamp_column] if timestamp_column else np.zeros(len(X))
    assert test.tolist() == rows_of_test(X["user"], times.tolist(), n_last, fraction)
    # Disjoint, whole, ascending.
    assert train.dtype.kind == test.dtype.kind == "i"
    assert sorted([*train, *test]) == list(range(len(X)))
    assert train.tolist() == sorted(train)


@settings(max_examples=50)
@given(X=interactions(), size=sizes)
def test_counts_and_order_per_user(X, size):
    n_last, fraction = size
    train, test = split(
        X, n_last=n_last, fraction=fraction, timestamp_column=2, user_column=0
    )
    for user in X["user"].unique():
        past = X.iloc[train].loc[lambda part, user=user: part["user"] == user]
        future = X.iloc[test].loc[lambda part, user=user: part["user"] == user]
        n_rows = len(past) + len(future)
        assert len(past) >= 1
        assert len(future) == held_out(n_rows, n_last, fraction)
        if len(future):
            latest = max(zip(past["time"], past.index, strict=True))
            assert latest < min(zip(future["time"], future.index, strict=True))


@settings(max_examples=50)
@given(X=interactions(distinct=True), size=sizes, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter_when_timestamps_differ(X, size, seed):
    # The timestamps do not fit in a float; two can differ only beyond its 53 bits.
    parameters = {"n_last": size[0], "fraction": size[1], "timestamp_column": "time"}
    shuffled = X.sample(frac=1, random_state=seed)
    assert set(shuffled["item"].iloc[split(shuffled, **parameters)[1]]) == set(
        split(X, **parameters)[1]
    )


@settings(max_examples=50)
@given(X=interactions(), size=sizes)
def test_deterministic_and_X_unchanged(X, size):
    before = X.copy()
    cv = LastInteractionsSplit(n_last=size[0], fraction=size[1], timestamp_column=2)
    first, second = next(cv.split(X)), next(cv.split(X, groups=None))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    pd.testing.assert_frame_equal(X, before)


def test_by_hand():
    X = pd.DataFrame({"u": list("abaabca"), "t": [5, 1, 3, 5, 0, 9, 1]})
    # a: rows 6, 2, 0, 3 in time (0 and 3 tie, the later row is later); b: 4, 1; c: 5.
    columns = {"user_column": "u", "timestamp_column": "t"}
    assert split(X, **columns)[1].tolist() == [1, 3]
    assert split(X, n_last=2, **columns)[1].tolist() == [0, 1, 3]
    assert split(X, n_last=9, **columns)[1].tolist() == [0, 1, 2, 3]
    assert split(X, fraction=0.5, **columns)[1].tolist() == [0, 1, 3]
    assert split(X, fraction=0.49, **columns)[1].tolist() == [3]
    assert split(X, user_column="u")[1].tolist() == [4, 6]


# --- forms of X ----------------------------------------------------------------------

TIMES = [40, 10, 20, 30]  # of two users in turn: rows 0 and 3 are the last
DAYS = [dt.datetime(2024, 1, day) for day in (4, 1, 2, 3)]


@pytest.mark.parametrize(
    "times",
    [
        np.array(TIMES, dtype=np.uint16),
        np.array(TIMES, dtype=np.float32),
        np.array([1e300, -1e300, 0, 1]),
        # Times that are equal as floats.
        np.array([10**18 + 1, 10**18 + 3, 10**18, 10**18 + 4]),
        pd.array(TIMES, dtype="Int64"),
        np.array(TIMES, dtype=object),
        np.array([40.5, 10, 20, 30], dtype=object),
        np.array(DAYS, dtype="datetime64[s]"),
        pd.DatetimeIndex(DAYS).tz_localize("Europe/Vienna"),
        pd.to_timedelta(TIMES, unit="s"),
        np.array(DAYS, dtype=object),
        np.array([day.date() for day in DAYS], dtype=object),
    ],
    ids=lambda times: f"{times.dtype}-{type(times[0]).__name__}",
)
def test_types_of_timestamp(times):
    X = pd.DataFrame({"user": [7, 8, 7, 8], "time": times}, index=[3, 3, 1, 0])
    assert split(X, timestamp_column="time")[1].tolist() == [0, 3]


def test_datetimes_of_several_zones():
    east = dt.timezone(dt.timedelta(hours=9))
    times = [DAYS[0].replace(tzinfo=dt.UTC), DAYS[0].replace(tzinfo=east)]
    X = pd.DataFrame({"user": ["a", "a"], "time": pd.Series(times, dtype=object)})
    assert split(X, timestamp_column="time")[1].tolist() == [0]


@pytest.mark.parametrize("users", [["b", "a", "b", "a"], [2.5, -1.0, 2.5, -1.0]])
@pytest.mark.parametrize("kind", ["list", "object array", "frame", "category"])
def test_types_of_X(users, kind):
    rows = [list(row) for row in zip(users, TIMES, strict=True)]
    X = {
        "list": rows,
        "object array": np.array(rows, dtype=object),
        "frame": pd.DataFrame(rows),
        "category": pd.DataFrame(rows).astype({0: "category"}),
    }[kind]
    assert split(X, timestamp_column=1)[1].tolist() == [0, 3]
    assert split(X, timestamp_column=-1)[1].tolist() == [0, 3]


def test_number_array():
    X = np.column_stack([TIMES, [1, 2, 1, 2]])
    assert split(X, timestamp_column=0, user_column=1)[1].tolist() == [0, 3]


def test_an_int_that_is_a_position_and_another_label_is_refused():
    X = pd.DataFrame([[1, 8], [2, 8], [3, 9]], columns=[1, 0])
    with pytest.raises(ValueError, match="position of one column of X and the label"):
        split(X, user_column=1)
    assert split(X.set_axis([10, 20], axis=1), user_column=1)[1].tolist() == [1]


# --- as scikit-learn's splitters -----------------------------------------------------


class Constant(BaseEstimator):
    """Keeps the number of training rows; the score is the number of test rows."""

    def __init__(self, offset=0):
        self.offset = offset

    def fit(self, X, y=None):
        self.n_train_ = len(X)
        return self

    def score(self, X, y=None):
        return len(X) + self.offset


X_FRAME = pd.DataFrame({"user": list("aabbbc"), "time": [2, 1, 1, 2, 3, 1]})
X_ARRAY = np.column_stack([[1, 1, 2, 2, 2, 3], X_FRAME["time"]])


@pytest.mark.parametrize("X", [X_FRAME, X_ARRAY], ids=["frame", "array"])
@pytest.mark.parametrize("y", [None, np.ones(6)], ids=["no y", "y"])
def test_in_cross_validate_and_search(X, y):
    cv = LastInteractionsSplit(timestamp_column=1)
    result = cross_validate(Constant(), X, y, cv=cv, return_estimator=True)
    assert result["test_score"].tolist() == [2]
    assert result["estimator"][0].n_train_ == 4
    search = GridSearchCV(Constant(), {"offset": [0, 1]}, cv=cv).fit(X, y)
    assert search.best_params_ == {"offset": 1}
    assert search.best_score_ == 3
    assert search.n_splits_ == 1


def test_repr_clone_and_check_cv():
    cv = LastInteractionsSplit(fraction=0.2, timestamp_column="time")
    assert (
        repr(cv).split()
        == (
            "LastInteractionsSplit(fraction=0.2, n_last=None, timestamp_column='time', "
            "user_column=0)"
        ).split()
    )
    assert repr(clone(cv, safe=False)) == repr(cv)
    assert check_cv(cv) is cv
    assert cv.get_n_splits() == cv.get_n_splits(X_FRAME) == 1
    assert LastInteractionsSplit().n_last is None


def test_groups_are_ignored_with_a_warning():
    cv = LastInteractionsSplit()
    with pytest.warns(UserWarning, match="groups parameter is ignored by LastInter"):
        _, test = next(cv.split(X_FRAME, groups=np.arange(6)))
    np.testing.assert_array_equal(test, split(X_FRAME)[1])


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (
            {"n_last": 1, "fraction": 0.2},
            ValueError,
            "n_last=1 and fraction=0.2 exclude",
        ),
        ({"n_last": 0}, ValueError, "n_last=0 must be at least 1"),
        ({"n_last": 1.0}, TypeError, "n_last=1.0 is not an integer"),
        ({"n_last": True}, TypeError, "n_last=True is not an integer"),
        ({"fraction": 0.0}, ValueError, "fraction=0.0 must be between 0 and 1"),
        ({"fraction": 1}, ValueError, "fraction=1 must be between 0 and 1"),
        ({"fraction": math.nan}, ValueError, "fraction=nan must be between 0 and 1"),
        ({"fraction": "0.2"}, TypeError, "fraction='0.2' is not a number"),
    ],
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        LastInteractionsSplit(**parameters)


FRAME = pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": [1, 2, 3]})


@pytest.mark.parametrize(
    ("X", "parameters", "message"),
    [
        (
            FRAME,
            {"timestamp_column": "time"},
            "timestamp_column='time' is not a column of X; the columns are "
            "['user_id', 'item_id'].",
        ),
        (
            FRAME,
            {"user_column": 2},
            "user_column=2 is not a column of X; it has 2 feature(s), "
            "['user_id', 'item_id'] in order.",
        ),
        (
            np.zeros((3, 2)),
            {"user_column": "user_id"},
            "user_column='user_id' is not a column of X; it has no column names but 2 "
            "positions.",
        ),
        (
            pd.DataFrame([[1, 2]] * 3, columns=["u", "u"]),
            {"user_column": "u"},
            "user_column='u' names 2 columns of X; give a position.",
        ),
        (
            pd.DataFrame({"u": ["a", "a", None, "b", np.nan]}),
            {},
            "Column 0 of X has 2 rows with a missing user id (NaN, None or NaT) (first at "
            "row 2); drop or fill them first.",
        ),
        (
            np.array([[1, 5], [1, np.nan], [1, 7]]),
            {"timestamp_column": 1},
            "X has 1 row with a missing timestamp in column 1 (NaN or NaT) (first at "
            "row 1); drop or fill them first.",
        ),
        (
            pd.DataFrame({"u": [1, 1], "t": pd.to_datetime(["2024-01-01", None])}),
            {"timestamp_column": "t"},
            "X has 1 row with a missing timestamp in column 't' (NaN or NaT) (first at "
            "row 1); drop or fill them first.",
        ),
        (
            FRAME.iloc[1:],
            {"n_last": 3},
            "The test part would be empty: no user of X has more than one row, and "
            "each keeps one in train.",
        ),
        (
            FRAME,
            {"fraction": 0.2},
            "The test part would be empty: fraction=0.2 of the 2 rows of the user with "
            "most rows is less than one row.",
        ),
        (FRAME.iloc[:0], {}, "The test part would be empty: X has no rows."),
    ],
)
def test_bad_data(X, parameters, message):
    with pytest.raises(ValueError) as error:
        split(X, **parameters)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("times", "types"),
    [
        (["2024-01-01", "2024-01-02"], "str"),
        (np.array(["1", "2"], dtype=object), "str"),
        (np.array([1, "2"], dtype=object), "int, str"),
        ([True, False], "bool"),
    ],
)
def test_timestamps_of_another_type(times, types):
    X = pd.DataFrame({"u": [1, 1], "t": times})
    message = f"Column 't' of X holds values of type {types}, which have no order in time"
    with pytest.raises(ValueError, match=message):
        split(X, timestamp_column="t")


def test_X_of_another_shape():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        split(np.arange(4))
