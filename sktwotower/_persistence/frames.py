"""Frames in Parquet files, which keep the names and dtypes of their columns."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from sktwotower._data.roles import Frame
from sktwotower._persistence.folder import Json, reading
from sktwotower.utils._extra import extra
from sktwotower.utils._json_values import decode, encode

_KEY = b"sktwotower"  # where the metadata of a file describe its columns


def write_frame(file: Path, frame: Frame) -> None:
    """Write a frame or a series, without its index.

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
        labels = [f"column {position}" for position in range(len(names))]
    stored = [_store(columns.iloc[:, i], name, arrow) for i, name in enumerate(names)]
    arrays = {label: column for label, (column, _) in zip(labels, stored, strict=True)}
    table = arrow.Table.from_pandas(pd.DataFrame(arrays), preserve_index=False)
    description = {
        "names": encode(names),
        "columns": [kind for _, kind in stored],
        "is_single": isinstance(frame, pd.Series),
        "n_rows": len(frame),
    }
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(description)}
    parquet.write_table(table.replace_schema_metadata(metadata), file)


def read_frame(file: Path) -> Any:
    """The frame or the series."""
    with reading(file.name):
        # A file alone: a dataset would read partitions from the names of directories.
        table = extra("pyarrow.parquet").ParquetFile(file, memory_map=False).read()
        description = json.loads(table.schema.metadata[_KEY])
        names, kinds = decode(description["names"]), description["columns"]
        stored, n_rows = table.to_pandas(), description["n_rows"]
        if not len(names) == len(kinds) == stored.shape[1]:
            raise ValueError(f"{stored.shape[1]} columns instead of {len(names)}")
        columns = [_restore(stored.iloc[:, i], kind) for i, kind in enumerate(kinds)]
        if any(len(column) != n_rows for column in columns):
            raise ValueError(f"{len(stored)} rows instead of {n_rows}")
        frame = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(n_rows))
        frame.columns = pd.Index(names, tupleize_cols=False)
        return frame.iloc[:, 0] if description["is_single"] else frame


def _store(
    column: pd.Series, name: Hashable, arrow: ModuleType
) -> tuple[pd.Series, dict[str, Json]]:
    """A column that Parquet can hold, and how to restore the original from it."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        kind = {
            "as": "codes",
            "categories": _texts(dtype.categories.tolist(), name),
            "dtype": str(dtype.categories.dtype),
            "ordered": bool(dtype.ordered),
        }
        return column.cat.codes, kind
    try:
        if not pd.api.types.is_object_dtype(dtype) and _is_known(column, arrow):
            return column, {"as": "is", "dtype": str(dtype)}
    except UnicodeEncodeError as error:  # a lone surrogate
        raise TypeError(
            f"Column {name!r} of dtype {dtype} cannot be stored ({error}); replace these "
            "characters, or make its dtype object."
        ) from error
    texts = pd.Series(_texts(column.tolist(), name), dtype=object)
    return texts, {"as": "json", "dtype": str(dtype)}


def _restore(column: pd.Series, kind: dict[str, Json]) -> pd.Series:
    """The original column."""
    dtype = kind["dtype"]
    if kind["as"] == "codes":
        values = [decode(json.loads(text)) for text in kind["categories"]]
        categories = pd.Index(values, dtype=dtype, tupleize_cols=False)
        return pd.Series(
            pd.Categorical.from_codes(column, categories, ordered=kind["ordered"])
        )
    if kind["as"] == "json":
        return pd.Series([decode(json.loads(text)) for text in column], dtype=dtype)
    # Strings are objects where pandas has no dtype for them.
    is_as_it_was = str(column.dtype) == dtype or dtype == "str"
    return column if is_as_it_was else column.astype(dtype)


def _is_known(column: pd.Series, arrow: ModuleType) -> bool:
    """Whether Arrow has a type for the dtype; it has none for sparse columns."""
    try:
        arrow.array(column, from_pandas=True)
    except (arrow.ArrowException, TypeError):
        return False
    return True


def _texts(values: list, name: Hashable) -> list[str]:
    try:
        return [json.dumps(encode(value)) for value in values]
    except TypeError as error:
        raise TypeError(
            f"Column {name!r} holds {error}, which save cannot store; make it a number, a "
            "string, a date or a list of such."
        ) from error
    except ValueError as error:  # an integer of thousands of digits
        raise TypeError(f"Column {name!r} cannot be stored: {error}.") from error
