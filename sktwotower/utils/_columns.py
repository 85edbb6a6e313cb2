"""Columns of frames and arrays: found by name or position, read as ids or times."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from sktwotower.utils._arrow_types import with_plain_types
from sktwotower.utils._column_store import blocks
from sktwotower.utils._forms import given, how_to_list, refuse_lazy
from sktwotower.utils._ids import (
    exact_limit,
    have_complex,
    inexact,
    numbers_of_objects,
    signed_where_possible,
    types_in,
)
from sktwotower.utils._spelling import did_you_mean

Column = str | int
_HASHABLE = {str, int, float, bool}  # types whose values need no look


def is_frame(X: Any) -> bool:
    """Whether X is a data frame of pandas, polars or pyarrow."""
    # Series of polars and arrays of pyarrow also have to_pandas.
    return isinstance(X, pd.DataFrame) or (
        hasattr(X, "to_pandas") and hasattr(X, "columns")
    )


def is_dataset(X: Any) -> bool:
    """Whether X is a path or a dataset of pyarrow, whose rows are read in blocks."""
    return isinstance(X, str | os.PathLike) or (
        hasattr(X, "scanner") and hasattr(X, "count_rows")
    )


def as_pandas(X: Any, *, where: str = "X") -> Any:
    """Convert frames and columns of polars and pyarrow to pandas; return others as is.

    Lists stay lists. ``to_pandas`` would turn them into arrays, which are vectors. Dates of
    polars become dates, as those of pyarrow do, not datetimes.
    A polars LazyFrame is refused; the message calls it ``where``.
    """
    refuse_lazy(X, where=where)
    if isinstance(X, pd.DataFrame):
        return with_plain_types(X)
    if isinstance(X, pd.Series) and isinstance(X.dtype, pd.ArrowDtype):
        column = with_plain_types(X.to_frame()).iloc[:, 0]
        column.name = X.name
        return column
    if not hasattr(X, "to_pandas"):
        return X
    frame = X.to_pandas()
    if not hasattr(X, "columns"):
        if str(getattr(X, "dtype", "")) == "Date":
            return pd.Series(X.to_list(), dtype=object, name=X.name)
        return frame
    schema = X.schema
    kinds = schema.items() if hasattr(schema, "items") else _arrow_kinds(schema)
    for name, kind in kinds:
        if str(kind).lower().startswith(("list", "large_list")) or str(kind) == "Date":
            column = X[name]
            lists = column.to_list() if hasattr(column, "to_list") else column.to_pylist()
            frame[name] = pd.Series(lists, dtype=object, index=frame.index)
    return frame


def _arrow_kinds(schema: Any) -> Any:
    return zip(schema.names, schema.types, strict=True)


def as_objects(rows: Any, *, where: str = "X") -> np.ndarray:
    """Lists of rows as an object array; NumPy could turn all values into strings.

    Arrays of one dtype keep it, which says how exact floats are.
    """
    if len(rows) and all(isinstance(row, np.ndarray) for row in rows):
        if len({(row.dtype, row.shape) for row in rows}) == 1:
            return np.stack(rows)
    try:
        return np.array(rows, dtype=object)
    except ValueError as error:
        raise ValueError(
            f"The rows of {where} are not all of one length ({error})."
        ) from error


def refuse_repeated_names(frame: pd.DataFrame, *, where: str) -> None:
    """Raise ValueError if two columns have the same name, or names have levels."""
    refuse_levels(frame, where=where)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{where} has several columns named {repeated[0]!r}; column names must be "
            f"unique. The columns are {list(frame.columns)}."
        )


def refuse_levels(frame: pd.DataFrame, *, where: str) -> None:
    """Raise ValueError if the names of columns have levels: a MultiIndex."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(
            f"{where} has a MultiIndex of columns, {frame.columns.tolist()}; give them "
            'names of one level, for example frame.columns = ["_".join(map(str, name)) '
            "for name in frame.columns]."
        )


