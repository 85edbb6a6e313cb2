"""Several processes that train one model, each with rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sktwotower._nn.shards import Shard

if dist.is_available():
    # Its functions hold the process group that exists when it is imported, which torch's
    # optimizers do at last. A group that is held outlives ``destroy_process_group``, and
    # its threads abort the process if they end after the interpreter.
    import torch.distributed.nn

Codes = TypeVar("Codes", Tensor, np.ndarray)
Result = TypeVar("Result")
_BLOCK = 2**16  # rows of a table that each rank sends at once
# Up to so many values of all ranks, a rank sends a copy to each of the others. With gloo,
# this takes a half of the time of its gather, and a third of that of its sum.
_FEW = 2**19


class RankError(RuntimeError):
    """A rank has failed; on that rank, what it has raised is the cause."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what this rank has raised in place of the `RankError` that it is a cause of."""
    try:
        yield
    except RankError as error:
        raise error.__cause__ or error from None


def expect_shard(shard: Shard, ranks: Ranks | None, otherwise: str) -> None:
    """Raise an error in all processes unless each of them has the shard of its rank.

    Parameters
    ----------
    shard : Shard
        That of this process.
    ranks : Ranks or None
        The processes; None: this one alone.
    otherwise : str
        What to do, for the message.
    """

    def check() -> None:
        if ranks is None or ranks.shard != shard:
            raise ValueError(
                f"The model in this process has the users of shard {shard.rank} of "
                f"{shard.size}{otherwise}"
            )

    if ranks is None or ranks.size != shard.size:
        check()
    else:
        with own_errors():
            ranks.on_all(check)


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process's place among the ranks of the default process group.

    Everything with a code belongs to the rank ``code % size``: the rows of a user, the
    rows of a table, and the candidates that a rank embeds for all.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.
    """

    rank: int
    size: int

    @classmethod
    def current(cls) -> Ranks | None:
        """The ranks of the process group; None without a group of at least two."""
        if not (dist.is_available() and dist.is_initialized()):
            return None
        size = dist.get_world_size()
        return cls(dist.get_rank(), size) if size > 1 else None

    @property
    def shard(self) -> Shard:
        """The rows of tables that belong to this rank."""
        return Shard(self.rank, self.size)

    def owns(self, codes: Codes) -> Codes:
        """Whether each code belongs to this rank."""
        return self.shard.owns(codes)

    def share_of(self, n: int, rank: int | None = None) -> int:
        """How many of ``n`` draws a rank makes; None: this one."""
        rank = self.rank if rank is None else rank
        return (rank + 1) * n // self.size - rank * n // self.size

    def broadcast_int(self, number: int, device: torch.device) -> int:
        """The number of the first rank."""
        shared = torch.tensor([number], device=device)
        dist.broadcast(shared, src=0)
        return int(shared)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, such as running statistics, with those of the first rank."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def start_sum(self, values: Tensor) -> Callable[[], Tensor]:
        """Start to add up values over the ranks; the function waits for the sums."""
        if self._are_few(values):
            wait = self.start_all_gather(values)
            return lambda: wait().sum(0)
        sums = values.to(self._device_of(values), copy=True)
        work = dist.all_reduce(sums, async_op=True)

        def finish() -> Tensor:
            work.wait()
            return sums.to(values.device)

        return finish

    def start_all_gather(self, values: Tensor) -> Callable[[], Tensor]:
        """Start to gather values of one shape; the function waits for them, (size, ...)."""
        sent = values.to(self._device_of(values)).contiguous()
        gathered = sent.new_empty(self.size, *sent.shape)
        if self._are_few(values):
            sent = sent.expand_as(gathered).contiguous()
            work = dist.all_to_all_single(gathered, sent, async_op=True)
        else:
            work = dist.all_gather(list(gathered.unbind()), sent, async_op=True)

        def finish() -> Tensor:
            work.wait()
            return gathered.to(values.device)

        return finish

    def start_exchange(
        self, sent: Tensor, n_sent: list[int], n_received: list[int]
    ) -> Callable[[], Tensor]:
        """Start to send some rows to each rank.

        Parameters
        ----------
        sent : Tensor of shape (sum(n_sent), width)
            Rows for the first rank, then for the second one, and so on.
        n_sent, n_received : list of int
            How many rows are for each rank, and come from each.

        Returns
        -------
        callable
            Waits for the rows from all ranks, (sum(n_received), width).
        """
        sent = sent.contiguous()
        received = sent.new_empty(sum(n_received), *sent.shape[1:])
        work = dist.all_to_all_single(received, sent, n_received, n_sent, async_op=True)

        def finish() -> Tensor:
            work.wait()
            return received

        return finish

    def exchange(self, sent: Tensor, n_sent: list[int], n_received: list[int]) -> Tensor:
        """The rows of :meth:`start_exchange`, also of tensors that NCCL does not know."""
        device = self._device_of(sent)
        received = self.start_exchange(sent.to(device), n_sent, n_received)()
        return received.to(sent.device)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the ranks."""
        return self.start_sum(values)()

    def total(self, number: float) -> float:
        """Sum of a number over the ranks."""
        return float(self.sum(torch.tensor(number, dtype=torch.float64)))

    def all_gather(self, values: Tensor) -> Tensor:
        """Values of one shape from all ranks, (size, ...)."""
        return self.start_all_gather(values)()

    def on_all(self, call: Callable[[], Result]) -> Result:
        """What a call returns; an error on any rank is a `RankError` on all of them."""
        error: Exception | None = None
        try:
            result = call()
        except Exception as raised:
            error = raised
        failed = self.all_gather(torch.tensor(error is not None)).nonzero()[:, 0].tolist()
        if failed:
            raise RankError(
                f"Processes {failed} of {self.size} have failed; their own errors say why."
            ) from error
        return result

    def objects(self, own: Any) -> Iterator[Any]:
        """An object, which is pickled, of each rank; one at a time."""
        for rank in range(self.size):
            found = [own if rank == self.rank else None]
            dist.broadcast_object_list(found, src=rank)
            yield found[0]

    def collect(self, own: Tensor, whole: Tensor) -> None:
        """Fill a whole table with the rows of all ranks, of which each has its own."""
        n_own = -(-len(whole) // self.size)
        for start in range(0, n_own, _BLOCK):
            part = own[start : start + _BLOCK]
            n = min(_BLOCK, n_own - start)
            if len(part) < n:  # the last row, which other ranks have
                part = torch.cat([part, part.new_zeros(n - len(part), *part.shape[1:])])
            rows = self.all_gather(part).transpose(0, 1).flatten(0, 1)
            target = whole[start * self.size :][: n * self.size]
            target.copy_(rows[: len(target)])

    def _are_few(self, values: Tensor) -> bool:
        """Whether a rank sends a copy of values to each rank."""
        return values.numel() * self.size <= _FEW

    def _device_of(self, values: Tensor) -> torch.device:
        """Where a tensor has to be for the process group: NCCL does not know the host."""
        if values.device.type == "cpu" and not self._knows_host:
            return torch.device("cuda")
        return values.device

    @cached_property
    def _knows_host(self) -> bool:
        """Whether the process group can send tensors of the CPU."""
        return "cpu" in dist.get_backend_config()

    def divide(self, codes: Tensor) -> Division:
        """Which rank embeds each of some things, (n,)."""
        owners = codes.long() % self.size
        counts = torch.bincount(owners, minlength=self.size)
        order = owners.argsort(stable=True)
        return Division(self, order, counts.tolist())


@dataclass(frozen=True, eq=False)
class Division:
    """Which rank embeds each of some things.

    Attributes
    ----------
    ranks : Ranks
        The processes.
    order : Tensor of shape (n,)
        Positions of what the first rank embeds, then of what the second one does, ...
    counts : list of int
        How many each rank embeds.
    """

    ranks: Ranks
    order: Tensor
    counts: list[int]

    @property
    def own(self) -> Tensor:
        """Positions of what this rank embeds."""
        start = sum(self.counts[: self.ranks.rank])
        return self.order[start : start + self.counts[self.ranks.rank]]

    def start_gather(self, vectors: Tensor) -> Callable[[], Tensor]:
        """Start to gather this rank's vectors; the function waits for all, (n, d)."""
        wait = Shares(self.ranks, self.counts).start_of_all(vectors)

        def finish() -> Tensor:
            found = wait()
            positions = self.order.to(found.device)
            return torch.empty_like(found).index_copy_(0, positions, found)

        return finish

    def start_return(self, gradient: Tensor) -> Callable[[], Tensor]:
        """Start to send gradients (n, d) to the ranks that have embedded the vectors.

        The function waits for the sums over the ranks, of this rank's vectors.
        """
        sent = gradient.index_select(0, self.order.to(gradient.device))
        return Shares(self.ranks, self.counts).start_own_sums(sent)

    def gather(self, vectors: Tensor) -> Tensor:
        """Vectors (n, d) of all ranks from this rank's own ones; differentiable.

        The gradient of a vector is the sum over the ranks.
        """
        gathered: Tensor = _Gather.apply(vectors, self)
        return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, division: Division) -> Tensor:
        ctx.division = division
        return division.start_gather(vectors)()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        division: Division = ctx.division
        return division.start_return(gradient)(), None


