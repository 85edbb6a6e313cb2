"""Shuffling and sorting columns of many rows, one bucket of rows after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._column_store import Columns

ColumnsT = TypeVar("ColumnsT", bound=Columns)


def shuffled(rows: ColumnsT, generator: torch.Generator) -> ColumnsT:
    """Copy rows in random order; all orders are equally likely.

    Rows are dealt to random buckets, and the buckets are shuffled one after the other
    [1]_. Reads and writes are sequential, and only one bucket is in memory at a time.

    Parameters
    ----------
    rows : Columns of n rows
        Its columns are tensors.
    generator : Generator
        Source of randomness.

    Returns
    -------
    Columns of n rows

    References
    ----------
    .. [1] Sanders, "Random Permutations on Distributed, External and Hierarchical Memory",
       Information Processing Letters 67(6), 1998.
    """
    n = len(rows)
    columns = {name: column.numpy() for name, column in rows.columns().items()}
    results = {name: column_store.empty(n, c.dtype) for name, c in columns.items()}
    n_buckets = math.ceil(n / column_store.ROWS_AT_ONCE)

    def buckets() -> Iterator[tuple[slice, np.ndarray]]:
        for block in column_store.blocks(n):
            shape = (block.stop - block.start,)
            yield block, torch.randint(n_buckets, shape, generator=generator).numpy()

    sizes, state = np.zeros(n_buckets, dtype=np.int64), generator.get_state()
    for _, bucket_of_row in buckets():
        sizes += np.bincount(bucket_of_row, minlength=n_buckets)
    generator.set_state(state)  # draw the same buckets again
    ends = np.cumsum(sizes)
    next_positions = ends - sizes
    for block, bucket_of_row in buckets():
        order, positions = _dealt(bucket_of_row, next_positions)
        for name, column in columns.items():
            results[name][positions] = column[block][order]
    for start, end in zip(ends - sizes, ends, strict=True):
        order = torch.randperm(int(end - start), generator=generator).numpy()
        for result in results.values():
            result[start:end] = result[start:end][order]
    return replace(rows, **{k: torch.from_numpy(result) for k, result in results.items()})


def distinct_pairs(
    users: np.ndarray, items: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort pairs of users and items, and drop repeated ones.

    Parameters
    ----------
    users, items : ndarray of shape (n,)
        Codes.
    n_items : int
        Upper bound of item codes, exclusive.

    Returns
    -------
    keys : ndarray of shape (n_pairs,), int64
        ``user * n_items + item``, ascending.
    items : ndarray of shape (n_pairs,)
        Item of each pair.
    counts : ndarray of shape (n_users,), int64
        Number of pairs of each user, up to the largest code.
    """
    n = len(users)
    n_users = int(users.max(initial=-1)) + 1
    n_rows = np.zeros(n_users, dtype=np.int64)
    for block in column_store.blocks(n):
        n_rows += np.bincount(users[block], minlength=n_users)
    # Buckets of consecutive users, each with about as many rows as may be in memory.
    bucket_of_user = np.cumsum(n_rows) // (column_store.ROWS_AT_ONCE + 1)
    sizes = np.bincount(bucket_of_user, weights=n_rows).astype(np.int64)
    ends = np.cumsum(sizes)
    next_positions = ends - sizes
    keys = column_store.empty(n, np.int64)
    for block in column_store.blocks(n):
        order, positions = _dealt(bucket_of_user[users[block]], next_positions)
        keys[positions] = (users[block].astype(np.int64) * n_items + items[block])[order]
    n_pairs = 0
    for start, end in zip(ends - sizes, ends, strict=True):
        bucket = np.sort(keys[start:end])  # np.unique takes ten times as long
        distinct = bucket[np.diff(bucket, prepend=-1) > 0]
        keys[n_pairs : n_pairs + len(distinct)] = distinct
        n_pairs += len(distinct)
    keys = column_store.truncated(keys, n_pairs)
    distinct_items = column_store.empty(n_pairs, items.dtype)
    counts = np.zeros(n_users, dtype=np.int64)
    for block in column_store.blocks(n_pairs):
        pair_users, distinct_items[block] = np.divmod(keys[block], n_items)
        counts += np.bincount(pair_users, minlength=n_users)
    return keys, distinct_items, counts


def _dealt(
    bucket_of_row: np.ndarray, next_positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a block ordered by bucket, and the position where each is written.

    ``next_positions``, the next free one of each bucket, is advanced in place.
    """
    # Usually 16 bits or fewer, which NumPy sorts by counting.
    dtype = np.min_scalar_type(len(next_positions))
    order = np.argsort(bucket_of_row.astype(dtype), kind="stable")
    counts = np.bincount(bucket_of_row, minlength=len(next_positions))
    shifts = next_positions - (np.cumsum(counts) - counts)
    next_positions += counts
    return order, np.arange(len(order)) + np.repeat(shifts, counts)
