"""Towers and optimisers that go on with more rows in their tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.two_towers import TwoTowers

# By the name of a parameter: what an optimiser remembers of it.
OptimizerState = dict[str, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Source:
    """Where the rows of a larger table come from.

    Attributes
    ----------
    rows : Tensor of shape (n_rows,)
        The row of the smaller table that each row starts from; -1: zero.
    is_new : Tensor of shape (n_rows,), bool
        Rows that were not there; what an optimiser knows of their source is not theirs.
    """

    rows: Tensor
    is_new: Tensor

    @classmethod
    def append(cls, n_before: int, n_now: int, *, first: int) -> Self:
        """Old rows stay, new ones start from the row ``first``."""
        rows = torch.arange(n_now)
        is_new = rows >= n_before
        return cls(torch.where(is_new, first, rows), is_new)

    def weights(self, old: Tensor) -> Tensor:
        """The rows of the larger table."""
        return self._take(old, self.rows < 0)

    def memory(self, name: str, old: Tensor) -> Tensor:
        """What an optimiser knows of them: momentum, or the size of gradients so far.

        The first is zero for a new row, the second that of an average row: with zero its
        first step would be many times too long.
        """
        empty = self._take(old, self.is_new)
        if name in ("exp_avg_sq", "sum") and len(old) > 1:
            empty[self.is_new.to(old.device)] = old[1:].mean(dim=0)
        return empty

    def _take(self, old: Tensor, empty: Tensor) -> Tensor:
        rows = self.rows.to(old.device).clamp(min=0)
        return old[rows].masked_fill(empty.to(old.device)[:, None], 0.0)


# By the name of a table.
Sources = dict[str, Source]


@torch.no_grad()
def copy_weights(towers: TwoTowers, before: TwoTowers, sources: Sources) -> None:
    """Give larger towers the weights of smaller ones.

    Parameters
    ----------
    towers, before : TwoTowers
        Of one architecture but for the rows of the tables.
    sources : dict of str to Tensor
        For each table.
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
    """What an optimiser has learnt of each parameter, on the CPU."""
    return {
        name: {key: value.cpu() for key, value in optimizer.state[parameter].items()}
        for name, parameter in towers.named_parameters()
        if parameter in optimizer.state
    }


def recall(
    optimizer: torch.optim.Optimizer,
    towers: TwoTowers,
    state: OptimizerState,
    sources: Sources,
) -> None:
    """Let a new optimiser go on from what another one remembered; new rows start anew."""
    for name, parameter in towers.named_parameters():
        if name not in state:
            continue
        optimizer.state[parameter] = {}
        for key, value in state[name].items():
            if name in sources and value.dim():  # not the number of steps
                value = sources[name].memory(key, value)
            device = parameter.device if value.dim() else value.device
            optimizer.state[parameter][key] = value.to(device, copy=True)


@contextmanager
def rows_stay(
    optimizer: torch.optim.Optimizer,
    tables: LazyTables,
    rows: dict[nn.Parameter, Tensor],
) -> Iterator[None]:
    """Keep rows of tables bit by bit as they are, and what the optimiser knows of them.

    An optimiser with momentum moves, and a decay shrinks, every row at every step, also
    those without a gradient.

    Parameters
    ----------
    optimizer : Optimizer
        Steps in between.
    tables : LazyTables
        Those that it leaves to them.
    rows : dict of Parameter to Tensor of shape (n_rows,), bool
        True for a row that stays.
    """
    for table, lazy in tables.by_table.items():
        lazy.frozen = rows.get(table)
    rows = {t: stays for t, stays in rows.items() if t not in tables.by_table}
    before = {table: table.detach()[stays].clone() for table, stays in rows.items()}
    memory = {
        table: {
            key: value[stays].clone()
            for key, value in optimizer.state[table].items()
            if value.dim()
        }
        for table, stays in rows.items()
        if table in optimizer.state
    }

    @torch.no_grad()
    def put_back(*_: object) -> None:
        for table, stays in rows.items():
            table[stays] = before[table]

    hook = optimizer.register_step_post_hook(put_back)
    try:
        yield
    finally:
        hook.remove()
        for table, values in memory.items():
            for key, value in values.items():
                optimizer.state[table][key][rows[table]] = value
