"""Functions whose gradients are cheaper by hand.

On a CPU, a training step is limited by memory bandwidth. Each function here makes fewer
passes over memory than a sequence of torch's operators.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sktwotower._nn.kept_memory import empty_matrix, is_large
from sktwotower._nn.segments import segments_of
from sktwotower._nn.threads import share_out

MIN_LENGTH = 1e-12  # as in torch.nn.functional.normalize
# Rows that stay in the cache, and rows of a result of sums.
ROWS_AT_ONCE, SUMS_AT_ONCE = 2048, 8192


def unit_length(vectors: Tensor, appended: Tensor | None = None) -> Tensor:
    r"""Scale vectors (b, d) to length 1; zero vectors stay zero.

    Numbers that are ``appended`` (b, n_appended) come after the scaled vectors.

    The gradient of :math:`y = x / \lVert x \rVert` is
    :math:`(g - \langle g, y \rangle y) / \lVert x \rVert`.
    """
    scaled: Tensor = _UnitLength.apply(vectors, appended)
    return scaled


class _UnitLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, appended: Tensor | None) -> Tensor:
        n_rows, width = vectors.shape
        n_appended = 0 if appended is None else appended.shape[1]
        found = empty_matrix(n_rows, width + n_appended, vectors)
        lengths = vectors.new_empty(n_rows, 1)

        def scale(rows: slice) -> None:
            some = vectors[rows]
            of_some = torch.linalg.vector_norm(some, dim=1, keepdim=True)
            torch.clamp(of_some, min=MIN_LENGTH, out=lengths[rows])
            torch.div(some, lengths[rows], out=found[rows, :width])
            if appended is not None:
                found[rows, width:] = appended[rows]

        in_blocks(scale, vectors)
        ctx.save_for_backward(found, lengths)
        ctx.width = width
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        found, lengths = ctx.saved_tensors
        gradient, scaled = gradient[:, : ctx.width], found[:, : ctx.width]
        of_vectors = empty_matrix(len(scaled), ctx.width, scaled)

        def project(rows: slice) -> None:
            g, y, block = gradient[rows], scaled[rows], of_vectors[rows]
            along = torch.mul(g, y, out=block).sum(dim=1, keepdim=True)
            torch.addcmul(g, y, along, value=-1.0, out=block).div_(lengths[rows])

        in_blocks(project, of_vectors)
        return of_vectors, None


def pair_scores(users: Tensor, items: Tensor, groups: Tensor, columns: Tensor) -> Tensor:
    """Inner products (b, k) of the user of each row with k items of that row.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        User vectors.
    items : Tensor of shape (c, d)
        Item vectors.
    groups : Tensor of shape (b,)
        User of each row, an index of ``users``.
    columns : Tensor of shape (b, k)
        Items of each row, indices of ``items``.
    """
    # A batched matrix product would multiply b small matrices, which is slower.
    if users.device.type != "cpu":
        of_rows = F.embedding(groups, users)[:, None]
        return (of_rows * F.embedding(columns, items)).sum(dim=2)
    scores: Tensor = _PairScores.apply(users, items, groups, columns)
    return scores


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, groups: Tensor, columns: Tensor
    ) -> Tensor:
        ctx.save_for_backward(users, items, groups, columns)
        products = F.embedding(columns, items)
        products.mul_(F.embedding(groups, users)[:, None])  # fresh memory costs more
        return products.sum(dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items, groups, columns = ctx.saved_tensors
        groups = groups.repeat_interleave(columns.shape[1])
        pairs, weights = columns.flatten(), gradient.flatten()
        users_gradient = _weighted_sums(items, groups, len(users), pairs, weights)
        items_gradient = _weighted_sums(users, pairs, len(items), groups, weights)
        return users_gradient, items_gradient, None, None


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Rows (n, d) of a table."""
    if table.device.type != "cpu":
        return F.embedding(codes, table)
    rows: Tensor = _Bags.apply(table, codes, None, None)
    return rows


