"""Several processes that train one model, each on its share of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process among those of the default process group.

    Every process draws the same batches. It embeds its share of their users and items; the
    items are gathered, so that each row has the candidates of the whole batch.

    Attributes
    ----------
    rank : int
        Which one this is, from 0.
    size : int
        How many there are.
    """

    rank: int
    size: int

    @classmethod
    def current(cls) -> Ranks | None:
        """Those of the process group; None without one, or alone in it."""
        if not (dist.is_available() and dist.is_initialized()):
            return None
        size = dist.get_world_size()
        return cls(dist.get_rank(), size) if size > 1 else None

    def share(self, n: int) -> slice:
        """This process's of ``n`` things that lie in a row."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def agreed(self, number: int, device: torch.device) -> int:
        """The number that the first process has."""
        shared = torch.tensor([number], device=device)
        dist.broadcast(shared, src=0)
        return int(shared)

    def agree(self, buffers: Iterable[Tensor]) -> None:
        """Give buffers, such as running statistics, the values of the first process."""
        for buffer in buffers:
            dist.broadcast(buffer, src=0)

    def gather(self, vectors: Tensor, n: int) -> Tensor:
        """The shares of all processes as ``n`` vectors; gradients go back to each."""
        gathered: Tensor = _Gather.apply(vectors, self, n)
        return gathered

    def average_gradients(self, leaves: Iterable[Tensor]) -> None:
        """Give leaves the mean gradient of the processes: DistributedDataParallel's."""
        for leaf in leaves:
            assert leaf.grad is not None
            dist.all_reduce(leaf.grad)
            leaf.grad.div_(self.size)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over the processes."""
        dist.all_reduce(value)
        return value / self.size


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, ranks: Ranks, n: int) -> Tensor:
        ctx.ranks, ctx.n = ranks, n
        lengths = [
            (share := Ranks(rank, ranks.size).share(n)).stop - share.start
            for rank in range(ranks.size)
        ]
        # Collectives want equal shapes.
        padded = vectors.new_zeros(max(lengths), vectors.shape[1])
        padded[: len(vectors)] = vectors
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:k] for part, k in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.ranks.share(ctx.n)], None, None
