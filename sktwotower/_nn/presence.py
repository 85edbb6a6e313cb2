"""How likely each item is a shared candidate of a batch."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from sktwotower._nn.absence import (
    StreamingFrequencies,
    in_batch_log_absence,
    log_presence,
    user_batch_log_absence,
)
from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.negatives import ItemSampler

# An item of this log-probability of absence is in every batch; unlike -inf, it can be
# subtracted.
_NEVER_ABSENT = -1e3


class Presence:
    r"""Log-probabilities of items to be shared candidates.

    With several processes the candidates are those of all ranks. Their batches are drawn
    independently, so that an item is absent with probability :math:`\prod_r (1 - q_r)`,
    where rank :math:`r` has the probability :math:`q_r` by its own rows.

    Parameters
    ----------
    rows : TrainingRows
        The positives of all batches; of this rank.
    from_batch : bool
        Whether the items of a batch are candidates.
    sampler : ItemSampler or None
        Draws further candidates.
    n_draws : int
        Number of draws for a batch, with replacement; of all ranks.
    correction : {"logq", "refined"}
        ``"logq"``: the probability of being a candidate of a batch; ``"refined"``: of a
        batch that has the row at hand.
    history_dropout : float
        Probability of a row to be a positive in batches of whole users. 0: batches are
        of rows or of sequences.
    whole_sequences : bool
        Whether batches are of sequences, with all rows that read them.
    are_masked : bool
        Whether other positives of a row's user are masked.
    frequencies : StreamingFrequencies or None
        How often items are in a batch of all ranks. None: computed from ``rows``.
    ranks : Ranks or None
        The processes whose candidates are shared.
    n_batches : int
        Batches of an epoch. Ranks take the probabilities of their largest batch.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        from_batch: bool,
        sampler: ItemSampler | None,
        n_draws: int,
        correction: str,
        history_dropout: float,
        whole_sequences: bool,
        are_masked: bool,
        frequencies: StreamingFrequencies | None,
        ranks: Ranks | None,
        n_batches: int,
    ) -> None:
        self.from_batch = from_batch
        self.sampler = sampler
        self.n_draws = n_draws
        self.refined = correction == "refined"
        self.history_dropout = history_dropout
        self.whole_sequences = whole_sequences
        self.are_masked = are_masked
        self.frequencies = frequencies
        self.ranks = ranks
        self.n_batches = n_batches
        self._rows = rows
        self._log_absence: dict[int, Tensor] = {}  # by the size of the batch
        self._log_q: dict[int, Tensor] = {}

    def log_q(self, shared: Tensor, size: int) -> Tensor:
        """Of shared candidates, in a batch of ``size`` rows, users or sequences."""
        if self.frequencies is None:
            return self.log_q_of_all(size)[shared]
        self.log_q_of_all(size)
        of_draws = self._log_absence[self._largest(size)][shared]
        return log_presence(self.frequencies.log_absence(shared) + of_draws)

    def log_q_of_all(self, size: int) -> Tensor:
        """Of all items, (n_items,), but for streaming frequencies."""
        size = self._largest(size)
        if size not in self._log_q:
            self._log_absence[size] = self._log_absence_by_item(size)
            self._log_q[size] = log_presence(self._log_absence[size])
        return self._log_q[size]

    def _largest(self, size: int) -> int:
        """The size of a batch that is taken in its place: with ranks, of the largest."""
        return size if self.ranks is None else -(-self._n_drawn // self.n_batches)

    @cached_property
    def _n_drawn(self) -> int:
        """Number of rows, users or sequences that batches are drawn from."""
        if self.whole_sequences:
            return self._sequences_of_items[1]
        return self._users_of_items[1] if self.history_dropout else len(self._rows)

    def _log_absence_by_item(self, size: int) -> Tensor:
        """Log-probability of items not to be shared, but for streaming frequencies."""
        log_absence = torch.zeros(self._rows.n_items, dtype=torch.float64)
        if self.from_batch and self.frequencies is None:
            log_absence += self._in_any_batch(size)
        if self.sampler is not None:
            probabilities = self.sampler.probabilities
            of_draws = self.n_draws * torch.log1p(-probabilities)
            log_absence[: len(probabilities)] += of_draws
        return log_absence

    def _in_any_batch(self, size: int) -> Tensor:
        """Log-probability of items not to be in the batches of all ranks."""
        if self.ranks is None:
            return self._in_batch(size, beside=self.refined)
        # The other ranks know nothing of the row at hand.
        own = self._in_batch(size, beside=False).clamp(min=_NEVER_ABSENT)
        log_absence = self.ranks.sum(own)
        if self.refined:
            log_absence += self._in_batch(size, beside=True) - own
        return log_absence

    def _in_batch(self, size: int, *, beside: bool) -> Tensor:
        """Log-probability of items not to be in a batch, maybe beside a row at hand."""
        rows = self._rows
        if not len(rows):
            return torch.zeros(rows.n_items, dtype=torch.float64)
        # Without a mask, other positives of the user or sequence are negatives, too.
        beside_others = beside and self.are_masked
        if self.whole_sequences:
            counts, n_sequences = self._sequences_of_items
            return in_batch_log_absence(
                counts, size, n_rows=n_sequences, beside_a_row=beside_others
            )
        if not self.history_dropout:
            counts = torch.bincount(rows.item_rows, minlength=rows.n_items)
            return in_batch_log_absence(counts, size, beside_a_row=beside)
        return user_batch_log_absence(
            *self._users_of_items,
            size,
            self.history_dropout,
            beside_a_user=beside_others,
        )

    @cached_property
    def _users_of_items(self) -> tuple[Tensor, int]:
        """Number of users of each item, (n_items,), and of all users."""
        return _owners_of_items(self._rows, self._rows.user_rows)

    @cached_property
    def _sequences_of_items(self) -> tuple[Tensor, int]:
        """Number of sequences of each item, (n_items,), and of all sequences."""
        assert self._rows.sequences is not None
        return _owners_of_items(self._rows, self._rows.sequences)


def _owners_of_items(rows: TrainingRows, owners: Tensor) -> tuple[Tensor, int]:
    """Number of owners of each item, (n_items,), and of all owners."""
    pairs = (owners.long() * rows.n_items + rows.item_rows).unique()
    counts = torch.bincount(pairs % rows.n_items, minlength=rows.n_items)
    return counts, len((pairs // rows.n_items).unique_consecutive())
