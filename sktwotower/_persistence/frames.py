"""Frames in Parquet files, which keep the names and dtypes of their columns."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.roles import Frame
from sktwotower._persistence.dtypes import Dtype, decode_dtype, encode_dtype
from sktwotower._persistence.manifest import Json, reading
from sktwotower.utils._extra import extra
from sktwotower.utils._ids import types_in
from sktwotower.utils._json_values import decode, encode

_KEY = b"sktwotower"  # where the metadata of a file describe its columns
# What is read of a file at a time: a small file may hold a long value many times.
_ROWS_OF_A_BATCH = 2**10


def write_frame(file: Path, frame: Frame) -> None:
    """Write a frame or a series, without its index.

    Raises
    ------
    TypeError
        For values or dtypes that cannot be stored.
    """
    extra("pyarrow.parquet").write_table(_stored_table(frame), file)


def read_frame(file: Path, *, max_bytes: int | None = None) -> Any:
    """The frame or the series.

    Raises
    ------
    ArtefactError
        If there is something else in the file, or more than ``max_bytes`` in memory.
    """
    with reading(file.name):
        table = _read_table(file, max_bytes)
        description = json.loads(table.schema.metadata[_KEY])
        names, kinds = decode(description["names"]), description["columns"]
        n_rows = description["n_rows"]
        if not len(names) == len(kinds) == table.num_columns:
            raise ValueError(f"{table.num_columns} columns instead of {len(names)}")
        if names and table.num_rows != n_rows:
            raise ValueError(f"{table.num_rows} rows instead of {n_rows}")
        columns = [
            _restored(column, kind) for column, kind in zip(table, kinds, strict=True)
        ]
        frame = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(n_rows))
        frame.columns = pd.Index(names, tupleize_cols=False)
        return frame.iloc[:, 0] if description["is_single"] else frame


def is_same_frame(one: Frame, other: Frame) -> bool:
    """Whether names, dtypes and values are equal, missing values included."""
    tables = _stored_table(one), _stored_table(other)
    if not tables[0].schema.equals(tables[1].schema, check_metadata=True):
        return False
    return all(map(_is_same_column, *tables))


def _is_same_column(mine: Any, theirs: Any) -> bool:
    if mine.equals(theirs):
        return True
    # Arrow calls no NaN equal to another.
    if extra("pyarrow").types.is_floating(mine.type):
        numbers = mine.to_numpy(), theirs.to_numpy()
        return np.array_equal(*numbers, equal_nan=True) and bool(
            mine.is_null().equals(theirs.is_null())
        )
    return repr(mine.to_pylist()) == repr(theirs.to_pylist())


def _stored_table(frame: Frame) -> Any:
    """A table of Arrow whose metadata say how to restore the frame."""
    columns = pd.DataFrame(frame)
    names = list(columns.columns)
    stored = [_stored(columns.iloc[:, i], name) for i, name in enumerate(names)]
    description = {
        "names": encode(names),
        "columns": [kind for _, kind in stored],
        "is_single": isinstance(frame, pd.Series),
        "n_rows": len(frame),
    }
    table = extra("pyarrow").Table.from_arrays([c for c, _ in stored], _labels(names))
    return table.replace_schema_metadata({_KEY: json.dumps(description)})


def _labels(names: list) -> list[str]:
    """Names that a file can hold: those of the columns, if these are distinct texts."""
    try:
        if all(type(name) is str and name.encode() is not None for name in names):
            if len(set(names)) == len(names):
                return names
    except UnicodeEncodeError:  # a lone surrogate
        pass
    return [f"column {position}" for position in range(len(names))]


def _read_table(file: Path, max_bytes: int | None) -> Any:
    # A file alone: a dataset would read partitions from the names of directories.
    stored = extra("pyarrow.parquet").ParquetFile(file, memory_map=False)
    most = float("inf") if max_bytes is None else max_bytes
    groups = [stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups)]
    announced = sum(group.total_byte_size for group in groups)
    n_values = sum(g.column(j).num_values for g in groups for j in range(g.num_columns))
    batches, n_bytes = [], 0
    if max(announced, n_values, stored.metadata.num_rows) <= most:
        for batch in stored.iter_batches(batch_size=_ROWS_OF_A_BATCH):
            batches.append(batch)
            n_bytes += batch.nbytes
            if n_bytes > most:
                break
    if max(announced, n_values, stored.metadata.num_rows, n_bytes) > most:
        raise ValueError(f"more than {max_bytes} bytes, which is too much for its size")
    table = extra("pyarrow").Table.from_batches(batches, stored.schema_arrow)
    return table.unify_dictionaries().combine_chunks()


def _stored(column: pd.Series, name: Hashable) -> tuple[Any, dict[str, Json]]:
    """A column of Arrow that Parquet can hold, and how to restore the original from it."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = pd.Series(dtype.categories, dtype=dtype.categories.dtype)
        kind = {
            "as": "codes",
            "categories": _encode_values(categories, name),
            "dtype": _encode_dtype(categories.dtype, name),
            "ordered": bool(dtype.ordered),
        }
        return extra("pyarrow").array(column.cat.codes), kind
    if isinstance(dtype, pd.SparseDtype):
        sparse: Any = column.sparse
        array, kind = _stored(sparse.to_dense(), name)
        return array, {"as": "sparse", "dense": kind, "dtype": _encode_dtype(dtype, name)}
    if pd.api.types.is_object_dtype(dtype):
        array, form = _objects_as_arrow(column), "objects"
    else:
        array, form = _as_arrow(column), "is"
    if array is None:
        texts = [json.dumps(value) for value in _encode_values(column, name)]
        array, form = extra("pyarrow").array(texts, type=extra("pyarrow").string()), "json"
    return array, {"as": form, "dtype": _encode_dtype(dtype, name)}


