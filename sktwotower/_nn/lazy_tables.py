"""Embedding tables that are updated only where rows are looked up, with equal results."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sktwotower._nn.inputs import TowerInput
from sktwotower._nn.optim import DECOUPLED, MOMENTS, OptimizerState
from sktwotower._nn.segments import distinct
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers

# A table with fewer rows for each row of a batch is faster to update as a whole.
ROWS_FOR_ONE_OF_A_BATCH = 8
# After so many steps, the contribution of a gradient to the momentum is 0 in float32.
_MEMORY_OF_MOMENTUM = 256
_BLOCK = 2**16  # rows that are brought up to date at once


def may_be_lazy(n_rows: int, batch_size: int) -> bool:
    """Whether a table has so many rows that lazy updates are worth it."""
    return n_rows > ROWS_FOR_ONE_OF_A_BATCH * batch_size


class Clock:
    r"""Computes the updates that rows without a gradient have missed.

    An optimizer moves such rows by weight decay and momentum. Let :math:`\eta_j` be the
    learning rate of step :math:`j`, :math:`\lambda` the decoupled decay, and, for Adam,
    :math:`m` and :math:`v` the first and second moment after step :math:`s`. If a row
    :math:`x` has its last gradient at step :math:`s`, it is after step :math:`t`

    .. math::

        x_t = \frac{P_t}{P_s} \left(x_s - \frac{m_s}{\sqrt{v_s} + \epsilon_s}
              \sum_{j=s+1}^{t} \frac{P_s}{P_j} \eta_j
              \frac{\sqrt{1 - \beta_2^j}}{1 - \beta_1^j}
              \left(\frac{\beta_1}{\sqrt{\beta_2}}\right)^{j-s}\right),
        \qquad P_t = \prod_{j \le t} (1 - \eta_j \lambda),

    where :math:`\epsilon` is taken to shrink as :math:`\sqrt v` does, which is much larger.
    The step of the last gradient is thus all that has to be stored for a row.

    Parameters
    ----------
    group : dict
        Parameter group of the optimizer, with its current learning rate, its decay and
        Adam's betas.
    n_before : int
        Number of steps that the optimizer has made already.
    """

    def __init__(self, group: dict, n_before: int) -> None:
        self.group = group
        self.n_before = n_before
        self.now = 0
        self._log_shrinkage = np.zeros(1)  # log P, by step
        self._momentum_sum = np.zeros(1)  # the sum over j, by step s

    @property
    def n_steps(self) -> int:
        """Number of steps so far."""
        return self.n_before + self.now

    def tick(self) -> None:
        """Record a step and its learning rate."""
        self.now += 1
        if self.now == len(self._momentum_sum):
            self._momentum_sum = np.pad(self._momentum_sum, (0, self.now))
            self._log_shrinkage = np.pad(self._log_shrinkage, (0, self.now))
        rate, now = float(self.group["lr"]), self.now
        log_shrinkage = self._log_shrinkage
        log_shrinkage[now] = log_shrinkage[now - 1] + math.log1p(
            -rate * self.group["weight_decay"]
        )
        self._momentum_sum[now] = 0.0
        if "betas" in self.group:
            first, second = self.group["betas"]
            length = rate * math.sqrt(1 - second**self.n_steps) / (1 - first**self.n_steps)
            since = np.arange(max(now - _MEMORY_OF_MOMENTUM, 0), now)
            factors = np.exp(
                (now - since) * math.log(first / math.sqrt(second))
                - (log_shrinkage[now] - log_shrinkage[since])
            )
            self._momentum_sum[since] += length * factors

    def since(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Shrinkage and momentum sum of rows with the last gradient at ``steps`` (n,)."""
        positions = steps.numpy()
        shrinkage = np.exp(self._log_shrinkage[self.now] - self._log_shrinkage[positions])
        return (
            torch.from_numpy(shrinkage.astype(np.float32)),
            torch.from_numpy(self._momentum_sum[positions].astype(np.float32)),
        )

    def restart(self) -> None:
        """Discard the recorded steps; every row has to be up to date."""
        self.n_before, self.now = self.n_steps, 0
        self._momentum_sum[0] = 0.0


