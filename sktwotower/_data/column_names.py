"""Names of columns: in the index of a frame, misspelt, or labels of a single row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from sktwotower.utils._spelling import any_meant, close_name, meant_by


def with_index(frame: pd.DataFrame, names: Collection) -> pd.DataFrame:
    """A frame with the levels of its index that have such names as its last columns.

    A column of the same name is preferred to the index.
    """
    levels: list[Any] = [
        name
        for name in frame.index.names
        if name is not None and name in names and name not in frame.columns
    ]
    if not levels or frame.columns.nlevels > 1:
        return frame
    frame = frame.copy(deep=False)
    for name in levels:
        frame[name] = frame.index.get_level_values(name)
    return frame


def refuse_misspelt(
    frame: pd.DataFrame, wanted: Collection, known: Collection, *, where: str
) -> None:
    """Raise ValueError if a frame lacks a column and has one of a similar name.

    Parameters
    ----------
    frame : DataFrame
        What is read.
    wanted : collection of str
        Columns that are read if they are there.
    known : collection of str
        Other columns that may be there.
    where : str
        Name of the argument, for the message.
    """
    unknown = [name for name in frame.columns if name not in wanted and name not in known]
    for name in wanted:
        if name in frame.columns:
            continue
        similar = close_name(name, unknown)
        if similar is not None:
            raise ValueError(
                f"{where} lacks the column {name!r} and has a column {similar!r}, which is "
                f"not known. Did you mean {name!r}? Rename or drop it; the known columns "
                f"are {_names(wanted, known)}."
            )


def refuse_unknown(
    frame: pd.DataFrame,
    ids: Collection,
    features: Collection,
    known: Collection,
    *,
    where: str,
    side: str,
) -> None:
    """Raise ValueError for a frame without ids that has columns that are not known."""
    index = [name for name in frame.index.names if close_name(name, ids) is not None]
    unknown = index + [
        name for name in frame.columns if name not in features and name not in known
    ]
    if unknown:
        raise ValueError(
            f"{where} has no column with {side} ids ({_or(ids)}) but has {unknown}, which "
            f"are not columns of training.{any_meant(unknown, ids)} Rename the column with "
            f"the ids, or drop what is not known if the rows are new {side}s. The known "
            "columns are "
            f"{_names(ids, features, known)}."
        )


def refuse_no_ids(
    frame: pd.DataFrame, ids: Collection, *, where: str, side: str
) -> NoReturn:
    """Raise ValueError for a frame that lacks the column of ids, or each of several."""
    names = _or(ids) or f"that of {side}_table"
    meant = "".join(meant_by(name, frame.columns) for name in ids)
    if ids and not frame.index.equals(pd.RangeIndex(len(frame))):
        meant += f" Call the index {next(iter(ids))!r} if it has them."
    raise ValueError(
        f"{where} has no column with {side} ids ({names}); its columns are "
        f"{list(frame.columns)}.{meant}"
    )


def refuse_row(X: Any, names: Collection, *, where: str, side: str | None) -> None:
    """Raise ValueError for a single row, whose values are no ids.

    Parameters
    ----------
    X : object
        What a query was given.
    names : collection of str
        Columns of X and of the tables, which label the values of a row.
    where : str
        Name of the argument, for the message.
    side : {"user", "item"} or None
        Of what ids are taken, too; None: only rows are.
    """
    hint = None
    if isinstance(X, pd.Series) and not pd.api.types.is_numeric_dtype(X.index.dtype):
        labels = [label for label in X.index if label in names]
        if labels:
            hint = (
                f"a single row of a frame (a Series with the labels {list(X.index)}); give "
                "a frame of one row, as X.iloc[[0]] is"
            )
    elif isinstance(X, tuple) and hasattr(X, "_fields"):
        hint = f"a named tuple with the fields {list(X._fields)}; give a frame of one row"
    elif isinstance(X, np.ndarray | np.void) and X.dtype.names is not None:
        hint = f"an array of records with the fields {list(X.dtype.names)}; give a frame"
    if hint is not None:
        or_ids = f", or a list of {side} ids" if side else ""
        raise ValueError(f"{where} is {hint}{or_ids}.")


def _names(*groups: Collection) -> list:
    return list(dict.fromkeys(name for group in groups for name in group))


def _or(names: Collection) -> str:
    return " or ".join(map(repr, names))
