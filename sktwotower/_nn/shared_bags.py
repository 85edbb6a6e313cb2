"""Bags of items that are divided among several processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from sktwotower._nn.distributed import Shares
from sktwotower._nn.segments import Bags, positions_where, segments_of


@dataclass(frozen=True, eq=False)
class SharedBags(Bags):
    """The bags of the users of all ranks, each with the items of this rank alone.

    A rank adds up the vectors of its own items. What it exchanges are sums, a vector for
    each user, and none of the items.

    Attributes
    ----------
    users : Shares
        The users of all ranks.
    """

    users: Shares = field(kw_only=True)

    @classmethod
    def of(cls, bags: list[Tensor], users: Shares) -> Self:
        """From the lengths, columns and values of the bags of all ranks."""
        lengths, columns, values = bags
        own = positions_where(users.ranks.owns(columns))
        bag_of = segments_of(lengths).index_select(0, own)
        counts = torch.bincount(bag_of, minlength=len(lengths))
        return cls(
            columns.index_select(0, own),
            values.index_select(0, own),
            counts.cumsum(0) - counts,
            users=users,
        )