class LazyTable:
    """A table and its optimizer state, of which rows are updated when they are looked up.

    Parameters
    ----------
    table : Parameter of shape (n_rows, width)
        The table. It has no gradient; vectors that are looked up have one.
    optimizer : Optimizer
        The optimizer of the table, which holds its state.
    name : str
        Name of the optimizer.
    clock : Clock
        Steps of the optimizer.
    """

    def __init__(
        self,
        table: nn.Parameter,
        optimizer: torch.optim.Optimizer,
        name: str,
        clock: Clock,
    ) -> None:
        self.table = table.requires_grad_(False)
        self.clock = clock
        self.frozen: Tensor | None = None  # (n_rows,) bool: rows that are not updated
        self._state = optimizer.state[table]
        self._moments = MOMENTS[name]
        if self._moments:
            self._state.setdefault("step", torch.zeros(()))
        for moment in self._moments:
            self._state.setdefault(moment, torch.zeros_like(table))
        self._last = torch.zeros(len(table), dtype=torch.int32)
        self._rows = self._last[:0]
        self._vectors = table.detach()[:0]
        self._moments_of_rows: list[Tensor] = []

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.table)

    @torch.no_grad()
    def look_up(self, rows: Tensor) -> Tensor:
        """Vectors of distinct rows (n,), for the next step."""
        positions = self._on_device(rows)
        self._rows = rows
        # Plain indexing gathers rows ten times as slowly.
        self._vectors = self.table.detach().index_select(0, positions)
        self._moments_of_rows = [
            self._state[name].index_select(0, positions) for name in self._moments
        ]
        self._advance(rows, self._vectors, self._moments_of_rows)
        return self._vectors.requires_grad_()

    def placed(self, positions: Tensor) -> Tensor:
        """Where the vectors of rows are that were looked up: in their order."""
        return positions

    @property
    def vectors(self) -> Tensor:
        """The vectors that were looked up last."""
        return self._vectors

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows that were looked up, as the optimizer would."""
        vectors, moments, group = self._vectors, self._moments_of_rows, self.clock.group
        rate, epsilon, gradient = group["lr"], group.get("eps", 0.0), vectors.grad
        assert gradient is not None  # all vectors that are looked up are embedded
        vectors = vectors.detach()
        if group["weight_decay"]:
            vectors.mul_(1 - rate * group["weight_decay"])
        if len(moments) == 2:
            (mean, square), (first, second) = moments, group["betas"]
            n_steps = self.clock.n_steps + 1
            mean.lerp_(gradient, 1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            size = square.sqrt().div_(math.sqrt(1 - second**n_steps)).add_(epsilon)
            vectors.addcdiv_(mean, size, value=-rate / (1 - first**n_steps))
        elif moments:
            (total,) = moments
            total.addcmul_(gradient, gradient)
            vectors.addcdiv_(gradient, total.sqrt().add_(epsilon), value=-rate)
        else:
            vectors.add_(gradient, alpha=-rate)
        self._write(self._rows, vectors, moments)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring every row up to date."""
        table = self.table.detach()
        for start in range(0, len(table), _BLOCK):
            rows = slice(start, start + _BLOCK)
            moments = [self._state[name][rows] for name in self._moments]
            self._advance(rows, table[rows], moments)  # in place
        self._last.zero_()
        if "step" in self._state:
            self._state["step"].fill_(self.clock.n_steps)

    def _advance(
        self, rows: Tensor | slice, vectors: Tensor, moments: list[Tensor]
    ) -> None:
        """Apply the missed steps to vectors of rows and to their moments, in place."""
        last = self._last[rows]
        shrinkage, momentum_sum = self.clock.since(last)
        gaps = (self.clock.now - last).float()
        if self.frozen is not None:
            frozen = self.frozen[rows]
            shrinkage[frozen], momentum_sum[frozen], gaps[frozen] = 1.0, 0.0, 0.0
        if len(moments) == 2:
            (mean, square), (first, second) = moments, self.clock.group["betas"]
            epsilon = self.clock.group["eps"]
            epsilon *= math.sqrt(1 - second ** max(self.clock.n_steps, 1))
            direction = mean / square.sqrt().add_(epsilon)
            vectors.addcmul_(direction, self._on_device(momentum_sum)[:, None], value=-1.0)
            mean.mul_(self._on_device(first**gaps)[:, None])
            square.mul_(self._on_device(second**gaps)[:, None])
        vectors.mul_(self._on_device(shrinkage)[:, None])

    def _write(self, rows: Tensor, vectors: Tensor, moments: list[Tensor]) -> None:
        """Write vectors and moments of rows back after a step, but not frozen rows."""
        if self.frozen is not None:
            moves = (~self.frozen[rows]).nonzero()[:, 0]
            rows, moves = rows[moves], self._on_device(moves)
            vectors = vectors[moves]
            moments = [moment[moves] for moment in moments]
        positions = self._on_device(rows)
        self.table.detach().index_copy_(0, positions, vectors)
        for name, moment in zip(self._moments, moments, strict=True):
            self._state[name].index_copy_(0, positions, moment)
        self._last[rows] = self.clock.now + 1

    def _on_device(self, tensor: Tensor) -> Tensor:
        """A tensor of the CPU on the device of the table, without waiting for it."""
        return tensor.to(self.table.device, non_blocking=True)


