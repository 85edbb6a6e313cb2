"""Windows for training and queries, against loops over the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._data.histories import Histories, InteractionCodes, windows_of_queries
from sktwotower.utils import _column_store as column_store

N_USERS = 4


@st.composite
def events(draw, with_times=None):
    n = draw(st.integers(1, 25))
    users = draw(st.lists(st.integers(1, N_USERS), min_size=n, max_size=n))
    items = draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    if with_times is None:
        with_times = draw(st.booleans())
    times = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    return InteractionCodes(
        np.array(users, dtype=np.int32),
        np.array(items, dtype=np.int32),
        np.array(positive),
        np.array(times) if with_times else None,
    )


def in_order(events):
    """Rows in the order of time; equal times are in row order."""
    rows = list(range(len(events)))
    return rows if events.times is None else sorted(rows, key=lambda r: events.times[r])


@given(events(), st.integers(1, 5), st.sampled_from([3, 100]))
@settings(max_examples=80, deadline=None)
def test_windows_of_events(events, size, rows_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_store, "ROWS_AT_ONCE", rows_at_once)
        histories = Histories(events, N_USERS)
    starts, ends = histories.at_events(np.arange(len(events)), size)
    order = in_order(events)
    for row in range(len(events)):
        mine = [r for r in order if events.users[r] == events.users[row]]
        positives = [r for r in mine if events.positive[r]]
        if events.times is None:
            others = [r for r in positives if r != row]
        else:  # only earlier events, and of its visit all of them or none
            others = [r for r in positives if mine.index(r) < mine.index(row)]
            earlier = [r for r in others if events.times[r] < events.times[row]]
            if (len(others) - len(earlier)) % 2 == 0:
                others = earlier
        expected = [events.items[r] for r in others[-size:]]
        window = histories.items[starts[row] : ends[row]].tolist()
        if events.times is None and row in positives[-size - 1 :]:
            # The row itself is in its window; the tower leaves its item out.
            expected_with_row = [events.items[r] for r in positives[-size - 1 :]]
            assert window in (expected_with_row, expected)
            assert len(window) <= size + 1
        else:
            assert window == expected


@given(events(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_windows_of_now(events, size):
    histories = Histories(events, N_USERS)
    starts, ends = histories.now(size)
    assert (starts[0], ends[0]) == (0, 0)  # code 0 has no history
    order = in_order(events)
    for user in range(1, N_USERS + 1):
        mine = [
            events.items[r] for r in order if events.users[r] == user and events.positive[r]
        ]
        assert histories.items[starts[user] : ends[user]].tolist() == mine[-size:]


@given(events(), st.data(), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_windows_of_queries(past, data, size):
    codes = np.array(data.draw(st.lists(st.integers(0, N_USERS), min_size=1, max_size=4)))
    n = data.draw(st.integers(0, 8))
    queries = data.draw(
        st.lists(st.integers(0, len(codes) - 1), min_size=n, max_size=n).map(sorted)
    )
    items = data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))
    with_times = past.times is not None and data.draw(st.booleans())
    times = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    more = InteractionCodes(
        np.array(queries, dtype=np.int64),
        np.array(items, dtype=np.int32),
        np.ones(n, dtype=bool),
        np.array(times) if with_times else None,
    )
    histories = Histories(past, N_USERS)
    past_times = None if past.times is None else histories.ordered(past.times)
    found, (starts, ends) = windows_of_queries(histories, codes, size, more, past_times)
    order = in_order(past)
    for query, code in enumerate(codes):
        known = [r for r in order if past.users[r] == code and past.positive[r]]
        rows = [(past.items[r], past.times[r] if with_times else 0) for r in known][-size:]
        brought = [(items[i], times[i]) for i in range(n) if queries[i] == query]
        both = rows + brought
        if with_times:  # stable: known interactions come first
            both.sort(key=lambda pair: pair[1])
        expected = [item for item, _ in both[-size:]]
        assert found[starts[query] : ends[query]].tolist() == expected


def test_events_follow_one_another():
    first = InteractionCodes(np.array([1]), np.array([2]), np.array([True]), np.array([5]))
    later = InteractionCodes(np.array([3]), np.array([4]), np.array([False]), np.array([4]))
    both = first.followed_by(later)
    assert both.users.tolist() == [1, 3]
    assert both.times.tolist() == [5, 4]
    assert both.take(both.positive).items.tolist() == [2]
