"""Categories and their one-hot columns, which stay when more categories come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse


class CategoryIndex:
    """One-hot columns of distinct keys.

    Columns are assigned as in scikit-learn's ``OneHotEncoder``: one to each frequent key,
    sorted, and one to all rare keys, which unknown keys share. Unlike there, the index can
    be extended, it may be empty, and unknown keys cause no warning.

    Parameters
    ----------
    min_frequency : int, float or None
        Number, or share, of the rows from which on a key is frequent.
    max_categories : int or None
        Largest number of columns, including the shared one.

    Attributes
    ----------
    keys : Index of str of shape (n_keys,)
        All keys, sorted.
    counts : ndarray of int of shape (n_keys,)
        Number of rows of each key.
    columns : ndarray of int of shape (n_keys,)
        Column of each key; -1 for rare keys.
    n_samples : int
        Number of rows so far.
    n_columns : int
        Number of columns.
    shared : int or None
        Column of rare and unknown keys; None if there is none.
    """

    def __init__(self, min_frequency: int | float | None, max_categories: int | None):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.keys = pd.Index([], dtype=object)
        self.counts = np.empty(0, dtype=np.int64)
        self.columns = np.empty(0, dtype=np.int64)
        self.n_samples = 0
        self.n_columns = 0
        self.shared: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Bytes and lengths are plain arrays, which skops stores without a limit.
        keys = [key.encode("utf-8", "surrogatepass") for key in self.keys]
        return self.__dict__ | {
            "keys": np.frombuffer(b"".join(keys), dtype=np.uint8),
            "lengths": np.fromiter(map(len, keys), dtype=np.int64, count=len(keys)),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        text, ends = state["keys"].tobytes(), state.pop("lengths").cumsum().tolist()
        starts = [0, *ends[:-1]]
        keys = [
            text[start:end].decode("utf-8", "surrogatepass")
            for start, end in zip(starts, ends, strict=False)
        ]
        self.__dict__.update(state, keys=pd.Index(keys, dtype=object))

    def extended(
        self, keys: np.ndarray, counts: np.ndarray, n_samples: int
    ) -> CategoryIndex:
        """The index after more rows.

        Parameters
        ----------
        keys : ndarray of str of shape (n_keys,)
            Distinct keys.
        counts : ndarray of int of shape (n_keys,)
            Number of the rows of each key.
        n_samples : int
            Number of rows.
        """
        keys, counts = keys[counts > 0], counts[counts > 0]
        longer = CategoryIndex(self.min_frequency, self.max_categories)
        longer.n_samples = self.n_samples + n_samples
        new = np.sort(keys[self.positions(keys) < 0])
        positions = np.searchsorted(self.categories, new)
        longer.keys = pd.Index(np.insert(self.categories, positions, new), dtype=object)
        longer.counts = np.insert(self.counts, positions, 0)
        longer.columns = np.insert(self.columns, positions, -1)
        longer.counts[longer.positions(keys)] += counts

        # New columns come last, and a new shared column after them, so that none moves.
        frequent = longer.frequent_newcomers()
        longer.columns[frequent] = self.n_columns + np.arange(len(frequent))
        longer.n_columns = self.n_columns + len(frequent)
        longer.shared = self.shared
        if self.shared is None and (longer.columns < 0).any():
            longer.shared = longer.n_columns
            longer.n_columns += 1
        return longer

    def frequent_newcomers(self) -> np.ndarray:
        """Positions of frequent keys without a column."""
        min_frequency = self.min_frequency or 1
        if min_frequency < 1:  # a share of the rows
            min_frequency = np.ceil(float(min_frequency) * self.n_samples)
        has_none = self.columns < 0
        frequent = np.flatnonzero(has_none & (self.counts >= min_frequency))
        if self.max_categories is None:
            return frequent
        n_free = int(self.max_categories) - 1 - int((~has_none).sum())  # one is shared
        by_count = frequent[np.argsort(self.counts[frequent], kind="stable")]
        return np.sort(by_count[max(len(by_count) - n_free, 0) :])

    def positions(self, keys: np.ndarray | pd.Index) -> np.ndarray:
        """Positions of keys, -1 for unknown keys, (n,)."""
        return self.keys.get_indexer(pd.Index(keys, dtype=object))

    def rows(self, keys: np.ndarray) -> sparse.csr_matrix:
        """One-hot rows of keys, (n, n_columns)."""
        # Unknown keys have position -1, where the appended -1 means no column.
        columns = np.append(self.columns, -1)[self.positions(keys)]
        if self.shared is not None:
            columns[columns < 0] = self.shared
        has_column = columns >= 0
        ones = np.ones(has_column.sum(), dtype=np.float32)
        ends = np.concatenate([[0], np.cumsum(has_column)])
        shape = (len(keys), self.n_columns)
        return sparse.csr_matrix((ones, columns[has_column], ends), shape=shape)

    def names(self, prefix: str) -> list[str]:
        """Names of the columns."""
        names = np.full(self.n_columns, f"{prefix}_infrequent_sklearn", dtype=object)
        own = self.columns >= 0
        names[self.columns[own]] = [f"{prefix}_{key}" for key in self.keys[own]]
        return names.tolist()

    @property
    def categories(self) -> np.ndarray:
        """All keys, sorted, as an array."""
        return self.keys.to_numpy()

    @property
    def infrequent_categories(self) -> np.ndarray | None:
        """The rare keys, sorted; None if there are none."""
        rare = self.columns < 0
        return self.categories[rare] if rare.any() else None