class LookedUpTable(Protocol):
    """A table of which batches look up rows."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    def look_up(self, rows: Tensor) -> Tensor:
        """Vectors of distinct rows (n,), ascending, for the next step."""

    def placed(self, positions: Tensor) -> Tensor:
        """Where the vectors of rows are that were looked up, by their positions."""

    def step(self) -> None:
        """Update the rows that were looked up."""

    def settle(self) -> None:
        """Bring every row up to date."""


class LookedUpTables(ABC):
    """Tables that the optimizer does not step as a whole.

    Attributes
    ----------
    by_table : dict of Parameter to LookedUpTable
        How the rows of each table are looked up and stepped.
    """

    by_table: Mapping[nn.Parameter, LookedUpTable]
    _clock: Clock | None = None

    def look_up(
        self, inputs: Mapping[Tower, list[TowerInput]]
    ) -> dict[Tower, list[TowerInput]]:
        """The inputs of each tower with the vectors that they look up in these tables.

        Both towers get the same vectors of a table that they share.
        """
        found = dict(inputs)
        for table, looked_up in self.by_table.items():
            uses = [(tower, name) for tower in found for name in tower.names_of(table)]
            codes = [one.codes(name) for tower, name in uses for one in found[tower]]
            # Row 0 comes first, for ids that are dropped.
            together = torch.cat([codes[0].new_zeros(1), *codes])
            rows, positions = distinct(together, looked_up.n_rows)
            vectors = looked_up.look_up(rows.long())
            positions = looked_up.placed(positions)
            parts = iter(positions[1:].split([len(part) for part in codes]))
            for tower, name in uses:
                found[tower] = [
                    one.with_vectors(name, next(parts), vectors) for one in found[tower]
                ]
        return found

    def step(self) -> None:
        """Update the rows that were looked up; call it after the step of the optimizer."""
        for table in self.by_table.values():
            table.step()
        if self._clock is not None:
            self._clock.tick()

    def settle(self) -> None:
        """Bring every row up to date, so that the tables can be read."""
        for table in self.by_table.values():
            table.settle()
        if self._clock is not None:
            self._clock.restart()

    @abstractmethod
    def gather(self, towers: TwoTowers, *, own_users: bool = False) -> None:
        """Make towers ready to be read, after :meth:`settle`.

        Their tables have the rows of all processes, and the unknown user has a vector, as
        :meth:`Tower.set_unknown_id` says. With ``own_users`` the table of user ids has the
        unknown user and this process's users.
        """

    @abstractmethod
    def release(self, towers: TwoTowers) -> None:
        """Give towers back the rows that they had before :meth:`gather`, to be trained."""

    @abstractmethod
    def complete(
        self, memory: OptimizerState, *, own_users: bool = False
    ) -> OptimizerState:
        """Optimizer state by the name of the parameter, of the rows of all processes.

        With ``own_users`` that of user ids has the rows that :meth:`gather` leaves.
        """

    @abstractmethod
    def clip_gradients(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """Scale down the gradients of parameters and of the rows that were looked up."""

    @abstractmethod
    def freeze(self, rows: Mapping[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
        """Freeze rows of these tables, and no others; return those of the rest.

        Parameters
        ----------
        rows : dict of Parameter to Tensor of shape (n_rows,), bool
            True for rows that are not to be updated.
        """


class LazyTables(LookedUpTables):
    """The large embedding tables of two towers, updated lazily.

    A step of Adam moves every row of a table by momentum and weight decay. Here, rows
    without a gradient are not touched until they are looked up or the epoch ends. They are
    then moved by all the steps that they have missed (see :class:`Clock`). The cost of a
    step depends on the size of the batch, not of the table, and the weights are the same up
    to rounding.

    Parameters
    ----------
    tables : iterable of Parameter
        Candidates, of which batches look up rows; in the first group of the optimizer.
    optimizer : Optimizer
        An optimizer of :func:`~sktwotower._nn.optim.make_optimizer`, which steps the other
        parameters.
    name : str
        Name of the optimizer. With an L2 penalty there are no lazy tables, since every row
        has a gradient at each step.
    batch_size : int
        Rows of a batch. Tables that are not much larger are left to the optimizer.
    """

    def __init__(
        self,
        tables: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        name: str,
        *,
        batch_size: int,
    ) -> None:
        group = optimizer.param_groups[0]  # the tables
        self.by_table: dict[nn.Parameter, LazyTable] = {}
        if group["weight_decay"] and not DECOUPLED[name]:
            return
        for table in tables:
            if may_be_lazy(len(table), batch_size):
                if self._clock is None:
                    n_before = int(optimizer.state[table].get("step", 0))
                    self._clock = Clock(group, n_before)
                self.by_table[table] = LazyTable(table, optimizer, name, self._clock)

    def clip_gradients(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """Scale down the gradients of parameters and of the rows that were looked up."""
        vectors = [lazy.vectors for lazy in self.by_table.values()]
        nn.utils.clip_grad_norm_([*parameters, *vectors], max_norm)

    def gather(self, towers: TwoTowers, *, own_users: bool = False) -> None:
        towers.user_tower.set_unknown_id()

    def release(self, towers: TwoTowers) -> None:
        """Nothing: the tables are whole."""

    def complete(
        self, memory: OptimizerState, *, own_users: bool = False
    ) -> OptimizerState:
        return memory

    def freeze(self, rows: Mapping[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
        """Freeze rows of lazy tables, and no others; return those of the rest."""
        for table, lazy in self.by_table.items():
            lazy.frozen = rows.get(table)
        return {t: frozen for t, frozen in rows.items() if t not in self.by_table}
