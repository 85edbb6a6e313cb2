"""Layers with a generator of their own, and initial weights that are drawn from one."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktwotower._nn.shards import Shard

# Standard deviation of the initial values of a table, so small that the first steps
# outweigh them.
INITIAL_SCALE = 0.1


class Dropout(nn.Module):
    """Dropout with a generator; torch's module draws from the global one."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, batch: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return batch
        draws = torch.rand(batch.shape, generator=generator, device=batch.device)
        return batch * (draws >= self.share) / (1.0 - self.share)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses running statistics for a batch of one row or none.

    With ``keep=False``, for batches with hidden fields, these are not updated.
    """

    def forward(self, batch: Tensor, *, keep: bool = True) -> Tensor:
        if self.training and (len(batch) <= 1 or not keep):
            alone = len(batch) <= 1
            return F.batch_norm(
                batch,
                self.running_mean if alone else None,
                self.running_var if alone else None,
                self.weight,
                self.bias,
                training=not alone,
                eps=self.eps,
            )
        return super().forward(batch)


def new_table(
    n_rows: int, width: int, generator: torch.Generator, scale: float = INITIAL_SCALE
) -> nn.Parameter:
    """An embedding table with normally distributed values."""
    return nn.Parameter(torch.randn(n_rows, width, generator=generator) * scale)


def new_shard(
    n_rows: int, width: int, generator: torch.Generator, shard: Shard
) -> nn.Parameter:
    """The table of a shard of such a table, drawn as all rows are, block by block."""
    # Blocks of at least 16 numbers draw what one draws of all.
    n_blocks = max(n_rows * width // 2**20, 1)
    starts = [n_rows * i // n_blocks // 16 * 16 for i in range(n_blocks)] + [n_rows]
    first = shard.rank or shard.size
    table = torch.empty(1 + len(range(first, n_rows, shard.size)), width)
    n_filled = 1
    for start, end in itertools.pairwise(starts):
        block = torch.randn(end - start, width, generator=generator).mul_(INITIAL_SCALE)
        if start == 0:
            table[0] = block[0]
        rows = block[max(first - start, (first - start) % shard.size) :: shard.size]
        table[n_filled : n_filled + len(rows)] = rows
        n_filled += len(rows)
    return nn.Parameter(table)


def new_linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's default initial weights, drawn from a generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width_in, width_out)
    bound = width_in**-0.5
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
