"""Interactions in Parquet files and Arrow datasets, read in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.arrow_files import (
    arrow,
    check_column,
    naming_file_and_column,
    open_dataset,
    plain_schema,
    refuse_other_rows,
    with_plain_columns,
)
from sktwotower._data.column_readers import (
    ColumnReader,
    FeatureReader,
    IdReader,
    NumberReader,
    RowReaders,
    TimeReader,
    to_pandas,
    weight_numbers,
)
from sktwotower._data.interactions import Interactions, label_numbers
from sktwotower._data.roles import (
    ColumnRoles,
    FeatureColumns,
    refuse_no_rows,
)
from sktwotower._data.row_groups import RowGroups
from sktwotower._data.row_shares import OwnRows
from sktwotower._data.vocabulary import distinct_codes
from sktwotower._nn.distributed import RankError, Ranks
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import (
    Column,
    column_position,
    refuse_repeated_names,
)

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
        self.columns: pd.DataFrame = to_pandas(schema.empty_table(), schema, in_index)
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
        readers = self._readers(y, sample_weight, roles, self._n_rows)
        self._fill(readers, self._dataset, self._n_rows)
        return readers.interactions(roles)

    def read_share(
        self, y: Any, sample_weight: Any, *, roles: ColumnRoles, ranks: Ranks
    ) -> Interactions:
        """Read and check the row groups of this rank, as :meth:`read` does all.

        The categories of ids are those of the rows of all ranks, in the order of X, as are
        the distinct features. If a rank finds an error, all of them raise what one process
        would.
        """
        try:
            return self._read_share(y, sample_weight, roles, ranks)
        except RankError as error:
            self.read(y, sample_weight, roles=roles)
            raise (error.__cause__ or error) from None  # it is not found again

    def _read_share(
        self, y: Any, sample_weight: Any, roles: ColumnRoles, ranks: Ranks
    ) -> Interactions:
        groups = ranks.on_all(partial(RowGroups.of_rank, self._dataset, ranks))
        groups.refuse_others(ranks)

        def read() -> RowReaders:
            readers = self._readers(y, sample_weight, roles, groups.n_rows)
            self._fill(readers, groups, groups.n_rows)
            if readers.times is not None:
                readers.times.check()
            return readers

        readers = ranks.on_all(read).of_all_ranks(ranks)
        found = ranks.on_all(partial(readers.interactions, roles))
        if not ranks.total(len(found)):
            raise RankError("No row of X has a weight.")
        return replace(
            found,
            users=_in_order(found.users, ranks),
            items=_in_order(found.items, ranks),
            share=OwnRows.after_those_before(len(found), ranks),
        )

    def _readers(
        self, y: Any, sample_weight: Any, roles: ColumnRoles, n: int
    ) -> RowReaders:
        """What reads the columns with a role, of ``n`` rows."""
        schema = self._schema

        def stored(role: str) -> tuple[Any, str]:
            name = roles.column(self.columns, role).name
            return name, self._checked(
                self._stored_as(name), is_id=role != "timestamp_column"
            )

        def features(columns: FeatureColumns | None) -> FeatureReader | None:
            names = {} if columns is None else columns.names_in(self.columns)
            found = {
                name: self._checked(self._stored_as(column), is_feature=True)
                for name, column in names.items()
            }
            return FeatureReader(found, n, schema) if found else None

        users = IdReader(*stored("user_column"), n, schema)
        items = IdReader(*stored("item_column"), n, schema)
        times = labels = weights = None
        if roles.timestamp_column is not None:
            _, column = stored("timestamp_column")
            times = TimeReader(column, n, roles.timestamp_column)
        if y is not None:
            name = self._checked(self._named(y, "y"))
            labels = NumberReader(name, n, label_numbers)
        if sample_weight is not None:
            name = self._checked(self._named(sample_weight, "sample_weight"))
            weights = NumberReader(name, n, weight_numbers)
        return RowReaders(
            users,
            items,
            times,
            labels,
            weights,
            features(roles.user_features),
            features(roles.item_features),
        )

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

    def _fill(self, rows: RowReaders, dataset: Any, n_rows: int) -> None:
        """Go once through the rows of the dataset, or of a part of it."""
        readers: list[ColumnReader] = rows.all()
        names = list(dict.fromkeys(name for reader in readers for name in reader.names))
        start = 0
        with naming_file_and_column(self._X, self._dataset, names):
            for block in _blocks(dataset, names):
                added = slice(start, start + len(block))
                start = added.stop
                if start <= n_rows:  # else they are only counted
                    block = with_plain_columns(block)
                    for reader in readers:
                        reader.add(added, block)
        refuse_other_rows(self._X, self._dataset, n_rows, start)


def _blocks(dataset: Any, names: list[str]) -> Iterator[Any]:
    """The rows in order, as Arrow tables of about ``_BLOCK_SIZE`` rows."""
    from_batches = arrow().Table.from_batches
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


def _in_order(ids: Any, ranks: Ranks) -> Any:
    """The same ids, whose categories are those of the rows of all ranks, in their order."""
    own = distinct_codes(ids.codes)
    distinct = distinct_codes(np.concatenate(list(ranks.objects(own))))
    if np.array_equal(distinct, np.arange(len(ids.categories))):
        return ids
    numbers = np.zeros(len(ids.categories), dtype=np.int32)
    numbers[distinct] = np.arange(len(distinct))
    codes = column_store.take(numbers, ids.codes)
    return pd.Categorical.from_codes(codes, ids.categories[distinct])
