"""The history of a user as a field of the user tower."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.segments import (
    Bags,
    positions_where,
    segment_positions,
    segments_of,
)


@dataclass(frozen=True, eq=False)
class HistoryRows:
    r"""Input rows of the user tower, each with a window of its user's history.

    The vector of the history field is

    .. math:: z = \frac{1}{\sqrt{n}} \sum_{k=1}^{n} E[i_k]

    over the :math:`n` items :math:`i_k` of the window that are known and not left out. It
    is zero without any. With the square root, the influence of a history grows with its
    length, but less than in proportion.

    Attributes
    ----------
    rows : EntityRows
        Ids and features.
    row_of : Tensor of shape (n_rows,)
        Ids and features of each row, an index of ``rows``.
    items : Tensor of shape (n_interactions,)
        Rows of the history table, by user and then by time; 0 for an unknown item.
    starts, ends : Tensor of shape (n_rows,)
        Window of each row, a slice of ``items``.
    left_out : Tensor of shape (n_rows,) or None
        The target of each row, which is left out of the row's history wherever it occurs.
    in_history : Tensor of shape (n_interactions,), bool, or None
        Whether an interaction can be in a history. It may change from epoch to epoch. None:
        all can.
    """

    rows: EntityRows
    row_of: Tensor
    items: Tensor
    starts: Tensor
    ends: Tensor
    left_out: Tensor | None = None
    in_history: Tensor | None = None

    def __len__(self) -> int:
        return len(self.row_of)

    def take(self, rows: Tensor) -> TowerInput:
        """Gather rows (b,), without a Python loop."""
        starts = self.starts.index_select(0, rows)
        lengths = self.ends.index_select(0, rows) - starts
        positions = segment_positions(starts, lengths)
        items, bag_of = self.items.index_select(0, positions), segments_of(lengths)
        keep = items > 0
        if self.in_history is not None:
            keep &= self.in_history.index_select(0, positions)
        if self.left_out is not None:
            left_out = self.left_out.index_select(0, rows)
            keep &= items != left_out.index_select(0, bag_of)
        kept = positions_where(keep)
        items, bag_of = items.index_select(0, kept).long(), bag_of.index_select(0, kept)
        counts = torch.bincount(bag_of, minlength=len(rows))
        history = Bags(
            columns=items,
            values=counts.float().rsqrt().index_select(0, bag_of),
            offsets=counts.cumsum(0) - counts,
        )
        return replace(self.rows.take(self.row_of[rows]), history=history)
