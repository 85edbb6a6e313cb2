"""Rows of X that several ranks have, which are threads of this process."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sktwotower._data import row_shares as module
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.interactions import DedupedFeatures, Interactions
from sktwotower._data.row_shares import ALL_ROWS, OwnRows
from tests._nn.thread_ranks import on_ranks

SIZES = [2, 3]
N = 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)


def all_rows():
    rng = np.random.default_rng(0)
    ids = [pd.Index(["b", "a", "c"], dtype=object), pd.Index([30, 10, 20])]
    users, items = (pd.Categorical.from_codes(rng.integers(3, size=N), i) for i in ids)
    features = DedupedFeatures(pd.DataFrame({"x": [5, 6]}), rng.integers(2, size=N))
    return Interactions(
        users,
        items,
        rng.random(N) < 0.5,
        rng.random(N),
        rng.integers(10**15, size=N),
        user_features=features,
    )


def begin(rows, ranks, counts):
    """The rows of a rank, of which each has so many."""
    ends = np.cumsum(counts[: ranks.size - 1] + [N])
    start = 0 if ranks.rank == 0 else ends[ranks.rank - 1]
    own = rows.take(slice(start, min(ends[ranks.rank], N)))
    return replace(own, share=OwnRows.after_those_before(len(own), ranks))


def assert_equal(one, other):
    for name, column in other.columns().items():
        found = getattr(one, name)
        if isinstance(column, pd.Categorical):
            assert found.categories.equals(column.categories)
            found, column = found.codes, column.codes
        elif isinstance(column, DedupedFeatures):
            assert found.frame is column.frame
            found, column = found.positions, column.positions
        assert found.dtype == column.dtype
        np.testing.assert_array_equal(found, column)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("counts", [[20, 13], [0, 50], [3, 0]])
def test_rows_move_to_their_owners(size, counts):
    rows = all_rows()
    owners = np.asarray(rows.items.codes) % size

    def call(ranks):
        own = begin(rows, ranks, counts)
        share, moved = own.share.moved(own, owners[own.share.numbers])
        moved = replace(moved, share=share)
        assert_equal(moved, rows.take(owners == ranks.rank))
        np.testing.assert_array_equal(share.numbers, np.flatnonzero(owners == ranks.rank))
        np.testing.assert_array_equal(share.own(np.arange(N)), share.numbers)
        np.testing.assert_array_equal(share.whole_column(moved.times), rows.times)
        some = moved.take(moved.positive)
        np.testing.assert_array_equal(rows.times[some.share.numbers], some.times)

    on_ranks(size, call)


@pytest.mark.parametrize("size", SIZES)
def test_numbers_of_all_rows(size):
    """Where they are known, they are those of rows that are all here."""
    rows = all_rows()

    def call(ranks):
        own = begin(rows, ranks, [30, 0])
        share, counts = own.share, np.bincount(own.items.codes, minlength=3)
        return (
            share.sum(counts),
            share.any(np.arange(4) == ranks.rank + 1),
            share.any(0 in share.numbers),
            share.max(own.weights.max(initial=0)),
            share.mean(own.weights),
            share.max(np.int16(300 + ranks.rank)),  # the type of codes of 300 ids
        )

    counts = np.bincount(rows.items.codes, minlength=3)
    for found in on_ranks(size, call):
        np.testing.assert_array_equal(found[0], counts)
        assert found[1].tolist() == [False, True, True, size > 2]
        assert found[2]
        assert found[3] == rows.weights.max()
        assert found[4] == pytest.approx(rows.weights.mean(), rel=1e-14)
        assert found[5] == 300 + size - 1
    np.testing.assert_array_equal(ALL_ROWS.sum(counts), counts)
    assert ALL_ROWS.mean(rows.weights) == rows.weights.mean()
    assert ALL_ROWS.max(2.5) == 2.5
    assert ALL_ROWS.take(slice(2)) is ALL_ROWS


@pytest.mark.parametrize("size", SIZES)
def test_some_rows_of_all_ranks_are_in_the_order_of_X(size):
    rows = all_rows()
    chosen = np.flatnonzero(rows.positive)

    def call(ranks):
        own = begin(rows, ranks, [9, 30])
        owners = own.share.numbers % size
        share, own = own.share.moved(own, owners)
        some = np.flatnonzero(own.positive)
        return share.ordered(some, own.times[some])

    for numbers, times in on_ranks(size, call):
        np.testing.assert_array_equal(numbers, chosen)
        np.testing.assert_array_equal(times, rows.times[chosen])


def test_rows_from_before_of_own_users():
    users = np.array([1, 2, 3, 0, 2], dtype=np.int32)
    rows = InteractionCodes(users, users, users > 1, None)
    id_codes = np.array([0, 4, 3, 0])

    def call(ranks):
        later = OwnRows.after_those_before(2, ranks)
        share, own = later.of_own_users(rows, None, id_codes)
        # User 2 gets another row of the table, and moves to the other rank.
        moved, other = later.of_own_users(own, share.numbers, np.array([0, 4, 6, 0]))
        together = moved.followed_by(later)
        return [
            (own.users.tolist(), share.numbers.tolist()),
            (other.users.tolist(), together.numbers.tolist()),
        ]

    assert on_ranks(2, call) == [
        [([1, 3, 0], [0, 2, 3]), ([1, 2, 3, 0, 2], [0, 1, 2, 3, 4, 5, 6])],
        [([2, 2], [1, 4]), ([], [7, 8])],
    ]
    assert ALL_ROWS.of_own_users(rows, None, id_codes) == (ALL_ROWS, rows)
    assert ALL_ROWS.followed_by(ALL_ROWS) is ALL_ROWS
