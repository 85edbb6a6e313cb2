"""Batches of whole users, whose rows are split at random into history and positives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sktwotower._nn.batches import B_co, Batches, CandidateSource, Drawn, TrainingRows
from sktwotower._nn.segments import positions_where, segment_positions


class UserBatches(Batches[B_co]):
    """Shuffled batches of users with histories drawn from their own rows.

    In each epoch, every row of a user is a positive with probability ``dropout``, and part
    of the user's history otherwise. If no row is drawn, the rows of one random pair are
    positives, so that every epoch trains. All positives of a user share one history, so
    that a step embeds as many histories as it has users.

    Parameters
    ----------
    rows : TrainingRows
        The positives.
    source : CandidateSource
        Completes each batch.
    n_batches : int
        Batches of an epoch, of about equally many users.
    dropout : float
        Probability of a row to be a positive.
    in_history : Tensor of shape (n,), bool
        Overwritten at the start of each epoch: whether each row is in a history. Rows are
        ordered by user, and rows of one user as in ``rows``.
    yields_empty : bool, default=False
        Whether batches without a positive are yielded, as other ranks may have one.
    """

    def __init__(
        self,
        rows: TrainingRows,
        source: CandidateSource[B_co],
        n_batches: int,
        *,
        dropout: float,
        in_history: Tensor,
        yields_empty: bool = False,
    ) -> None:
        super().__init__(rows, source, n_batches)
        self.dropout = dropout
        self.yields_empty = yields_empty
        self._in_history = in_history
        self._by_user = torch.argsort(rows.user_rows, stable=True)
        _, self._counts = rows.user_rows[self._by_user].unique_consecutive(
            return_counts=True
        )
        self._starts = self._counts.cumsum(0) - self._counts
        # Repeated rows of one pair are in the history together, or positives together.
        pairs = rows.user_rows.long() * rows.n_items + rows.item_rows
        distinct, positions = pairs[self._by_user].unique(return_inverse=True)
        self._n_pairs = len(distinct)
        self._pair_of = positions if len(distinct) < len(rows) else None
        self._n_rows = len(rows)

    @property
    def n_rows(self) -> int:
        """Number of positives in the last epoch."""
        return self._n_rows

    @property
    def n_expected(self) -> float:
        """Positives of an epoch on average."""
        return self.dropout * len(self.rows)

    def _drawn(self, generator: torch.Generator) -> Iterator[Drawn]:
        """Yield the rows of each batch, with new histories."""
        is_positive = torch.rand(self._n_pairs, generator=generator) < self.dropout
        if self._n_pairs and not is_positive.any():
            one = torch.randint(self._n_pairs, (1,), generator=generator)
            is_positive[one] = True
        if self._pair_of is not None:
            is_positive = is_positive[self._pair_of]
        self._in_history.copy_(~is_positive)
        self._n_rows = int(is_positive.sum())
        order = torch.randperm(len(self._counts), generator=generator)
        for users in order.tensor_split(self.n_batches):
            positions = segment_positions(self._starts[users], self._counts[users])
            chosen = positions_where(is_positive.index_select(0, positions))
            positions = positions.index_select(0, chosen)
            if len(positions) or self.yields_empty:
                yield self.rows.take(self._by_user[positions]), len(users)
