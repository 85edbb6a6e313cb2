"""The probability of each item not to be in a batch."""

from __future__ import annotations

import torch
from torch import Tensor

_TERMS_AT_ONCE = 2**20  # of a sum over numbers of users


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
