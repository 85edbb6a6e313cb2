"""Interactions in Parquet files and Arrow datasets: read in blocks, down to codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.interactions import (
    DedupedFeatures,
    Interactions,
    checked_labels,
    checked_weights,
    label_numbers,
    to_categorical,
)
from sktwotower._data.roles import (
    ColumnRoles,
    FeatureColumns,
    describe,
    refuse_no_rows,
)
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import (
    column_position,
    refuse_missing_times,
    refuse_repeated_names,
    time_numbers,
)
from sktwotower.utils._extra import extra

_BLOCK_SIZE = 2**20  # rows that are looked at at once


class StoredInteractions:
    """Rows of a data set that is never read whole.

    Only columns with a role are read, a block of rows at a time. What is kept of a row is a
    code for its user, one for its item, and a few numbers, on disk if there are very many
    rows; every distinct id is kept once, and so is every distinct row of features.

    Parameters
    ----------
    X : str, path-like or pyarrow.dataset.Dataset
        A Parquet file, a directory of them, or any Arrow dataset.
    owner : str
        Who reads, for messages.

    Attributes
    ----------
    columns : DataFrame of no rows
        The columns, as ``pandas.read_parquet`` names them.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If it is not Parquet, or without a row.
    """

    def __init__(self, X: Any, *, owner: str) -> None:
        self._dataset = _open(X)
        schema = self._dataset.schema
        self.columns: pd.DataFrame = _to_pandas(schema.empty_table(), schema)
        refuse_repeated_names(self.columns, where="X")
        # What pandas wrote as an index is no column.
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self._stored: list[str] = [name for name in schema.names if name not in index]
        self._n_rows = self._dataset.count_rows()
        refuse_no_rows((self._n_rows, self.columns.shape[1]), owner=owner)

    def read(self, y: Any, sample_weight: Any, *, roles: ColumnRoles) -> Interactions:
        """Checked rows, as :func:`read_interactions` gives those of a frame.

        Parameters
        ----------
        y, sample_weight : str or None
            Names of columns.
        roles : ColumnRoles
            Which columns are read.

        Raises
        ------
        ValueError
            With the column, the count and the first row, for whatever is wrong.
        """
        n, schema = self._n_rows, self._dataset.schema

        def stored(role: str) -> tuple[Any, str]:
            name = roles.column(self.columns, role).name
            return name, self._stored_as(name)

        def features(columns: FeatureColumns | None) -> _Features | None:
            names = {} if columns is None else columns.names_in(self.columns)
            found = {name: self._stored_as(column) for name, column in names.items()}
            return _Features(found, n, schema) if found else None

        users = _Ids(*stored("user_column"), n, schema)
        items = _Ids(*stored("item_column"), n, schema)
        times = labels = weights = None
        if roles.timestamp_column is not None:
            _, column = stored("timestamp_column")
            times = _Times(column, n, roles.timestamp_column)
        if y is not None:
            labels = _Numbers(self._named(y, "y"), n, label_numbers)
        if sample_weight is not None:
            weights = _Numbers(self._named(sample_weight, "sample_weight"), n, _weights)
        of_users, of_items = features(roles.user_features), features(roles.item_features)
        parts = [users, items, times, labels, weights, of_users, of_items]
        self._fill([part for part in parts if part is not None])
        positive = column_store.full(n, True, bool)
        if labels is not None:
            np.greater(checked_labels(labels.values), 0, out=positive)
        return Interactions(
            users.result(roles, "user_column"),
            items.result(roles, "item_column"),
            positive,
            None if weights is None else checked_weights(weights.values, weights.values),
            None if times is None else times.checked(),
            None if of_users is None else of_users.result(roles.user_features),
            None if of_items is None else of_items.result(roles.item_features),
            None if labels is None else labels.values,
        ).without_zero_weights()

    def _stored_as(self, name: Any) -> str:
        """What a column is called in the files; pandas may have had another dtype."""
        return self._stored[list(self.columns.columns).index(name)]

    def _named(self, name: Any, parameter: str) -> str:
        if not isinstance(name, str):
            raise ValueError(
                f"{parameter} must be the name of a column where X is a path or a Dataset; "
                f"got {type(name).__name__}."
            )
        names = list(self.columns.columns)
        return self._stored[column_position(name, names, role=parameter)]

    def _fill(self, parts: list[Any]) -> None:
        """Go through the rows once."""
        names = list(dict.fromkeys(name for part in parts for name in part.names))
        start = 0
        for block in _blocks(self._dataset, names):
            for part in parts:
                part.add(slice(start, start + len(block)), block)
            start += len(block)


class _Numbers:
    """A column of numbers."""

    def __init__(
        self, name: str, n: int, convert: Callable[[pd.Series], np.ndarray]
    ) -> None:
        self.names = [name]
        self.values = np.empty(0)
        self._n = n
        self._convert = convert

    def add(self, rows: slice, block: Any) -> None:
        """Take down a block, an Arrow table, in these rows."""
        values = self._convert(block.column(self.names[0]).to_pandas())
        if rows.start == 0:
            self.values = column_store.empty(self._n, values.dtype)
        self.values[rows] = values


class _Times(_Numbers):
    """The timestamps; whether one is missing is said when all have been read."""

    def __init__(self, name: str, n: int, role: Any) -> None:
        super().__init__(name, n, partial(time_numbers, name=role))
        self._role = role
        self._missing = column_store.full(n, False, bool)

    def add(self, rows: slice, block: Any) -> None:
        missing = block.column(self.names[0]).to_pandas().isna().to_numpy()
        self._missing[rows] = missing
        if not self._missing.any():
            super().add(rows, block)

    def checked(self) -> np.ndarray:
        refuse_missing_times(self._missing, name=self._role)
        return self.values


class _Ids:
    """A column of ids, as codes and distinct ids."""

    def __init__(self, name: Any, stored: str, n: int, schema: Any) -> None:
        self.names = [stored]
        self._name = name
        self._schema = schema
        self._codes = column_store.empty(n, np.int32)
        self._distinct = _distinct_of(schema.field(stored).type)

    def add(self, rows: slice, block: Any) -> None:
        self._codes[rows] = self._distinct.codes(block.column(self.names[0]))

    def result(self, roles: ColumnRoles, role: str) -> Any:
        column = _column(self._distinct.array(), self.names[0], self._schema)
        if self._codes.min() < 0:  # the missing one comes last
            column = column.reindex(range(len(column) + 1))
        ids = roles.checked_ids(column, role, self._name, positions=self._codes)
        return to_categorical(self._codes, ids)


class _Features:
    """Columns of features, as distinct rows and the row of each interaction.

    Values become codes column by column, and so do pairs of what the columns so far have
    and what the next one has.
    """

    def __init__(self, stored: dict[str, str], n: int, schema: Any) -> None:
        self.names = list(stored.values())
        self._called = list(stored)
        self._schema = schema
        self._places = column_store.empty(n, np.int32)
        arrow = _arrow()
        self._values = [_distinct_of(schema.field(name).type) for name in self.names]
        self._pairs = [_Distinct(arrow.int64()) for _ in self.names]

    def add(self, rows: slice, block: Any) -> None:
        arrow = _arrow()
        places = np.zeros(len(block), dtype=np.int32)
        for name, values, pairs in zip(self.names, self._values, self._pairs, strict=True):
            codes = values.codes(block.column(name))
            both = places.astype(np.int64) << 32 | codes + 1  # a missing value has 0
            places = pairs.codes(arrow.chunked_array([both]))
        self._places[rows] = places

    def result(self, columns: Any) -> Any:
        places = np.arange(len(self._pairs[-1].array()))
        frame = {}
        for name, values, pairs in reversed(
            list(zip(self.names, self._values, self._pairs, strict=True))
        ):
            both = pairs.array().to_numpy()[places]
            codes = (both & 0xFFFFFFFF) - 1
            frame[name] = _column(values.take(codes), name, self._schema)
            places = both >> 32
        rows = pd.DataFrame({name: frame[name] for name in self.names})
        rows = columns.checked(rows.set_axis(self._called, axis=1), self._places)
        return DedupedFeatures(rows, self._places)


class _Distinct:
    """Distinct values of an Arrow column, in the order of their appearance."""

    def __init__(self, kind: Any) -> None:
        arrow = _arrow()
        self._kind = kind
        self._values = arrow.array(
            [], kind.value_type if arrow.types.is_dictionary(kind) else kind
        )

    def codes(self, column: Any) -> np.ndarray:
        """Numbers of values, (n,) int32; -1 for a missing one. New ones are taken down."""
        arrow = _arrow()
        known = self._encoded(arrow.array([], arrow.int32()))
        chunks = [
            arrow.DictionaryArray.from_arrays(
                chunk.indices.cast(arrow.int32()), chunk.dictionary
            )
            for chunk in column.dictionary_encode().chunks
        ]
        known, *chunks = arrow.chunked_array([known, *chunks]).unify_dictionaries().chunks
        self._values = known.dictionary
        return np.concatenate(
            [chunk.indices.fill_null(-1).to_numpy() for chunk in chunks], dtype=np.int32
        )

    def array(self) -> Any:
        """The values."""
        return self._values

    def take(self, codes: np.ndarray) -> Any:
        """Values of codes, as they were in the column."""
        arrow = _arrow()
        numbers = arrow.array(codes, arrow.int32(), mask=codes < 0)
        if arrow.types.is_dictionary(self._kind):
            return self._encoded(numbers)
        return self._values.take(numbers)

    def _encoded(self, codes: Any) -> Any:
        arrow = _arrow()
        ordered = arrow.types.is_dictionary(self._kind) and self._kind.ordered
        return arrow.DictionaryArray.from_arrays(codes, self._values, ordered=ordered)


class _DistinctLists(_Distinct):
    """The same of lists and other values that Arrow does not number."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self._numbers: dict[str, int] = {}
        self._found: list[Any] = []

    def codes(self, column: Any) -> np.ndarray:
        codes = []
        for value in column.to_pylist():
            key = repr(value)
            if value is not None and key not in self._numbers:
                self._numbers[key] = len(self._found)
                self._found.append(value)
            codes.append(self._numbers.get(key, -1))
        return np.array(codes, dtype=np.int32)

    def array(self) -> Any:
        return _arrow().array(self._found, self._kind)

    def take(self, codes: np.ndarray) -> Any:
        arrow = _arrow()
        return self.array().take(arrow.array(codes, arrow.int32(), mask=codes < 0))


