"""Samplers of negatives."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

POPULARITY_EXPONENT = 0.75  # Mikolov et al., NeurIPS 2013


class Sampler(Protocol):
    """Draws items for rows."""

    def draw(self, user_rows: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
        """Items for each row, (b, n_draws), drawn with replacement."""


class ItemSampler:
    """Draws items with the same probabilities for all users.

    Parameters
    ----------
    items : Tensor of shape (n_items,)
        Items that can be drawn, without duplicates.
    weights : Tensor of shape (n_items,), optional
        Items are drawn in proportion to them; None: uniformly.
    """

    def __init__(self, items: Tensor, weights: Tensor | None = None) -> None:
        self.items = items
        self._ends = None
        probabilities = torch.full((len(items),), 1.0 / len(items), dtype=torch.float64)
        if weights is not None:
            probabilities = weights.double() / weights.double().sum()
            self._ends = probabilities.cumsum(0)
        # By item row; 0 for items that cannot be drawn.
        self.probabilities = torch.zeros(int(items.max()) + 1, dtype=torch.float64)
        self.probabilities[items.long()] = probabilities

    @classmethod
    def popular(cls, items: Tensor, counts: Tensor) -> ItemSampler:
        """Draws an item in proportion to (its number of rows) ** 0.75."""
        return cls(items, counts.double() ** POPULARITY_EXPONENT)

    def draw(self, user_rows: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
        """Items for each row, (b, n_draws), drawn with replacement."""
        shape = (len(user_rows), n_draws)
        if self._ends is None:
            return self.items[torch.randint(len(self.items), shape, generator=generator)]
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        positions = torch.searchsorted(self._ends, uniform, right=True)
        return self.items[positions.clamp(max=len(self.items) - 1)]  # rounding


class UnconsumedSampler:
    """Draws uniformly from the items that are not positives of the row's user.

    Draws are exact and without rejection. Let :math:`k_0 < k_1 < ...` be the positions of
    the user's positives among the :math:`n` items that can be drawn. The :math:`r`-th of
    the other items is at position :math:`r + t`, with :math:`t` the number of :math:`k_i`
    with :math:`k_i - i \\le r`, which one binary search finds. For a user with all items as
    positives, any item is drawn.

    Parameters
    ----------
    items : Tensor of shape (n_items,)
        Items that can be drawn, without duplicates, in ascending order.
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives.
    n_users : int
        Number of users, the unknown one included.
    """

    def __init__(
        self, items: Tensor, user_rows: Tensor, item_rows: Tensor, n_users: int
    ) -> None:
        self.items = items
        n_items = len(items)
        positions = torch.searchsorted(items, item_rows)
        pairs = (user_rows.long() * n_items + positions).unique()
        users = pairs // n_items
        self._counts = torch.bincount(users, minlength=n_users)
        # Whether some user has all items as positives, so that one of them is drawn.
        self.is_exhausted = bool((self._counts == n_items).any())
        self._starts = self._counts.cumsum(0) - self._counts
        ranks = torch.arange(len(pairs)) - self._starts[users]
        # A user's shifted items are below n_items, so users do not mix.
        self._shifted = pairs - ranks  # user * n_items + k_i - i

    def draw(self, user_rows: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
        """Items for each row, (b, n_draws), drawn with replacement."""
        n_items = len(self.items)
        counts = self._counts[user_rows][:, None]  # (b, 1)
        n_left = n_items - counts
        has_all = n_left == 0
        uniform = torch.rand(
            (len(user_rows), n_draws), generator=generator, dtype=torch.float64
        )
        n_choices = torch.where(has_all, n_items, n_left)
        ranks = torch.minimum((uniform * n_choices).long(), n_choices - 1)
        keys = user_rows.long()[:, None] * n_items + ranks
        before = torch.searchsorted(self._shifted, keys, right=True)
        before = before - self._starts[user_rows][:, None]
        return self.items[torch.where(has_all, ranks, ranks + before)]
