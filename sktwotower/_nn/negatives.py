"""Which candidates a batch ranks, and with which probability each of them is there."""

from __future__ import annotations

import torch
from torch import Tensor

from sktwotower._nn.segments import segment_positions


class KnownPositives:
    """Which items each user is known to have, to keep them from being negatives.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives; repeated pairs are one.
    """

    def __init__(self, user_rows: Tensor, item_rows: Tensor) -> None:
        self._n_items = n_items = int(item_rows.max()) + 1
        self._pairs = pairs = (user_rows.long() * n_items + item_rows).unique()
        self._items = (pairs % n_items).to(item_rows.dtype)
        counts = torch.bincount(pairs // n_items)
        self._ends = counts.cumsum(0)
        self._counts = counts

    def among(self, user_rows: Tensor, candidates: Tensor, positives: Tensor) -> Tensor:
        """Entries of a (b, c) matrix of scores that are known positives.

        Parameters
        ----------
        user_rows : Tensor of shape (b,)
            Users of the rows.
        candidates : Tensor of shape (c,)
            Items, each once, in ascending order.
        positives : Tensor of shape (b,)
            The row's own positive among the candidates; it is not returned.

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
            keys = user_rows.long()[:, None] * self._n_items + candidates  # (b, c)
            places = torch.searchsorted(self._pairs, keys).clamp(max=len(self._pairs) - 1)
            known = self._pairs[places] == keys
            known[torch.arange(len(user_rows)), positives] = False
            return known.flatten().nonzero()[:, 0]
        items = self._items[segment_positions(self._ends[user_rows] - counts, counts)]
        rows = torch.arange(len(user_rows)).repeat_interleave(
            counts, output_size=len(items)
        )
        columns = torch.searchsorted(candidates, items).clamp(max=n_candidates - 1)
        known = (candidates[columns] == items) & (columns != positives[rows])
        return rows[known] * n_candidates + columns[known]


def in_batch_log_q(counts: Tensor, batch_size: int) -> Tensor:
    r"""Log-probability that an item is among the unique items of a batch.

    An epoch is a permutation of its :math:`N` rows, so a batch of :math:`b` rows is a
    draw without replacement, and an item with :math:`n` rows is in it with probability

    .. math:: q = 1 - \binom{N - n}{b} \Big/ \binom{N}{b}
                = 1 - \prod_{k=0}^{n-1} \left(1 - \frac{b}{N - k}\right),

    which is :math:`1 - (1 - n/N)^b` where :math:`b \ll N`. The product is summed in
    logarithms: a difference of log-gammas would lose all digits of a small ``q`` when
    :math:`N` is large.

    Parameters
    ----------
    counts : Tensor of shape (n_items,)
        Rows of each item; their sum is :math:`N`.
    batch_size : int
        :math:`b`, at most :math:`N`.

    Returns
    -------
    Tensor of shape (n_items,)
        ``log q`` in float32; ``-inf`` for an item without rows.
    """
    n_rows = int(counts.sum())
    steps = torch.arange(int(counts.max()), dtype=torch.float64)
    remaining = (n_rows - steps).clamp(min=1)
    log_misses = torch.log1p(-(batch_size / remaining).clamp(max=1.0)).cumsum(0)
    log_absent = torch.cat([torch.zeros(1, dtype=torch.float64), log_misses])[counts]
    return torch.log(-torch.expm1(log_absent)).float()
