"""The history of a user as a sequence of items, of which several rows read a part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.segments import Sequences, segment_positions


@dataclass(frozen=True, eq=False)
class SequenceRows:
    """Input rows of the user tower, each with the items that came before it.

    Rows that begin at the same place share a sequence, so that all rows of a user, or of a
    window of a long history, cost one pass.

    Attributes
    ----------
    rows : EntityRows
        Ids and features.
    row_of : Tensor of shape (n_rows,)
        Ids and features of each row, an index of ``rows``.
    items : Tensor of shape (n_interactions,)
        Item codes, by user and then by time; 0 for an unknown item, which is left out.
    sequence_of : Tensor of shape (n_rows,)
        The sequence of each row.
    starts : Tensor of shape (n_sequences,)
        Where in ``items`` each sequence starts.
    ends : Tensor of shape (n_rows,)
        Where in ``items`` the part ends that a row reads.
    vectors : Tensor of shape (n_items + 1, width) or None
        Embeddings of the items by code; None: whoever embeds the rows adds them.
    """

    rows: EntityRows
    row_of: Tensor
    items: Tensor
    sequence_of: Tensor
    starts: Tensor
    ends: Tensor
    vectors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.row_of)

    def halves(self, rows: Tensor) -> list[Tensor]:
        """Positions of two halves of rows (b,), which read about as many items.

        Rows of one sequence are in one half. If there is only one, there is one part.
        """
        sequences, sequence_of = self.sequence_of[rows].unique(return_inverse=True)
        if len(sequences) < 2:
            return [torch.arange(len(rows))]
        starts = self.starts[sequences]
        n_read = self.ends[rows] - starts[sequence_of]
        ends = torch.zeros_like(starts).scatter_reduce(0, sequence_of, n_read, "amax")
        ends = ends.cumsum(0)
        n_first = int(torch.searchsorted(ends, ends[-1] // 2)) + 1
        is_first = sequence_of < min(n_first, len(sequences) - 1)
        return [is_first.nonzero()[:, 0], (~is_first).nonzero()[:, 0]]

    def take(self, rows: Tensor) -> TowerInput:
        """Gather rows (b,), without a Python loop."""
        sequences, sequence_of = self.sequence_of[rows].unique(return_inverse=True)
        starts, ends = self.starts[sequences], self.ends[rows]
        n_read = ends - starts[sequence_of]
        lengths = torch.zeros_like(starts).scatter_reduce(0, sequence_of, n_read, "amax")
        positions = segment_positions(starts, lengths)
        items = self.items[positions].long()
        is_known = items > 0
        if not is_known.all():
            n_before = F.pad(is_known.cumsum(0), (1, 0))
            firsts = lengths.cumsum(0) - lengths
            first_of = firsts[sequence_of]
            n_read = n_before[first_of + n_read] - n_before[first_of]
            lengths = n_before[firsts + lengths] - n_before[firsts]
            items = items[is_known]
        longest = int(lengths.max()) if len(lengths) else 0
        history = Sequences(items, lengths, sequence_of, n_read, longest, self.vectors)
        return replace(self.rows.take(self.row_of[rows]), history=history)
