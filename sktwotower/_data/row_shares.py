"""The rows of X in one process, or divided among several ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from sktwotower._data.histories import InteractionCodes
from sktwotower._nn.distributed import Ranks, own_errors
from sktwotower.utils import _column_store as column_store

RecordT = TypeVar("RecordT", bound=column_store.Columns)
Result = TypeVar("Result")
_BLOCK = 2**18  # rows that a rank sends at once


class RowShare:
    """Which rows of X are in this process: all of them, or those of an `OwnRows`.

    What is computed from rows goes through the methods, so that all processes have the
    same numbers as one that has all rows.
    """

    def on_all(self, call: Callable[[], Result]) -> Result:
        """What a call returns; an error in any process is one in all of them."""
        return call()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over the processes."""
        return values

    def any(self, mask: Any) -> Any:
        """Where a mask is True in any process; or whether one bool is."""
        return mask

    def max(self, number: float) -> float:
        """The largest number of a process."""
        return number

    def mean(self, values: np.ndarray) -> float:
        """The mean of the values of all rows."""
        mean: float = values.mean()
        return mean

    def distinct(self, ids: Any) -> Any:
        """Ids of all rows, in the order of their first appearance; some may be repeated."""
        return ids

    def own(self, values: np.ndarray) -> np.ndarray:
        """The values of this process's rows, of values of all rows."""
        return values

    def whole_column(self, column: np.ndarray) -> np.ndarray:
        """The column of all rows, of the columns of all processes."""
        return column

    def joined(self, *columns: np.ndarray) -> list[np.ndarray]:
        """Columns of some rows of all processes, in an order that all of them have."""
        return list(columns)

    def take(self, rows: Any) -> RowShare:
        """The share of some rows of this process: a mask, positions or a slice."""
        return self

    def of_own_users(
        self, rows: InteractionCodes, numbers: np.ndarray | None, id_codes: np.ndarray
    ) -> tuple[RowShare, InteractionCodes]:
        """The rows, from before, of the users whose rows this process has.

        Parameters
        ----------
        rows : InteractionCodes
            Rows from before.
        numbers : ndarray of shape (n_rows,) or None
            Which of all rows from before they are; None: all.
        id_codes : ndarray of shape (n_users + 1,)
            Row of the table of ids of each user.
        """
        return self, rows

    def followed_by(self, later: RowShare) -> RowShare:
        """The share of these rows and later ones together."""
        return self


ALL_ROWS = RowShare()


