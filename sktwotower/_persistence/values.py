"""Values as JSON and back, of a fixed list of kinds; nothing else is made of JSON."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

# What JSON has itself. Anything else is {kind: content}.
_PLAIN = (str, bool, int, type(None))


def encode(value: Any) -> Any:
    """Something that ``json.dumps`` takes, and that :func:`decode` makes the value of.

    Raises
    ------
    TypeError
        For a value of another kind.
    """
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [encode(entry) for entry in value]
    if kind is dict:
        return {"dict": [[encode(key), encode(entry)] for key, entry in value.items()]}
    if isinstance(value, np.generic):
        return {"scalar": _array_content(np.asarray(value))}
    if kind not in _ENCODERS:
        raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__}")
    name, content = _ENCODERS[kind]
    return {name: content(value)}


def decode(value: Any) -> Any:
    """The value that :func:`encode` was given.

    Raises
    ------
    ValueError
        For a kind that is not known.
    """
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()), (None, None))
    if len(value) != 1 or kind not in _DECODERS:
        raise ValueError(f"a value of the unknown kind {kind!r}")
    return _DECODERS[kind](content)


def _array_content(array: np.ndarray) -> list:
    if array.dtype.kind not in "biufcMmSU":
        raise TypeError(f"an array of dtype {array.dtype}")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return [array.dtype.str, list(array.shape), data]


def _array(content: Any) -> np.ndarray:
    dtype, shape, data = content
    if np.dtype(dtype).kind not in "biufcMmSU":
        raise ValueError(f"an array of dtype {dtype}")
    return np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape).copy()


def _ndarray(value: np.ndarray) -> Any:
    if value.dtype == object:
        return {"shape": list(value.shape), "entries": encode(value.ravel().tolist())}
    return _array_content(value)


def _from_ndarray(content: Any) -> np.ndarray:
    if isinstance(content, list):
        return _array(content)
    entries = decode(content["entries"])
    array = np.empty(len(entries), dtype=object)
    for place, entry in enumerate(entries):  # at once, lists would become columns
        array[place] = entry
    return array.reshape(content["shape"])


def _random_state(value: np.random.RandomState) -> Any:
    state: Any = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise TypeError(f"a RandomState with the generator {state['bit_generator']}")
    return encode(
        [*state["state"].values(), int(state["has_gauss"]), float(state["gauss"])]
    )


def _from_random_state(content: Any) -> np.random.RandomState:
    key, position, has_gauss, gauss = decode(content)
    random_state = np.random.RandomState()
    random_state.set_state(("MT19937", key, position, has_gauss, gauss))
    return random_state


def _timestamp(value: pd.Timestamp) -> list:
    zone = None
    if value.tz is not None:
        zone = str(value.tz)
        try:
            pd.Timestamp(0, tz=zone)
        except Exception as error:
            raise TypeError(f"a timestamp in the time zone {value.tz!r}") from error
    return [encode(value.to_datetime64()), zone]


def _from_timestamp(content: Any) -> pd.Timestamp:
    stamp = pd.Timestamp(decode(content[0]))
    zone = content[1]
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone)


def _sequence(value: Any) -> Any:
    return [encode(entry) for entry in value]


_ENCODERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    float: ("float", str),  # NaN and the infinite ones
    bytes: ("bytes", lambda value: base64.b64encode(value).decode()),
    tuple: ("tuple", _sequence),
    set: ("set", _sequence),
    frozenset: ("frozenset", _sequence),
    slice: ("slice", lambda value: encode([value.start, value.stop, value.step])),
    np.ndarray: ("array", _ndarray),
    np.random.RandomState: ("random state", _random_state),
    dt.datetime: ("datetime", dt.datetime.isoformat),
    dt.date: ("date", dt.date.isoformat),
    dt.time: ("time", dt.time.isoformat),
    dt.timedelta: ("timedelta", lambda d: [d.days, d.seconds, d.microseconds]),
    decimal.Decimal: ("decimal", str),
    uuid.UUID: ("uuid", str),
    type(pd.NA): ("missing", lambda _: "NA"),
    type(pd.NaT): ("missing", lambda _: "NaT"),
    pd.Timestamp: ("timestamp", _timestamp),
    pd.Timedelta: ("pandas timedelta", lambda value: encode(value.to_timedelta64())),
    pd.Period: ("period", lambda p: [p.ordinal, p.freqstr]),
    pd.Interval: ("interval", lambda i: [encode(i.left), encode(i.right), i.closed]),
    torch.device: ("device", str),
}

_DECODERS: dict[str | None, Callable[[Any], Any]] = {
    "dict": lambda pairs: {decode(key): decode(entry) for key, entry in pairs},
    "scalar": lambda content: _array(content)[()],
    "float": float,
    "bytes": base64.b64decode,
    "tuple": lambda entries: tuple(map(decode, entries)),
    "set": lambda entries: set(map(decode, entries)),
    "frozenset": lambda entries: frozenset(map(decode, entries)),
    "slice": lambda content: slice(*decode(content)),
    "array": _from_ndarray,
    "random state": _from_random_state,
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda parts: dt.timedelta(*parts),
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
    "missing": {"NA": pd.NA, "NaT": pd.NaT}.__getitem__,
    "timestamp": _from_timestamp,
    "pandas timedelta": lambda content: pd.Timedelta(decode(content)),
    "period": lambda content: pd.Period(ordinal=content[0], freq=content[1]),
    "interval": lambda c: pd.Interval(decode(c[0]), decode(c[1]), closed=c[2]),
    "device": torch.device,
}
