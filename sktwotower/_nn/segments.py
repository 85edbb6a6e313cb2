"""Segments of different lengths, stored one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sktwotower.utils._ranges import positions_of_ranges


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

    @property
    def lengths(self) -> Tensor:
        """Number of rows in each bag, (b,)."""
        return torch.diff(self.offsets, append=self.offsets.new_tensor([len(self.columns)]))

    def to(self, device: torch.device) -> Self:
        """The same bags on another device."""
        return replace(
            self,
            columns=self.columns.to(device, non_blocking=True),
            values=self.values.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
        )


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of items, and how far each row reads in one of them.

    Attributes
    ----------
    items : Tensor of shape (n_items,)
        Items of the sequences, one sequence after the other. They are rows of the item
        tower, or, with ``vectors``, of those.
    lengths : Tensor of shape (n_sequences,)
        Number of items of each sequence.
    sequence_of : Tensor of shape (b,)
        The sequence that each row reads.
    n_read : Tensor of shape (b,)
        How many of its items the row reads: those that come first.
    longest : int
        The largest of ``lengths``, so that no device has to be asked for it.
    vectors : Tensor of shape (n_vectors, width) or None
        Embeddings of items.
    """

    items: Tensor
    lengths: Tensor
    sequence_of: Tensor
    n_read: Tensor
    longest: int
    vectors: Tensor | None = None

    def to(self, device: torch.device) -> Sequences:
        """The same sequences on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Sequences(
            move(self.items),
            move(self.lengths),
            move(self.sequence_of),
            move(self.n_read),
            self.longest,
            None if self.vectors is None else move(self.vectors),
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
    # In numpy, which takes half as long for what is done here and in the functions below.
    return torch.from_numpy(positions_of_ranges(starts.numpy(), lengths.numpy()))


def segments_of(lengths: Tensor) -> Tensor:
    """The segment of each element, for segments of some lengths (n_segments,)."""
    return torch.from_numpy(np.arange(len(lengths)).repeat(lengths.numpy()))


def positions_where(mask: Tensor) -> Tensor:
    """Where a mask (n,) is True, ascending."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def distinct(codes: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Distinct codes in ascending order, and the position of each code (b,) among them.

    Like ``unique`` with ``return_inverse``, but in linear time unless ``n``, a bound above
    all codes, is much larger than their number.
    """
    if n > 16 * len(codes):
        found, positions = codes.unique(return_inverse=True)
        return found, positions
    marked = codes.numpy()
    is_there = np.zeros(n, dtype=bool)
    is_there[marked] = True
    found = np.flatnonzero(is_there)
    position = np.empty(n, dtype=np.int64)
    position[found] = np.arange(len(found))
    return torch.from_numpy(found.astype(marked.dtype)), torch.from_numpy(position[marked])
