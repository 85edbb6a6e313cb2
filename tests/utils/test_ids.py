"""Ids: floats that are refused, integers that stay integers, and look-ups."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sktwotower.utils._columns import as_objects, id_array
from sktwotower.utils._ids import joined, kinds_of, number_in, positions_in

BIG = 2**53


def ids_of(values, **options):
    return id_array(values, what="user id", **options)


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def test_lone_surrogates_are_no_text():
    with pytest.raises(ValueError, match=r"X has 1 row .* no text \(first at row 1\)"):
        ids_of(["a", "b\ud800"])
    assert ids_of(["a", "\N{SNOWMAN}"]).tolist() == ["a", "\N{SNOWMAN}"]


# --- floats --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [
        ("float16", 2**11),
        ("float32", 2**24),
        ("float64", BIG),
        ("Float32", 2**24),
        ("Float64", BIG),
        ("float[pyarrow]", 2**24),
        ("double[pyarrow]", BIG),
        ("longdouble", BIG),  # ids become float64
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_floats_from_the_first_that_is_not_exact(dtype, limit, sign):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    exact = pd.Series([0, sign * (limit - 1)]).astype(dtype)
    assert ids_of(exact).tolist() == [0.0, sign * (limit - 1)]
    columns = [exact + sign]
    if dtype not in ("float16", "longdouble"):  # pandas has no index of these
        columns.append(columns[0].astype("category"))
    for column in columns:
        with pytest.raises(ValueError, match=r"^Column 'u' has 1 row .*\(first at row 1\)"):
            ids_of(column, where="Column 'u'")


def test_the_message_says_what_to_do():
    with pytest.raises(ValueError) as error:
        ids_of(np.array([5, 2**24], dtype=np.float32), where="candidates")
    assert str(error.value) == (
        "candidates has 1 row with a float32 user id that may be a rounded integer (first "
        "at row 1): 16777216.0. From 16777216 on several integers are the same float32. "
        "Pass ids as integers or strings, from the file on: as float they are rounded "
        "already."
    )


@pytest.mark.parametrize(
    "values",
    [
        [1, float(BIG)],
        ["a", float(BIG)],
        [1, np.float32(2**24)],
        [np.float64(1), np.float32(2**24)],
        [1.5, np.float16(2**11)],
    ],
    ids=str,
)
def test_floats_among_objects(values):
    with pytest.raises(ValueError, match=r"may be a rounded integer \(first at row 1\)"):
        ids_of(values)
    with pytest.raises(ValueError, match="may be a rounded integer"):
        ids_of(objects(values))


def test_floats_that_are_exact_stay():
    assert ids_of([0.5, -1.5]).tolist() == [0.5, -1.5]
    assert ids_of(np.array([1.5], dtype=np.float32)).dtype == np.float64
    assert ids_of(["1e300"]).tolist() == ["1e300"]


def test_rows_that_are_arrays_keep_their_type():
    rows = [np.array([2**24, 1], dtype=np.float32)] * 2
    assert as_objects(rows).dtype == np.float32
    assert as_objects([np.array([1]), np.array(["a"])]).tolist() == [[1], ["a"]]


def test_strings_that_are_no_text():
    strings = ["a", "\ud800"]
    for ids in (strings, np.array(strings), np.array(strings, dtype=object)):
        with pytest.raises(ValueError, match=r"X has 1 row .* no text \(first at row 1\)"):
            ids_of(ids)


# --- integers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([1, 2], dtype=np.uint8), np.int64),
        (np.array([1, 2**63 - 1], dtype=np.uint64), np.int64),
        (np.array([1, 2**63], dtype=np.uint64), np.uint64),
        ([1, 2**63], np.uint64),
        ([np.uint64(2**63 - 1), np.int8(-1)], np.int64),
        ([-1, 2**63], object),
        ([2**64, 10**400], object),
        ([True, 2], np.int64),
        ([True, False], bool),
        (pd.Series([True, False], dtype="boolean"), bool),
        (pd.Series([1, 2], dtype="UInt16"), np.int64),
        ([1, 2.0], np.int64),
        ([2**60 + 1, 3.0], np.int64),
        ([1, 2.5], np.float64),
        ([2**60 + 1, 2.5], object),
    ],
    ids=str,
)
def test_integers_are_integers(values, dtype):
    ids = ids_of(values)
    assert ids.dtype == dtype
    assert ids.tolist() == list(values)


NUMBERS = [
    [True, False],
    [1, 2, 2**60 + 1, -1],
    [2**60 + 1, 2**63 - 1, 2**63, 2**64 - 1, 1],
    [0.5, 1.0, float(BIG - 1)],
    [-1, 2**64, 1, 2**63],
]


@pytest.mark.parametrize("one", NUMBERS, ids=str)
@pytest.mark.parametrize("other", NUMBERS, ids=str)
def test_numbers_meet_without_rounding(one, other):
    """Against dict, in which Python compares numbers exactly."""
    known, new = ids_of(one), ids_of(other)
    place = {value: i for i, value in enumerate(one)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = positions_in(pd.Index(known), new)
        assert found.tolist() == [place.get(value, -1) for value in other]
        longer = joined(pd.Index(known), new[found < 0])
    assert longer.to_numpy().tolist() == [*one, *(v for v in other if v not in place)]
    if all(type(value) is not float for value in [*one, *other]):
        assert longer.dtype.kind != "f"


def test_other_ids_are_looked_up_among_numbers():
    index = pd.Index([1, 2])
    mixed = np.array(["1", 2, 1.0, b"1"], dtype=object)
    assert positions_in(index, mixed).tolist() == [-1, 1, 0, -1]
    assert positions_in(pd.Index(["a", 1], dtype=object), np.array([1, 2])).tolist() == [
        1,
        -1,
    ]


def test_times_are_not_read_from_strings_and_dates():
    days = pd.date_range("2020-01-01", periods=2)
    texts, dates = objects(days.strftime("%Y-%m-%d")), objects(days.date)
    for index in (
        pd.Index(days),
        days.tz_localize("UTC"),
        days.to_period("D"),
        pd.Index(dates),
    ):
        assert positions_in(index, texts).tolist() == [-1, -1]
    assert positions_in(pd.Index(days), dates).tolist() == [-1, -1]
    assert positions_in(pd.Index(dates), days.to_numpy()).tolist() == [-1, -1]
    waits = days - days[0]
    assert positions_in(waits, objects(["0 days", "1 days"])).tolist() == [-1, -1]
    for known in (days.to_numpy(), days.astype("datetime64[s]").to_numpy()):
        assert positions_in(pd.Index(known), days.to_numpy()).tolist() == [0, 1]
        assert positions_in(pd.Index(known), objects(days)).tolist() == [0, 1]


# --- kinds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ([3, 1.5, True], {"number": 3}),
        (["b", np.str_("a")], {"string": "b"}),
        ([b"b"], {"bytes": b"b"}),
        ([pd.Timestamp(0)], {"datetime": pd.Timestamp(0)}),
        ([(1, "a"), "a"], {"tuple": (1, "a"), "string": "a"}),
        ([], {}),
    ],
    ids=str,
)
def test_kinds_have_an_example(values, kinds):
    assert kinds_of(objects(values)) == kinds


def test_kinds_of_times():
    days = pd.date_range("2020-01-01", periods=2)
    assert list(kinds_of(days.to_numpy())) == ["datetime"]
    zoned = days.tz_localize("Europe/Berlin").to_numpy()
    assert list(kinds_of(zoned)) == ["datetime with a time zone"]
    assert list(kinds_of(days.date)) == ["date"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("100", 100), (" 7", 7), ("007", 7), ("1.0", 1), ("-2", -2), ("1e400", None)]
    + [(text, None) for text in ("B07", "", "nan", "inf", "1/2")],
)
def test_numbers_in_strings(text, number):
    assert number_in(text) == number


def test_other_values_spell_nothing():
    assert number_in(100) is None
    assert number_in(b"100") is None
