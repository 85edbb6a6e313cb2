"""Arrays of very many rows: mapped from temporary files, and gone through in blocks."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Up to so many rows arrays are in memory, and an epoch is one permutation.
ROWS_IN_MEMORY = 2**24
# Rows of which there may be copies in memory, whatever the number of all.
ROWS_AT_ONCE = 2**22


def is_large(n: int) -> bool:
    """Whether arrays of so many rows are mapped from files."""
    return n > ROWS_IN_MEMORY


def empty(n: int, dtype: Any) -> np.ndarray:
    """An array of n rows to be filled; a large one is mapped from a temporary file.

    The system writes what it has no room for to the file, and reads it again. The file has
    no name, or is removed when it is closed (Windows): it is gone with the array, whatever
    becomes of the process. It is where ``tempfile`` has its files (``TMPDIR``).

    Raises
    ------
    OSError
        If the disk is full.
    """
    dtype = np.dtype(dtype)
    if not is_large(n):
        return np.empty(n, dtype=dtype)
    size = n * dtype.itemsize
    with TemporaryFile(prefix="sktwotower-") as file:
        if hasattr(os, "posix_fallocate"):  # now, or a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        # No np.memmap: joblib would want to open the file by its name.
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype)


def full(n: int, value: Any, dtype: Any) -> np.ndarray:
    """The same, filled with a value."""
    array = empty(n, dtype)
    array[:] = value
    return array


def arange(n: int) -> np.ndarray:
    """The numbers from 0 to n - 1."""
    numbers = empty(n, np.int64)
    for block in blocks(n):
        numbers[block] = np.arange(block.start, block.stop)
    return numbers


def blocks(n: int) -> Iterator[slice]:
    """Consecutive rows, at most ``ROWS_AT_ONCE`` of them."""
    for start in range(0, n, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, n))


def take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``values[rows]``, of a mask or positions (n,)."""
    is_mask = rows.dtype == bool
    n = int(np.count_nonzero(rows)) if is_mask else len(rows)
    taken, start = empty(n, values.dtype), 0
    for block in blocks(len(rows)):
        part = values[block][rows[block]] if is_mask else values[rows[block]]
        taken[start : start + len(part)] = part
        start += len(part)
    return taken


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """``np.concatenate`` of arrays."""
    together = empty(sum(map(len, parts)), np.result_type(*parts))
    return np.concatenate(parts, out=together)


def shuffled(columns: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Columns (n,) in one random order, of which all are equally likely.

    Rows are dealt out to random buckets, and those are shuffled one after the other [1]_:
    what is read and written lies in a row, and no more than a bucket is in memory.

    References
    ----------
    .. [1] Sanders, "Random Permutations on Distributed, External and Hierarchical Memory",
       Information Processing Letters 67(6), 1998.
    """
    n = len(columns[0])
    given = [column.numpy() for column in columns]
    results = [empty(n, values.dtype) for values in given]
    n_buckets = math.ceil(n / ROWS_AT_ONCE)

    def buckets() -> Iterator[tuple[slice, np.ndarray]]:
        for block in blocks(n):
            shape = (block.stop - block.start,)
            yield block, torch.randint(n_buckets, shape, generator=generator).numpy()

    sizes, state = np.zeros(n_buckets, dtype=np.int64), generator.get_state()
    for _, bucket_of in buckets():
        sizes += np.bincount(bucket_of, minlength=n_buckets)
    generator.set_state(state)  # the same buckets once more
    ends = np.cumsum(sizes)
    next_places = ends - sizes
    for block, bucket_of in buckets():
        order, places = _dealt(bucket_of, next_places)
        for values, result in zip(given, results, strict=True):
            result[places] = values[block][order]
    for start, end in zip(ends - sizes, ends, strict=True):
        order = torch.randperm(int(end - start), generator=generator).numpy()
        for result in results:
            result[start:end] = result[start:end][order]
    return [torch.from_numpy(result) for result in results]


def distinct_pairs(
    users: np.ndarray, items: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of a user and an item once, sorted; some of the users at a time.

    Parameters
    ----------
    users, items : ndarray of shape (n,)
        Codes.
    n_items : int
        Item codes are below.

    Returns
    -------
    keys : ndarray of shape (n_pairs,), int64
        ``user * n_items + item``, ascending.
    items : ndarray of shape (n_pairs,)
        Theirs.
    counts : ndarray of shape (n_users,), int64
        Pairs of each user, up to the largest code.
    """
    n = len(users)
    n_users = int(users.max(initial=-1)) + 1
    n_rows = np.zeros(n_users, dtype=np.int64)
    for block in blocks(n):
        n_rows += np.bincount(users[block], minlength=n_users)
    # Buckets of consecutive users, with about as many rows as may be in memory.
    bucket_of_user = np.cumsum(n_rows) // (ROWS_AT_ONCE + 1)
    sizes = np.bincount(bucket_of_user, weights=n_rows).astype(np.int64)
    ends = np.cumsum(sizes)
    next_places = ends - sizes
    keys = empty(n, np.int64)
    for block in blocks(n):
        order, places = _dealt(bucket_of_user[users[block]], next_places)
        keys[places] = (users[block].astype(np.int64) * n_items + items[block])[order]
    n_pairs = 0
    for start, end in zip(ends - sizes, ends, strict=True):
        bucket = np.sort(keys[start:end])  # unlike np.unique, which is ten times slower
        distinct = bucket[np.diff(bucket, prepend=-1) > 0]
        keys[n_pairs : n_pairs + len(distinct)] = distinct
        n_pairs += len(distinct)
    if keys.flags.owndata:
        keys.resize(n_pairs, refcheck=False)  # no copy
    keys = keys[:n_pairs]
    distinct_items = empty(n_pairs, items.dtype)
    counts = np.zeros(n_users, dtype=np.int64)
    for block in blocks(n_pairs):
        of_users, distinct_items[block] = np.divmod(keys[block], n_items)
        counts += np.bincount(of_users, minlength=n_users)
    return keys, distinct_items, counts


def _dealt(bucket_of: np.ndarray, next_places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a block by their buckets, and where they go; ``next_places`` move on."""
    # Of 16 bits at most, usually, which NumPy sorts by counting.
    kind = np.min_scalar_type(len(next_places))
    order = np.argsort(bucket_of.astype(kind), kind="stable")
    counts = np.bincount(bucket_of, minlength=len(next_places))
    shifts = next_places - (np.cumsum(counts) - counts)
    next_places += counts
    return order, np.arange(len(order)) + np.repeat(shifts, counts)
