"""Folds of rows, of users and of items."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import cross_validate

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from sktwotower.model_selection import ColdItemSplit, InteractionKFold, UserKFold


@st.composite
def interactions(draw):
    """Users with one row and with many, and ties in time."""
    users = draw(st.lists(st.sampled_from("abcdef"), min_size=6, max_size=40)) + list("xyz")
    n = len(users)
    items = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    items = [6, 7, 8, *items[3:]]
    times = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return pd.DataFrame({"user": users, "item": items, "time": times})


SPLITTERS = [
    InteractionKFold,
    UserKFold,
    ColdItemSplit,
    lambda n, **parameters: UserKFold(n, history_fraction=0.5, **parameters),
]
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(X=interactions(), n_splits=st.integers(2, 3), seed=seeds)
@pytest.mark.parametrize("make", SPLITTERS)
@pytest.mark.slow
def test_disjoint_ascending_deterministic(make, X, n_splits, seed):
    before = X.copy()
    cv = make(n_splits, random_state=seed)
    parts = list(cv.split(X))
    assert len(parts) == n_splits == cv.get_n_splits() == cv.get_n_splits(X)
    tested = []
    for train, test in parts:
        assert len(train) and len(test)
        assert not set(train) & set(test)
        assert train.tolist() == sorted(train)
        assert test.tolist() == sorted(test)
        tested += test.tolist()
    assert len(tested) == len(set(tested))  # no row is tested twice
    if not getattr(cv, "history_fraction", None):
        assert sorted(tested) == list(range(len(X)))
        assert all(len(train) + len(test) == len(X) for train, test in parts)
    for one, other in zip(parts, make(n_splits, random_state=seed).split(X), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    pd.testing.assert_frame_equal(X, before)


@pytest.mark.parametrize("make", SPLITTERS)
def test_chance(make):
    X = pd.DataFrame({"user": np.arange(60) % 20, "item": np.arange(60) % 15})
    first = [test.tolist() for _, test in make(3, random_state=0).split(X)]
    assert first != [test.tolist() for _, test in make(3, random_state=1).split(X)]
    cv = make(3, random_state=np.random.RandomState(0))
    assert [test.tolist() for _, test in cv.split(X)] == first
    assert [test.tolist() for _, test in cv.split(X)] != first


@settings(max_examples=50)
@given(X=interactions(), n_splits=st.integers(2, 6), seed=seeds)
def test_each_user_is_spread_evenly(X, n_splits, seed):
    tests = [test for _, test in InteractionKFold(n_splits, random_state=seed).split(X)]
    counts = pd.DataFrame([X["user"][test].value_counts() for test in tests]).fillna(0)
    assert (counts.max() - counts.min()).max() <= 1
    sizes = [len(test) for test in tests]
    assert max(sizes) - min(sizes) <= 1


def test_any_row_of_a_user_may_be_in_any_fold():
    X = [["a"]] * 4
    pairs = set()
    for seed in range(60):
        for _, test in InteractionKFold(2, random_state=seed).split(X):
            pairs.add(tuple(test.tolist()))
    assert len(pairs) == 6  # 4 over 2


@settings(max_examples=50)
@given(X=interactions(), n_splits=st.integers(2, 4), seed=seeds)
def test_users_of_test_are_unknown(X, n_splits, seed):
    numbers = []
    for train, test in UserKFold(n_splits, random_state=seed).split(X):
        assert not set(X["user"][train]) & set(X["user"][test])
        numbers.append(X["user"][test].nunique())
    assert max(numbers) - min(numbers) <= 1


@settings(max_examples=50)
@given(X=interactions(), n_splits=st.integers(2, 4), seed=seeds)
def test_items_of_test_are_unknown(X, n_splits, seed):
    numbers = []
    for train, test in ColdItemSplit(n_splits, random_state=seed).split(X):
        assert not set(X["item"][train]) & set(X["item"][test])
        numbers.append(X["item"][test].nunique())
    assert max(numbers) - min(numbers) <= 1


@settings(max_examples=50)
@given(
    X=interactions(),
    size=st.one_of(
        st.tuples(st.integers(1, 4), st.none()),
        st.tuples(st.none(), st.floats(0.05, 0.99)),
    ),
    seed=seeds,
    timestamp_column=st.sampled_from([None, "time"]),
)
@pytest.mark.slow
def test_history(X, size, seed, timestamp_column):
    parameters = {
        "n_history": size[0],
        "history_fraction": size[1],
        "timestamp_column": timestamp_column,
        "random_state": seed,
    }
    cv = UserKFold(3, **parameters)
    in_train = UserKFold(3, history_in_train=True, **parameters)
    parts = zip(cv.split_with_history(X), cv.split(X), in_train.split(X), strict=True)
    for (train, history, test), plain, with_history in parts:
        assert sorted([*train, *history, *test]) == list(range(len(X)))
        assert plain[0].tolist() == train.tolist()
        assert with_history[0].tolist() == sorted([*train, *history])
        assert plain[1].tolist() == with_history[1].tolist() == test.tolist()
        assert not set(X["user"][train]) & set(X["user"][[*history, *test]])
        times = X["time"] if timestamp_column else X["time"] * 0
        for user, rows in X.loc[[*history, *test]].groupby("user"):
            n = len(rows)
            n_first = min(size[0] or int(np.floor(size[1] * n)), n - 1)
            order = sorted(rows.index, key=lambda row: (times[row], row))
            first = {row for row in history if X["user"][row] == user}
            assert first == set(order[:n_first])


def test_in_cross_validate_and_repr():
    X = pd.DataFrame({"user": np.arange(60) % 20, "item": np.arange(60) % 7})
    for make in SPLITTERS[:2]:
        cv = make(3, random_state=0)
        assert len(cross_validate(PopularRecommender(), X, cv=cv)["test_score"]) == 3
    cv = UserKFold(3, n_history=2)
    assert repr(clone(cv, safe=False)) == repr(cv)
    assert "n_history=2" in repr(cv)
    with pytest.warns(UserWarning, match="groups parameter is ignored by UserKFold"):
        cv.split(X, groups=X["user"])


@pytest.mark.parametrize("make", SPLITTERS)
def test_other_columns_and_forms(make):
    X = pd.DataFrame(
        {"u": list("aabbccddee"), "i": list("vwxyzvwxyz"), "note": None, "n": 1}
    )
    expected = [test.tolist() for _, test in make(3, random_state=0).split(X)]
    for other in (X.to_numpy(), X.to_numpy().tolist()):
        found = [test.tolist() for _, test in make(3, random_state=0).split(other)]
        assert found == expected
    role = "item_column" if make is ColdItemSplit else "user_column"
    reordered = X[["n", "i", "note", "u"]]
    name = "i" if make is ColdItemSplit else "u"
    cv = make(3, random_state=0, **{role: name})
    assert [test.tolist() for _, test in cv.split(reordered)] == expected
    with pytest.raises(ValueError, match=f"{role}='nobody' is not a column of X"):
        next(make(3, **{role: "nobody"}).split(X))


SMALL = pd.DataFrame({"user": list("aab"), "item": [1, 1, 1], "time": [1, 2, 3]})


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (InteractionKFold(4), "n_splits=4 is more than the 3 rows of X"),
        (UserKFold(3), "n_splits=3 is more than the 2 users of X"),
        (ColdItemSplit(2), "n_splits=2 is more than the 1 items of X"),
        (UserKFold(2, timestamp_column="when"), "timestamp_column='when' is not a column"),
    ],
)
def test_too_many_splits(cv, message):
    with pytest.raises(ValueError, match=message):
        next(cv.split(SMALL))


def test_missing_values():
    with pytest.raises(ValueError, match="1 row with a missing user id .*row 1"):
        next(InteractionKFold(2).split(SMALL.assign(user=["a", None, "b"])))
    with pytest.raises(ValueError, match="1 row with a missing item id .*row 2"):
        next(ColdItemSplit(2).split(SMALL.assign(item=[1, 2, np.nan])))
    late = SMALL.assign(time=pd.to_datetime(["2024-01-01", None, None]))
    with pytest.raises(
        ValueError, match="2 rows with a missing timestamp in column 'time'"
    ):
        next(UserKFold(2, timestamp_column="time").split(late))


@pytest.mark.parametrize("make", [InteractionKFold, UserKFold, ColdItemSplit])
def test_bad_n_splits(make):
    with pytest.raises(ValueError, match="n_splits=1 must be at least 2"):
        make(1)
    with pytest.raises(TypeError, match="n_splits='3' is not an integer"):
        make("3")


def test_bad_history():
    with pytest.raises(ValueError, match="n_history=1 and history_fraction=0.5 exclude"):
        UserKFold(n_history=1, history_fraction=0.5)
    with pytest.raises(ValueError, match="n_history=0 must be at least 1"):
        UserKFold(n_history=0)
    with pytest.raises(ValueError, match="history_in_train=True needs"):
        UserKFold(history_in_train=True)


def test_cold_items_and_new_users_with_a_model():
    """A model finds cold items by their features, and new users by their history."""
    data = make_interactions(n_users=30, n_items=12, n_interactions=300, random_state=0)
    X = data.interactions
    model = TwoTowerRecommender(
        item_table=data.item_table, id_dropout=0.3, max_iter=2, random_state=0
    )
    cv = ColdItemSplit(3, random_state=0)
    scores = cross_validate(model, X, cv=cv)["test_score"]
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    train, test = next(cv.split(X))
    with pytest.warns(UndefinedMetricWarning, match="in the catalogue"):
        assert np.isnan(PopularRecommender().fit(X.iloc[train]).score(X.iloc[test]))
    model.set_params(history=PooledHistory(3))
    users = UserKFold(3, n_history=3, random_state=0)
    train, history, test = next(users.split_with_history(X))
    model.fit(X.iloc[train])
    ids = X["user_id"].iloc[test].unique()
    found, _ = model.recommend(ids, history=X.iloc[history])
    seen = X.iloc[history].groupby("user_id")["item_id"].agg(set)
    for user, row in zip(ids, found, strict=True):
        assert not seen.get(user, set()) & set(row)