@dataclass(frozen=True, eq=False)
class Shares:
    """Things of which each rank has some, numbered one rank after the other.

    Attributes
    ----------
    ranks : Ranks
        The processes.
    counts : list of int
        How many each rank has.
    """

    ranks: Ranks
    counts: list[int]

    @property
    def n_own(self) -> int:
        """How many this rank has."""
        return self.counts[self.ranks.rank]

    @property
    def n_before(self) -> int:
        """How many the ranks before this one have."""
        return sum(self.counts[: self.ranks.rank])

    def start_of_all(self, own: Tensor) -> Callable[[], Tensor]:
        """Start to gather vectors of the things of each rank (n_own, d).

        The function waits for those of all, (n, d).
        """
        sent = own.expand(self.ranks.size, *own.shape).flatten(0, 1)
        n_sent = [len(own)] * self.ranks.size
        return self.ranks.start_exchange(sent, n_sent, self.counts)

    def start_own_sums(self, values: Tensor) -> Callable[[], Tensor]:
        """Start to add up vectors (n, d) over the ranks.

        The function waits for the sums of this rank's things, (n_own, d).
        """
        size, n_own = self.ranks.size, self.n_own
        wait = self.ranks.start_exchange(values, self.counts, [n_own] * size)
        return lambda: wait().view(size, n_own, values.shape[1]).sum(0)

    def add_up(self, partial: Tensor) -> Tensor:
        """The same sums; differentiable."""
        sums: Tensor = _OwnSums.apply(partial, self)
        return sums


class _OwnSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor, shares: Shares) -> Tensor:
        ctx.shares = shares
        return shares.start_own_sums(partial)()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        shares: Shares = ctx.shares
        return shares.start_of_all(gradient)(), None


class DenseGradients:
    """Averages the gradients of layers and small tables over the ranks, in one message.

    Parameters
    ----------
    parameters : iterable of Parameter
        They become those of the first rank.
    """

    def __init__(self, ranks: Ranks, parameters: Iterable[Tensor]) -> None:
        self.ranks = ranks
        self._parameters = list(parameters)
        ranks.broadcast(one.detach() for one in self._parameters)
        self._wait: Callable[[], Tensor] | None = None

    def send(self) -> None:
        """Start to add up the gradients."""
        if self._parameters:
            gradients = [
                torch.zeros_like(one) if one.grad is None else one.grad
                for one in self._parameters
            ]
            self._wait = self.ranks.start_sum(
                torch.cat([one.flatten() for one in gradients])
            )

    def receive(self) -> None:
        """Set the gradients to the mean over the ranks."""
        if self._wait is not None:
            means = self._wait().div_(self.ranks.size)
            parts = means.split([one.numel() for one in self._parameters])
            for parameter, part in zip(self._parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter)
