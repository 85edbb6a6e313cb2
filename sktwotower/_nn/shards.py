"""Which rows of a table of ids are in one of several shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Rows = TypeVar("Rows", Tensor, np.ndarray)


@dataclass(frozen=True)
class Shard:
    """One of several shards of a table of ids, of which row 0 is the unknown id.

    A shard has the rows ``rank``, ``rank + size``, ... A table of these rows alone begins
    with the unknown id, which it needs to embed others.

    Attributes
    ----------
    rank : int
        Number of the shard, from 0.
    size : int
        Number of shards.
    """

    rank: int
    size: int

    def owns(self, rows: Rows) -> Rows:
        """Whether each row of the whole table is in this shard."""
        return rows % self.size == self.rank

    def own(self, whole: Tensor) -> Tensor:
        """The rows of this shard, of all rows; a copy."""
        return whole[self.rank :: self.size].clone()

    def local(self, rows: Rows) -> Rows:
        """Where rows of this shard, or the unknown id, are in the table of the shard."""
        # The unknown id is the first row of the first shard already.
        return rows // self.size + (rows > 0) * int(self.rank > 0)

    def table_of(self, whole: Tensor) -> Tensor:
        """The table of the shard, from all rows."""
        return torch.cat([whole[:1], whole[self.rank or self.size :: self.size]])

    def own_of(self, table: Tensor) -> Tensor:
        """The rows of this shard in its table, without the unknown id of another one."""
        return table[int(self.rank > 0) :]


def whole_table(tables: Sequence[Tensor]) -> Tensor:
    """All rows, from the tables of all shards.

    Raises
    ------
    ValueError
        If these are not the tables of the shards of one table.
    """
    size = len(tables)
    n_rows = 1 + sum(len(one) - 1 for one in tables)
    for rank, table in enumerate(tables):
        shape = 1 + len(range(rank or size, n_rows, size)), *tables[0].shape[1:]
        if table.shape != shape:
            raise ValueError(
                f"shard {rank} has the shape {tuple(table.shape)} instead of {shape}"
            )
    whole = tables[0].new_empty(n_rows, *tables[0].shape[1:])
    whole[0] = tables[0][0]
    for rank, table in enumerate(tables):
        whole[rank or size :: size] = table[1:]
    return whole
