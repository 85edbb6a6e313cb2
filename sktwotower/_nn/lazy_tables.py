"""Tables of which a step touches the rows of its batch alone, with the same result."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from sktwotower._nn.inputs import TowerInput
from sktwotower._nn.optim import DECOUPLED, MOMENTS
from sktwotower._nn.towers import Tower

# A table of fewer rows than so many for each of a batch is faster stepped as a whole.
ROWS_FOR_ONE_OF_A_BATCH = 8
# After so many steps momentum is below what float32 can tell from zero.
_MEMORY_OF_MOMENTUM = 256
_BLOCK = 2**16  # rows brought up to date at once


def may_be_lazy(n_rows: int, batch_size: int) -> bool:
    """Whether a table is so large that most of its rows are in no batch."""
    return n_rows > ROWS_FOR_ONE_OF_A_BATCH * batch_size


class Clock:
    r"""What the steps of an optimiser would have done to a row without a gradient.

    With the learning rates :math:`\eta_j`, the decoupled decay :math:`\lambda` and, for
    Adam, the momentum :math:`m` and the size :math:`v` of gradients after step :math:`s`,
    the row :math:`x` after step :math:`t` is

    .. math::

        x_t = \frac{P_t}{P_s} \left(x_s - \frac{m_s}{\sqrt{v_s} + \epsilon_s}
              \sum_{j=s+1}^{t} \frac{P_s}{P_j} \eta_j
              \frac{\sqrt{1 - \beta_2^j}}{1 - \beta_1^j}
              \left(\frac{\beta_1}{\sqrt{\beta_2}}\right)^{j-s}\right),
        \qquad P_t = \prod_{j \le t} (1 - \eta_j \lambda),

    where :math:`\epsilon` shrinks with :math:`\sqrt v`, as it is small beside it. So
    nothing but the step of its last gradient has to be known of a row.

    Parameters
    ----------
    group : dict
        Of the optimiser: its learning rate and decay at each step, and Adam's betas.
    n_before : int
        Steps that the optimiser has made before.
    """

    def __init__(self, group: dict, n_before: int) -> None:
        self.group = group
        self.n_before = n_before
        self.now = 0
        self._log_shrinkage = np.zeros(1)  # log P, by step
        self._reach = np.zeros(1)  # the sum from each step on

    @property
    def n_steps(self) -> int:
        """All steps so far."""
        return self.n_before + self.now

    def tick(self) -> None:
        """Take note of a step, with the learning rate at which it was made."""
        self.now += 1
        if self.now == len(self._reach):
            self._reach = np.pad(self._reach, (0, self.now))
            self._log_shrinkage = np.pad(self._log_shrinkage, (0, self.now))
        rate, now = float(self.group["lr"]), self.now
        log_shrinkage = self._log_shrinkage
        log_shrinkage[now] = log_shrinkage[now - 1] + math.log1p(
            -rate * self.group["weight_decay"]
        )
        self._reach[now] = 0.0
        if "betas" in self.group:
            first, second = self.group["betas"]
            length = rate * math.sqrt(1 - second**self.n_steps) / (1 - first**self.n_steps)
            since = np.arange(max(now - _MEMORY_OF_MOMENTUM, 0), now)
            shares = np.exp(
                (now - since) * math.log(first / math.sqrt(second))
                - (log_shrinkage[now] - log_shrinkage[since])
            )
            self._reach[since] += length * shares

    def since(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """For rows with a last gradient at these steps (n,): shrinkage, and the sum."""
        places = steps.numpy()
        shrinkage = np.exp(self._log_shrinkage[self.now] - self._log_shrinkage[places])
        return (
            torch.from_numpy(shrinkage.astype(np.float32)),
            torch.from_numpy(self._reach[places].astype(np.float32)),
        )

    def restart(self) -> None:
        """Forget the steps, as every row is up to date."""
        self.n_before, self.now = self.n_steps, 0
        self._reach[0] = 0.0


class LazyTable:
    """A table and what its optimiser knows of each row, up to date where it is needed.

    Parameters
    ----------
    table : Parameter of shape (n_rows, width)
        Without a gradient of its own: that of the rows looked up stands for it.
    optimizer : Optimizer
        Has the table in a group, and what it knows of it in its state.
    name : str
        Which one.
    clock : Clock
        Of its steps.
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
        self.frozen: Tensor | None = None  # (n_rows,) bool: rows that stay as they are
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

    @torch.no_grad()
    def look_up(self, rows: Tensor) -> Tensor:
        """Vectors of some rows (n,), each once, for the step that follows."""
        places = rows.to(self.table.device)
        self._rows = rows
        self._vectors = self.table.detach()[places]
        self._moments_of_rows = [self._state[name][places] for name in self._moments]
        self._advance(rows, self._vectors, self._moments_of_rows)
        return self._vectors.requires_grad_()

    @property
    def vectors(self) -> Tensor:
        """What was looked up."""
        return self._vectors

    @torch.no_grad()
    def step(self) -> None:
        """Move the rows that were looked up as the optimiser moves a table."""
        vectors, moments, group = self._vectors, self._moments_of_rows, self.clock.group
        rate, epsilon, gradient = group["lr"], group.get("eps", 0.0), vectors.grad
        assert gradient is not None  # zeros, at least: what is looked up is embedded
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
        self._keep(self._rows, vectors, moments)

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
        """Move vectors of rows, and their moments, by the steps that they have missed."""
        last, device = self._last[rows], self.table.device
        shrinkage, reach = self.clock.since(last)
        gaps = (self.clock.now - last).float()
        if self.frozen is not None:
            frozen = self.frozen[rows]
            shrinkage[frozen], reach[frozen], gaps[frozen] = 1.0, 0.0, 0.0
        if len(moments) == 2:
            (mean, square), (first, second) = moments, self.clock.group["betas"]
            epsilon = self.clock.group["eps"]
            epsilon *= math.sqrt(1 - second ** max(self.clock.n_steps, 1))
            direction = mean / square.sqrt().add_(epsilon)
            vectors.addcmul_(direction, reach.to(device)[:, None], value=-1.0)
            mean.mul_((first**gaps).to(device)[:, None])
            square.mul_((second**gaps).to(device)[:, None])
        vectors.mul_(shrinkage.to(device)[:, None])

    def _keep(self, rows: Tensor, vectors: Tensor, moments: list[Tensor]) -> None:
        """Write rows back after a step, but those that stay."""
        if self.frozen is not None:
            moves = ~self.frozen[rows]
            rows, vectors = rows[moves], vectors[moves]
            moments = [moment[moves] for moment in moments]
        places = rows.to(self.table.device)
        self.table.detach().index_copy_(0, places, vectors)
        for name, moment in zip(self._moments, moments, strict=True):
            self._state[name].index_copy_(0, places, moment)
        self._last[rows] = self.clock.now + 1


