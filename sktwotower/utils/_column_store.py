"""Columns of many rows, in memory or in a file, and records made of them.

Only this module depends on where a column is. Up to ``ROWS_IN_MEMORY`` rows a column
is an ordinary array. A longer one is mapped from an unnamed temporary file, and functions
that go through it do so in blocks of at most ``ROWS_AT_ONCE`` rows.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from tempfile import TemporaryFile
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import DTypeLike
from torch import Tensor

# Columns of at most so many rows are in memory.
ROWS_IN_MEMORY = 2**24
# Temporary copies are made of at most so many rows, however many there are.
ROWS_AT_ONCE = 2**22

ColumnT = TypeVar("ColumnT")
ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


def is_large(n_rows: int) -> bool:
    """Whether a column of so many rows is mapped from a file."""
    return n_rows > ROWS_IN_MEMORY


def empty(n_rows: int, dtype: DTypeLike) -> np.ndarray:
    """Allocate a column.

    The operating system writes what does not fit into memory to the file. The file has no
    name, or is removed when it is closed (Windows), so that nothing is left of it when the
    array is deleted or the process is killed. It is created where ``tempfile`` puts its
    files (``TMPDIR``). Columns of Python objects are always in memory.

    Parameters
    ----------
    n_rows : int
        Length of the column.
    dtype : dtype
        Type of its values.

    Returns
    -------
    ndarray of shape (n_rows,)
        Uninitialised values.

    Raises
    ------
    OSError
        If the disk is full.
    """
    dtype = np.dtype(dtype)
    if dtype.hasobject or not is_large(n_rows):
        return np.empty(n_rows, dtype=dtype)
    size = n_rows * dtype.itemsize
    with TemporaryFile(prefix="sktwotower-") as file:
        # Reserve the space now: later, a full disk would kill the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        # Not an np.memmap, which joblib would try to open by its file name.
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype)


def full(n_rows: int, value: bool | float, dtype: DTypeLike) -> np.ndarray:
    """Allocate a column and fill it with a value, (n_rows,)."""
    column = empty(n_rows, dtype)
    column[:] = value
    return column


def arange(n_rows: int) -> np.ndarray:
    """The numbers from 0 to ``n_rows - 1``, (n_rows,) int64."""
    column = empty(n_rows, np.int64)
    for block in blocks(n_rows):
        column[block] = np.arange(block.start, block.stop)
    return column


def blocks(n_rows: int) -> Iterator[slice]:
    """Consecutive slices of at most ``ROWS_AT_ONCE`` rows."""
    for start in range(0, n_rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, n_rows))


def take(column: ColumnT, rows: np.ndarray | Tensor | slice) -> ColumnT:
    """Select rows of a column.

    Parameters
    ----------
    column : ndarray, Tensor, Categorical, Series, DataFrame or HasRows of n rows
        Tensors are selected by tensors, other columns by arrays.
    rows : ndarray or Tensor of shape (n,) or (n_taken,), or slice
        A boolean mask or positions. A slice of an array or tensor is a view.

    Returns
    -------
    column of n_taken rows
        Of the same kind.
    """
    taken: Any
    if isinstance(column, Tensor):
        taken = _take_tensor(column, rows)
    elif isinstance(column, np.ndarray):
        taken = column[rows] if isinstance(rows, slice) else _take_array(column, rows)
    elif isinstance(column, pd.Categorical):
        codes = take(column.codes, rows)
        taken = pd.Categorical.from_codes(codes, dtype=column.dtype)
    elif isinstance(column, pd.DataFrame | pd.Series):
        positions: Any = rows
        taken = column.iloc[positions].reset_index(drop=True)
    else:
        taken = cast(HasRows, column).take(rows)
    return taken


def _take_tensor(column: Tensor, rows: Any) -> Tensor:
    if isinstance(rows, slice):
        return column[rows]
    if rows.dtype == torch.bool or is_large(len(rows)):
        return torch.from_numpy(_take_array(column.numpy(), rows.numpy()))
    return column.index_select(0, rows)  # takes half the time of column[rows]


def _take_array(column: np.ndarray, rows: Any) -> np.ndarray:
    is_mask = rows.dtype == bool
    n_taken = int(np.count_nonzero(rows)) if is_mask else len(rows)
    taken, start = empty(n_taken, column.dtype), 0
    for block in blocks(len(rows)):
        part = column[block][rows[block]] if is_mask else column[rows[block]]
        taken[start : start + len(part)] = part
        start += len(part)
    return taken


def joined(parts: Sequence[ArrayT]) -> ArrayT:
    """Concatenate arrays, or tensors, of one dimension."""
    n_rows = sum(map(len, parts))
    if isinstance(parts[0], Tensor):
        if not is_large(n_rows):
            return torch.cat(list(parts))
        return torch.from_numpy(joined([part.numpy() for part in parts]))
    return np.concatenate(parts, out=empty(n_rows, np.result_type(*parts)))


def truncated(column: np.ndarray, n_rows: int) -> np.ndarray:
    """The first rows of a column; frees the others, so that only the result is usable."""
    if column.flags.owndata:
        column.resize(n_rows, refcheck=False)  # without a copy
    return column[:n_rows]


class HasRows(Protocol):
    """A column of a kind of its own."""

    def __len__(self) -> int:
        """Number of rows."""

    def take(self, rows: Any) -> Any:
        """Select rows by a mask, positions or a slice."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Base of records whose fields are columns of equally many rows.

    A field that has a length is a column. A column that the rows lack is None. Any other
    field, such as a number, describes the record as a whole.
    """

    def __len__(self) -> int:
        return len(next(value for _, value in self._named_columns()))

    def columns(self) -> dict[str, Any]:
        """The columns that are there, by name."""
        return dict(self._named_columns())

    def take(self, rows: np.ndarray | Tensor | slice) -> Self:
        """The rows of a mask, of positions or of a slice.

        Records of tensors are selected by tensors, others by arrays.
        """
        return replace(self, **{k: take(v, rows) for k, v in self._named_columns()})

    def followed_by(self, *others: Self) -> Self:
        """The rows of all records; a column that one of them lacks is None."""
        records = [record.columns() for record in (self, *others)]
        columns = {
            name: joined([record[name] for record in records])
            if all(name in record for record in records)
            else None
            for name in records[0]
        }
        return replace(self, **columns)

    def blocks(self) -> Iterator[Self]:
        """Consecutive rows, at most ``ROWS_AT_ONCE`` at a time."""
        for block in blocks(len(self)):
            yield self.take(block)

    def _named_columns(self) -> Iterator[tuple[str, Any]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if hasattr(value, "__len__"):
                yield field.name, value
