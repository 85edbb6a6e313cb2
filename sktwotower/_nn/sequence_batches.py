"""Batches of whole sequences, each of which is read once for all its rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sktwotower._nn.batches import B_co, Batches, Drawn, TrainingRows
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
        Batches of an epoch, of about equally many sequences; see `most_batches`.
    n_new : int, optional
        As in :class:`Batches`. The other rows are drawn by sequence, so that as few
        sequences as possible are read.
    """

    def _drawn(self, generator: torch.Generator) -> Iterator[Drawn]:
        """Yield the rows of each batch."""
        rows = self.rows
        if self.n_rows < len(rows):
            n_new = len(rows) - self._n_before
            drawn = n_new + self._replayed(self.n_rows - n_new, generator)
            rows = rows.take(torch.cat([torch.arange(n_new), drawn]))
        positions, counts = _by_sequence(rows)
        starts = counts.cumsum(0) - counts
        order = torch.randperm(len(counts), generator=generator)
        for sequences in order.tensor_split(self.n_batches):
            read = segment_positions(starts[sequences], counts[sequences])
            yield rows.take(positions[read]), len(sequences)

    def _replayed(self, n_wanted: int, generator: torch.Generator) -> Tensor:
        """Positions of ``n_wanted`` rows from before: all of some sequences, but of one."""
        before = self.rows.take(slice(len(self.rows) - self._n_before, None))
        positions, counts = _by_sequence(before)
        starts = counts.cumsum(0) - counts
        order = torch.randperm(len(counts), generator=generator)
        drawn = segment_positions(starts[order], counts[order])
        return positions[drawn[:n_wanted]]


def most_batches(rows: TrainingRows, n_new: int | None) -> int:
    """Number of sequences with a new row, each of which is read in every epoch.

    More batches than that could be empty.
    """
    assert rows.sequences is not None
    return len(rows.sequences[:n_new].unique())


def _by_sequence(rows: TrainingRows) -> tuple[Tensor, Tensor]:
    """Positions of the rows, one sequence after the other, and rows of each sequence."""
    assert rows.sequences is not None
    positions = torch.argsort(rows.sequences, stable=True)
    _, counts = rows.sequences[positions].unique_consecutive(return_counts=True)
    return positions, counts
