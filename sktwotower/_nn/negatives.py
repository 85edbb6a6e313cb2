"""Which items a positive is ranked against, and with which probability each is drawn."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sktwotower.utils._bucket_sort import distinct_pairs

POPULARITY_EXPONENT = 0.75  # Mikolov et al., NeurIPS 2013


class KnownPositives:
    """Which items each user is known to have, to keep them from being negatives.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives; repeated pairs are one.
    """

    def __init__(self, user_rows: Tensor, item_rows: Tensor) -> None:
        self._n_items = n_items = int(item_rows.max()) + 1
        self._column = torch.full((n_items,), -1, dtype=torch.int32)  # of `among`
        pairs = distinct_pairs(user_rows.numpy(), item_rows.numpy(), n_items)
        self._pairs, self._items, counts = map(torch.from_numpy, pairs)
        self._ends = counts.cumsum(0)
        self._counts = counts

    def contain(self, user_rows: Tensor, item_rows: Tensor) -> Tensor:
        """Whether each pair is known; the two tensors broadcast, and are the shape."""
        keys = user_rows.long() * self._n_items + item_rows
        places = torch.searchsorted(self._pairs, keys).clamp(max=len(self._pairs) - 1)
        return (self._pairs[places] == keys) & (item_rows < self._n_items)

    def among(self, user_rows: Tensor, candidates: Tensor) -> Tensor:
        """Entries of a (b, c) matrix of scores that are known positives.

        Parameters
        ----------
        user_rows : Tensor of shape (b,)
            Users of the rows, each with a positive.
        candidates : Tensor of shape (c,)
            Items with a positive, each once.

        Returns
        -------
        Tensor of shape (n_known,), int64
            Positions ``row * c + column``.
        """
        counts = self._counts[user_rows]
        n_candidates = len(candidates)
        if int(counts.sum()) > len(user_rows) * n_candidates:
            # Histories longer than the list of candidates: look every pair up instead, so
            # that a few very active users cost no more than the scores do.
            known = self.contain(user_rows[:, None], candidates)  # (b, c)
            return known.flatten().nonzero()[:, 0]
        ends = counts.cumsum(0)
        rows = torch.arange(len(user_rows)).repeat_interleave(counts)
        shifts = self._ends[user_rows] - ends  # from the place here to that in the items
        places = torch.arange(len(rows)) + shifts.index_select(0, rows)
        columns_of = candidates.long()
        self._column[columns_of] = torch.arange(n_candidates, dtype=torch.int32)
        columns = self._column.index_select(0, self._items.index_select(0, places))
        self._column[columns_of] = -1  # for the next batch
        return (rows * n_candidates + columns).masked_select(columns >= 0)


class ExplicitNegatives:
    """Which items each user turned down, with ``y <= 0``.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The rows.
    weights : Tensor of shape (n_rows,) or None
        Sample weights; a row is drawn in proportion to its weight.
    n_users : int
        Rows of the user side.
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
        """One of the items of each user.

        Returns
        -------
        item_rows : Tensor of shape (b,)
            Any item for a user who has turned down none.
        totals : Tensor of shape (b,), float32
            Weight of all rows of the user, for which the item stands; 0 without any.
        counts : Tensor of shape (b,)
            How many rows they are.
        """
        counts = self._counts[user_rows]
        stops = self._stops[user_rows]
        low, high = self._ends[stops - counts], self._ends[stops]
        uniform = torch.rand(len(user_rows), generator=generator, dtype=torch.float64)
        places = torch.searchsorted(self._ends, low + uniform * (high - low), right=True)
        places = torch.minimum(places, stops).clamp(min=1) - 1  # rounding; no rows at all
        return self._items[places], (high - low).float(), counts


