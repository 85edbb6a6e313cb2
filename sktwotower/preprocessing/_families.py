"""Read the columns of X and find the family of their values.

The *family* of a column is what its values are ("string", "number", "list", ...), and is
found in each call. The *kind* of a field (``_fields.py``) is how they are encoded, and is
fixed by ``fit``.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from sktwotower.utils._columns import as_pandas
from sktwotower.utils._forms import refuse_lazy

LISTS = (list, tuple, set, frozenset, np.ndarray)
BOOLEANS = (bool, np.bool_)
NUMBERS = (numbers.Number, decimal.Decimal)
COMPLEX = (complex, np.complexfloating)
DATES = (datetime.date, np.datetime64, pd.Period)
DURATIONS = (datetime.timedelta, np.timedelta64)
OTHERS = (str, bytes, datetime.time, enum.Enum, uuid.UUID, pd.Interval)
SCALARS: tuple[type, ...] = (*BOOLEANS, *NUMBERS, *DATES, *DURATIONS, *OTHERS)
# Numbers beyond the range of float32, in which the towers calculate, are clipped to it.
LARGEST = float(np.finfo(np.float32).max)

FAMILY_OF_DTYPE_KIND = {
    "b": "boolean",
    "i": "number",
    "u": "number",
    "f": "number",
    "M": "datetime",
    "m": "timedelta",
}


@dataclass
class Column:
    """A column of X.

    Attributes
    ----------
    name : str
        Name of the column, for messages; ``x0``, ``x1``, ... for arrays.
    values : Series of shape (n_samples,)
        Its values.
    missing : ndarray of bool of shape (n_samples,)
        Which values are missing.
    family : str
        "boolean", "number", "datetime", "timedelta", "string", "mixed" (other scalars),
        "list", or "missing" if all values are missing.
    """

    name: str
    values: pd.Series
    missing: np.ndarray
    family: str

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> np.ndarray:
        """Positions of the rows that have a value."""
        return np.flatnonzero(~self.missing)

    def head(self, n: int) -> Column:
        """The first n rows."""
        return Column(self.name, self.values.iloc[:n], self.missing[:n], self.family)

    def first_row(self, is_wrong: Callable[[Any], bool]) -> tuple[int, Any]:
        """Position and value of the first wrong value; missing values are skipped."""
        values = self.values.to_numpy(dtype=object)
        return next((int(r), values[r]) for r in self.rows if is_wrong(values[r]))

    def lists(self) -> np.ndarray:
        """The lists that are not missing, as an object array; each is 1-D."""
        values = self.values.to_numpy(dtype=object)[self.rows]
        if any(isinstance(v, np.ndarray) and v.ndim != 1 for v in values):
            row, value = self.first_row(lambda v: getattr(v, "ndim", 1) != 1)
            raise ValueError(
                f"Column {self.name!r} holds an array of shape {value.shape} at row "
                f"{row}; every array in a column must be 1-D."
            )
        return values

    @cached_property
    def factorized(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes (-1 if missing) and distinct keys of a column of scalars."""
        return factorize(self.values)

    @cached_property
    def floats(self) -> np.ndarray:
        """Values as float64, times in days, NaN if missing; refuses infinite values."""
        try:
            floats = _to_floats(self.values, self.family)
        except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta) as error:
            raise ValueError(
                f"Column {self.name!r} has a time that is out of range ({error}); replace "
                "it, or make it missing."
            ) from error
        return in_range(self.name, floats)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Lists of numbers of one length as float64, (n_samples, length).

        They are NaN if missing; infinite entries are refused.
        """
        lists = list(self.lists())
        vectors = np.full((len(self), len(lists[0])), np.nan)
        vectors[self.rows] = _number_floats(lists)
        return in_range(self.name, vectors)


def in_range(name: str, values: np.ndarray) -> np.ndarray:
    """Clip values (n_samples,) or (n_samples, n_entries) to the range of float32.

    Raises
    ------
    ValueError
        If some are infinite.
    """
    infinite = np.isinf(values).reshape(len(values), -1)
    if infinite.any():
        n_infinite, row = int(infinite.sum()), int(infinite.any(axis=1).argmax())
        values_noun = "value" if n_infinite == 1 else "values"
        raise ValueError(
            f"Column {name!r} has {n_infinite} infinite {values_noun} (first at row "
            f"{row}); replace or drop them."
        )
    return np.clip(values, -LARGEST, LARGEST)


def _to_floats(values: pd.Series, family: str) -> np.ndarray:
    if family == "missing":
        return np.full(len(values), np.nan)
    if family == "number":
        if values.dtype == object:
            return _number_floats(values.to_numpy())
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    times: np.ndarray
    if family == "timedelta":
        times = _in_microseconds(pd.to_timedelta(values).to_numpy())
    else:
        if values.dtype == object:  # dates, timestamps and periods side by side
            values = values.map(_without_period)
        # Times without a zone are UTC.
        moments = pd.to_datetime(values, utc=True).dt.tz_localize(None)
        times = _in_microseconds(moments.to_numpy())
    days = times.view(np.int64) / 86_400e6
    days[np.isnat(times)] = np.nan
    return days


def _in_microseconds(times: np.ndarray) -> np.ndarray:
    """Times of any unit in microseconds; too far ones become the farthest."""
    unit, _ = np.datetime_data(times.dtype)
    farthest = np.iinfo(np.int64).max // {"s": 10**6, "ms": 10**3}.get(unit, 1)
    clipped = np.clip(times.view(np.int64), -farthest, farthest).view(times.dtype)
    times = np.where(np.isnat(times), times, clipped)
    return times.astype(f"{times.dtype.kind}8[us]")


def _number_floats(values: Any) -> np.ndarray:
    """Numbers, or lists of numbers of one length, as float64; NaN if missing."""
    try:
        floats = np.array(values, dtype=np.float64)
        if not np.isinf(floats).any():
            return floats
    except (OverflowError, TypeError):  # too large, or pandas.NA
        pass
    objects = np.array(values, dtype=object)
    floats = np.array([_float_of(value) for value in objects.flat], dtype=np.float64)
    return floats.reshape(objects.shape)


def _float_of(value: Any) -> float:
    """A number as a float; finite ones that no float can hold become the largest ones."""
    if value is pd.NA or value is None:
        return np.nan
    try:
        number = float(value)
    except OverflowError:
        number = np.inf if value > 0 else -np.inf
    is_beyond = np.isinf(number) and value != number
    return float(np.copysign(LARGEST, number)) if is_beyond else number


def _without_period(value: Any) -> Any:
    return value.to_timestamp() if isinstance(value, pd.Period) else value


def key_of(value: Any) -> str:
    """The string that represents a scalar.

    Equal numbers of any type have the same key (``2``, ``2.0`` and ``Decimal("2")`` are
    "2"), because a missing value turns a column of integers into floats.
    """
    if isinstance(value, BOOLEANS) or not isinstance(value, NUMBERS):
        return str(value)
    number: Any = value
    try:
        if isinstance(number, numbers.Integral) or float(number).is_integer():
            return str(int(number))
        as_float = float(number)
    except (OverflowError, ValueError):  # too large for a float, or to be written as a str
        return hex(number) if isinstance(number, numbers.Integral) else repr(number)
    return str(as_float) if as_float == number or not np.isinf(as_float) else repr(number)


def factorize(values: pd.Series | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and distinct keys of scalars.

    Parameters
    ----------
    values : array-like of shape (n_values,)
        Scalars; some may be missing.

    Returns
    -------
    codes : ndarray of int of shape (n_values,)
        Positions in ``keys``; -1 if missing.
    keys : ndarray of object of shape (n_keys,)
        Distinct strings, in no particular order.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = np.asarray(pd.Series(values).cat.codes, dtype=np.intp)
        distinct = values.dtype.categories
    else:
        if values.dtype == object and not _is_hash_safe(values):
            missing = pd.isna(values)
            pairs = zip(values, missing, strict=True)
            texts = (None if m else key_of(v) for v, m in pairs)
            values = np.fromiter(texts, dtype=object, count=len(values))
        codes, distinct = pd.factorize(pd.Series(values, dtype=values.dtype))
    keys = np.array([key_of(value) for value in distinct], dtype=object)
    merged, unique_keys = pd.factorize(keys)
    if len(unique_keys) < len(keys):  # a category dtype may have 1 and "1"
        codes, keys = np.where(codes < 0, -1, merged[codes]), unique_keys
    return codes, keys


def _is_hash_safe(values: pd.Series | np.ndarray) -> bool:
    """Whether equal values have equal keys, so that pandas may merge them first.

    This is not so in mixed columns: True equals 1, and which of them is kept would depend
    on the order of the rows.
    """
    types = set(map(type, values[~np.asarray(pd.isna(values))]))
    return all(issubclass(t, str) for t in types) or (
        all(issubclass(t, NUMBERS) for t in types) and bool not in types
    )


def read_columns(encoder: Any, X: Any, *, reset: bool) -> list[Column]:
    """Validate X and split it into columns.

    Parameters
    ----------
    encoder : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set or checked.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Data.
    reset : bool
        Whether they are set, as in ``fit``.
    """
    refuse_lazy(X, where="X")
    if hasattr(X, "column_names"):  # an Arrow table
        X = as_pandas(X)
    if hasattr(X, "columns") and hasattr(X, "shape"):
        _check_frame(encoder, X)
        validate_data(encoder, X, reset=reset, skip_check_array=True)
        series = [_frame_column(X, position) for position in range(X.shape[1])]
    else:
        X = validate_data(
            encoder, _as_rows(X), reset=reset, dtype=None, ensure_all_finite=False
        )
        dtype = object if X.dtype.kind in "OSUT" else None  # pandas must not infer another
        series = [pd.Series(X[:, position], dtype=dtype) for position in range(X.shape[1])]
    names = getattr(encoder, "feature_names_in_", [f"x{i}" for i in range(len(series))])
    return [
        _make_column(str(name), values) for name, values in zip(names, series, strict=True)
    ]


def _check_frame(encoder: Any, X: Any) -> None:
    for size, noun in zip(X.shape, ["sample(s)", "feature(s)"], strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {noun} (shape={tuple(X.shape)}) while a minimum "
                f"of 1 is required by {type(encoder).__name__}."
            )
    names = pd.Index(list(X.columns))
    if names.has_duplicates:
        duplicates = names[names.duplicated()].unique().tolist()
        raise ValueError(
            f"X has duplicate column names {duplicates}; rename them, because each "
            "column becomes a field of its own name."
        )


def _frame_column(X: Any, position: int) -> pd.Series:
    if isinstance(X, pd.DataFrame):
        return X.iloc[:, position].reset_index(drop=True)
    column = X[X.columns[position]]  # polars, for example
    if str(column.dtype).startswith("Struct"):
        return pd.Series(column.to_list(), dtype=object)
    values = np.asarray(column.to_numpy())
    if values.ndim == 2:  # a column of arrays of one length
        return pd.Series(list(values), dtype=object)
    return pd.Series(values, dtype=object if values.dtype.kind in "OSUT" else None)


def _as_rows(X: Any) -> Any:
    """Lists of rows as an object array; NumPy would turn ``[["a", 1]]`` into strings."""
    rows = X if isinstance(X, (list, tuple)) else []
    if any(not isinstance(row, (list, tuple)) for row in rows):
        return X
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        return X  # scikit-learn's check has a message for it
    return pd.DataFrame(list(rows), dtype=object).to_numpy()


def _make_column(name: str, values: pd.Series) -> Column:
    dtype = values.dtype
    if isinstance(dtype, pd.SparseDtype):
        values = values.astype(dtype.subtype)
    elif isinstance(dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    elif isinstance(dtype, pd.ArrowDtype) and dtype.kind not in FAMILY_OF_DTYPE_KIND:
        if not pd.api.types.is_string_dtype(dtype):
            values = values.astype(object)  # lists, dates, decimals, dictionaries
    missing = values.isna().to_numpy()
    column = Column(name, values, missing, "missing")
    if not missing.all():
        column.family = _family_of(column)
    elif values.dtype.kind == "c":
        raise _complex_error(name)
    return column


def _family_of(column: Column) -> str:
    dtype = column.values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        all_strings = all(isinstance(category, str) for category in dtype.categories)
        return "string" if all_strings else "mixed"
    if dtype.kind in FAMILY_OF_DTYPE_KIND:
        return FAMILY_OF_DTYPE_KIND[dtype.kind]
    if dtype.kind == "c":
        raise _complex_error(column.name)
    if isinstance(dtype, (pd.StringDtype, pd.ArrowDtype)):  # of Arrow, strings only
        return "string"
    return _family_of_objects(column)


def _family_of_objects(column: Column) -> str:
    types = set(map(type, column.values.to_numpy(dtype=object)[column.rows]))
    check_scalar_types(column, types, also=LISTS)

    def all_are(classes: tuple[type, ...]) -> bool:
        return all(issubclass(t, classes) for t in types)

    if any(issubclass(t, LISTS) for t in types):
        if all_are(LISTS):
            return "list"
        row, value = column.first_row(lambda v: not isinstance(v, LISTS))
        raise ValueError(
            f"Column {column.name!r} holds lists, but row {row} holds {value!r}, which "
            "is not a list; put it into one."
        )
    if all_are((str,)):
        return "string"
    if all_are(BOOLEANS):
        return "boolean"
    if all_are(NUMBERS) and bool not in types:
        return "number"
    if all_are(DATES) and pd.Timedelta not in types:
        return "datetime"
    return "timedelta" if all_are(DURATIONS) else "mixed"


def check_scalar_types(
    column: Column,
    types: Iterable[type],
    also: tuple[type, ...] = (),
    where: str = "values",
) -> None:
    """Raise an error for complex numbers, and for objects without a meaningful string."""
    for t in types:
        if issubclass(t, COMPLEX):
            raise _complex_error(column.name)
        if not issubclass(t, (*SCALARS, *also)):
            hint = ""
            if issubclass(t, Mapping):
                hint = " Make a column of each key, for example with pandas.json_normalize."
            raise TypeError(
                f"Column {column.name!r} (dtype {column.values.dtype}) has {where} of "
                f"type {t.__name__!r}, which cannot be encoded; values must be "
                f"strings, numbers, booleans, dates, or lists of these.{hint}"
            )


def _complex_error(name: str) -> ValueError:
    return ValueError(
        f"Complex data not supported: column {name!r} holds complex numbers; split "
        "them into a real and an imaginary column."
    )
