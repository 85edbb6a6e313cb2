"""What X and y may be, and what is refused in them."""

import datetime
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._data.interactions import Interactions, read_interactions
from sktwotower._data.roles import ColumnRoles
from sktwotower._training.early_stopping import hold_out
from sktwotower.utils._columns import id_array

NAN = float("nan")


def frame(**columns):
    return pd.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"], **columns})


def read(X, y=None, sample_weight=None, **roles):
    return read_interactions(X, y, sample_weight, roles=ColumnRoles(**roles))


# --- ids -----------------------------------------------------------------------------

UUIDS = [uuid.UUID(int=i) for i in (3, 1, 2)]


@pytest.mark.parametrize(
    "column",
    [
        [3, 1, 2],
        np.array([3, 1, 2], dtype=np.int8),
        np.array([3, 1, 2], dtype=np.uint64),
        ["c", "a", "b"],
        np.array(["c", "a", "b"]),
        ["c", 1, 2.5],
        UUIDS,
        [(1, "x"), (0, "x"), (1, "y")],
        [3.5, 1.0, 2.0],
        [b"c", b"a", b"b"],
        [True, False, True],
        [datetime.date(2020, 1, d) for d in (3, 1, 2)],
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"]),
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"], utc=True),
        pd.Series([3, 1, 2], dtype="Int64"),
        pd.Series(["c", "a", "b"], dtype="string"),
        pd.Series(["c", "a", "b"], dtype="str"),
        pd.Series(["c", "a", "b"], dtype="category"),
        pd.Series([3, 1, 2], dtype="category"),
        pd.Series([3, 1, 2], dtype="int64[pyarrow]"),
        pd.Series(["c", "a", "b"], dtype="string[pyarrow]"),
        pd.Series([3, 1, 2], index=[7, 7, 7]),
    ],
    ids=lambda column: str(getattr(column, "dtype", type(list(column)[0]).__name__)),
)
def test_ids_of_any_kind(column):
    ids = id_array(column, what="id")
    assert isinstance(ids, np.ndarray)
    assert ids.shape == (3,)
    given = list(column)
    for one, other in zip(
        ids.tolist() if ids.dtype.kind != "M" else ids, given, strict=True
    ):
        assert one == other


def test_ids_have_a_plain_dtype():
    assert id_array(pd.Series([1, 2], dtype="Int16"), what="id").dtype == np.int64
    assert id_array(pd.Series([1, 2], dtype="category"), what="id").dtype == np.int64
    assert id_array(np.array([1, 2], dtype=object), what="id").dtype == np.int64
    assert id_array(np.array([1, 2], dtype=np.uint8), what="id").dtype == np.int64
    assert id_array(np.array([1, 2], dtype=np.float32), what="id").dtype == np.float64
    for strings in (["a"], np.array(["a"]), pd.Series(["a"], dtype="category")):
        assert id_array(strings, what="id").dtype == object
    # 2**63 + 1 would lose its last digits as a float
    assert id_array([2**63 + 1], what="id").tolist() == [2**63 + 1]
    assert id_array([2**62 + 1], what="id").tolist() == [2**62 + 1]