class Sampler(Protocol):
    """Draws items for rows."""

    def draw(self, user_rows: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
        """Items for each row, (b, n_draws), drawn with replacement."""


class ItemSampler:
    """Draws items with given probabilities, whoever the user is.

    Parameters
    ----------
    items : Tensor of shape (n_items,)
        What may be drawn, each once.
    weights : Tensor of shape (n_items,), optional
        In proportion to them; None: uniformly.
    """

    def __init__(self, items: Tensor, weights: Tensor | None = None) -> None:
        self.items = items
        self._ends = None
        probabilities = torch.full((len(items),), 1.0 / len(items), dtype=torch.float64)
        if weights is not None:
            probabilities = weights.double() / weights.double().sum()
            self._ends = probabilities.cumsum(0)
        # By item row, 0 for what is never drawn.
        self.probabilities = torch.zeros(int(items.max()) + 1, dtype=torch.float64)
        self.probabilities[items.long()] = probabilities

    @classmethod
    def popular(cls, item_rows: Tensor) -> ItemSampler:
        """Draws an item in proportion to (its number of rows) ** 0.75."""
        items, counts = item_rows.unique(return_counts=True)
        return cls(items, counts.double() ** POPULARITY_EXPONENT)

    def draw(self, user_rows: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
        """Items for each row, (b, n_draws), drawn with replacement."""
        shape = (len(user_rows), n_draws)
        if self._ends is None:
            return self.items[torch.randint(len(self.items), shape, generator=generator)]
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        places = torch.searchsorted(self._ends, uniform, right=True)
        return self.items[places.clamp(max=len(self.items) - 1)]  # rounding


class UnconsumedSampler:
    """Draws uniformly from the items that the row's user does not have.

    Exact and without rejection. Let :math:`k_0 < k_1 < ...` be the user's items, counted
    from 0 among the :math:`n` that may be drawn. The :math:`r`-th item that is not among
    them is :math:`r + t` with :math:`t` the number of :math:`k_i` with
    :math:`k_i - i \\le r`, which one binary search finds. A user who has everything is
    given any item.

    Parameters
    ----------
    items : Tensor of shape (n_items,)
        What may be drawn, each once, in ascending order.
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives.
    n_users : int
        Rows of the user side.
    """

    def __init__(
        self, items: Tensor, user_rows: Tensor, item_rows: Tensor, n_users: int
    ) -> None:
        self.items = items
        n_items = len(items)
        places = torch.searchsorted(items, item_rows)
        pairs = (user_rows.long() * n_items + places).unique()
        users = pairs // n_items
        self._counts = torch.bincount(users, minlength=n_users)
        # Some user has everything, and is given known positives.
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
        everything = n_left == 0
        uniform = torch.rand(
            (len(user_rows), n_draws), generator=generator, dtype=torch.float64
        )
        n_choices = torch.where(everything, n_items, n_left)
        ranks = torch.minimum((uniform * n_choices).long(), n_choices - 1)
        keys = user_rows.long()[:, None] * n_items + ranks
        before = torch.searchsorted(self._shifted, keys, right=True)
        before = before - self._starts[user_rows][:, None]
        return self.items[torch.where(everything, ranks, ranks + before)]


def in_batch_log_absence(
    counts: Tensor, batch_size: int, *, beside_a_row: bool = False
) -> Tensor:
    r"""Log-probability that an item is not among the items of a batch.

    An epoch is a permutation of its :math:`N` rows, so a batch of :math:`b` rows is a
    draw without replacement, and an item with :math:`n` rows is missing with probability

    .. math:: 1 - q = \binom{N - n}{b} \Big/ \binom{N}{b}
                    = \prod_{k=0}^{n-1} \left(1 - \frac{b}{N - k}\right),

    which is :math:`(1 - n/N)^b` where :math:`b \ll N`. The product is summed in
    logarithms: a difference of log-gammas would lose all digits of a small ``q`` when
    :math:`N` is large.

    Parameters
    ----------
    counts : Tensor of shape (n_items,)
        Rows of each item; their sum is :math:`N`.
    batch_size : int
        :math:`b`, at most :math:`N`.
    beside_a_row : bool, default=False
        Given that a certain row of another item is in the batch: :math:`b - 1` draws from
        the other :math:`N - 1` rows.

    Returns
    -------
    Tensor of shape (n_items,), float64
        0 for an item without rows, ``-inf`` for one that is always there.
    """
    n_rows = int(counts.sum()) - beside_a_row
    # A tensor: a number would be multiplied by a reciprocal, and b / b not be 1.
    n_draws = torch.tensor(batch_size - beside_a_row, dtype=torch.float64)
    steps = torch.arange(int(counts.max()), dtype=torch.float64)
    remaining = (n_rows - steps).clamp(min=1)
    log_misses = torch.log1p(-(n_draws / remaining).clamp(max=1.0)).cumsum(0)
    return torch.cat([torch.zeros(1, dtype=torch.float64), log_misses])[counts]


class StreamingFrequencies:
    r"""How often each item is in a batch, by the time between two sightings.

    For data that comes in chunks, whose counts are not known beforehand. The mean gap, in
    batches, between two sightings of an item follows what is seen,

    .. math:: g \leftarrow (1 - \alpha) g + \alpha (t - t_{last}),

    and :math:`1 / g` is the probability to be in a batch. An item that has not been seen
    since the data before is still waited for: its gap grows at the next sighting, not
    before.

    Parameters
    ----------
    log_absence : Tensor of shape (n_items,), float64
        Log-probability not to be in a batch, by item row, from which the gaps start.
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
        # Waiting times do not depend on when one starts to wait, if sightings are random.
        self._last = torch.zeros(len(log_absence), dtype=torch.float64)

    def extend(self, log_absence: Tensor) -> None:
        """Go on with more items, and with others that have not been seen so far."""
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
        """Take note of the unique items of the next batch."""
        places = items.long()
        self.step += 1
        waited = self.step - self._last[places]
        self.gaps[places] += self.rate * (waited - self.gaps[places])
        self._last[places] = self.step


def _gaps(log_absence: Tensor) -> Tensor:
    """Mean batches between two sightings; inf for what is never there."""
    return 1.0 / torch.expm1(log_absence).abs()


def log_presence(log_absence: Tensor) -> Tensor:
    """``log q`` in float32 from ``log(1 - q)``; ``-inf`` for what is never there."""
    return torch.log(-torch.expm1(log_absence)).float()
