"""Columns of Arrow tables that are read block by block, and interactions made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from sktwotower._data.arrow_files import arrow
from sktwotower._data.column_names import with_index
from sktwotower._data.distinct_values import DistinctValues, distinct_of
from sktwotower._data.interactions import (
    DedupedFeatures,
    Interactions,
    checked_labels,
    checked_weights,
    to_categorical,
)
from sktwotower._data.roles import ColumnRoles
from sktwotower._nn.distributed import Ranks
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import (
    Column,
    plain_times,
    refuse_infinite_times,
    refuse_missing_times,
)
from sktwotower.utils._times import TimeRange, time_kind


class ColumnReader(Protocol):
    """Collects the values of some columns, block by block."""

    names: list[str]

    def add(self, rows: slice, block: Any) -> None:
        """Read these rows, which are a block: an Arrow table."""


class NumberReader:
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


class TimeReader(NumberReader):
    """Reads timestamps; bad ones are refused once all rows have been read."""

    def __init__(self, name: str, n: int, role: Any) -> None:
        super().__init__(name, n, partial(plain_times, name=role))
        self._role = role
        self._missing = column_store.full(n, False, bool)
        self._extremes: np.ndarray | None = None
        self.kind = ""

    def add(self, rows: slice, block: Any) -> None:
        column = block.column(self.names[0]).to_pandas()
        self._missing[rows] = column.isna().to_numpy()
        if not self._missing.any():
            self.kind = time_kind(column)
            super().add(rows, block)

    def check(self) -> None:
        """Raise ValueError if a time is missing or infinite."""
        refuse_missing_times(self._missing, name=self._role)
        refuse_infinite_times(self.values, name=self._role)

    def of_all_ranks(self, ranks: Ranks) -> TimeReader:
        """The same of this rank, with the kind and the range of all."""
        own = None
        if len(self.values):
            range_ = TimeRange.of(self.kind, self.values)
            own = self.values.dtype, range_
        found = [one for one in ranks.objects(own) if one is not None]
        dtype, range_ = found[0]
        for _, other in found[1:]:
            range_ = range_.joined(other)
        one = copy(self)
        one.kind, one.values = range_.kind, self.values.astype(dtype, copy=False)
        one._extremes = np.array([range_.low, range_.high], dtype)
        return one

    def range(self, roles: ColumnRoles) -> TimeRange:
        """Their range, which is checked, joined to that of training so far."""
        times = self.values if self._extremes is None else self._extremes
        return roles.time_range(self.kind, times)


class IdReader:
    """Reads a column of ids, as codes and distinct ids."""

    def __init__(self, name: Any, stored: str, n: int, schema: Any) -> None:
        self.names = [stored]
        self._name = name
        self._schema = schema
        self.numbers = column_store.empty(n, np.int32)
        self._distinct = distinct_of(schema.field(stored).type)

    def add(self, rows: slice, block: Any) -> None:
        self.numbers[rows] = self._distinct.codes(block.column(self.names[0]))

    def of_n_rows(self, n: int) -> IdReader:
        """A reader of the same column, of so many rows."""
        return IdReader(self._name, self.names[0], n, self._schema)

    def distinct(self) -> Any:
        """The distinct ids, as a table; the missing one is not among them."""
        return arrow().table({self.names[0]: self._distinct.array()})

    def result(self, roles: ColumnRoles, role: str) -> Any:
        column = column_of(self._distinct.array(), self.names[0], self._schema)
        if self.numbers.min(initial=0) < 0:  # the missing id comes last
            column = column.reindex(range(len(column) + 1))
        ids = roles.checked_ids(column, role, self._name, positions=self.numbers)
        return to_categorical(self.numbers, ids)


class FeatureReader:
    """Reads feature columns, as distinct rows and the row of each interaction.

    Each column is encoded as codes of its distinct values. A row of several columns has
    one code, too: that of the pair of its code in the columns before and in the next one.
    """

    def __init__(self, stored: dict[str, str], n: int, schema: Any) -> None:
        self.names = list(stored.values())
        self._labels = list(stored)
        self._schema = schema
        self.numbers = column_store.empty(n, np.int32)
        pa = arrow()
        self._values = [distinct_of(schema.field(name).type) for name in self.names]
        self._pairs = [DistinctValues(pa.int64()) for _ in self.names]

    def add(self, rows: slice, block: Any) -> None:
        pa = arrow()
        positions = np.zeros(len(block), dtype=np.int32)
        for name, values, pairs in zip(self.names, self._values, self._pairs, strict=True):
            codes = values.codes(block.column(name))
            both = positions.astype(np.int64) << 32 | codes + 1  # 0 for a missing value
            positions = pairs.codes(pa.chunked_array([both]))
        self.numbers[rows] = positions

    def of_n_rows(self, n: int) -> FeatureReader:
        """A reader of the same columns, of so many rows."""
        stored = dict(zip(self._labels, self.names, strict=True))
        return FeatureReader(stored, n, self._schema)

    def distinct(self) -> Any:
        """The distinct rows, as a table."""
        positions = np.arange(len(self._pairs[-1].array()))
        columns = {}
        for name, values, pairs in reversed(
            list(zip(self.names, self._values, self._pairs, strict=True))
        ):
            both = pairs.array().to_numpy()[positions]
            codes = (both & 0xFFFFFFFF) - 1
            columns[name] = values.take(codes)
            positions = both >> 32
        return arrow().table({name: columns[name] for name in self.names})

    def result(self, columns: Any) -> Any:
        table = self.distinct()
        rows = pd.DataFrame(
            {name: column_of(table.column(name), name, self._schema) for name in self.names}
        )
        rows = columns.checked(rows.set_axis(self._labels, axis=1), self.numbers)
        return DedupedFeatures(rows, self.numbers)


DistinctReader = TypeVar("DistinctReader", IdReader, FeatureReader)


def numbered_together(own: DistinctReader, ranks: Ranks) -> DistinctReader:
    """The reader of this rank with numbers of the distinct values of all ranks.

    The values are in the order of the ranks, and so of X.
    """
    table = own.distinct()
    reader = own.of_n_rows(int(ranks.total(len(table))))
    numbers, start = np.empty(0, np.int32), 0
    for rank, found in enumerate(ranks.objects(table)):
        rows = slice(start, start + len(found))
        if len(found):
            reader.add(rows, found)
        if rank == ranks.rank:
            numbers = reader.numbers[rows]
        start = rows.stop
    reader.numbers = column_store.take(np.append(numbers, np.int32(-1)), own.numbers)
    return reader


@dataclass(frozen=True, eq=False)
class RowReaders:
    """The readers of the columns with a role; None: there is no such column.

    With ``is_share``, these are the rows of one of several ranks.
    """

    users: IdReader
    items: IdReader
    times: TimeReader | None
    labels: NumberReader | None
    weights: NumberReader | None
    user_features: FeatureReader | None
    item_features: FeatureReader | None
    is_share: bool = False

    def all(self) -> list[ColumnReader]:
        """Those that there are."""
        optional = self.times, self.labels, self.weights
        features = self.user_features, self.item_features
        found = self.users, self.items, *optional, *features
        return [reader for reader in found if reader is not None]

    def of_all_ranks(self, ranks: Ranks) -> RowReaders:
        """The rows of this rank, with the distinct values of all ranks."""
        times, user, item = self.times, self.user_features, self.item_features
        return replace(
            self,
            users=numbered_together(self.users, ranks),
            items=numbered_together(self.items, ranks),
            times=None if times is None else times.of_all_ranks(ranks),
            user_features=None if user is None else numbered_together(user, ranks),
            item_features=None if item is None else numbered_together(item, ranks),
            is_share=True,
        )

    def interactions(self, roles: ColumnRoles) -> Interactions:
        """The checked rows."""
        labels, weights, times = self.labels, self.weights, self.times
        positive = column_store.full(len(self.users.numbers), True, bool)
        if labels is not None:
            np.greater(checked_labels(labels.values), 0, out=positive)
        users = self.users.result(roles, "user_column")
        items = self.items.result(roles, "item_column")
        # All weights of a rank may be 0, if not all of X.
        if weights is not None and (weights.values.any() or not self.is_share):
            weights.values = checked_weights(weights.values, weights.values)
        if times is not None:
            times.check()
        user, item = self.user_features, self.item_features
        return Interactions(
            users,
            items,
            positive,
            None if weights is None else weights.values,
            None if times is None else times.values,
            None if user is None else user.result(roles.user_features),
            None if item is None else item.result(roles.item_features),
            None if labels is None else labels.values,
            None if times is None else times.range(roles),
        ).without_zero_weights()


def weight_numbers(column: pd.Series) -> np.ndarray:
    """Weights as float64."""
    try:
        return column.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The column of sample_weight must hold numbers ({error})."
        ) from error


def column_of(values: Any, name: str, schema: Any) -> pd.Series:
    """An Arrow array as a column, like ``pandas.read_parquet``."""
    return to_pandas(arrow().table({name: values}), schema, [name]).iloc[:, 0]


def to_pandas(
    table: Any, schema: Any, in_index: Sequence[Column | None] = ()
) -> pd.DataFrame:
    """An Arrow table as a frame, like ``pandas.read_parquet``."""
    frame: pd.DataFrame = table.replace_schema_metadata(schema.metadata).to_pandas()
    return with_index(frame, in_index).reset_index(drop=True)
