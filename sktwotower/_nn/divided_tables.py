"""Embedding tables whose rows are divided among several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.lazy_tables import (
    Clock,
    LazyTable,
    LookedUpTables,
    may_be_lazy,
)
from sktwotower._nn.optim import DECOUPLED, OptimizerState
from sktwotower._nn.segments import distinct
from sktwotower._nn.two_towers import TwoTowers

_USER_IDS = "user_tower.id_table"  # its parameter in `TwoTowers`


class _WholeShard:
    """This rank's rows of a table, all of which the optimizer steps.

    Parameters
    ----------
    shard : Parameter of shape (n_own, width)
        The rows.
    """

    def __init__(self, shard: nn.Parameter) -> None:
        self.shard = shard
        self._rows = torch.arange(0)

    def look_up(self, rows: Tensor) -> Tensor:
        """Vectors of distinct rows (n,), ascending."""
        self._rows = rows.to(self.shard.device)
        if len(rows) == len(self.shard):  # no copy
            return self.shard.detach()
        return self.shard.detach().index_select(0, self._rows)

    def accept(self, gradient: Tensor) -> Tensor:
        """Take the gradient of what was looked up; the one that is stepped."""
        if len(gradient) < len(self.shard):
            whole = torch.zeros_like(self.shard.detach())
            gradient = whole.index_copy_(0, self._rows, gradient)
        self.shard.grad = gradient
        return gradient

    def step(self) -> None:
        """Nothing: the optimizer has done it."""

    def settle(self) -> None:
        """Nothing: every row is up to date."""


class _LazyShard(LazyTable):
    """This rank's rows of a table, which are stepped when they are looked up."""

    def accept(self, gradient: Tensor) -> Tensor:
        """Take the gradient of what was looked up, which is stepped."""
        self._vectors.grad = gradient
        return gradient