class LazyTables:
    """The large tables of two towers, for an optimiser that steps the rest.

    A step of Adam moves each row of a table: by its momentum, and by the decay. Here it
    costs what its batch costs: rows without a gradient are left alone until they are
    looked up, or an epoch ends, and are then moved by all the steps that they have missed
    (see :class:`Clock`). The weights are the same, but for rounding.

    Parameters
    ----------
    tables : iterable of Parameter
        Those that may be lazy, of one group of the optimiser.
    optimizer : Optimizer
        As :func:`~sktwotower._nn.optim.make_optimizer` makes it.
    name : str
        Which one. An L2 penalty is a gradient of every row at each step, so that there
        are no lazy tables with one.
    batch_size : int
        Rows of a batch; tables that are hardly larger are left to the optimiser.
    """

    def __init__(
        self,
        tables: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        name: str,
        *,
        batch_size: int,
    ) -> None:
        group = optimizer.param_groups[0]  # that of the tables
        self.by_table: dict[nn.Parameter, LazyTable] = {}
        self._clock: Clock | None = None
        if group["weight_decay"] and not DECOUPLED[name]:
            return
        for table in tables:
            if may_be_lazy(len(table), batch_size):
                if self._clock is None:
                    n_before = int(optimizer.state[table].get("step", 0))
                    self._clock = Clock(group, n_before)
                self.by_table[table] = LazyTable(table, optimizer, name, self._clock)

    def look_up(self, tower: Tower, inputs: list[TowerInput]) -> list[TowerInput]:
        """Inputs of one tower, with the vectors of the rows that they need."""
        for name in ("id", "column", "history"):
            table = getattr(tower, f"{name}_table")
            if table is None or table not in self.by_table:
                continue
            codes = [one.codes(name) for one in inputs]
            # The first is there for ids that are dropped.
            rows, places = torch.cat([codes[0].new_zeros(1), *codes]).unique(
                return_inverse=True
            )
            vectors = self.by_table[table].look_up(rows.long())
            parts = places[1:].split([len(part) for part in codes])
            inputs = [
                one.with_vectors(name, part, vectors)
                for one, part in zip(inputs, parts, strict=True)
            ]
        return inputs

    @property
    def vectors(self) -> list[Tensor]:
        """What was looked up, with its gradient."""
        return [lazy.vectors for lazy in self.by_table.values()]

    def step(self) -> None:
        """Move the rows that were looked up; after the optimiser's step, at its rate."""
        for lazy in self.by_table.values():
            lazy.step()
        if self._clock is not None:
            self._clock.tick()

    def settle(self) -> None:
        """Bring every row up to date, for those who look at the tables."""
        for lazy in self.by_table.values():
            lazy.settle()
        if self._clock is not None:
            self._clock.restart()
