"""Pairs of users and items that are known: positives, and explicit negatives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sktwotower.utils._bucket_sort import distinct_pairs
from sktwotower.utils._ranges import positions_of_ranges

# To look up a pair takes as long as to go through so many items of a user's list.
ITEMS_FOR_A_PAIR = 4
# Items of lists at once, whose positions then stay in the cache.
LISTED_AT_ONCE = 2**16


class KnownPositives:
    """The positives of each user, which should not be used as negatives.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives; repeated pairs count once.
    n_items : int, optional
        Number of items; None: those up to the last one with a positive.
    """

    def __init__(
        self, user_rows: Tensor, item_rows: Tensor, n_items: int | None = None
    ) -> None:
        if n_items is None:
            n_items = int(item_rows.max()) + 1
        self._n_items = n_items
        # Column of each item among the candidates; filled and cleared by `among`.
        self._column = np.full(n_items, -1, dtype=np.int32)
        pairs, self._items, self._counts = distinct_pairs(
            user_rows.numpy(), item_rows.numpy(), n_items
        )
        self._pairs = torch.from_numpy(pairs)
        self._ends = self._counts.cumsum()

    def contain(self, user_rows: Tensor, item_rows: Tensor) -> Tensor:
        """Whether each pair of the two tensors, which are broadcast, is a positive."""
        keys = user_rows.long() * self._n_items + item_rows
        positions = torch.searchsorted(self._pairs, keys).clamp(max=len(self._pairs) - 1)
        return (self._pairs[positions] == keys) & (item_rows < self._n_items)

    def among(self, user_rows: Tensor, candidates: Tensor) -> Tensor:
        """Positions of known positives in a matrix (b, c) of users and candidates.

        Parameters
        ----------
        user_rows : Tensor of shape (b,)
            User of each row of the matrix, with a positive at least.
        candidates : Tensor of shape (c,)
            Item of each column, with a positive at least; no item occurs twice.

        Returns
        -------
        Tensor of shape (n_known,), int64
            Positions ``row * c + column``, ascending.
        """
        # In numpy, where these operators take a third of the time.
        users = user_rows.numpy()
        if (np.diff(users) > 0).all():
            return torch.from_numpy(self._among(users, candidates.numpy())[0])
        users, row_of = np.unique(users, return_inverse=True)
        found, counts = self._among(users, candidates.numpy())
        lengths = counts[row_of]
        starts = counts.cumsum() - counts
        positions = positions_of_ranges(starts[row_of], lengths)
        moved = (np.arange(len(row_of)) - row_of) * len(candidates)
        return torch.from_numpy(found[positions] + moved.repeat(lengths))

    def _among(
        self, users: np.ndarray, candidates: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions as in `among`, and how many there are of each user (b,)."""
        n_users, n_candidates = len(users), len(candidates)
        n_listed = int(self._counts[users].sum())
        if n_listed > ITEMS_FOR_A_PAIR * n_users * n_candidates:
            # To look up every pair is cheaper: a few very active users then cost no more
            # than their scores.
            pairs = torch.from_numpy(users[:, None]), torch.from_numpy(candidates)
            known = self.contain(*pairs).numpy()  # (b, c)
            return np.flatnonzero(known), known.sum(axis=1)
        self._column[candidates] = np.arange(n_candidates, dtype=np.int32)
        size = max(n_users * LISTED_AT_ONCE // max(n_listed, 1), 1)
        parts = [
            self._listed(users[start : start + size], start)
            for start in range(0, max(n_users, 1), size)
        ]
        self._column[candidates] = -1  # for the next batch
        rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows * n_candidates + columns, np.bincount(rows, minlength=n_users)

    def _listed(self, users: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows, from the ``first`` on, and columns of known positives, from their lists."""
        counts = self._counts[users]
        items = self._items.take(positions_of_ranges(self._ends[users] - counts, counts))
        columns = self._column.take(items)
        known = np.flatnonzero(columns >= 0)
        rows = np.arange(first, first + len(users)).repeat(counts)
        return rows.take(known), columns.take(known)


class ExplicitNegatives:
    """The items of each user with ``y <= 0``.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The rows with ``y <= 0``.
    weights : Tensor of shape (n_rows,) or None
        Sample weights. A row is drawn in proportion to its weight.
    n_users : int
        Number of users, the unknown one included.
    """

    def __init__(
        self, user_rows: Tensor, item_rows: Tensor, weights: Tensor | None, n_users: int
    ) -> None:
        order = torch.argsort(user_rows, stable=True)
        self._items = item_rows[order]
        if weights is None:
            weights = torch.ones(len(order))
        self._ends = torch.cat([torch.zeros(1), weights[order]]).double().cumsum(0)
        self._counts = torch.bincount(user_rows, minlength=n_users)
        self._stops = self._counts.cumsum(0)

    def draw(
        self, user_rows: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one explicit negative of each user.

        Returns
        -------
        item_rows : Tensor of shape (b,)
            The drawn items; any item for a user without explicit negatives.
        totals : Tensor of shape (b,), float32
            Total weight of the user's explicit negatives; 0 without any.
        counts : Tensor of shape (b,)
            Number of the user's explicit negatives.
        """
        counts = self._counts[user_rows]
        stops = self._stops[user_rows]
        low, high = self._ends[stops - counts], self._ends[stops]
        uniform = torch.rand(len(user_rows), generator=generator, dtype=torch.float64)
        drawn = low + uniform * (high - low)
        positions = torch.searchsorted(self._ends, drawn, right=True)
        # Rounding may exceed the last row of a user, and a user may have none.
        positions = torch.minimum(positions, stops).clamp(min=1) - 1
        return self._items[positions], (high - low).float(), counts
