"""Values as JSON: what comes back is what went in."""

import datetime as dt
import decimal
import json
import uuid

import numpy as np
import pandas as pd
import pytest
import torch

from sktwotower.utils._json_values import decode, encode
from tests.helpers import BERLIN

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
    pd.Timestamp("2020-01-01", tz=BERLIN),
    pd.Timestamp("2020-01-01", tz=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    pd.Timestamp(np.datetime64("9999-01-01", "s")),
    pd.Timedelta(5, "s").as_unit("s"),
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


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back(value):
    twin = there_and_back(value)
    assert type(twin) is type(value)
    assert twin == value
    if not isinstance(value, set | frozenset):  # whose order depends on how it was made
        assert repr(twin) == repr(value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_come_back_and_can_be_written_to(array):
    twin = there_and_back(array)
    assert twin.dtype == array.dtype
    np.testing.assert_array_equal(twin, array)
    assert twin.flags.writeable


def test_what_is_missing_comes_back():
    assert there_and_back(pd.NA) is pd.NA
    assert there_and_back(pd.NaT) is pd.NaT
    assert np.isnan(there_and_back(float("nan")))


@pytest.mark.parametrize(
    "value, what",
    [
        (object(), "a value of type builtins.object"),
        (len, "a value of type builtins.builtin_function_or_method"),
        ([1j], "a value of type builtins.complex"),
        (np.zeros(1, dtype=[("a", int)]), "an array of dtype"),
        (np.random.RandomState(3), "a value of type numpy.random"),
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
            "the time zone",
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


def test_the_order_of_a_set_does_not_show():
    values = [f"value {number}" for number in range(20)]
    assert encode(set(values)) == encode(set(reversed(values)))


def test_integers_of_any_length_come_back():
    for value in (10**400, -(10**5000)):  # Python writes no more than 4,300 digits
        assert (decode(json.loads(json.dumps(encode(value)))) == value) is True