def column_position(column: Column, names: list, *, role: str, where: str = "X") -> int:
    """Position of a column among ``names``.

    Parameters
    ----------
    column : str or int
        A name, or a position; negative positions count from the end.
    names : list
        Names of all columns, or their positions if they have no names. Integers that are
        no positions are labels, by which no column can be chosen.
    role : str
        The parameter that names the column, for the message.
    where : str
        What has the columns, for the message.

    Raises
    ------
    ValueError
        If there is no such column, or an integer is the position of one column and the
        label of another; the message lists all columns.
    """
    labelled = [position for position, name in enumerate(names) if name == column]
    by_label = (
        " Integers are positions; to choose a column by its label, make the labels "
        "strings: frame.columns = frame.columns.astype(str)."
    )
    if isinstance(column, str):
        if column in names:
            return names.index(column)
        known = f"the columns are {names}"
        if names == list(range(len(names))):
            known = f"it has no column names but {len(names)} positions"
        raise ValueError(
            f"{role}={column!r} is not a column of {where}; {known}."
            f"{did_you_mean(column, names)}"
        )
    if -len(names) <= column < len(names):
        position = column % len(names)
        if labelled and labelled != [position]:
            raise ValueError(
                f"{role}={column} is the position of one column of {where} and the label "
                f"of another; the columns are {names}.{by_label}"
            )
        return position
    raise ValueError(
        f"{role}={column} is not a column of {where}; it has {len(names)} feature(s), "
        f"{names} in order.{by_label if labelled else ''}"
    )


def where_first(bad: np.ndarray, positions: np.ndarray | None = None) -> tuple[str, str]:
    """``"3 rows"`` and ``"(first at row 17)"``, for messages.

    Parameters
    ----------
    bad : ndarray of shape (n_values,), bool
        Which values are invalid.
    positions : ndarray of shape (n_rows,), optional
        Which value each row has; None: each row has its own.
    """
    if positions is not None:
        bad = bad[positions]
    n = int(bad.sum())
    return f"{n} row{'s' if n > 1 else ''}", f"(first at row {int(bad.argmax())})"


def id_array(
    column: Any, *, what: str, where: str = "X", positions: np.ndarray | None = None
) -> np.ndarray:
    """Ids as a 1-D array with a plain dtype and nothing missing.

    Categoricals become their categories, and strings objects. Integers of any kind become
    int64, or uint64 where one of them needs it; objects where neither holds all of them.

    Parameters
    ----------
    column : array-like of shape (n,)
        Labels of any hashable kind.
    what : str
        What a label is, for messages: ``"user id"``.
    where : str
        Where the column comes from, for messages.
    positions : ndarray of shape (n_rows,), optional
        Which label each row has, for messages; None: each row has its own.

    Raises
    ------
    ValueError
        For missing, infinite or complex ids, and for floats so large that they may be
        rounded integers.
    TypeError
        For ids that cannot be hashed.
    """
    column = as_pandas(column, where=where)
    if isinstance(column, list | tuple):
        column = pd.Series(list(column), dtype=object)  # not an array: ids may be tuples
    elif isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "UO":
        column = pd.Series(column, dtype=object)
    if np.ndim(column) != 1:
        hint = " Read a file first, with pandas.read_parquet." if is_dataset(column) else ""
        raise ValueError(
            f"{where} must be {what}s in one dimension; got {given(column)}. "
            f"{how_to_list(column)}{hint}"
        )
    series = pd.Series(column).reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    types = types_in(series)
    if series.dtype.kind == "c" or have_complex(types):
        raise ValueError(f"Complex data not supported: {where} has complex {what}s.")
    missing = series.isna().to_numpy()
    if missing.any():
        rows, first = where_first(missing, positions)
        raise ValueError(
            f"{where} has {rows} with a missing {what} (NaN, None or NaT) {first}; "
            "drop or fill them first."
        )
    _refuse_inexact(series, types, what=what, where=where, positions=positions)
    try:
        values = _plain_values(series, types)
    except UnicodeEncodeError as error:
        bad = series.map(lambda text: any("\ud800" <= c <= "\udfff" for c in text))
        rows, first = where_first(bad.to_numpy(), positions)
        raise ValueError(
            f"{where} has {rows} with a {what} that is no text {first}: it has a lone "
            f"surrogate ({error}). Replace or drop it."
        ) from error
    if values.dtype == object and not types <= _HASHABLE:
        try:
            pd.factorize(values)
        except TypeError as error:
            raise TypeError(
                f"{where} has a {what} that cannot be hashed: argument must be a string, "
                f"a number or another hashable id ({error})."
            ) from error
    return values


def _refuse_inexact(
    series: pd.Series,
    types: set[Any],
    *,
    what: str,
    where: str,
    positions: np.ndarray | None,
) -> None:
    """Raise ValueError for floats that are infinite or may be rounded integers."""
    bad, kind = inexact(series, types)
    if not bad.any():
        return
    infinite = np.isinf(series[bad].to_numpy(dtype=np.float64)).any()
    if infinite:
        bad = np.isinf(series.where(bad, 0).to_numpy(dtype=np.float64))
        rows, first = where_first(bad, positions)
        raise ValueError(
            f"{where} has {rows} with an infinite {what} (inf) {first}; "
            "drop or replace them first."
        )
    rows, first = where_first(bad, positions)
    value = series[bad].iloc[0]
    raise ValueError(
        f"{where} has {rows} with a {kind} {what} that may be a rounded integer {first}: "
        f"{float(value)!r}. From {exact_limit(kind):.0f} on several integers are the "
        f"same {kind}. Pass ids as integers or strings, from the file on: as float they "
        "are rounded already."
    )


