"""Pairs of users and items as a sparse matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._bucket_sort import distinct_pairs


def pair_matrix(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int
) -> sp.csr_matrix:
    """The distinct pairs of some rows.

    Parameters
    ----------
    users, items : ndarray of shape (n_rows,)
        Codes, from 1.
    n_users, n_items : int
        Numbers of known users and items.

    Returns
    -------
    csr_matrix of shape (n_users, n_items), bool
        Row ``r`` and column ``c`` belong to the codes ``r + 1`` and ``c + 1``.
    """
    _, columns, counts = distinct_pairs(users, items, n_items + 1)
    columns -= 1  # code 0 has neither a row nor a column
    ends = np.zeros(n_users + 1, dtype=np.int64)
    ends[1 : len(counts)] = counts[1:]
    ones = column_store.full(len(columns), True, bool)
    return sp.csr_matrix((ones, columns, ends.cumsum()), shape=(n_users, n_items))


def n_users_of_items(pairs: sp.csr_matrix) -> np.ndarray:
    """Number of users of each item, (n_items,) float64."""
    return np.asarray(pairs.sum(axis=0), dtype=np.float64).ravel()