class DividedTable:
    """A table of which each rank owns the rows ``rank``, ``rank + size``, ...

    A rank looks up rows of others by sending their numbers to the owners, which answer with
    the vectors. The gradients go back to the owner, which adds them up and steps its rows.
    So each row is stepped once, and its moments are on one rank.

    Parameters
    ----------
    shard : Parameter of shape (n_before + n_own, width)
        This rank's rows.
    n_rows : int
        Rows of all ranks.
    n_before : int
        Rows of the shard that come before this rank's and are not trained.
    optimizer : Optimizer
        Holds the state of this rank's rows.
    name : str
        Name of the optimizer.
    clock : Clock or None
        Steps of the optimizer, with which rows are stepped when they are looked up. None:
        all rows are stepped.
    ranks : Ranks
        The processes.
    is_exchanged : bool
        Whether ranks look up rows of others. If not, these are not trained.
    """

    def __init__(
        self,
        shard: nn.Parameter,
        n_rows: int,
        n_before: int,
        optimizer: torch.optim.Optimizer,
        name: str,
        clock: Clock | None,
        ranks: Ranks,
        *,
        is_exchanged: bool,
    ) -> None:
        self.shard = shard
        shard.requires_grad_(False)
        self.n_rows = n_rows
        self.n_before = n_before
        self.ranks = ranks
        self.is_exchanged = is_exchanged
        self.rows: _WholeShard | _LazyShard = _WholeShard(self.shard)
        if clock is not None:
            self.rows = _LazyShard(self.shard, optimizer, name, clock)
        self._lists = CodeLists(ranks)
        self._vectors = shard.detach()[:0]
        self._places = self._wanted_positions = torch.arange(0)
        self._own_positions: Tensor | None = None
        self._n_asked: list[int] = []
        self._n_wanted: list[int] = []
        self._n_found = self._n_own = 0
        self._wait: Callable[[], Tensor] | None = None

    @torch.no_grad()
    def look_up(self, rows: Tensor) -> Tensor:
        """Vectors of distinct rows (n,), ascending, for the next step; see `placed`."""
        ranks = self.ranks
        if not self.is_exchanged:
            return self._look_up_own(rows)
        owners = rows % ranks.size
        counts = torch.bincount(owners, minlength=ranks.size).tolist()
        # This rank's rows come first, then those of the first rank, ...
        order = owners.masked_fill_(owners == ranks.rank, -1).argsort(stable=True)
        ordered = rows[order]
        n_own, counts[ranks.rank] = counts[ranks.rank], 0
        own, asked = self._positions(ordered[:n_own]), ordered[n_own:]
        lists = self._lists.gather(asked)
        wanted = [self._positions(codes[ranks.owns(codes)]) for codes in lists]
        self._n_asked, self._n_wanted = counts, [len(codes) for codes in wanted]
        self._places = torch.empty_like(order)
        self._places[order] = torch.arange(len(order))
        self._n_own, device = n_own, self.shard.device
        if n_own == len(self.shard):  # all of them, in order
            self._n_found, self._own_positions = n_own, None
            vectors = first = self.rows.look_up(own).detach()
            self._wanted_positions = torch.cat(wanted).to(device)
        else:
            found, positions = distinct(torch.cat([own, *wanted]), len(self.shard))
            vectors = self.rows.look_up(found).detach()
            self._n_found, positions = len(found), positions.to(device)
            self._own_positions = positions[:n_own]
            self._wanted_positions = positions[n_own:]
            first = vectors.index_select(0, self._own_positions)
        sent = vectors.index_select(0, self._wanted_positions)
        received = ranks.start_exchange(sent, self._n_wanted, counts)()
        self._vectors = torch.cat([first, received])
        return self._vectors.requires_grad_()

    def _positions(self, rows: Tensor) -> Tensor:
        """Where rows of this rank are in the shard."""
        return rows // self.ranks.size + self.n_before

    def placed(self, positions: Tensor) -> Tensor:
        """Where the vectors of rows are that were looked up, by their positions."""
        if self.is_exchanged:
            return self._places[positions]
        return (positions - self._n_others).clamp_(min=0)

    @property
    def _n_others(self) -> int:
        """Looked-up rows of others without an exchange: row 0, which is unused."""
        return int(self.ranks.rank > 0)

    def _look_up_own(self, rows: Tensor) -> Tensor:
        """The same where all rows belong to this rank, but for row 0, which is unused."""
        own = rows[self._n_others :]
        self._vectors = self.rows.look_up(self._positions(own)).detach()
        return self._vectors.requires_grad_()

    def send_gradients(self) -> None:
        """Start to send the gradients of the vectors to the owners of the rows."""
        gradient = self._vectors.grad
        assert gradient is not None  # all vectors that are looked up are embedded
        if not self.is_exchanged:
            return
        self._wait = self.ranks.start_exchange(
            gradient[self._n_own :], self._n_asked, self._n_wanted
        )

    def receive_gradients(self) -> Tensor:
        """Add up what the ranks have sent: the mean gradient of rows of this rank."""
        assert self._vectors.grad is not None
        size = self.ranks.size
        if not self.is_exchanged:
            return self.rows.accept(self._vectors.grad.div_(size))
        assert self._wait is not None
        gradient = self._vectors.grad[: self._n_own].div_(size)
        if self._own_positions is not None:
            own = gradient
            gradient = own.new_zeros(self._n_found, own.shape[1])
            gradient.index_copy_(0, self._own_positions, own)
        gradient.index_add_(0, self._wanted_positions, self._wait() / size)
        return self.rows.accept(gradient)

    def step(self) -> None:
        """Update this rank's rows that were looked up."""
        self.rows.step()

    def settle(self) -> None:
        """Bring this rank's rows up to date."""
        self.rows.settle()

    def whole(self, own: Tensor) -> Tensor:
        """The rows of all ranks, (n_rows, ...), of something of which each has its own."""
        whole = own.new_empty(self.n_rows, *own.shape[1:])
        self.ranks.collect(own[self.n_before :], whole)
        return whole


