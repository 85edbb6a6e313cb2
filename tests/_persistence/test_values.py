"""Values as JSON and frames as Parquet: what comes back is what went in."""

import datetime as dt
import decimal
import json
import uuid

import numpy as np
import pandas as pd
import pytest
import torch

from sktwotower._persistence.values import decode, encode

VALUES = [
    None,
    True,
    1,
    2**80,
    1.5,
    -0.0,
    float("inf"),
    "a\ud800",
    b"\x00x",
    [1, [2.5]],
    (1, ("a",)),
    {1, "b"},
    frozenset([1]),
    {"a": 1, 2: [3]},
    slice(1, None, 2),
    np.float32(1.1),
    np.int8(3),
    np.str_("x"),
    np.datetime64("2020-01-01"),
    dt.datetime(2020, 1, 1, 2, tzinfo=dt.UTC),
    dt.date(2020, 1, 2),
    dt.time(3),
    dt.timedelta(1, 2, 3),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    pd.Timestamp("2020-01-01 01:02:03.000000005"),
    pd.Timestamp("2020-01-01", tz="Europe/Berlin"),
    pd.Timestamp("2020-01-01", tz="+01:00"),
    pd.Timedelta("1D 3s"),
    pd.Period("2020-01", "M"),
    pd.Interval(0.5, 2),
    pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021"), closed="left"),
    torch.device("cuda:1"),
]
ARRAYS = [
    np.array([[1, 2], [3, 4]], dtype="i2"),
    np.array(["a", None, [1], [2]], dtype=object),
    np.array([[1, None], ["b", 2]], dtype=object),
    np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    np.array([True, False]),
    np.array(["ab", "c"]),
    np.empty(0),
]


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value):
    twin = there_and_back(value)
    assert type(twin) is type(value)
    assert twin == value
    assert repr(twin) == repr(value)


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_arrays_come_back_and_can_be_written_to(array):
    twin = there_and_back(array)
    assert twin.dtype == array.dtype
    np.testing.assert_array_equal(twin, array)
    assert twin.flags.writeable


def test_missing_values_come_back():
    assert there_and_back(pd.NA) is pd.NA
    assert there_and_back(pd.NaT) is pd.NaT
    assert np.isnan(there_and_back(float("nan")))


def test_a_random_state_goes_on():
    one = np.random.RandomState(3)
    one.standard_normal(3)  # one more is kept for the next call
    twin = there_and_back(one)
    np.testing.assert_array_equal(twin.standard_normal(700), one.standard_normal(700))


@pytest.mark.parametrize(
    "value, what",
    [
        (object(), "a value of type builtins.object"),
        (len, "a value of type builtins.builtin_function_or_method"),
        ([1j], "a value of type builtins.complex"),
        (np.zeros(1, dtype=[("a", int)]), "an array of dtype"),
        (np.random.RandomState(np.random.PCG64()), "with the generator PCG64"),
        (
            pd.Timestamp(
                "2020",
                tz=type(
                    "Zone",
                    (dt.tzinfo,),
                    {
                        "utcoffset": lambda self, when: dt.timedelta(0),
                        "dst": lambda self, when: None,
                    },
                )(),
            ),
            "a timestamp in the time zone",
        ),
    ],
)
def test_others_are_refused(value, what):
    with pytest.raises(TypeError, match=what):
        encode(value)


@pytest.mark.parametrize(
    "value", [{"call": "os.system"}, {}, {"tuple": [], "set": []}, [{"call": []}]]
)
def test_unknown_kinds_are_refused(value):
    with pytest.raises(ValueError, match="unknown kind"):
        decode(value)


def test_arrays_of_objects_are_no_bytes():
    content = {"array": ["|O", [1], "AAAAAAAAAAA="]}
    with pytest.raises(ValueError, match="an array of dtype"):
        decode(content)


FRAME = {
    "int": [1, 2, 3],
    "small": np.array([1, 2, 3], dtype="u1"),
    "half": np.array([1, 2, 3], dtype="f2"),
    "float": [1.0, np.nan, 3],
    "text": ["a", None, "b"],
    "old text": pd.Series(["a", None, "b"], dtype=object),
    "nullable text": pd.array(["a", None, "b"], dtype="string"),
    "mixed": [1, "a", 2.5],
    "list": [[1, 2], ["a"], None],
    "vector": [np.array([1.0, 2.0]), [3.0, 4.0], None],
    "set": [{"a"}, {"b", "c"}, set()],
    "category": pd.Categorical(["x", "y", None], categories=["y", "x", "z"], ordered=True),
    "numbers": pd.Categorical([1, 2, 1]),
    "mixed category": pd.Categorical([1, "a", 1]),
    "bins": pd.cut([1.0, 2.0, 3.0], 2),
    "seconds": pd.to_datetime(["2020", "2021", None]).astype("M8[s]"),
    "nanoseconds": pd.to_datetime(["2020", "2021", None]).astype("M8[ns]"),
    "zoned": pd.to_datetime(["2020", "2021", None]).tz_localize("Europe/Berlin"),
    "duration": pd.to_timedelta([1, 2, None], unit="s"),
    "nullable": pd.array([1, None, 2**60 + 1], dtype="Int64"),
    "flag": pd.array([True, None, False], dtype="boolean"),
    "period": pd.period_range("2020", periods=3, freq="M"),
    "interval": pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3]),
    "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
    "date": [dt.date(2020, 1, 1)] * 3,
    5: [1, 2, 3],
    ("a", "b"): [1, 2, 3],
}


def parquet_and_back(frame):
    pytest.importorskip("pyarrow")
    from sktwotower._persistence.frames import from_parquet, to_parquet

    content, description = to_parquet(frame)
    return from_parquet(content, json.loads(json.dumps(description)))


@pytest.mark.parametrize("n_rows", [3, 0])
def test_frames_come_back(n_rows):
    frame = pd.DataFrame(FRAME).head(n_rows)
    twin = parquet_and_back(frame)
    pd.testing.assert_frame_equal(twin, frame)
    for name in frame:
        assert twin[name].dtype == frame[name].dtype
        if frame[name].dtype.kind == "O":
            assert list(map(type, twin[name])) == list(map(type, frame[name])), name


def test_a_series_comes_back():
    series = pd.Series([["a"], ["b", "c"]], name="tags")
    pd.testing.assert_series_equal(parquet_and_back(series), series)


def test_a_frame_without_columns_keeps_its_rows():
    assert parquet_and_back(pd.DataFrame(index=range(3))).shape == (3, 0)


def test_a_column_that_cannot_be_stored_is_named():
    pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match="Column 'x' holds a value of type builtins.object"):
        parquet_and_back(pd.DataFrame({"x": [object()]}))


def test_a_file_with_another_shape_is_refused():
    pytest.importorskip("pyarrow")
    from sktwotower._persistence.frames import from_parquet, to_parquet

    content, _ = to_parquet(pd.DataFrame({"a": [1, 2], "b": [1, 2]}))
    _, narrow = to_parquet(pd.DataFrame({"a": [1, 2]}))
    with pytest.raises(ValueError, match="2 columns instead of 1"):
        from_parquet(content, narrow)
    _, short = to_parquet(pd.DataFrame({"a": [1], "b": [1]}))
    with pytest.raises(ValueError, match="2 rows instead of 1"):
        from_parquet(content, short)
