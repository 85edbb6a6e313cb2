"""Values as JSON and back, of a fixed list of kinds; nothing else is made from JSON."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

# Types that JSON has itself. A value of another type is {name of the kind: content}.
_PLAIN = (str, bool, type(None))
# Python neither writes nor reads much longer integers in decimal.
_BITS_IN_DECIMAL = 4096


def encode(value: Any) -> Any:
    """Something that ``json.dumps`` takes and :func:`decode` turns into the value again.

    Raises
    ------
    TypeError
        For a value of another kind.
    """
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is int and value.bit_length() <= _BITS_IN_DECIMAL:
        return value
    if kind is list:
        return _entries(value)
    name = "scalar" if isinstance(value, np.generic) else _NAMES.get(kind)
    if name is None:
        raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__}")
    _, to_json, _ = _KINDS[name]
    return {name: to_json(value)}


def decode(value: Any) -> Any:
    """The value that :func:`encode` was given.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    name, content = next(iter(value.items()), (None, None))
    if len(value) != 1 or name not in _KINDS:
        raise ValueError(f"a value of the unknown kind {name!r}")
    _, _, from_json = _KINDS[name]
    return from_json(content)


def zone_name(zone: Any) -> str:
    """A name by which pandas finds a time zone.

    Raises
    ------
    TypeError
        If there is none, as for a class of one's own.
    """
    dtype = pd.DatetimeTZDtype("ns", zone)
    # One of dateutil has the path of its file.
    of_dateutil = str(getattr(zone, "_filename", "")).rpartition("zoneinfo/")[2]
    for name in (str(zone), f"dateutil/{of_dateutil}"):
        try:
            if pd.DatetimeTZDtype("ns", name) == dtype:
                return name
        except Exception:  # no zone has this name
            continue
    raise TypeError(f"the time zone {zone!r}")


def _entries(values: Iterable) -> list:
    return [encode(value) for value in values]


def _unordered(values: Iterable) -> list:
    """Entries whose order depends on nothing but the values."""
    return sorted(_entries(values), key=json.dumps)


def _numbers(array: np.ndarray) -> list:
    if array.dtype.kind not in "biufcMmSU":
        raise TypeError(f"an array of dtype {array.dtype}")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return [array.dtype.str, list(array.shape), data]


def _from_numbers(content: list) -> np.ndarray:
    dtype, shape, data = content
    if np.dtype(dtype).kind not in "biufcMmSU":
        raise ValueError(f"an array of dtype {dtype}")
    return np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape).copy()


def _array(value: np.ndarray) -> Any:
    if value.dtype == object:
        return {"shape": list(value.shape), "entries": _entries(value.ravel().tolist())}
    return _numbers(value)


def _from_array(content: Any) -> np.ndarray:
    if isinstance(content, list):
        return _from_numbers(content)
    entries = decode(content["entries"])
    array = np.empty(len(entries), dtype=object)
    for position, entry in enumerate(entries):  # at once, lists would become columns
        array[position] = entry
    return array.reshape(content["shape"])


def _timestamp(value: pd.Timestamp) -> list:
    zone = None if value.tz is None else zone_name(value.tz)
    return [int(value.asm8.astype(np.int64)), value.unit, zone]


def _from_timestamp(content: list) -> pd.Timestamp:
    number, unit, zone = content
    stamp = pd.Timestamp(np.datetime64(number, unit))
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone)


# By name: a type, its values as JSON, and the values from JSON.
_KINDS: dict[str | None, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "float": (float, str, float),  # NaN and infinity
    "int": (int, hex, lambda content: int(content, 16)),  # a long one
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "tuple": (tuple, _entries, lambda content: tuple(decode(content))),
    "set": (set, _unordered, lambda content: set(decode(content))),
    "frozenset": (frozenset, _unordered, lambda content: frozenset(decode(content))),
    "dict": (
        dict,
        lambda value: [[encode(key), encode(entry)] for key, entry in value.items()],
        lambda content: dict(map(decode, content)),
    ),
    "slice": (
        slice,
        lambda value: _entries([value.start, value.stop, value.step]),
        lambda content: slice(*decode(content)),
    ),
    "scalar": (
        np.generic,
        lambda value: _numbers(np.asarray(value)),
        lambda content: _from_numbers(content)[()],
    ),
    "array": (np.ndarray, _array, _from_array),
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "time": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "timedelta": (
        dt.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda content: dt.timedelta(*content),
    ),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "NA": (type(pd.NA), lambda _: None, lambda _: pd.NA),
    "NaT": (type(pd.NaT), lambda _: None, lambda _: pd.NaT),
    "timestamp": (pd.Timestamp, _timestamp, _from_timestamp),
    "pandas timedelta": (
        pd.Timedelta,
        lambda value: [int(value.asm8.astype(np.int64)), value.unit],
        lambda content: pd.Timedelta(np.timedelta64(*content)),
    ),
    "period": (
        pd.Period,
        lambda value: [value.ordinal, value.freqstr],
        lambda content: pd.Period(ordinal=content[0], freq=content[1]),
    ),
    "interval": (
        pd.Interval,
        lambda value: _entries([value.left, value.right, value.closed]),
        lambda content: pd.Interval(*decode(content)),
    ),
    "device": (torch.device, str, torch.device),
}
_NAMES = {kind: name for name, (kind, _, _) in _KINDS.items()}