def bag_sums(table: Tensor, codes: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (b, d) of the rows of a table in each bag.

    Parameters
    ----------
    table : Tensor of shape (n_rows, d)
        The table.
    codes, weights : Tensor of shape (n,)
        Rows and their weights, by bag.
    offsets : Tensor of shape (b,)
        Start of each bag.
    """
    if table.device.type != "cpu":
        return _torch_bags(table, codes, offsets, weights)
    sums: Tensor = _Bags.apply(table, codes, offsets, weights)
    return sums


class _Bags(torch.autograd.Function):
    """Bags of rows, or single rows without offsets and weights.

    The gradient of a row of the table is a bag, too: of the gradients of the bags that have
    the row. Torch adds them one by one, in several times the time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        codes: Tensor,
        offsets: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(codes, offsets, weights)
        ctx.n_rows = len(table)
        if offsets is None or weights is None:
            if not is_large(len(codes), table.shape[1], table):
                return F.embedding(codes, table)
            vectors = empty_matrix(len(codes), table.shape[1], table)
            in_blocks(
                lambda rows: torch.index_select(table, 0, codes[rows], out=vectors[rows]),
                vectors,
            )
            return vectors
        return _torch_bags(table, codes, offsets, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        codes, offsets, weights = ctx.saved_tensors
        if offsets is None:
            bags = torch.arange(len(gradient))
        else:
            bags = segments_of(torch.diff(offsets, append=torch.tensor([len(codes)])))
        sums = _weighted_sums(gradient.contiguous(), codes, ctx.n_rows, bags, weights)
        return sums, None, None, None


def _torch_bags(
    table: Tensor, codes: Tensor, offsets: Tensor, weights: Tensor | None
) -> Tensor:
    return F.embedding_bag(codes, table, offsets, mode="sum", per_sample_weights=weights)


def _weighted_sums(
    table: Tensor, targets: Tensor, n_targets: int, rows: Tensor, weights: Tensor | None
) -> Tensor:
    """Weighted sums (n_targets, d) of rows of a table, one sum for each target.

    Parameters
    ----------
    table : Tensor of shape (n_rows, d)
        The table.
    targets, rows : Tensor of shape (n,)
        ``weights[i]`` times row ``rows[i]`` is added to the sum ``targets[i]``.
    weights : Tensor of shape (n,) or None
        The weights; None: all 1.
    """
    codes = targets.numpy()
    if n_targets <= 2**16:
        codes = codes.astype(np.uint16)  # sorted in linear time
    order = torch.from_numpy(codes.argsort(kind="stable"))
    rows = rows.index_select(0, order)
    if weights is not None:
        weights = weights.index_select(0, order)
    counts = torch.from_numpy(np.bincount(targets.numpy(), minlength=n_targets))
    starts = counts.cumsum(0) - counts
    if not is_large(n_targets, table.shape[1], table):
        return _torch_bags(table, rows, starts, weights)
    sums = empty_matrix(n_targets, table.shape[1], table)
    bounds = [*starts[::SUMS_AT_ONCE].tolist(), len(rows)]

    def add_up(part: tuple[int, tuple[int, int]]) -> None:
        first, (start, end) = part
        some = slice(first, first + SUMS_AT_ONCE)
        of_some = None if weights is None else weights[start:end]
        sums[some] = _torch_bags(table, rows[start:end], starts[some] - start, of_some)

    firsts = range(0, n_targets, SUMS_AT_ONCE)
    share_out(add_up, list(zip(firsts, pairwise(bounds), strict=True)))
    return sums


def in_blocks(function: Callable[[slice], object], matrix: Tensor) -> None:
    """Call a function with blocks of rows of a matrix; two threads share a large one."""
    n_rows = len(matrix)
    size = ROWS_AT_ONCE if matrix.device.type == "cpu" else max(n_rows, 1)
    blocks = [slice(start, start + size) for start in range(0, n_rows, size)]
    if is_large(n_rows, matrix.shape[1], matrix):  # a small one would take longer
        share_out(function, blocks)
    else:
        for rows in blocks:
            function(rows)
