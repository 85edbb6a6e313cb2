"""Columns of frames and arrays by name or position, and ids as clean arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Column = str | int


def is_frame(X: Any) -> bool:
    """Whether X is a data frame of pandas, polars or pyarrow."""
    return isinstance(X, pd.DataFrame) or hasattr(X, "to_pandas")


def as_pandas(X: Any) -> Any:
    """A pandas frame or series for what polars or pyarrow hold; anything else as it is."""
    return X.to_pandas() if hasattr(X, "to_pandas") else X


def as_objects(rows: Any) -> np.ndarray:
    """Lists (of lists) as an object array, so that NumPy does not make all strings."""
    try:
        return np.array(rows, dtype=object)
    except ValueError as error:
        raise ValueError(f"The rows are not all of one length ({error}).") from error


def refuse_repeated_names(frame: pd.DataFrame, *, where: str) -> None:
    """Raise ValueError if two columns of a frame have the same name."""
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{where} has several columns named {repeated[0]!r}; column names must be "
            f"unique. The columns are {list(frame.columns)}."
        )


def column_position(column: Column, names: list, *, role: str) -> int:
    """Where a column is among ``names``.

    Parameters
    ----------
    column : str or int
        A name, or a position (negative ones count from the end).
    names : list
        The columns' names, or their positions when they have none.
    role : str
        The parameter that named the column, for the message.

    Raises
    ------
    ValueError
        If there is no such column; the message lists those that are there.
    """
    if isinstance(column, str):
        if column in names:
            return names.index(column)
        known = f"the columns are {names}"
        if all(isinstance(name, int) for name in names):
            known = f"it has no column names but {len(names)} positions"
        raise ValueError(f"{role}={column!r} is not a column of X; {known}.")
    if -len(names) <= column < len(names):
        return column % len(names)
    raise ValueError(
        f"{role}={column} is not a column of X; it has {len(names)} feature(s), "
        f"{names} in order."
    )


def where_first(bad: np.ndarray) -> tuple[str, str]:
    """For messages: ``"3 rows"`` and ``"(first at row 17)"`` of a mask."""
    n = int(bad.sum())
    return f"{n} row{'s' if n > 1 else ''}", f"(first at row {int(bad.argmax())})"


def id_array(column: Any, *, what: str, where: str = "X") -> np.ndarray:
    """Ids as a 1-D array with a plain dtype and nothing missing.

    Categoricals become their categories, nullable integers plain ones, strings objects;
    an object column that holds integers only becomes integers.

    Parameters
    ----------
    column : array-like of shape (n,)
        Labels of any hashable kind.
    what : str
        What an element is, for messages: ``"user id"``.
    where : str
        Where the column is from, for messages.

    Raises
    ------
    ValueError
        For missing, infinite or complex ids.
    TypeError
        For ids that cannot be hashed.
    """
    column = as_pandas(column)
    if isinstance(column, list | tuple):
        column = pd.Series(list(column), dtype=object)  # not an array: ids may be tuples
    if np.ndim(column) != 1:
        raise ValueError(
            f"{where} must be {what}s in one dimension; got {np.ndim(column)}. "
            "For a single one give a list of one."
        )
    series = pd.Series(column).reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    if series.dtype == object:
        series = series.infer_objects()
    if series.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {where} has complex {what}s.")
    missing = series.isna().to_numpy()
    if missing.any():
        rows, first = where_first(missing)
        raise ValueError(
            f"{where} has {rows} with a missing {what} (NaN, None or NaT) {first}; "
            "drop or fill them first."
        )
    if series.dtype.kind == "f":
        values = series.to_numpy(dtype=np.float64)
        infinite = np.isinf(values)
        if infinite.any():
            rows, first = where_first(infinite)
            raise ValueError(
                f"{where} has {rows} with an infinite {what} (inf) {first}; "
                "drop or replace them first."
            )
        return values
    if series.dtype.kind in "iu":
        plain = np.uint64 if series.dtype.kind == "u" else np.int64
        return series.to_numpy(dtype=plain)
    if series.dtype.kind == "M":
        return series.to_numpy()
    values = series.to_numpy(dtype=object)
    try:
        pd.factorize(values)
    except TypeError as error:
        raise TypeError(
            f"{where} has a {what} that cannot be hashed: argument must be a string, "
            f"a number or another hashable id ({error})."
        ) from error
    return values
