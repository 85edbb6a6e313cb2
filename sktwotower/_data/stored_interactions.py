"""Interactions in Parquet files and Arrow datasets, read in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sktwotower._data.arrow_files import arrow as _arrow
from sktwotower._data.arrow_files import (
    check_column,
    naming_file_and_column,
    open_dataset,
    plain_schema,
    refuse_other_rows,
    with_plain_columns,
)
from sktwotower._data.column_names import with_index
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
    refuse_no_rows,
)
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import (
    Column,
    column_position,
    plain_times,
    refuse_infinite_times,
    refuse_missing_times,
    refuse_repeated_names,
)
from sktwotower.utils._times import time_kind

_BLOCK_SIZE = 2**20  # rows that are read at a time


class StoredInteractions:
    """Interactions in files that may not fit into memory.

    Only columns with a role are read, a block of rows at a time. For each row, the codes of
    user and item and a few numbers are kept, on disk if there are very many rows. Distinct
    ids and distinct rows of features are kept once.

    Parameters
    ----------
    X : str, path-like or pyarrow.dataset.Dataset
        A Parquet file, a directory of them, or any Arrow dataset.
    owner : str
        Name of the estimator, for messages.
    in_index : sequence of str
        Names of columns that may be in the index of the frame that pandas has written.

    Attributes
    ----------
    columns : DataFrame of 0 rows
        The columns as ``pandas.read_parquet`` names them.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If the path does not exist.
    ValueError
        If the files are not Parquet, cannot be read, or have no rows.
    """

    def __init__(
        self, X: Any, *, owner: str, in_index: Sequence[Column | None] = ()
    ) -> None:
        self._X = X
        self._dataset = open_dataset(X)
        self._schema = schema = plain_schema(self._dataset.schema)
        self.columns: pd.DataFrame = _to_pandas(schema.empty_table(), schema, in_index)
        refuse_repeated_names(self.columns, where="X")
        # An index that pandas has written is not a column, unless its name has a role.
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        stored: list[str] = [name for name in schema.names if name not in index]
        self._stored = stored + list(self.columns.columns[len(stored) :])
        with naming_file_and_column(X, self._dataset, self._dataset.schema.names):
            self._n_rows = self._dataset.count_rows()
        refuse_no_rows((self._n_rows, self.columns.shape[1]), owner=owner)

    def read(self, y: Any, sample_weight: Any, *, roles: ColumnRoles) -> Interactions:
        """Read and check the rows, like :func:`read_interactions` those of a frame.

        Parameters
        ----------
        y, sample_weight : str or None
            Names of the columns of labels and weights.
        roles : ColumnRoles
            Which columns are read.

        Raises
        ------
        ValueError
            For invalid input; the message names the column, the number of rows and the
            first.
        """
        n, schema = self._n_rows, self._schema

        def stored(role: str) -> tuple[Any, str]:
            name = roles.column(self.columns, role).name
            return name, self._checked(
                self._stored_as(name), is_id=role != "timestamp_column"
            )

        def features(columns: FeatureColumns | None) -> _Features | None:
            names = {} if columns is None else columns.names_in(self.columns)
            found = {
                name: self._checked(self._stored_as(column), is_feature=True)
                for name, column in names.items()
            }
            return _Features(found, n, schema) if found else None

        users = _Ids(*stored("user_column"), n, schema)
        items = _Ids(*stored("item_column"), n, schema)
        times = labels = weights = None
        if roles.timestamp_column is not None:
            _, column = stored("timestamp_column")
            times = _Times(column, n, roles.timestamp_column)
        if y is not None:
            name = self._checked(self._named(y, "y"))
            labels = _Numbers(name, n, label_numbers)
        if sample_weight is not None:
            name = self._checked(self._named(sample_weight, "sample_weight"))
            weights = _Numbers(name, n, _weights)
        user_features = features(roles.user_features)
        item_features = features(roles.item_features)
        readers = [users, items, times, labels, weights, user_features, item_features]
        self._fill([reader for reader in readers if reader is not None])
        positive = column_store.full(n, True, bool)
        if labels is not None:
            np.greater(checked_labels(labels.values), 0, out=positive)
        return Interactions(
            users.result(roles, "user_column"),
            items.result(roles, "item_column"),
            positive,
            None if weights is None else checked_weights(weights.values, weights.values),
            None if times is None else times.checked(),
            None if user_features is None else user_features.result(roles.user_features),
            None if item_features is None else item_features.result(roles.item_features),
            None if labels is None else labels.values,
            None if times is None else roles.time_range(times.kind, times.values),
        ).without_zero_weights()

    def _checked(self, name: str, *, is_feature: bool = False, is_id: bool = False) -> str:
        """The name of a column that goes together across the files."""
        with naming_file_and_column(self._X, self._dataset, [name]):
            check_column(self._dataset, self._X, name, is_feature=is_feature, is_id=is_id)
        return name

    def _stored_as(self, name: Any) -> str:
        """Name in the files of a column, which may have another dtype in pandas."""
        return self._stored[list(self.columns.columns).index(name)]

    def _named(self, name: Any, parameter: str) -> str:
        if not isinstance(name, str):
            raise ValueError(
                f"{parameter} must be the name of a column where X is a path or a Dataset; "
                f"got {type(name).__name__}."
            )
        names = list(self.columns.columns)
        return self._stored[column_position(name, names, role=parameter)]

    def _fill(self, readers: list[_ColumnReader]) -> None:
        """Go through the rows once."""
        names = list(dict.fromkeys(name for reader in readers for name in reader.names))
        start = 0
        with naming_file_and_column(self._X, self._dataset, names):
            for block in _blocks(self._dataset, names):
                rows = slice(start, start + len(block))
                start = rows.stop
                if start <= self._n_rows:  # else they are only counted
                    block = with_plain_columns(block)
                    for reader in readers:
                        reader.add(rows, block)
        refuse_other_rows(self._X, self._dataset, self._n_rows, start)


class _ColumnReader(Protocol):
    """Collects the values of some columns, block by block."""

    names: list[str]

    def add(self, rows: slice, block: Any) -> None:
        """Read these rows, which are a block: an Arrow table."""


class _Numbers:
    """Reads a column of numbers."""

    def __init__(
        self, name: str, n: int, convert: Callable[[pd.Series], np.ndarray]
    ) -> None:
        self.names = [name]
        self.values = np.empty(0)
        self._n = n
        self._convert = convert

    def add(self, rows: slice, block: Any) -> None:
        values = self._convert(block.column(self.names[0]).to_pandas())
        if rows.start == 0:
            self.values = column_store.empty(self._n, values.dtype)
        self.values[rows] = values


class _Times(_Numbers):
    """Reads timestamps; bad ones are refused once all rows have been read."""

    def __init__(self, name: str, n: int, role: Any) -> None:
        super().__init__(name, n, partial(plain_times, name=role))
        self._role = role
        self._missing = column_store.full(n, False, bool)
        self.kind = ""

    def add(self, rows: slice, block: Any) -> None:
        column = block.column(self.names[0]).to_pandas()
        self._missing[rows] = column.isna().to_numpy()
        if not self._missing.any():
            self.kind = time_kind(column)
            super().add(rows, block)

    def checked(self) -> np.ndarray:
        refuse_missing_times(self._missing, name=self._role)
        refuse_infinite_times(self.values, name=self._role)
        return self.values


class _Ids:
    """Reads a column of ids, as codes and distinct ids."""

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
        if self._codes.min() < 0:  # the missing id comes last
            column = column.reindex(range(len(column) + 1))
        ids = roles.checked_ids(column, role, self._name, positions=self._codes)
        return to_categorical(self._codes, ids)


class _Features:
    """Reads feature columns, as distinct rows and the row of each interaction.

    Each column is encoded as codes of its distinct values. A row of several columns has
    one code, too: that of the pair of its code in the columns before and in the next one.
    """

    def __init__(self, stored: dict[str, str], n: int, schema: Any) -> None:
        self.names = list(stored.values())
        self._labels = list(stored)
        self._schema = schema
        self._positions = column_store.empty(n, np.int32)
        arrow = _arrow()
        self._values = [_distinct_of(schema.field(name).type) for name in self.names]
        self._pairs = [_Distinct(arrow.int64()) for _ in self.names]

    def add(self, rows: slice, block: Any) -> None:
        arrow = _arrow()
        positions = np.zeros(len(block), dtype=np.int32)
        for name, values, pairs in zip(self.names, self._values, self._pairs, strict=True):
            codes = values.codes(block.column(name))
            both = positions.astype(np.int64) << 32 | codes + 1  # 0 for a missing value
            positions = pairs.codes(arrow.chunked_array([both]))
        self._positions[rows] = positions

    def result(self, columns: Any) -> Any:
        positions = np.arange(len(self._pairs[-1].array()))
        frame = {}
        for name, values, pairs in reversed(
            list(zip(self.names, self._values, self._pairs, strict=True))
        ):
            both = pairs.array().to_numpy()[positions]
            codes = (both & 0xFFFFFFFF) - 1
            frame[name] = _column(values.take(codes), name, self._schema)
            positions = both >> 32
        rows = pd.DataFrame({name: frame[name] for name in self.names})
        rows = columns.checked(rows.set_axis(self._labels, axis=1), self._positions)
        return DedupedFeatures(rows, self._positions)


class _Distinct:
    """Distinct values of an Arrow column, in the order of their first appearance."""

    def __init__(self, kind: Any) -> None:
        arrow = _arrow()
        self._kind = kind
        self._values = arrow.array(
            [], kind.value_type if arrow.types.is_dictionary(kind) else kind
        )

    def codes(self, column: Any) -> np.ndarray:
        """Codes of values, (n,) int32; -1 if missing. New values are added."""
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
        """The distinct values."""
        return self._values

    def take(self, codes: np.ndarray) -> Any:
        """Values of codes, of the same type as the column."""
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
    """Distinct lists, and other values for which Arrow has no hash table."""

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


class _DistinctExtensions:
    """Distinct values of an extension type, such as UUIDs, found by their storage."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._stored = _distinct_of(kind.storage_type)

    def codes(self, column: Any) -> np.ndarray:
        return self._stored.codes(column.cast(self._kind.storage_type))

    def array(self) -> Any:
        return self._kind.wrap_array(self._stored.array())

    def take(self, codes: np.ndarray) -> Any:
        return self._kind.wrap_array(self._stored.take(codes))


def _distinct_of(kind: Any) -> _Distinct | _DistinctExtensions:
    types = _arrow().types
    if isinstance(kind, _arrow().BaseExtensionType):
        return _DistinctExtensions(kind)
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
    # Batches that are read ahead are in memory. Threads read faster than the batches are
    # used, so that most of a file would be (Arrow buffers up to a gigabyte).
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
    """An Arrow array as a column, like ``pandas.read_parquet``."""
    return _to_pandas(_arrow().table({name: values}), schema, [name]).iloc[:, 0]


def _to_pandas(
    table: Any, schema: Any, in_index: Sequence[Column | None] = ()
) -> pd.DataFrame:
    frame: pd.DataFrame = table.replace_schema_metadata(schema.metadata).to_pandas()
    return with_index(frame, in_index).reset_index(drop=True)
