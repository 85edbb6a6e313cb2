"""Segments of different lengths, stored one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Bags:
    """Bags of weighted rows of a table, as for ``torch.nn.functional.embedding_bag``.

    Attributes
    ----------
    columns, values : Tensor of shape (n,)
        Rows of the table and their weights, by bag.
    offsets : Tensor of shape (b,)
        Start of each bag in ``columns``.
    vectors : Tensor of shape (n_vectors, width) or None
        Rows of the table of which ``columns`` are indices; None: the whole table.
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
    """Concatenated positions of segments, without a Python loop.

    Parameters
    ----------
    starts, lengths : Tensor of shape (n_segments,)
        Start and length of each segment.

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
    """Distinct codes in ascending order, and the position of each code (b,) among them.

    Like ``unique`` with ``return_inverse``, but in linear time unless ``n``, a bound above
    all codes, is much larger than their number.
    """
    if n > 16 * len(codes):
        found, positions = codes.unique(return_inverse=True)
        return found, positions
    # In numpy: on small arrays, a call costs half of one in torch.
    marked = codes.numpy()
    is_there = np.zeros(n, dtype=bool)
    is_there[marked] = True
    found = np.flatnonzero(is_there)
    position = np.empty(n, dtype=np.int64)
    position[found] = np.arange(len(found))
    return torch.from_numpy(found.astype(marked.dtype)), torch.from_numpy(position[marked])
