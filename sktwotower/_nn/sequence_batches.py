"""Batches of whole sequences, each of which is read once for all its rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sktwotower._nn.batches import B_co, Batches, CandidateSource, TrainingRows
from sktwotower._nn.segments import segment_positions


class SequenceBatches(Batches[B_co]):
    """Shuffled batches of sequences, with all rows that read them.

    Parameters
    ----------
    rows : TrainingRows
        Rows of an epoch, with ``sequences``.
    source : CandidateSource
        Completes each batch.
    n_batches : int
        Batches of an epoch, of about equally many sequences; at most one for each.
    """

    def __init__(
        self, rows: TrainingRows, source: CandidateSource[B_co], n_batches: int
    ) -> None:
        assert rows.sequences is not None
        self._by_sequence = torch.argsort(rows.sequences, stable=True)
        _, self._counts = rows.sequences[self._by_sequence].unique_consecutive(
            return_counts=True
        )
        self._starts = self._counts.cumsum(0) - self._counts
        super().__init__(rows, source, min(n_batches, len(self._counts)))

    def epoch(self, generator: torch.Generator) -> Iterator[B_co]:
        """Yield the batches of one epoch, in a new order."""
        order = torch.randperm(len(self._counts), generator=generator)
        for drawn in order.tensor_split(self.n_batches):
            positions = segment_positions(self._starts[drawn], self._counts[drawn])
            rows = self.rows.take(self._by_sequence[positions])
            yield self.source.batch(rows, generator, len(drawn))
