"""Samplers of negatives, and the probability of each item to be a candidate."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sktwotower._nn.segments import segment_positions
from sktwotower.utils._bucket_sort import distinct_pairs

POPULARITY_EXPONENT = 0.75  # Mikolov et al., NeurIPS 2013
_TERMS_AT_ONCE = 2**20  # of a sum over numbers of users
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
        self._column = torch.full((n_items,), -1, dtype=torch.int32)
        pairs = distinct_pairs(user_rows.numpy(), item_rows.numpy(), n_items)
        self._pairs, self._items, counts = map(torch.from_numpy, pairs)
        self._ends = counts.cumsum(0)
        self._counts = counts

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
        users, row_of = user_rows.unique(return_inverse=True)
        found, counts = self._among(users, candidates)
        if len(users) == len(user_rows) and bool((users == user_rows).all()):
            return found
        lengths = counts[row_of]
        positions = segment_positions((counts.cumsum(0) - counts)[row_of], lengths)
        moved = (torch.arange(len(user_rows)) - row_of) * len(candidates)
        return found[positions] + moved.repeat_interleave(lengths)

    def _among(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Positions as in `among`, and how many there are of each user (b,)."""
        n_users, n_candidates = len(users), len(candidates)
        n_listed = int(self._counts[users].sum())
        if n_listed > ITEMS_FOR_A_PAIR * n_users * n_candidates:
            # To look up every pair is cheaper: a few very active users then cost no more
            # than their scores.
            known = self.contain(users[:, None], candidates)  # (b, c)
            return known.flatten().nonzero()[:, 0], known.sum(dim=1)
        columns_of = candidates.long()
        self._column[columns_of] = torch.arange(n_candidates, dtype=torch.int32)
        size = max(n_users * LISTED_AT_ONCE // max(n_listed, 1), 1)
        parts = [
            self._listed(users[start : start + size], start)
            for start in range(0, max(n_users, 1), size)
        ]
        self._column[columns_of] = -1  # for the next batch
        rows, columns = (torch.cat(part) for part in zip(*parts, strict=True))
        return rows * n_candidates + columns, torch.bincount(rows, minlength=n_users)

    def _listed(self, users: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Rows, from the ``first`` on, and columns of known positives, from their lists."""
        counts = self._counts[users]
        rows = torch.arange(len(users)).repeat_interleave(counts)
        positions = segment_positions(self._ends[users] - counts, counts)
        columns = self._column.index_select(0, self._items.index_select(0, positions))
        is_candidate = columns >= 0
        rows = rows.masked_select(is_candidate) + first
        return rows, columns.masked_select(is_candidate)


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


def in_batch_log_absence(
    counts: Tensor,
    batch_size: int,
    *,
    n_rows: int | None = None,
    beside_a_row: bool = False,
) -> Tensor:
    r"""Log-probability that an item is not among the items of a batch.

    An epoch is a permutation of its :math:`N` rows, so a batch of :math:`b` rows is a
    draw without replacement. An item with :math:`n` rows is absent with probability

    .. math:: 1 - q = \binom{N - n}{b} \Big/ \binom{N}{b}
                    = \prod_{k=0}^{n-1} \left(1 - \frac{b}{N - k}\right),

    which is about :math:`(1 - n/N)^b` for :math:`b \ll N`. The logarithms of the factors
    are added up: a difference of log-gammas would lose all digits of a small ``q`` if
    :math:`N` is large.

    Parameters
    ----------
    counts : Tensor of shape (n_items,)
        Rows of each item, or what else is drawn and has it, at most once each.
    batch_size : int
        :math:`b`, at most :math:`N`.
    n_rows : int, optional
        :math:`N`; None: the sum of the counts.
    beside_a_row : bool, default=False
        Whether the batch is known to contain a row of another item, so that there are
        :math:`b - 1` draws from the other :math:`N - 1` rows.

    Returns
    -------
    Tensor of shape (n_items,), float64
        0 for an item without rows, ``-inf`` for an item in every batch.
    """
    n_rows = (int(counts.sum()) if n_rows is None else n_rows) - beside_a_row
    # A tensor, so that b / b is 1: a number is divided by as a product with 1 / b.
    n_draws = torch.tensor(batch_size - beside_a_row, dtype=torch.float64)
    steps = torch.arange(int(counts.max()), dtype=torch.float64)
    remaining = (n_rows - steps).clamp(min=1)
    log_misses = torch.log1p(-(n_draws / remaining).clamp(max=1.0)).cumsum(0)
    return torch.cat([torch.zeros(1, dtype=torch.float64), log_misses])[counts]


def user_batch_log_absence(
    counts: Tensor,
    n_users: int,
    batch_size: int,
    share: float,
    *,
    beside_a_user: bool = False,
) -> Tensor:
    r"""Log-probability that an item is not among the positives of a batch of users.

    A batch of :math:`B` of the :math:`N` users is a draw without replacement. Of the
    :math:`n` users of an item it has :math:`K`, which is hypergeometric. Each of them has
    the item as a positive with probability :math:`r`, and in the history otherwise. The
    item is among the positives with probability

    .. math:: q = 1 - E[(1 - r)^K]
                = \sum_k \binom{n}{k} \binom{N - n}{B - k} \Big/ \binom{N}{B}
                  \left(1 - (1 - r)^k\right),

    which is about :math:`1 - (1 - r B / N)^n` for :math:`B \ll N`. All terms are positive,
    so that a small ``q`` keeps its digits.

    Parameters
    ----------
    counts : Tensor of shape (n_items,)
        Users of each item.
    n_users : int
        :math:`N`.
    batch_size : int
        Users of a batch :math:`B`, at most :math:`N`.
    share : float
        The probability :math:`r`, between 0 and 1, exclusive.
    beside_a_user : bool, default=False
        Whether the batch is known to contain a user who does not have the item, so that
        there are :math:`B - 1` draws from the other :math:`N - 1` users.

    Returns
    -------
    Tensor of shape (n_items,), float64
        0 for an item without users.
    """
    n_users, batch_size = n_users - beside_a_user, batch_size - beside_a_user
    distinct, positions = counts.clamp(max=n_users).unique(return_inverse=True)
    size = torch.tensor(batch_size, dtype=torch.float64)
    k = torch.arange(min(int(distinct[-1]), batch_size) + 1, dtype=torch.float64)
    is_positive = -torch.expm1(torch.log1p(torch.tensor(-share, dtype=torch.float64)) * k)
    all_batches = _log_binomial(torch.tensor(n_users, dtype=torch.float64), size)
    presence = []
    for part in distinct.double()[:, None].split(_TERMS_AT_ONCE // len(k) + 1):
        batches = _log_binomial(part, k) + _log_binomial(n_users - part, size - k)
        presence.append((batches - all_batches).exp() @ is_positive)
    return torch.log1p(-torch.cat(presence).clamp(max=1.0))[positions]


def _log_binomial(n: Tensor, k: Tensor) -> Tensor:
    """Logarithm of a binomial coefficient; -inf for ``k > n``."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)


class StreamingFrequencies:
    r"""Estimates how often each item is in a batch, from the gaps between occurrences.

    Use it for data that comes in chunks, whose counts are not known beforehand. The mean
    gap, in batches, between two occurrences of an item is updated at each occurrence,

    .. math:: g \leftarrow (1 - \alpha) g + \alpha (t - t_{last}),

    and :math:`1 / g` is the probability to be in a batch. The gap of an item that does not
    occur for a while is updated at its next occurrence, not before.

    Parameters
    ----------
    log_absence : Tensor of shape (n_items,), float64
        Initial log-probability of each item row not to be in a batch.
    rate : float
        The weight :math:`\alpha` of a new gap.

    References
    ----------
    Yi et al., "Sampling-bias-corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019 (algorithm 2).
    """

    def __init__(self, log_absence: Tensor, *, rate: float = 0.05) -> None:
        self.gaps = _gaps(log_absence)
        self.rate = rate
        self.step = 0
        # Gaps are counted from the first batch: if occurrences are random, the time to the
        # next one does not depend on when the count begins.
        self._last = torch.zeros(len(log_absence), dtype=torch.float64)

    def extend(self, log_absence: Tensor) -> None:
        """Add items, and initialise those that did not occur so far."""
        gaps = _gaps(log_absence)
        n_known = len(self.gaps)
        unseen = self.gaps.isinf()
        known = torch.where(unseen, gaps[:n_known], self.gaps)
        self.gaps = torch.cat([known, gaps[n_known:]])
        self._last = torch.nn.functional.pad(
            self._last.masked_fill(unseen, self.step),
            (0, len(gaps) - n_known),
            value=float(self.step),
        )

    def log_absence(self, items: Tensor) -> Tensor:
        """Log-probability of each of the items (c,) not to be in a batch, float64."""
        return torch.log1p(-1.0 / self.gaps[items.long()])

    def observe(self, items: Tensor) -> None:
        """Update the gaps with the unique items of the next batch."""
        rows = items.long()
        self.step += 1
        gaps = self.step - self._last[rows]
        self.gaps[rows] += self.rate * (gaps - self.gaps[rows])
        self._last[rows] = self.step


def _gaps(log_absence: Tensor) -> Tensor:
    """Mean gaps in batches; inf for items that are in no batch."""
    return 1.0 / torch.expm1(log_absence).abs()


def log_presence(log_absence: Tensor) -> Tensor:
    """``log q`` in float32 from ``log(1 - q)``; ``-inf`` for items in no batch."""
    return torch.log(-torch.expm1(log_absence)).float()