class DividedTables(LookedUpTables):
    """The tables of ids and histories of two towers, and large tables of features.

    The rows of a user, and the items that a rank embeds for all, belong to the rank that
    owns the row of the id. Most look-ups of ids therefore need no exchange.

    Parameters
    ----------
    towers : TwoTowers
        Their tables get this rank's rows in place of all. The table of user ids is made
        with these rows, after that of the unknown user.
    n_user_ids : int
        Rows of the table of user ids, of all ranks.
    optimizer : Optimizer
        An optimizer of :func:`~sktwotower._nn.optim.make_optimizer`.
    name : str
        Name of the optimizer.
    batch_size : int
        Rows of a batch of all ranks.
    ranks : Ranks
        The processes.
    has_private_items : bool
        Whether the item tower embeds other items than the shared candidates, or hides ids.
    is_spread : bool
        Whether each rank ranks the users of all ranks against its own items.
    """

    def __init__(
        self,
        towers: TwoTowers,
        n_user_ids: int,
        optimizer: torch.optim.Optimizer,
        name: str,
        *,
        batch_size: int,
        ranks: Ranks,
        has_private_items: bool,
        is_spread: bool,
    ) -> None:
        self.ranks = ranks
        self.shard = ranks.shard
        self.by_table: dict[nn.Parameter, DividedTable] = {}
        self._gradients: list[Tensor] = []
        self._before: dict[str, Tensor] = {}  # what `gather` has replaced
        group = optimizer.param_groups[0]  # the tables
        has_penalty = group["weight_decay"] and not DECOUPLED[name]
        is_exchanged = _looked_up_ids(
            towers, has_private_items=has_private_items, is_spread=is_spread
        )
        user_ids = towers.user_tower.id_table
        for table in towers.lazy_candidates():
            n_rows = n_user_ids if table is user_ids else len(table)
            is_lazy = not has_penalty and may_be_lazy(n_rows, batch_size)
            if is_lazy and self._clock is None:
                n_steps = int(optimizer.state[table].get("step", 0))
                self._clock = Clock(group, n_steps)
            if is_lazy or table in is_exchanged:
                n_before = 0
                if table is user_ids:
                    n_before = int(ranks.rank > 0)
                else:
                    self._divide(table, optimizer)
                self.by_table[table] = DividedTable(
                    table,
                    n_rows,
                    n_before,
                    optimizer,
                    name,
                    self._clock if is_lazy else None,
                    ranks,
                    is_exchanged=is_exchanged.get(table, True),
                )
        self._by_name = {
            name: self.by_table[table]
            for name, table in towers.named_parameters()
            if table in self.by_table
        }

    @torch.no_grad()
    def _divide(self, table: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        """Replace the rows of a table, and their state, by those of this rank."""
        table.data = self.shard.own(table.data)
        state = optimizer.state.get(table, {})
        for key, value in state.items():
            if value.dim():
                state[key] = self.shard.own(value)

    def send_gradients(self) -> None:
        """Start to send the gradients of looked-up vectors to the owners of the rows."""
        for divided in self.by_table.values():
            divided.send_gradients()

    def receive_gradients(self) -> None:
        """Add up the gradients of this rank's rows."""
        tables = self.by_table.values()
        self._gradients = [divided.receive_gradients() for divided in tables]

    def clip_gradients(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """Scale down the gradients of parameters, and of the rows of all ranks."""
        common = [
            one.grad
            for one in parameters
            if one.grad is not None and one not in self.by_table
        ]
        own, of_all = (
            sum((one.square().sum() for one in gradients), start=torch.zeros(()))
            for gradients in (self._gradients, common)
        )
        norm = (self.ranks.sum(own) + of_all).sqrt()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in (*common, *self._gradients):
            gradient.mul_(factor)

    def freeze(self, rows: Mapping[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
        """Freeze rows of lazy tables; return those of parameters that are stepped."""
        left = dict(rows)
        for table, divided in self.by_table.items():
            frozen = left.pop(table, None)
            of_shard = self.shard.own
            if self._by_name.get(_USER_IDS) is divided:
                of_shard = self.shard.table_of
            own = None if frozen is None else of_shard(frozen)
            if isinstance(divided.rows, LazyTable):
                divided.rows.frozen = own
            elif own is not None:
                left[table] = own
        return left

    @torch.no_grad()
    def gather(self, towers: TwoTowers, *, own_users: bool = False) -> None:
        parameters = dict(towers.named_parameters())
        for name, divided in self._by_name.items():
            table = parameters[name]
            if not (name == _USER_IDS and own_users):
                self._before[name] = table.data
                table.data = divided.whole(table.data)
        self._set_unknown_user(towers, own_users=own_users)

    def _set_unknown_user(self, towers: TwoTowers, *, own_users: bool) -> None:
        """Set the vector of the unknown user from those of all ranks."""
        table = towers.user_tower.id_table
        if table is None:
            return
        shard, n_known = self.shard, self._by_name[_USER_IDS].n_rows - 1
        own = shard.own_of(table if own_users else shard.table_of(table))
        first = int(shard.rank == 0)  # the row of the unknown user
        if towers.user_tower.id_dropout or not n_known:
            table[0] = self.ranks.sum(own[:first].sum(0))
        else:
            table[0] = self.ranks.sum(own[first:].sum(0)) / n_known

    def release(self, towers: TwoTowers) -> None:
        parameters = dict(towers.named_parameters())
        for name, before in self._before.items():
            parameters[name].data = before
        self._before = {}

    def complete(
        self, memory: OptimizerState, *, own_users: bool = False
    ) -> OptimizerState:
        found = dict(memory)
        for name, divided in self._by_name.items():
            if name in memory and not (name == _USER_IDS and own_users):
                found[name] = {
                    key: divided.whole(own) if own.dim() else own  # or a number of steps
                    for key, own in memory[name].items()
                }
        return found


def _looked_up_ids(
    towers: TwoTowers, *, has_private_items: bool, is_spread: bool
) -> dict[nn.Parameter, bool]:
    """The tables of ids and histories, and whether ranks look up rows of others."""
    user, item = towers.user_tower, towers.item_tower
    found = {}
    if user.id_table is not None:
        found[user.id_table] = user.id_dropout > 0
    if item.id_table is not None:
        # Where items are spread, each rank adds up its own items of the bags of all.
        reads_bags = towers.tied_table is not None and not is_spread
        reads_items = reads_bags or user.reader is not None
        found[item.id_table] = has_private_items or reads_items or item.id_dropout > 0
    if user.history_table is not None:
        found.setdefault(user.history_table, not is_spread)
    return found