def _restored(column: Any, kind: dict[str, Json]) -> pd.Series:
    """The original column."""
    if kind["as"] == "sparse":
        return _restored(column, kind["dense"]).astype(decode_dtype(kind["dtype"]))
    dtype: Any = decode_dtype(kind["dtype"])
    if kind["as"] == "codes":
        categories = _from_values(decode(kind["categories"]), dtype)
        index = pd.Index(categories, dtype=dtype, tupleize_cols=False)
        return pd.Series(
            pd.Categorical.from_codes(column.to_numpy(), index, ordered=kind["ordered"])
        )
    if kind["as"] == "json":
        values = [decode(json.loads(text)) for text in column.to_pylist()]
        return _from_values(values, dtype)
    if kind["as"] == "objects":
        return pd.Series(column.to_numpy().astype(object), dtype=object)
    if isinstance(dtype, pd.ArrowDtype) and column.type != dtype.pyarrow_dtype:
        column = column.cast(dtype.pyarrow_dtype)  # Parquet holds a neighbour of the type
    if hasattr(dtype, "__from_arrow__"):
        return pd.Series(dtype.__from_arrow__(column))
    return column.to_pandas().rename(None).astype(dtype)


def _objects_as_arrow(column: pd.Series) -> Any:
    """Objects that are all texts or None, or all integers, in Arrow; None for others."""
    arrow, types = extra("pyarrow"), types_in(column)
    try:
        if types <= {str, type(None)}:
            return arrow.array(column.to_numpy(), type=arrow.large_string())
        if types == {int}:
            return arrow.array(column.to_numpy(), type=arrow.int64())
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate, a long integer
        pass
    return None


def _as_arrow(column: pd.Series) -> Any:
    """The column in Arrow; None where Arrow or Parquet has no type for it."""
    arrow, dtype = extra("pyarrow"), column.dtype
    if isinstance(dtype, np.dtype) and not dtype.isnative:
        column = column.astype(dtype.newbyteorder("="))
    try:
        array = arrow.array(column.array, from_pandas=True)
    except (
        arrow.ArrowException,
        TypeError,
        NotImplementedError,
        UnicodeEncodeError,  # a lone surrogate
    ):
        return None
    return array if _parquet_keeps(array.type) else None


@cache
def _parquet_keeps(kind: Any) -> bool:
    """Whether a column of an Arrow type comes back, at least after a cast."""
    arrow, parquet = extra("pyarrow"), extra("pyarrow.parquet")
    if isinstance(kind, arrow.BaseExtensionType):  # pyarrow 16 cannot read pandas' own
        return False
    file = arrow.BufferOutputStream()
    try:
        parquet.write_table(arrow.table({"column": arrow.array([], type=kind)}), file)
        column = parquet.read_table(file.getvalue())["column"]
        return bool(column.type == kind or column.cast(kind).type == kind)
    except (arrow.ArrowException, NotImplementedError):
        return False


def _encode_values(column: pd.Series, name: Hashable) -> list[Json]:
    try:
        encoded: list[Json] = encode(column.tolist())
    except TypeError as error:
        raise TypeError(
            f"Column {name!r} holds {error}, which save cannot store; make it a number, a "
            "string, a date or a list of such."
        ) from error
    return encoded


def _from_values(values: list, dtype: Dtype) -> pd.Series:
    if pd.api.types.is_object_dtype(dtype):  # lists stay lists
        array = np.empty(len(values), dtype=object)
        for position, value in enumerate(values):
            array[position] = value
        return pd.Series(array, dtype=object)
    return pd.Series(pd.array(values, dtype=dtype), dtype=dtype)


def _encode_dtype(dtype: Dtype, name: Hashable) -> Json:
    try:
        return encode_dtype(dtype)
    except TypeError as error:
        raise TypeError(
            f"Column {name!r} has the {error}, which save cannot store; convert it with "
            "astype before fit."
        ) from error
