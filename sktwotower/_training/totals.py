"""Counts of the rows of all ranks, which each rank needs beside its own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.distributed import Ranks


@dataclass(frozen=True, eq=False)
class RowTotals:
    """Counts of the training rows of all ranks.

    Attributes
    ----------
    rows_of_items, positives_of_items : Tensor of shape (n_items,), int64
        Rows of each item, and those that are positives.
    """

    rows_of_items: Tensor
    positives_of_items: Tensor

    @classmethod
    def of(cls, rows: TrainingRows, ranks: Ranks | None) -> Self:
        """The counts of this rank's rows, added up over the ranks."""
        counts = torch.stack(
            [
                torch.bincount(items, minlength=rows.n_items)
                for items in (rows.item_rows, rows.item_rows[rows.positive])
            ]
        )
        return cls(*(counts if ranks is None else ranks.sum(counts)))

    @property
    def all_positive(self) -> bool:
        """Whether there is no explicit negative."""
        return torch.equal(self.rows_of_items, self.positives_of_items)