def _plain_values(series: pd.Series, types: set[Any]) -> np.ndarray:
    """Ids of which none is missing, with a dtype of NumPy."""
    if types == {str}:
        texts = series.to_numpy(dtype=object)
        for block in blocks(len(texts)):
            "".join(texts[block]).encode()  # a lone surrogate is an error
        return texts
    if series.dtype == object:
        numbers = numbers_of_objects(series.to_numpy(), types)
        series = series.infer_objects() if numbers is None else pd.Series(numbers)
    kind = series.dtype.kind
    if kind == "u":
        return signed_where_possible(series.to_numpy(dtype=np.uint64))
    if kind in "bif":
        return series.to_numpy(dtype={"b": bool, "i": np.int64, "f": np.float64}[kind])
    return series.to_numpy() if kind == "M" else series.to_numpy(dtype=object)


def time_numbers(column: Any, *, name: Column, where: str = "X") -> np.ndarray:
    """Timestamps as numbers of the same order, (n,).

    Datetimes without a zone are taken as UTC, as pandas does with ``utc=True``.

    Parameters
    ----------
    column : array-like of shape (n,)
        Numbers, datetimes, dates or durations.
    name, where : str or int, str
        Name of the column, and what has it, for messages.

    Raises
    ------
    ValueError
        If a timestamp is missing or infinite, or the values have no order in time.
    """
    series = pd.Series(column)
    refuse_missing_times(series.isna().to_numpy(), name=name, where=where)
    times = plain_times(series, name=name, where=where)
    refuse_infinite_times(times, name=name, where=where)
    return times


def plain_times(column: Any, *, name: Column, where: str = "X") -> np.ndarray:
    """A block of timestamps as numbers, as `time_numbers` makes them, but not checked."""
    series = pd.Series(column).reset_index(drop=True)
    if series.dtype == object:
        kind = pd.api.types.infer_dtype(series)
        if kind in ("integer", "floating", "mixed-integer-float"):
            series = pd.to_numeric(series)
        elif kind in ("datetime", "datetime64", "date"):
            series = pd.to_datetime(series, utc=True)  # rows may be in several zones
        elif kind in ("timedelta", "timedelta64"):
            series = pd.to_timedelta(series)
    if series.dtype.kind in "mM":
        # Always microseconds, since a later frame may have another unit. As integers,
        # since not all microseconds since 1970 fit into the 53 bits of a float.
        kind = "timedelta64[us]" if series.dtype.kind == "m" else "datetime64[us]"
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return series.to_numpy().astype(kind).astype(np.int64)
    if series.dtype.kind in "iuf":
        return series.to_numpy(dtype=np.dtype(f"{series.dtype.kind}8"))
    types = ", ".join(sorted({type(value).__name__ for value in series}))
    raise ValueError(
        f"Column {name!r} of {where} holds values of type {types}, which have no order in "
        "time; give numbers or datetimes, for example with pandas.to_datetime."
    )


def refuse_missing_times(missing: np.ndarray, *, name: Column, where: str = "X") -> None:
    """Raise ValueError if a row has no timestamp."""
    if missing.any():
        rows, first = where_first(missing)
        raise ValueError(
            f"{where} has {rows} with a missing timestamp in column {name!r} (NaN or NaT) "
            f"{first}; drop or fill them first."
        )


def refuse_infinite_times(times: np.ndarray, *, name: Column, where: str = "X") -> None:
    """Raise ValueError if a number that is a timestamp is infinite."""
    # The extremes first: they need no memory.
    extremes = times.min(initial=0), times.max(initial=0)
    if np.isinf(extremes).any():
        rows, first = where_first(np.isinf(times))
        raise ValueError(
            f"{where} has {rows} with an infinite timestamp in column {name!r} (inf) "
            f"{first}; drop or replace them first."
        )


def rank_from_end(groups: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """Rank of each row in its group in the order of time; the last row has rank 0.

    Rows of equal times, and all rows without times, are in the order of the rows.
    """
    if times is None:
        order = np.argsort(groups, kind="stable")
    else:
        order = np.lexsort((times, groups))  # stable; the last key is the first
    sizes = np.bincount(groups)
    ends = np.repeat(np.cumsum(sizes), sizes)
    ranks = np.empty_like(order)
    ranks[order] = ends - 1 - np.arange(len(order))
    return ranks
