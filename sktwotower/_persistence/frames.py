"""Columns of ids and features as Parquet and back, with the dtypes that they had."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from sktwotower._persistence.values import decode, encode
from sktwotower.utils._extra import extra

Frame = pd.DataFrame | pd.Series


def to_parquet(frame: Frame) -> tuple[bytes, dict[str, Any]]:
    """A file, and what has to be known to read it.

    Raises
    ------
    TypeError
        For values that cannot be stored.
    """
    arrow, parquet = extra("pyarrow"), extra("pyarrow.parquet")
    columns = pd.DataFrame(frame)
    names = list(columns.columns)
    labels = names
    if not all(type(name) is str for name in names):
        labels = [f"column {place}" for place in range(len(names))]
    arrays, kinds = [], []
    for place, name in enumerate(names):
        stored, kind = _stored(columns.iloc[:, place], name, arrow)
        arrays.append(stored)
        kinds.append(kind)
    table = arrow.Table.from_pandas(
        pd.DataFrame(dict(zip(labels, arrays, strict=True))), preserve_index=False
    )
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink)
    description = {
        "names": [encode(name) for name in names],
        "columns": kinds,
        "is_single": isinstance(frame, pd.Series),
        "n_rows": len(frame),
    }
    return sink.getvalue().to_pybytes(), description


def from_parquet(content: bytes, description: dict[str, Any]) -> Any:
    """The frame or the series."""
    arrow, parquet = extra("pyarrow"), extra("pyarrow.parquet")
    stored = parquet.read_table(arrow.BufferReader(content)).to_pandas()
    names = [decode(name) for name in description["names"]]
    kinds = description["columns"]
    n_rows = description["n_rows"]
    if not len(names) == len(kinds) == stored.shape[1]:
        raise ValueError(f"{stored.shape[1]} columns instead of {len(names)}")
    columns = [_restored(stored.iloc[:, i], kind) for i, kind in enumerate(kinds)]
    if any(len(column) != n_rows for column in columns):
        raise ValueError(f"{len(stored)} rows instead of {n_rows}")
    frame = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(n_rows))
    frame.columns = pd.Index(names, tupleize_cols=False)
    return frame.iloc[:, 0] if description["is_single"] else frame


def _stored(column: pd.Series, name: Any, arrow: Any) -> tuple[pd.Series, dict[str, Any]]:
    """What Parquet can hold, and how to make the column of it."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        kind = {
            "as": "codes",
            "categories": _texts(dtype.categories.tolist(), name),
            "dtype": str(dtype.categories.dtype),
            "ordered": bool(dtype.ordered),
        }
        return column.cat.codes, kind
    if not pd.api.types.is_object_dtype(dtype) and _is_known(column, arrow):
        return column, {"as": "is", "dtype": str(dtype)}
    texts = pd.Series(_texts(column.tolist(), name), dtype=object)
    return texts, {"as": "json", "dtype": str(dtype)}


def _is_known(column: pd.Series, arrow: Any) -> bool:
    """Whether Arrow has a type for the dtype; for sparse columns it has none."""
    try:
        arrow.array(column, from_pandas=True)
    except (arrow.ArrowException, TypeError):
        return False
    return True


def _texts(values: list, name: Any) -> list[str]:
    try:
        return [json.dumps(encode(value)) for value in values]
    except TypeError as error:
        raise TypeError(
            f"Column {name!r} holds {error}, which save cannot store; make it a number, a "
            "string, a date or a list of such."
        ) from error


def _restored(column: pd.Series, kind: dict[str, Any]) -> pd.Series:
    dtype = kind["dtype"]
    if kind["as"] == "codes":
        values = [decode(json.loads(text)) for text in kind["categories"]]
        categories = pd.Index(values, dtype=dtype, tupleize_cols=False)
        return pd.Series(
            pd.Categorical.from_codes(column, categories, ordered=kind["ordered"])
        )
    if kind["as"] == "json":
        return pd.Series([decode(json.loads(text)) for text in column], dtype=dtype)
    # Strings are objects where pandas has no dtype of theirs.
    is_as_it_was = str(column.dtype) == dtype or dtype == "str"
    return column if is_as_it_was else column.astype(dtype)
