"""Rankings, the pairs that are relevant in them, and who makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of some users, and what the metrics need to know of the items.

    Attributes
    ----------
    ranked : ndarray of shape (n_queries, n_ranked), int64
        Columns of candidates, best first, padded with -1.
    n_items : int
        Number of candidates.
    popularity : callable
        Returns how many users each candidate has in the training data, (n_items,). Called
        only if a metric needs it.
    embeddings : callable
        Returns the vector of each candidate, (n_items, n_dimensions). Called only if a
        metric needs it.
    """

    ranked: np.ndarray
    n_items: int
    popularity: Callable[[], np.ndarray]
    embeddings: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class RelevantPairs:
    """Queries and the items that are relevant for them.

    Attributes
    ----------
    queries : ndarray of shape (n_pairs,)
        Positions of the queries.
    item_ids : ndarray of shape (n_pairs,)
        Relevant items; a pair may be repeated.
    gains : ndarray of shape (n_pairs,) or None
        The gain of each pair, above 0; None: 1.
    """

    queries: np.ndarray
    item_ids: np.ndarray
    gains: np.ndarray | None

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def none(cls) -> RelevantPairs:
        """No pairs, for rankings that are not measured."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=object), None)

    def matrix(self, columns: np.ndarray, n_queries: int, n_items: int) -> sp.csr_matrix:
        """The largest gain of each pair, (n_queries, n_items).

        ``columns`` has the column of each pair's item, -1 for pairs that do not count.
        """
        inside = np.flatnonzero(columns >= 0)
        gains = np.ones(len(columns)) if self.gains is None else self.gains
        order = inside[np.argsort(-gains[inside], kind="stable")]
        keys = pd.Series(self.queries[order] * n_items + columns[order])
        order = order[~keys.duplicated().to_numpy()]
        cells = self.queries[order], columns[order]
        return sp.csr_matrix((gains[order], cells), shape=(n_queries, n_items))

    def counts(self, which: np.ndarray, n_queries: int) -> np.ndarray:
        """Number of distinct pairs of each query among a mask of them, (n_queries,)."""
        pairs = pd.DataFrame({"query": self.queries, "item": self.item_ids})[which]
        queries = pairs.drop_duplicates()["query"].to_numpy(dtype=np.int64)
        return np.bincount(queries, minlength=n_queries)


class Ranker(Protocol):
    """Ranks candidates for queries, block by block.

    The candidates of an external recommender may grow while it answers, so ``n_items``,
    ``item_ids`` and ``columns`` are final only after the last ``rank``.
    """

    @property
    def n_items(self) -> int:
        """Number of candidates."""

    @property
    def item_ids(self) -> np.ndarray:
        """Id of each candidate, (n_items,)."""

    def depth(self, cut_offs: list[int | None]) -> int:
        """Length of the rankings that these cut-offs need; None is a complete ranking."""

    def columns(self) -> np.ndarray:
        """Column of each relevant item, (n_pairs,); -1 for items that are no candidates."""

    def seen(self, depth: int) -> np.ndarray:
        """Which relevant pairs are left out of rankings as seen, (n_pairs,) bool."""

    def rank(self, rows: np.ndarray, depth: int, *, with_relevant: bool = False) -> Ranking:
        """Rankings of some of the queries.

        ``with_relevant`` leaves the relevant pairs in, although they were seen.
        """

    def covers_training(self, interactions: Interactions) -> bool:
        """Whether rows, whose relevant pairs were all seen, have all pairs of training."""


def largest(cut_offs: list[int | None], n_items: int) -> int:
    """The largest cut-off, at most the number of candidates."""
    return min(max(n_items if k is None else k for k in cut_offs), n_items)