@dataclass(frozen=True, eq=False)
class OwnRows(RowShare):
    """Some of the rows of X are in this process; the others are in those of its group.

    Each method is called by all processes.

    Attributes
    ----------
    ranks : Ranks
        The processes.
    numbers : ndarray of shape (n,), int64
        Where this process's rows are in X, in order; rows of weight 0 are not counted.
    """

    ranks: Ranks
    numbers: np.ndarray

    @classmethod
    def after_those_before(cls, n_rows: int, ranks: Ranks) -> OwnRows:
        """The share of a rank that has so many rows after those of the ranks before it."""
        counts = ranks.all_gather(torch.tensor(n_rows))
        numbers = column_store.arange(n_rows)
        numbers += int(counts[: ranks.rank].sum())
        return cls(ranks, numbers)

    @classmethod
    def of_all_rows(
        cls, record: RecordT, owners: np.ndarray, ranks: Ranks
    ) -> tuple[OwnRows, RecordT]:
        """The rows that belong to this rank, of rows that every rank has.

        Parameters
        ----------
        record : Columns of n rows
            The rows.
        owners : ndarray of shape (n,)
            The rank that each row belongs to.
        ranks : Ranks
            The processes.
        """
        own = owners == ranks.rank
        return cls(ranks, np.flatnonzero(own)), record.take(own)

    def on_all(self, call: Callable[[], Result]) -> Result:
        with own_errors():
            return self.ranks.on_all(call)

    def sum(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.ranks.sum(torch.from_numpy(values)).numpy()
        return found

    def any(self, mask: Any) -> Any:
        return self.sum(np.asarray(mask, dtype=np.int32)) > 0

    def max(self, number: float) -> float:
        # As float64: process groups know no int16, the type of some codes.
        return float(self.ranks.all_gather(torch.tensor(number, dtype=torch.float64)).max())

    def mean(self, values: np.ndarray) -> float:
        total, n = self.sum(np.array([values.sum(), len(values)]))
        return float(total / n)

    def distinct(self, ids: pd.Categorical) -> np.ndarray:
        return ids.categories.to_numpy()

    def own(self, values: np.ndarray) -> np.ndarray:
        return column_store.take(values, self.numbers)

    def whole_column(self, column: np.ndarray) -> np.ndarray:
        n_rows = int(self.sum(np.array(len(self.numbers))))
        whole = column_store.empty(n_rows, column.dtype)
        for numbers, values in self._gathered(self.numbers, column):
            whole[numbers] = values
        return whole

    def joined(self, *columns: np.ndarray) -> list[np.ndarray]:
        found = list(self._gathered(*columns))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def take(self, rows: Any) -> OwnRows:
        return OwnRows(self.ranks, column_store.take(self.numbers, rows))

    def ordered(self, rows: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        """Values at some of the rows of all processes, in the order of X.

        Parameters
        ----------
        rows : ndarray of shape (n,)
            Positions of some rows of this process.
        *values : ndarray of shape (n,)
            Values that belong to them.

        Returns
        -------
        list of ndarray of shape (n_of_all_processes,)
            The numbers of the rows in X, and the values.
        """
        columns = self.joined(self.numbers[rows], *values)
        order = np.argsort(columns[0])
        return [column[order] for column in columns]

    def of_own_users(
        self, rows: InteractionCodes, numbers: np.ndarray | None, id_codes: np.ndarray
    ) -> tuple[RowShare, InteractionCodes]:
        owners = column_store.take(id_codes, rows.users) % self.ranks.size
        if numbers is not None:  # a user may have got a row in the table, and moves
            share, rows = OwnRows(self.ranks, numbers).moved(rows, owners)
            order = np.argsort(share.numbers, kind="stable")
            return OwnRows(self.ranks, share.numbers[order]), rows.take(order)
        return OwnRows.of_all_rows(rows, owners, self.ranks)

    def followed_by(self, later: RowShare) -> OwnRows:
        assert isinstance(later, OwnRows)
        n_before = int(self.sum(np.array(len(self.numbers))))
        return OwnRows(
            self.ranks, column_store.joined([self.numbers, n_before + later.numbers])
        )

    def moved(self, record: RecordT, owners: np.ndarray) -> tuple[OwnRows, RecordT]:
        """Send each row to the rank that it belongs to.

        The rows of a rank come after those of the ranks before it, as they are read.

        Parameters
        ----------
        record : Columns of n rows
            This rank's rows.
        owners : ndarray of shape (n,)
            The rank that each row belongs to.

        Returns
        -------
        share : OwnRows
            Which rows belong to this rank.
        record : Columns
            They; those of a user in the order of X.
        """
        arrays, size = [_array(one) for one in record.columns().values()], self.ranks.size
        counts = self._counts(np.bincount(owners, minlength=size))  # (sender, receiver)
        n_received = counts[:, self.ranks.rank]
        received = [
            column_store.empty(int(n_received.sum()), array.dtype)
            for array in (self.numbers, *arrays)
        ]
        filled = np.cumsum(n_received) - n_received  # where the rows of each sender go
        for block in self._blocks(len(owners)):
            order = np.argsort(owners[block], kind="stable")
            rows = _packed([array[block][order] for array in (self.numbers, *arrays)])
            sent = np.bincount(owners[block], minlength=size)
            n_of_block = self._counts(sent)[:, self.ranks.rank]
            found = self.ranks.exchange(
                torch.from_numpy(rows), sent.tolist(), n_of_block.tolist()
            ).numpy()
            ends = np.cumsum(n_of_block)
            for sender, part in enumerate(np.split(found, ends[:-1])):
                target = slice(filled[sender], filled[sender] + len(part))
                filled[sender] = target.stop
                for array, values in zip(received, _unpacked(part, received), strict=True):
                    array[target] = values
        return OwnRows(self.ranks, received[0]), _record_like(record, received[1:])

    def _counts(self, own: np.ndarray) -> np.ndarray:
        """The counts of all ranks, (size, n)."""
        found: np.ndarray = self.ranks.all_gather(torch.from_numpy(own)).numpy()
        return found

    def _blocks(self, n_rows: int) -> Iterator[slice]:
        """Blocks of rows, as many as on the rank with the most; the last ones are empty."""
        most = int(self.max(n_rows))
        for start in range(0, most, _BLOCK):
            yield slice(min(start, n_rows), min(start + _BLOCK, n_rows))

    def _gathered(self, *columns: np.ndarray) -> Iterator[list[np.ndarray]]:
        """Rows of columns of all ranks, block by block."""
        for block in self._blocks(len(columns[0])):
            rows = _packed([column[block] for column in columns])
            lengths = self._counts(np.array(len(rows)))
            padded = np.zeros((lengths.max(), rows.shape[1]), dtype=np.uint8)
            padded[: len(rows)] = rows
            found = self.ranks.all_gather(torch.from_numpy(padded)).numpy()
            rows = np.concatenate([p[:n] for p, n in zip(found, lengths, strict=True)])
            yield _unpacked(rows, columns)


def _packed(columns: list[np.ndarray]) -> np.ndarray:
    """The bytes of rows, (n, n_bytes)."""
    n = len(columns[0])
    return np.concatenate(
        [
            np.ascontiguousarray(one).view(np.uint8).reshape(n, one.dtype.itemsize)
            for one in columns
        ],
        axis=1,
    )


def _unpacked(rows: np.ndarray, columns: Any) -> list[np.ndarray]:
    """Columns like these from the bytes of rows."""
    ends = np.cumsum([column.dtype.itemsize for column in columns])
    parts = np.split(rows, ends[:-1], axis=1)
    return [
        np.ascontiguousarray(part).reshape(-1).view(column.dtype)
        for part, column in zip(parts, columns, strict=True)
    ]


def _array(column: Any) -> np.ndarray:
    """The numbers that a column holds for each row."""
    if isinstance(column, np.ndarray):
        return column
    if isinstance(column, pd.Categorical):
        return column.codes
    positions: np.ndarray = column.positions
    return positions


def _record_like(record: RecordT, arrays: list[np.ndarray]) -> RecordT:
    """The record with other rows, of which these are the numbers of each column."""
    columns = zip(record.columns().items(), arrays, strict=True)
    return replace(record, **{name: _like(old, array) for (name, old), array in columns})


def _like(column: Any, numbers: np.ndarray) -> Any:
    """A column of the same kind with these numbers."""
    if isinstance(column, np.ndarray):
        return numbers
    if isinstance(column, pd.Categorical):
        return pd.Categorical.from_codes(numbers, dtype=column.dtype)
    return replace(column, positions=numbers)