@pytest.mark.parametrize(
    "column",
    [
        [1.0, NAN, 2.0],
        ["a", None, "b"],
        ["a", NAN, "b"],
        ["a", pd.NA, "b"],
        [UUIDS[0], None, UUIDS[1]],
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series(["a", None, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
        pd.Series([1, None, 2], dtype="int64[pyarrow]"),
    ],
    ids=str,
)
def test_missing_ids_are_refused(column):
    with pytest.raises(ValueError, match=r"X has 1 row with a missing .*NaN.* row 1\)"):
        id_array(column, what="item id")


def test_other_ids_that_are_refused():
    with pytest.raises(ValueError, match=r"2 rows with an infinite id \(inf\).*row 0"):
        id_array([np.inf, 1.0, -np.inf], what="id")
    with pytest.raises(TypeError, match="cannot be hashed"):
        id_array(pd.Series([["a"], ["b"]]), what="id")
    with pytest.raises(ValueError, match="Complex"):
        id_array([1j, 2], what="id")


def test_infinity_and_nan_as_words_are_fine():
    assert id_array(["nan", "None", "", "inf"], what="id").tolist()[0] == "nan"


# --- columns -------------------------------------------------------------------------


def test_frame_by_name_and_by_position():
    X = frame()[["item", "user"]]
    by_name = read(X, user_column="user", item_column="item")
    by_position = read(X, user_column=1, item_column=0)
    from_end = read(X, user_column=-1, item_column=-2)
    for interactions in (by_name, by_position, from_end):
        assert interactions.users.tolist() == [1, 1, 2]
        assert interactions.items.tolist() == ["a", "b", "a"]
        assert interactions.positive.all()
        assert interactions.weights is None
        assert interactions.times is None
    assert len(by_name) == 3


def test_array_of_objects():
    X = np.array([["u", 5, None], ["v", 6, [1]]], dtype=object)
    interactions = read(X)
    assert interactions.users.tolist() == ["u", "v"]
    assert interactions.items.tolist() == [5, 6]
    assert interactions.items.dtype == np.int64


@pytest.mark.parametrize("role", ["user_column", "item_column", "timestamp_column"])
def test_a_column_that_is_not_there(role):
    message = rf"{role}='uid' is not a column of X; the columns are \['user', 'item'\]"
    with pytest.raises(ValueError, match=message):
        read(frame(), **{role: "uid"})
    with pytest.raises(ValueError, match=rf"{role}=2 is not a column of X"):
        read(frame(), **{role: 2})
    with pytest.raises(ValueError, match=rf"{role}=-3 is not a column of X"):
        read(frame(), **{role: -3})
    with pytest.raises(ValueError, match="no column names but 2 positions"):
        read(np.ones((2, 2)), **{role: "uid"})


def test_missing_ids_name_the_side_the_count_and_the_row():
    X = frame(user=[1.0, NAN, NAN])
    with pytest.raises(ValueError, match=r"X has 2 rows with a missing user id .*row 1"):
        read(X)
    X = frame(item=["a", "b", None])
    with pytest.raises(ValueError, match=r"X has 1 row with a missing item id .*row 2"):
        read(X)


def test_unused_columns_are_not_looked_at():
    X = frame(junk=[NAN, NAN, NAN], inf=[np.inf] * 3, lists=[[], {}, None])
    assert len(read(X)) == 3


# --- y and weights -------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 2],
        [-1.0, 0.5, 1e-9],
        [False, True, True],
        ["0", "1", "2"],
        pd.Series([0, 1, 5], index=[9, 8, 7]),
        pd.Series([0, 1, 2], dtype="Int64"),
        pd.Series([False, True, True], dtype="boolean"),
        np.array([0, 1, 1], dtype=object),
    ],
    ids=str,
)
def test_positive_is_above_zero(y):
    assert read(frame(), y).positive.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 0], r"inconsistent numbers of samples: X has 3 rows, y has 2"),
        ([1, NAN, NAN], r"y contains NaN: 2 rows \(first at row 1\)"),
        (pd.Series([1, None, 2], dtype="Int64"), r"y contains NaN: 1 row "),
        ([1, np.inf, 0], r"y contains infinity: 1 row \(first at row 1\)"),
        (["good", "bad", "good"], "y must hold numbers"),
    ],
    ids=str,
)
def test_bad_y(y, message):
    with pytest.raises(ValueError, match=message):
        read(frame(), y)


def test_rows_of_weight_zero_leave():
    interactions = read(frame(t=[3, 1, 2]), [1, 1, 0], [0.5, 0, 2], timestamp_column="t")
    assert interactions.users.tolist() == [1, 2]
    assert interactions.positive.tolist() == [True, False]
    assert interactions.weights.tolist() == [0.5, 2.0]
    assert interactions.times.tolist() == [3, 2]


@pytest.mark.parametrize("weights", [[1, -1, 1], [0, 0, 0], [1, NAN, 1], [1, 2]])
def test_bad_weights(weights):
    with pytest.raises(ValueError):
        read(frame(), None, weights)


# --- timestamps ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        [3, 1, 2],
        [3.5, 1.0, 2.0],
        np.array([3, 1, 2], dtype=object),
        pd.Series([3, 1, 2], dtype="Int64"),
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"]),
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"], utc=True),
        pd.Series([3, 1, 2], dtype="datetime64[s]"),
        pd.Series(pd.to_datetime([3, 1, 2], unit="s"), dtype="timestamp[us][pyarrow]"),
        [datetime.datetime(2020, 1, d) for d in (3, 1, 2)],
    ],
    ids=lambda times: str(getattr(times, "dtype", type(list(times)[0]).__name__)),
)
def test_times_keep_their_order(times):
    interactions = read(frame(t=times), timestamp_column="t")
    assert interactions.times.argsort().tolist() == [1, 2, 0]


