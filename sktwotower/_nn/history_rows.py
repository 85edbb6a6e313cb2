"""What a user had before, as one more field of the user tower."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.segments import Bags, segment_positions


@dataclass(frozen=True, eq=False)
class HistoryRows:
    r"""Rows of the user side, each with a window of what its user had.

    The vector of the field is

    .. math:: z = \frac{1}{\sqrt{n}} \sum_{k=1}^{n} E[i_k]

    over the :math:`n` items :math:`i_k` of the window that are known and are not left out;
    zero without any. The square root lets a long history say more than a short one, and
    not in proportion.

    Attributes
    ----------
    rows : EntityRows
        Ids and features.
    row_of : Tensor of shape (n_rows,)
        Which of ``rows`` each row has.
    items : Tensor of shape (n_events,)
        Rows of the history table, user after user and in the order of time; 0 is an item
        that is not known.
    starts, ends : Tensor of shape (n_rows,)
        The window of each row in ``items``.
    left_out : Tensor of shape (n_rows,) or None
        An item that is not in a row's own history wherever it stands: the target.
    given : Tensor of shape (n_events,), bool, or None
        InteractionCodes that are in a history at all, which may change from epoch to epoch.
    """

    rows: EntityRows
    row_of: Tensor
    items: Tensor
    starts: Tensor
    ends: Tensor
    left_out: Tensor | None = None
    given: Tensor | None = None

    def __len__(self) -> int:
        return len(self.row_of)

    def take(self, rows: Tensor) -> TowerInput:
        """Gather rows (b,), without a Python loop over them."""
        lengths = self.ends[rows] - self.starts[rows]
        places = segment_positions(self.starts[rows], lengths)
        items = self.items[places].long()
        bag_of = torch.arange(len(rows)).repeat_interleave(lengths, output_size=len(items))
        keep = items > 0
        if self.given is not None:
            keep &= self.given[places]
        if self.left_out is not None:
            keep &= items != self.left_out[rows][bag_of]
        items, bag_of = items[keep], bag_of[keep]
        counts = torch.bincount(bag_of, minlength=len(rows))
        history = Bags(
            columns=items,
            values=counts.float().rsqrt()[bag_of],
            offsets=counts.cumsum(0) - counts,
        )
        return replace(self.rows.take(self.row_of[rows]), history=history)
