"""Batches of whole users: some of what each has is given, the rest is to be found."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sktwotower._nn.batches import B_co, Batches, CandidateSource, TrainingRows
from sktwotower._nn.segments import segment_positions


class UserBatches(Batches[B_co]):
    """Shuffled batches of users, each with a history drawn from the user's own rows.

    At each epoch every row is left out of its user's history with a probability, and is
    then a positive of that user; the others are the history. So one history serves many
    positives, and a step costs as many of them as it has users.

    Parameters
    ----------
    rows : TrainingRows
        The positives.
    source : CandidateSource
        Completes each batch.
    n_batches : int
        Of an epoch, of about equally many users.
    dropout : float
        The probability.
    given : Tensor of shape (n,), bool
        Which rows are in the histories, in the order of users and then of the rows;
        written at the start of each epoch.
    """

    def __init__(
        self,
        rows: TrainingRows,
        source: CandidateSource[B_co],
        n_batches: int,
        *,
        dropout: float,
        given: Tensor,
    ) -> None:
        super().__init__(rows, source, n_batches)
        self.dropout = dropout
        self._given = given
        self._by_user = torch.argsort(rows.user_rows, stable=True)
        _, self._counts = rows.user_rows[self._by_user].unique_consecutive(
            return_counts=True
        )
        self._starts = self._counts.cumsum(0) - self._counts
        # A pair that is there twice is given or left out as one.
        pairs = rows.user_rows.long() * rows.n_items + rows.item_rows
        distinct, places = pairs[self._by_user].unique(return_inverse=True)
        self._n_pairs = len(distinct)
        self._pair_of = places if len(distinct) < len(rows) else None
        self._n_rows = len(rows)

    @property
    def n_rows(self) -> int:
        """Positives of the last epoch."""
        return self._n_rows

    def epoch(self, generator: torch.Generator) -> Iterator[B_co]:
        """One pass over the users in a new order, with new histories."""
        left_out = torch.rand(self._n_pairs, generator=generator) < self.dropout
        if self._pair_of is not None:
            left_out = left_out[self._pair_of]
        self._given.copy_(~left_out)
        self._n_rows = int(left_out.sum())
        order = torch.randperm(len(self._counts), generator=generator)
        for users in order.tensor_split(self.n_batches):
            places = segment_positions(self._starts[users], self._counts[users])
            places = places[left_out[places]]
            if len(places):
                yield self.source.batch(self.rows.take(self._by_user[places]), generator)
