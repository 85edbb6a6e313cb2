"""Rows of different length that lie end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Bags:
    """Weighted rows of a table, several for each of ``b`` bags.

    Attributes
    ----------
    columns, values : Tensor of shape (n,)
        Rows of the table and their weights, bag after bag.
    offsets : Tensor of shape (b,)
        Where each bag starts.
    vectors : Tensor of shape (n_vectors, width) or None
        The rows of the table that ``columns`` count along; None: all.
    """

    columns: Tensor
    values: Tensor
    offsets: Tensor
    vectors: Tensor | None = None

    def to(self, device: torch.device) -> Bags:
        """The same bags on another device."""
        return Bags(
            self.columns.to(device, non_blocking=True),
            self.values.to(device, non_blocking=True),
            self.offsets.to(device, non_blocking=True),
            self.vectors,
        )


def segment_positions(starts: Tensor, lengths: Tensor) -> Tensor:
    """Positions of several segments one after the other, without a loop over them.

    Parameters
    ----------
    starts, lengths : Tensor of shape (n_segments,)
        Where each segment begins, and how long it is.

    Returns
    -------
    Tensor of shape (lengths.sum(),)
        ``starts[0], starts[0] + 1, ..., starts[1], ...``.
    """
    ends = lengths.cumsum(0)
    n = int(ends[-1]) if len(ends) else 0
    shifts = starts - (ends - lengths)
    return torch.arange(n) + shifts.repeat_interleave(lengths, output_size=n)


def distinct(codes: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Distinct codes in ascending order, and the place of each code (b,) among them.

    Codes are below ``n``; where that is not many more than there are codes, they are marked
    instead of sorted.
    """
    if n > 16 * len(codes):
        found, places = codes.unique(return_inverse=True)
        return found, places
    # In numpy, where a call on so little costs half of what it does in torch.
    marked = codes.numpy()
    is_there = np.zeros(n, dtype=bool)
    is_there[marked] = True
    found = np.flatnonzero(is_there)
    place = np.empty(n, dtype=np.int64)
    place[found] = np.arange(len(found))
    return torch.from_numpy(found.astype(marked.dtype)), torch.from_numpy(place[marked])
