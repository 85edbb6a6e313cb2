"""Training that goes on with more rows in the embedding tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sktwotower._nn.distributed import Ranks
from sktwotower._nn.lazy_tables import LookedUpTables
from sktwotower._nn.optim import OptimizerState
from sktwotower._nn.two_towers import TwoTowers


@dataclass(frozen=True, eq=False)
class RowSource:
    """Initial rows of a larger table.

    Attributes
    ----------
    rows : Tensor of shape (n_rows,)
        Row of the smaller table from which each row starts; -1: zero.
    is_new : Tensor of shape (n_rows,), bool
        Rows that the smaller table does not have. They do not take over the optimizer state
        of the row from which they start.
    ranks : Ranks or None
        The processes, if these are rows of the table of a shard.
    is_whole : bool
        Whether the smaller table has the rows of all shards.
    """

    rows: Tensor
    is_new: Tensor
    ranks: Ranks | None = None
    is_whole: bool = True

    @classmethod
    def append(cls, n_before: int, n_now: int, *, first: int) -> Self:
        """Append rows that start from the row ``first``."""
        rows = torch.arange(n_now)
        is_new = rows >= n_before
        return cls(torch.where(is_new, first, rows), is_new)

    def of_shard(self, ranks: Ranks, *, is_whole: bool) -> RowSource:
        """The rows of the table of this process's shard."""
        shard = ranks.shard
        rows, is_new = (shard.table_of(one) for one in (self.rows, self.is_new))
        return RowSource(shard.local(rows), is_new, ranks, is_whole)

    def weights(self, old: Tensor) -> Tensor:
        """Initial values of the larger table."""
        return self._take(old, self.rows < 0)

    def memory(self, name: str, old: Tensor) -> Tensor:
        """Initial optimizer state of the larger table.

        The momentum of a new row is zero. Its second moment is the mean over the rows: with
        zero, the first step would be many times too long.
        """
        empty = self._take(old, self.is_new)
        if name in ("exp_avg_sq", "sum"):
            known = self._of_shard(old)[1:]
            total, n = known.sum(dim=0), len(known)
            if self.ranks is not None:
                total, n = self.ranks.sum(total), int(self.ranks.total(n))
            empty[self.is_new.to(old.device)] = total / max(n, 1)
        return empty

    def _of_shard(self, old: Tensor) -> Tensor:
        """The smaller table, of this shard if this is one."""
        if self.ranks is None or not self.is_whole:
            return old
        return self.ranks.shard.table_of(old)

    def _take(self, old: Tensor, empty: Tensor) -> Tensor:
        old = self._of_shard(old)
        rows = self.rows.to(old.device).clamp(min=0)
        return old[rows].masked_fill(empty.to(old.device)[:, None], 0.0)


# By the name of a table.
RowSources = dict[str, RowSource]


@torch.no_grad()
def copy_weights(towers: TwoTowers, before: TwoTowers, sources: RowSources) -> None:
    """Copy the weights of towers to ones with larger tables.

    Parameters
    ----------
    towers, before : TwoTowers
        Towers of the same architecture except the number of rows in tables.
    sources : dict of str to RowSource
        Initial rows, by the name of the table.
    """
    old = before.state_dict()
    for name, value in towers.state_dict().items():
        weights = old[name].to(value.device)
        if name in sources:
            weights = sources[name].weights(weights)
        if weights.shape != value.shape:
            raise ValueError(
                f"Training goes on with the towers that it began with, and cannot change "
                f"their architecture: {name} had the shape {tuple(weights.shape)} and "
                f"would have {tuple(value.shape)}."
            )
        value.copy_(weights)


def remember(optimizer: torch.optim.Optimizer, towers: TwoTowers) -> OptimizerState:
    """State of an optimizer by the name of the parameter, on the CPU."""
    return {
        name: {key: value.cpu() for key, value in optimizer.state[parameter].items()}
        for name, parameter in towers.named_parameters()
        if parameter in optimizer.state
    }


def recall(
    optimizer: torch.optim.Optimizer,
    towers: TwoTowers,
    state: OptimizerState,
    sources: RowSources,
) -> None:
    """Initialise the state of a new optimizer from an earlier one."""
    for name, parameter in towers.named_parameters():
        if name not in state:
            continue
        optimizer.state[parameter] = {}
        for key, value in state[name].items():
            if name in sources and value.dim():  # not a number of steps
                value = sources[name].memory(key, value)
            # A fused optimizer has the number of its steps beside the parameter.
            is_there = value.dim() > 0 or optimizer.defaults.get("fused", False)
            device = parameter.device if is_there else value.device
            optimizer.state[parameter][key] = value.to(device, copy=True)


@contextmanager
def rows_stay(
    optimizer: torch.optim.Optimizer,
    tables: LookedUpTables,
    rows: dict[nn.Parameter, Tensor],
) -> Iterator[None]:
    """Freeze rows of tables and their optimizer state within a context.

    Without it, momentum and weight decay move every row at each step, with or without a
    gradient.

    Parameters
    ----------
    optimizer : Optimizer
        Steps the tables within the context.
    tables : LookedUpTables
        Lazy tables, which are not stepped by the optimizer.
    rows : dict of Parameter to Tensor of shape (n_rows,), bool
        True for rows to freeze.
    """
    # Positions, since at each step a mask would synchronise with an accelerator.
    positions = {
        table: frozen.nonzero()[:, 0].to(table.device)
        for table, frozen in tables.freeze(rows).items()
    }
    before = {table: table.detach()[frozen] for table, frozen in positions.items()}
    memory = {
        table: {
            key: value[frozen]
            for key, value in optimizer.state[table].items()
            if value.dim()
        }
        for table, frozen in positions.items()
        if table in optimizer.state
    }

    @torch.no_grad()
    def restore(*_: object) -> None:
        for table, frozen in positions.items():
            table.index_copy_(0, frozen, before[table])

    hook = optimizer.register_step_post_hook(restore)
    try:
        yield
    finally:
        hook.remove()
        for table, values in memory.items():
            for key, value in values.items():
                optimizer.state[table][key][positions[table]] = value
