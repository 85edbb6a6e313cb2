"""Keys -> columns that stay where they are: what fields of categories learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse


class CategoryIndex:
    """Distinct keys -> one-hot rows, of columns that stay where they are as it grows.

    Columns are given as by scikit-learn's ``OneHotEncoder``: one to each frequent key,
    sorted, and one to the rare keys together, which unknown keys share. It differs in
    that it can be extended; and it neither warns of unknown keys nor refuses to be
    empty, as for a column without any value.

    Attributes
    ----------
    keys : Index of str of shape (n_keys,)
        All keys, sorted.
    counts : ndarray of int of shape (n_keys,)
        In how many rows each of them stands.
    columns : ndarray of int of shape (n_keys,)
        The column that a key has of its own, -1 if it has none.
    n_samples : int
        Number of rows so far.
    n_columns : int
    shared : int or None
        The column of rare and unknown keys, None if there is none.
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
        # Bytes and lengths: plain arrays, which skops stores as such, however many.
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
        """A longer vocabulary, with distinct keys in `counts` of `n_samples` rows each."""
        keys, counts = keys[counts > 0], counts[counts > 0]
        longer = CategoryIndex(self.min_frequency, self.max_categories)
        longer.n_samples = self.n_samples + n_samples
        new = np.sort(keys[self.positions(keys) < 0])
        places = np.searchsorted(self.categories, new)
        longer.keys = pd.Index(np.insert(self.categories, places, new), dtype=object)
        longer.counts = np.insert(self.counts, places, 0)
        longer.columns = np.insert(self.columns, places, -1)
        longer.counts[longer.positions(keys)] += counts

        # Nothing moves: new columns come last, and the shared one after them if it is new.
        frequent = longer.frequent_newcomers()
        longer.columns[frequent] = self.n_columns + np.arange(len(frequent))
        longer.n_columns = self.n_columns + len(frequent)
        longer.shared = self.shared
        if self.shared is None and (longer.columns < 0).any():
            longer.shared = longer.n_columns
            longer.n_columns += 1
        return longer

    def frequent_newcomers(self) -> np.ndarray:
        """Positions of the keys that are due a column of their own, and have none."""
        min_frequency = self.min_frequency or 1
        if min_frequency < 1:  # a share of the rows, not of the values
            min_frequency = np.ceil(min_frequency * self.n_samples)
        has_none = self.columns < 0
        frequent = np.flatnonzero(has_none & (self.counts >= min_frequency))
        if self.max_categories is None:
            return frequent
        n_free = self.max_categories - 1 - int((~has_none).sum())  # 1 is shared
        by_count = frequent[np.argsort(self.counts[frequent], kind="stable")]
        return np.sort(by_count[max(len(by_count) - n_free, 0) :])

    def positions(self, keys: np.ndarray | pd.Index) -> np.ndarray:
        """Where the keys stand, -1 for unknown ones."""
        return self.keys.get_indexer(pd.Index(keys, dtype=object))

    def rows(self, keys: np.ndarray) -> sparse.csr_matrix:
        """One-hot row of each key, of shape (n_keys, n_columns)."""
        # A key that is not there has position -1: the last entry, -1, no column.
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
        """All keys, sorted."""
        return self.keys.to_numpy()

    @property
    def infrequent_categories(self) -> np.ndarray | None:
        """The keys that share a column, None if there are none."""
        rare = self.columns < 0
        return self.categories[rare] if rare.any() else None
