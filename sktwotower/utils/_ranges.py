"""Ranges of positions, one after the other."""

from __future__ import annotations

import numpy as np


def positions_of_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenated positions of ranges, without a Python loop.

    Parameters
    ----------
    starts, lengths : ndarray of shape (n_ranges,)
        Start and length of each range.

    Returns
    -------
    ndarray of shape (lengths.sum(),), int64
        ``starts[0], starts[0] + 1, ..., starts[1], ...``.
    """
    ends = np.cumsum(lengths)
    positions = np.arange(lengths.sum())
    positions += np.repeat(starts - (ends - lengths), lengths)
    return positions