def _distinct_of(kind: Any) -> _Distinct:
    types = _arrow().types
    alone = types.is_nested(kind) or types.is_null(kind) or types.is_float16(kind)
    return _DistinctLists(kind) if alone else _Distinct(kind)


def _weights(column: pd.Series) -> np.ndarray:
    try:
        return column.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The column of sample_weight must hold numbers ({error})."
        ) from error


def _blocks(dataset: Any, names: list[str]) -> Iterator[Any]:
    """The rows in order, as Arrow tables of about ``_BLOCK_SIZE`` rows."""
    from_batches = _arrow().Table.from_batches
    batches: list[Any] = []
    # What is read ahead is held in memory. With threads that is most of a file (Arrow lets
    # a gigabyte pile up), since they are faster than who takes the batches.
    scanner = dataset.scanner(
        columns=names,
        batch_size=_BLOCK_SIZE,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    for batch in scanner.to_batches():
        batches.append(batch)
        if sum(map(len, batches)) >= _BLOCK_SIZE:
            yield from_batches(batches)
            batches = []
    if batches and sum(map(len, batches)):
        yield from_batches(batches)


def _column(values: Any, name: str, schema: Any) -> pd.Series:
    """An Arrow array as the column that ``pandas.read_parquet`` makes of it."""
    return _to_pandas(_arrow().table({name: values}), schema).iloc[:, 0]


def _to_pandas(table: Any, schema: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.replace_schema_metadata(schema.metadata).to_pandas()
    return frame.reset_index(drop=True)


def _open(X: Any) -> Any:
    dataset = _arrow("pyarrow.dataset")
    if not isinstance(X, str | os.PathLike):
        return X
    path = os.path.expanduser(os.fspath(X))
    # Without a buffer, which would hold a whole file.
    options = dataset.ParquetFragmentScanOptions(pre_buffer=False)
    parquet = dataset.ParquetFileFormat(default_fragment_scan_options=options)
    partitioning = None
    if not os.path.isfile(path):  # names of directories, such as year=2024, are a column
        partitioning = dataset.HivePartitioning.discover(infer_dictionary=True)
    try:
        opened = dataset.dataset(path, format=parquet, partitioning=partitioning)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"X is {describe(X)}, and there is nothing; give a Parquet file or a directory "
            "of them."
        ) from error
    except _arrow().ArrowInvalid as error:
        raise ValueError(
            f"X is {describe(X)}, which cannot be read as Parquet ({error}); give a "
            "pyarrow.dataset.Dataset of files of another format."
        ) from error
    if not opened.files:
        raise ValueError(f"X is {describe(X)}, a directory without a Parquet file.")
    return opened


def _arrow(module: str = "pyarrow") -> Any:
    return extra(module, name="parquet", caller="fit from files needs")
