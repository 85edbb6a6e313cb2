"""Values of ids: exact numbers, look-ups among numbers of several types, and kinds."""

from __future__ import annotations

import datetime
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

_NUMBERS = "biuf"  # NumPy's kinds of numbers
_PLAIN_NUMBERS = (int, float, np.integer, np.floating, np.bool_)


def exact_limit(float_type: Any) -> float:
    """From here on a float may stand for several integers: 2**24 for float32."""
    return 2.0 ** min(np.finfo(float_type).nmant + 1, 53)  # ids become float64


def types_in(series: pd.Series) -> set[Any]:
    """The types of the values of an object column; none for another column."""
    if isinstance(series.dtype, pd.StringDtype):
        return {str}
    return set(map(type, series.to_numpy())) if series.dtype.kind == "O" else set()


def inexact(series: pd.Series, types: set[Any]) -> tuple[np.ndarray, str]:
    """Which floats may stand for several integers, (n,) bool, and the floats' type."""
    dtype: Any = series.dtype
    if dtype.kind == "O":
        floats = [t for t in types if issubclass(t, float | np.floating)]
        for kind in sorted(floats, key=exact_limit):
            limit = exact_limit(kind)
            bad = [type(v) is kind and bool(abs(v) >= limit) for v in series]
            if any(bad):
                return np.array(bad), kind.__name__
        return np.zeros(len(series), dtype=bool), ""
    if dtype.kind != "f":
        return np.zeros(len(series), dtype=bool), ""
    # Nullable, Arrow's and sparse dtypes name the NumPy dtype of their values.
    plain = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
    values = series.to_numpy(dtype=plain)
    return np.abs(values) >= exact_limit(plain), str(plain)


def have_complex(types: set[Any]) -> bool:
    """Whether there are complex numbers among the types of values."""
    return any(issubclass(t, complex | np.complexfloating) for t in types)


def numbers_of_objects(values: np.ndarray, types: set[Any]) -> np.ndarray | None:
    """An object array of numbers as numbers, with no integer rounded; None for others.

    Integers stay objects where neither int64 nor uint64 holds all of them.
    """
    if not types or not all(issubclass(t, _PLAIN_NUMBERS) for t in types):
        return None
    if np.timedelta64 in types:  # an integer to NumPy
        return None
    if all(issubclass(t, bool | np.bool_) for t in types):
        return values.astype(bool)
    if all(issubclass(t, float | np.floating) for t in types):
        return values.astype(np.float64)
    if not any(issubclass(t, float | np.floating) for t in types):
        return _integers(values)
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    if all(v == int(v) for v in plain):
        return _integers(_objects([int(v) for v in plain]))
    if all(abs(v) < exact_limit(float) for v in plain):
        return np.array(plain, dtype=np.float64)
    return _objects(plain)


def _integers(values: np.ndarray) -> np.ndarray:
    numbers = [int(v) for v in values]
    for kind in (np.int64, np.uint64):
        bounds = np.iinfo(kind)  # NumPy 1 wraps what is beyond them
        if bounds.min <= min(numbers) and max(numbers) <= bounds.max:
            return np.array(numbers, dtype=kind)
    return _objects(numbers)


def _objects(values: list) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def signed_where_possible(values: np.ndarray) -> np.ndarray:
    """Integers as int64, or as uint64 where one of them needs it."""
    if values.dtype.kind == "u" and values.max(initial=0) > np.iinfo(np.int64).max:
        return values.astype(np.uint64)
    return values.astype(np.int64)


def as_index(ids: np.ndarray) -> pd.Index:
    """An index of ids; strings stay objects, which are looked up without a copy."""
    is_text = ids.dtype == object and len(ids) and isinstance(ids[0], str)
    return pd.Index(ids, dtype=object) if is_text else pd.Index(ids)


def positions_in(index: pd.Index, ids: np.ndarray) -> np.ndarray:
    """Position of each id in an index of distinct ids, (n,); -1 for others.

    Numbers of different types are equal where their values are, without rounding.
    """
    if isinstance(index.dtype, np.dtype) and ids.dtype != index.dtype:
        kinds = index.dtype.kind, ids.dtype.kind
        if all(kind in _NUMBERS for kind in kinds):
            cast, same = _cast(ids, index.dtype)
            return np.where(same, index.get_indexer(pd.Index(cast)), -1)
        if ids.dtype.kind in _NUMBERS and kinds[0] == "O":
            return index.get_indexer(pd.Index(ids.astype(object), dtype=object))
    wanted = as_index(ids)
    if _are_times(index) != _are_times(wanted):
        # pandas would read strings and dates as times.
        index, wanted = index.astype(object), wanted.astype(object)
    return index.get_indexer(wanted)


def _are_times(index: pd.Index) -> bool:
    return index.dtype.kind in "mM" or isinstance(index.dtype, pd.PeriodDtype)


def joined(index: pd.Index, ids: np.ndarray) -> pd.Index:
    """An index with further ids at its end; integers stay integers."""
    if not isinstance(index.dtype, np.dtype) or index.dtype == ids.dtype:
        return index.append(as_index(ids))
    if index.dtype.kind not in _NUMBERS or ids.dtype.kind not in _NUMBERS:
        return index.append(as_index(ids))
    known = index.to_numpy()
    for kind in (np.int64, np.uint64, np.float64):
        parts = [_cast(part, np.dtype(kind)) for part in (known, ids)]
        if all(same.all() for _, same in parts):
            return pd.Index(np.concatenate([cast for cast, _ in parts]))
    both = np.concatenate([known.astype(object), ids.astype(object)])
    return pd.Index(both, dtype=object)


def _cast(numbers: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of another type, and which of them have the same value there."""
    with np.errstate(invalid="ignore"):
        cast = numbers.astype(dtype)
        same = cast.astype(numbers.dtype) == numbers
    return cast, same & ((cast < 0) == (numbers < 0))  # integers wrap around


def kinds_of(ids: Any) -> dict[str, Any]:
    """The kinds of ids, by name, with the first id of each.

    All numbers are of one kind, as are all strings; ids of two kinds are never equal.
    """
    values = np.asarray(ids)
    if values.dtype.kind in _NUMBERS:
        return {"number": values[0].item()} if len(values) else {}
    if values.dtype != object:
        values = pd.Series(values[:1]).astype(object).to_numpy()
    elif pd.api.types.infer_dtype(values, skipna=False) == "string":  # without Python
        values = values[:1]
    first_of: dict[str, Any] = {}
    for kind in dict.fromkeys(map(type, values)):
        example = next(v for v in values if type(v) is kind)
        first_of.setdefault(_kind(example), example)
    return first_of


def _kind(value: Any) -> str:
    if isinstance(value, Number | np.bool_):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, datetime.datetime):
        return "datetime" if value.tzinfo is None else "datetime with a time zone"
    return type(value).__name__


def described(kinds: dict[str, Any]) -> str:
    """Kinds of ids for messages: ``"int (such as 5) and str (such as 'B07')"``."""
    return " and ".join(
        f"{'str' if isinstance(example, str) else type(example).__name__} "
        f"(such as {example!r})"
        for example in kinds.values()
    )


def number_in(text: Any) -> int | float | None:
    """The number that a string spells; None for other strings, and for other values."""
    if not isinstance(text, str):
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except (ValueError, OverflowError):
            continue
        # float("nan") and float("infinity") may be names
        return number if abs(number) < float("inf") else None
    return None
