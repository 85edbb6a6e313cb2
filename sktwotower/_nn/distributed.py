"""Several processes that train one model, each on its slice of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    # Its functions hold the process group that exists when it is imported, which torch's
    # optimizers do at last. A group that is held outlives ``destroy_process_group``, and
    # its threads abort the process if they end after the interpreter.
    import torch.distributed.nn


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process's place among the ranks of the default process group.

    Every rank draws the same batches and embeds its slice of their users and items. The
    item embeddings are gathered, so that each row is ranked against the candidates of the
    whole batch.

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

    def slice_of(self, n: int) -> slice:
        """This rank's slice of ``n`` rows."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def broadcast_int(self, number: int, device: torch.device) -> int:
        """The number of the first rank."""
        shared = torch.tensor([number], device=device)
        dist.broadcast(shared, src=0)
        return int(shared)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, such as running statistics, with those of the first rank."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def gather(self, vectors: Tensor, n: int) -> Tensor:
        """Concatenate the slices of all ranks to ``n`` vectors; differentiable."""
        gathered: Tensor = _Gather.apply(vectors, self, n)
        return gathered

    def average_gradients(self, leaves: Iterable[Tensor]) -> None:
        """Average gradients over the ranks, as DistributedDataParallel does."""
        for leaf in leaves:
            assert leaf.grad is not None
            dist.all_reduce(leaf.grad)
            leaf.grad.div_(self.size)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a scalar over the ranks."""
        dist.all_reduce(value)
        return value / self.size


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, ranks: Ranks, n: int) -> Tensor:
        ctx.ranks, ctx.n = ranks, n
        lengths = [
            (part := Ranks(rank, ranks.size).slice_of(n)).stop - part.start
            for rank in range(ranks.size)
        ]
        # all_gather needs equal shapes.
        padded = vectors.new_zeros(max(lengths), vectors.shape[1])
        padded[: len(vectors)] = vectors
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:k] for part, k in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.ranks.slice_of(ctx.n)], None, None
