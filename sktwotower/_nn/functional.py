"""Functions whose gradients are cheaper by hand.

A step on a CPU waits for memory more than it computes: each function here makes fewer
passes than torch's own operators one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST_LENGTH = 1e-12  # that of torch.nn.functional.normalize


def unit_length(vectors: Tensor) -> Tensor:
    r"""Vectors (b, d) scaled to length 1; a zero vector stays one.

    The gradient of :math:`y = x / \lVert x \rVert` is
    :math:`(g - \langle g, y \rangle y) / \lVert x \rVert`.
    """
    scaled: Tensor = _UnitLength.apply(vectors)
    return scaled


class _UnitLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        lengths.clamp_(min=_LEAST_LENGTH)
        scaled = vectors / lengths
        ctx.save_for_backward(scaled, lengths)
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scaled, lengths = ctx.saved_tensors
        along = (gradient * scaled).sum(dim=1, keepdim=True)
        return torch.addcmul(gradient, scaled, along, value=-1.0).div_(lengths)


def pair_scores(users: Tensor, items: Tensor, groups: Tensor, columns: Tensor) -> Tensor:
    """Inner products (b, k) of the users (g, d) of rows (b,) and of k items (c, d) each.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        Vectors of users.
    items : Tensor of shape (c, d)
        Vectors of items.
    groups : Tensor of shape (b,)
        The user of each row.
    columns : Tensor of shape (b, k)
        The items of each row.
    """
    # Not a product of matrices: as many of them as rows, each of a vector and a few.
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
        of_users = _added_up(items, groups, len(users), pairs, weights)
        of_items = _added_up(users, pairs, len(items), groups, weights)
        return of_users, of_items, None, None


def _added_up(
    table: Tensor, places: Tensor, n_places: int, rows: Tensor, weights: Tensor
) -> Tensor:
    """At each of ``n_places``, the weighted sum of those rows of a table that belong there.

    Parameters
    ----------
    table : Tensor of shape (n_rows, d)
        What is added up.
    places, rows, weights : Tensor of shape (n,)
        Where to, what, and how often.
    """
    codes = places.numpy()
    if n_places <= 2**16:
        codes = codes.astype(np.uint16)  # these are sorted in linear time
    order = torch.from_numpy(codes.argsort(kind="stable"))
    ends = torch.bincount(places, minlength=n_places).cumsum(0)
    return F.embedding_bag(
        rows[order],
        table,
        torch.cat([ends.new_zeros(1), ends[:-1]]),
        mode="sum",
        per_sample_weights=weights[order],
    )
