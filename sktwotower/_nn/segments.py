"""Rows of different length that lie end to end."""

from __future__ import annotations

import torch
from torch import Tensor


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