def test_microseconds_are_told_apart():
    base = pd.Timestamp("2024-05-05")
    times = [base + pd.Timedelta(us, "us") for us in (2, 1, 0)]
    interactions = read(frame(t=times), timestamp_column="t")
    assert interactions.times.argsort().tolist() == [2, 1, 0]
    large = read(frame(t=[2**60 + 1, 2**60, 2**60 + 2]), timestamp_column="t")
    assert large.times.argsort().tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (pd.to_datetime(["2020", None, None]), r"2 rows with a missing timestamp.*row 1"),
        ([1.0, NAN, 2.0], r"1 row with a missing timestamp in column .t. \(NaN"),
        (
            [1.0, np.inf, -np.inf],
            r"2 rows with an infinite timestamp in column .t. \(inf.*1",
        ),
        ([1, 2, float("-inf")], r"1 row with an infinite timestamp.*\(first at row 2\)"),
        (pd.array([1.0, np.inf, 2.0], dtype="Float32"), "1 row with an infinite timestamp"),
        (pd.array([5, 6, np.inf], dtype=object), r"X has 1 row with an infinite.*row 2\)"),
        (["monday", "tuesday", "friday"], "no order in time"),
    ],
    ids=str,
)
def test_bad_times(times, message):
    with pytest.raises(ValueError, match=message):
        read(frame(t=times), timestamp_column="t")


# --- holding out ---------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
    st.booleans(),
    st.integers(0, 1000),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_hold_out_never_loses_anyone(pairs, fraction, timed, seed, data):
    users, items = np.array(pairs).T
    n = len(users)
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    times = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)))
    interactions = Interactions(users, items, positive, None, times if timed else None)
    held = hold_out(interactions, fraction, np.random.RandomState(seed))
    assert held.dtype == bool and held.shape == (n,)
    assert not held[~positive].any()
    kept = positive & ~held
    assert set(users[kept]) == set(users[positive])
    assert set(items[kept]) == set(items[positive])
    trained = set(zip(users[kept], items[kept], strict=True))
    assert not trained & set(zip(users[held], items[held], strict=True))
    if not timed:
        assert held.sum() <= int(fraction * positive.sum())
        return
    for user in np.unique(users[positive]):
        own = np.flatnonzero(positive & (users == user))
        assert held[own].sum() <= np.ceil(fraction * len(own))
        order = own[np.lexsort((own, times[own]))]  # equal times: the later row is later
        first = np.flatnonzero(held[order])
        if len(first):
            # what is kept after a held row is kept for its item's or its pair's sake
            for row in order[first[0] :]:
                same_pair = (users[~held] == user) & (items[~held] == items[row])
                if not held[row] and same_pair.sum() == 1:
                    assert (items[kept] == items[row]).sum() == 1


def test_hold_out_takes_the_latest():
    users = np.repeat([0, 1], 4)
    times = np.array([4, 3, 2, 1, 1, 2, 3, 4])
    items = np.tile(np.arange(4), 2)  # each user trains on what is held out of the other
    interactions = Interactions(users, items, np.ones(8, dtype=bool), None, times)
    held = hold_out(interactions, 0.5, np.random.RandomState(0))
    assert held.tolist() == [True, True, False, False, False, False, True, True]


def test_hold_out_of_equal_times_takes_the_later_rows():
    users = np.repeat([0, 1], 10)
    items = np.r_[np.arange(10), np.arange(10)[::-1]]
    interactions = Interactions(users, items, np.ones(20, bool), None, np.zeros(20))
    held = hold_out(interactions, 0.3, np.random.RandomState(0))
    assert np.flatnonzero(held).tolist() == [7, 8, 9, 17, 18, 19]


def test_hold_out_share_is_met_on_average():
    users = np.repeat(np.arange(300), 5)
    interactions = Interactions(
        users,
        np.arange(1500) % 50,
        np.ones(1500, dtype=bool),
        None,
        np.arange(1500),
    )
    held = hold_out(interactions, 0.1, np.random.RandomState(0))
    assert 0.07 < held.mean() < 0.13


def test_take():
    interactions = read(frame(t=[1, 2, 3]), [1, 0, 1], [1, 2, 3], timestamp_column="t")
    taken = interactions.take(np.array([2, 0]))
    assert taken.users.tolist() == [2, 1]
    assert taken.positive.tolist() == [True, True]
    assert taken.weights.tolist() == [3, 1]
    assert taken.times.tolist() == [3, 1]
