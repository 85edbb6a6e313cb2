"""Which column has the ids where none is named, and columns that were an index."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils._columns import Column, id_array
from sktwotower.utils._ids import kinds_of
from sktwotower.utils._sklearn import is_column_transformer, is_frozen, is_pipeline
from sktwotower.utils._warnings import warn

# Columns that pandas, polars and pyarrow make of a column without a name in a file.
_UNNAMED = re.compile(r"(Unnamed: \d+(\.\d+)?|__index_level_\d+__)?")
# Those of reset_index, too, which a feature may be called.
_WRITTEN_INDEX = re.compile(rf"{_UNNAMED.pattern}|index|level_\d+")
_ID_WORDS = {"id", "ids", "code", "key", "sku", "isbn", "asin", "ean", "uuid", "guid"}
_INDEX = "the index"


def refuse_written_index(
    first: Column, columns: list, wanted: Column | None, *, parameter: str
) -> None:
    """Raise ValueError if the first column of a table is an index without a name."""
    if isinstance(first, str) and _WRITTEN_INDEX.fullmatch(first):
        has_none = "" if wanted is None else f" has no id column {wanted!r} as X has, and"
        raise ValueError(
            f"{parameter}{has_none} begins with the column {first!r}, which looks like an "
            f"index that was written to a file; its columns are {columns}. Drop it, with "
            f"drop(columns=[{first!r}]), or, if it has the ids, name it with "
            f"EntityTable(frame, {first!r})."
        )


def refuse_index_at_position(column: Column, name: Any, *, role: str) -> None:
    """Raise ValueError if ids are taken, by position, from an index without a name."""
    by_name = isinstance(column, str)
    if not by_name and isinstance(name, str) and _WRITTEN_INDEX.fullmatch(name):
        raise ValueError(
            f"{role}={column!r} is the column {name!r} of X, which looks like an index "
            "that was written to a file. Name the column with the ids, with "
            f"{role}='...', or drop the index: X.drop(columns=[{name!r}])."
        )


def refuse_unnamed_features(features: Iterable, *, where: str, name_them: str) -> None:
    """Raise ValueError if a column without a name would become a feature.

    ``name_them`` says how to choose it nevertheless.
    """
    unnamed = [n for n in features if isinstance(n, str) and _UNNAMED.fullmatch(n)]
    if unnamed:
        raise ValueError(
            f"{where} has the column {unnamed[0]!r}, which would be a feature and looks "
            "like an index that was written to a file. Read the file with "
            f"pandas.read_csv(..., index_col=0), use drop(columns={unnamed}), or, if it is "
            f"a feature, {name_them}."
        )


def takes_all_columns(encoder: Any) -> bool:
    """Whether an encoder reads each column of a frame, instead of those that it names."""
    while is_pipeline(encoder) and encoder.steps:
        encoder = encoder.steps[0][1]
    if is_frozen(encoder):
        return False
    if not is_column_transformer(encoder):
        return True
    selections = [columns for *_, columns in encoder.transformers]
    return encoder.remainder != "drop" or any(map(callable, selections))


def compare_with_other_columns(
    rows: pd.DataFrame, chosen: Column, ids: np.ndarray, *, parameter: str
) -> None:
    """Refuse a table in which another column than the first looks more like the ids.

    Such a column has distinct values, and at least as many ids of X. It is refused if it
    is called like an id, or has more ids of X than a first column that is not.

    Parameters
    ----------
    rows : DataFrame
        The table.
    chosen : str
        Its first column, which was taken for the ids.
    ids : ndarray of shape (n_ids,)
        The distinct ids of X.
    parameter : str
        Name of the table's parameter, for messages.

    Raises
    ------
    ValueError
        If it is not clear which column has the ids.

    Warns
    -----
    UserWarning
        If another column would do as well, and is not called like an id.
    """
    known = Vocabulary(ids)
    n_chosen, is_named = _n_known(rows[chosen], known), _is_called_like_id(chosen)
    others = {name: rows[name] for name in rows.columns if name != chosen}
    is_default = rows.index.equals(pd.RangeIndex(len(rows)))
    if rows.index.nlevels == 1 and not is_default:
        if not (is_named and pd.api.types.is_numeric_dtype(rows.index.dtype)):
            others[_INDEX] = rows.index.to_series()
    better, as_good = {chosen: n_chosen}, []
    for name, column in others.items():
        n = _n_known(column, known)
        if n < max(n_chosen, 1) or np.array_equal(column.array, rows[chosen].array):
            continue
        is_like_id = _is_called_like_id(name)
        if name == _INDEX:
            is_like_id = not pd.api.types.is_numeric_dtype(column.dtype)
        if is_like_id or (n > n_chosen and not is_named):
            better[name] = n
        else:
            as_good.append(name)
    said = f"{parameter} has no column that is called like the id column of X"
    name_it = (
        "Rename the column, or the index, with the ids, or name it with "
        "EntityTable(frame, id_column)."
    )
    if len(better) > 1:
        raise ValueError(
            f"{said}, and several may have the ids; of the {len(ids)} ids of X they have "
            f"{better}. {name_it}"
        )
    if as_good:
        warn(
            f"{said}; the first one, {chosen!r}, is taken for the ids, and {as_good} would "
            f"do as well. {name_it}"
        )


def _n_known(column: pd.Series, known: Vocabulary) -> int:
    """How many known ids a column has; 0 for one whose values are no distinct ids."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return 0
    try:
        if not set(kinds_of(column.head(1))) & set(known.kinds) or not column.is_unique:
            return 0
        values = id_array(column, what="id")
    except (TypeError, ValueError):  # missing, or not hashable
        return 0
    return int((known.codes(values) > 0).sum())


def _is_called_like_id(name: Any) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", str(name))
    return bool(words) and (words[-1].lower() in _ID_WORDS or words[-1].endswith("id"))
