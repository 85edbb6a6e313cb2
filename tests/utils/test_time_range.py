"""The kind of timestamps, and the unit of numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktwotower.utils._columns import time_numbers
from sktwotower.utils._times import TimeRange, time_kind

START, END = 3.2e8, 4.1e9  # 1980 and 2099 in seconds
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
moments = st.floats(START, END).map(int)


def range_of(column):
    series = pd.Series(column)
    return TimeRange.of(time_kind(series), time_numbers(series, name="t"))


def refuse(seen, column):
    series = pd.Series(column)
    numbers = time_numbers(series, name="t")
    range_of(seen).refuse_others(time_kind(series), numbers, name="t", where="history")


@given(moments, moments, st.sampled_from([*UNITS]), st.sampled_from([*UNITS]))
def test_units_are_told_apart(seen, other, unit, other_unit):
    seen, other = seen * UNITS[unit], other * UNITS[other_unit]
    for one, another in ((seen, other), (float(seen), other), (seen, float(other))):
        if unit == other_unit:
            refuse([one], [another])
        else:
            message = rf"in column 't' of history are of another unit.*\({other_unit} since"
            with pytest.raises(ValueError, match=rf"{message}.*\({unit} since 1970\)"):
                refuse([one], [another])


@given(
    st.lists(st.integers(-(10**6), 10**7), min_size=1, max_size=5),
    st.lists(st.integers(-(10**6), 10**8), min_size=1, max_size=5),
)
def test_counters_grow_as_they_like(seen, later):
    refuse(seen, later)


@given(moments, st.integers(0, 10**6))
def test_counters_are_no_moments(moment, counter):
    for one, other in (([moment], [counter]), ([counter], [moment])):
        with pytest.raises(ValueError, match=r"1 row \(first at row 0\)"):
            refuse(one, other)


def test_the_first_row_is_named():
    now = 1.7e9
    message = r"2 rows \(first at row 1\) with 1700000000000.0 \(milliseconds since 1970\)"
    with pytest.raises(ValueError, match=message):
        refuse([now - 9, now], [now, now * 1e3, now * 1e3 + 1])
    with pytest.raises(ValueError, match=r"first at row 1\) with 20240101, where"):
        refuse([10**9], [10**9, 20240101])
    refuse([0, now], [0, now])  # zeros that fit saw, too


def test_ranges_are_joined():
    assert range_of([3, 1]).joined(range_of([2, 9])) == TimeRange("number", 1, 9)
    assert range_of([3, 1]).joined(None) == TimeRange("number", 1, 3)
    assert isinstance(range_of(np.array([1, 2], dtype=np.uint64)).high, int)


KINDS = {
    "numbers": [1, 2],
    "datetimes": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    "durations": pd.to_timedelta([1, 2], unit="D"),
}


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_told_apart(kind, other):
    if kind == other:
        refuse(KINDS[kind], KINDS[other])
        return
    message = f"'t' of history are {other}, and cannot be compared.*fit, which were {kind}"
    with pytest.raises(ValueError, match=message):
        refuse(KINDS[kind], KINDS[other])


@pytest.mark.filterwarnings("ignore:Dtype inference on a pandas object:FutureWarning")
def test_datetimes_of_all_sorts_are_one_kind():
    days = KINDS["datetimes"]
    sorts = [
        days.as_unit("ns"),
        days.tz_localize("Europe/Vienna"),
        days.date,
        days.to_pydatetime(),
        days.astype(object),
    ]
    for sort in sorts:
        refuse(days, sort)
        refuse(sort, days)
    with pytest.raises(ValueError, match="are numbers.*pandas.to_datetime"):
        refuse(days, days.astype(np.int64))


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "microseconds"])
def test_datetimes_that_were_converted_without_their_unit(unit):
    moments_of_fit = pd.to_datetime([1_500_000_000, 1_700_000_000], unit="s")
    without_unit = pd.to_datetime(np.array([1_600_000_000]) * UNITS[unit])  # nanoseconds
    with pytest.raises(ValueError, match=r"in 1970 in 1 row \(first at row 0\).*unit='s'"):
        refuse(moments_of_fit, without_unit)
    refuse(without_unit, moments_of_fit)  # nothing is known of what came first
    refuse(pd.to_datetime(["1969-01-01", "1990-01-01"]), without_unit)
    refuse(moments_of_fit, pd.to_datetime(["1971-01-01", "1955-06-01"]))


@given(moments, moments, st.sampled_from([*UNITS]), st.sampled_from([*UNITS]))
def test_two_units_in_one_column(one, other, unit, other_unit):
    seen = range_of([one * UNITS[unit], other * UNITS[other_unit]])
    if unit == other_unit:
        seen.refuse_mixed_units(name="t", where="X")
    else:
        with pytest.raises(ValueError, match="column 't' of X are in two units: "):
            seen.refuse_mixed_units(name="t", where="X")
    range_of([0, other]).refuse_mixed_units(name="t", where="X")


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([3, 1, 2], "1 to 3"),
        ([8e8, 0.5], "0.5 to 800000000.0 (seconds since 1970)"),
        (
            pd.to_datetime(["2024-05-01 10:30", "1900-01-01 00:00"]),
            "1900-01-01 00:00:00 to 2024-05-01 10:30:00",
        ),
        (pd.to_timedelta(["2 days", "1 h"]), "0 days 01:00:00 to 2 days 00:00:00"),
    ],
)
def test_a_range_as_text(times, text):
    assert str(range_of(times)) == text
