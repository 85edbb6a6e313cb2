"""What each field of a tower adds to a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sktwotower._nn.functional import MIN_LENGTH, unit_length
from sktwotower._nn.inputs import TowerInput
from sktwotower._nn.segments import Bags, Sequences
from sktwotower._nn.towers import Tower

# Points at which the gradients of a path are averaged.
N_POINTS = 64


@dataclass(frozen=True, eq=False)
class FieldParts:
    """Scores as sums over the fields of one side.

    Attributes
    ----------
    parts : Tensor of shape (b, n_fields)
        What each field adds.
    rest : Tensor of shape (b,)
        The score without them.
    slopes : Tensor of shape (b, n_fields, d)
        Gradients of the score by the fields' vectors, averaged over the path.
    """

    parts: Tensor
    rest: Tensor
    slopes: Tensor


def field_parts(
    tower: Tower, inputs: TowerInput, unknown: TowerInput, others: Tensor
) -> FieldParts:
    r"""Divide the scores of ``b`` rows between the fields of a tower.

    Without hidden layers an embedding is :math:`(\sum_f W_f z_f + b) / l`, with the vectors
    :math:`z_f` of the fields and the length :math:`l` (1 if embeddings are not scaled). For
    a vector :math:`v` of the other side, field :math:`f` adds
    :math:`\langle W_f z_f, v \rangle / l` to the score, and the bias is the rest.

    With hidden layers, the parts are integrated gradients [1]_. With the score :math:`s` as
    a function of the fields' vectors :math:`z`, and those of the unknown entity
    :math:`z^0`, field :math:`f` adds

    .. math::

        \left\langle z_f - z^0_f,
        \int_0^1 \frac{\partial s}{\partial z_f}(z^0 + t (z - z^0)) \, dt \right\rangle .

    The rest is the score of the unknown entity, and the error of the integral.

    Parameters
    ----------
    tower : Tower
        The tower, in evaluation mode.
    inputs : TowerInput
        The rows.
    unknown : TowerInput of one row
        The unknown entity.
    others : Tensor of shape (b, d)
        Vectors of the other side.

    References
    ----------
    .. [1] Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    with torch.no_grad():
        fields = tower.fields(inputs)
        ends = tower.combine(fields)
        lengths = torch.ones(len(ends), 1)
        if tower.normalize:
            lengths = torch.linalg.vector_norm(ends, dim=1, keepdim=True)
            lengths.clamp_(min=MIN_LENGTH)
        scores = (ends / lengths * others).sum(dim=1)
        start = torch.zeros_like(fields)
        if not tower.is_linear:
            start = tower.fields(unknown).expand_as(fields)

    def score(vectors: Tensor) -> Tensor:
        hidden = tower.combine(vectors)
        if tower.normalize:
            # A linear tower has one length: that of the whole embedding.
            hidden = hidden / lengths if tower.is_linear else unit_length(hidden)
        return (hidden * others).sum()

    n_points = 1 if tower.is_linear else N_POINTS
    slopes = _mean_gradient(score, start, fields, n_points)
    parts = ((fields - start) * slopes).sum(dim=2)
    return FieldParts(parts, scores - parts.sum(dim=1), slopes)


def history_parts(
    tower: Tower, history: Bags | Sequences, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """Divide what the history field adds between its items.

    A bag is a sum over its items, and so is its part. The items of a sequence have
    integrated gradients of the part, on the path from items whose vectors are zero.

    Parameters
    ----------
    tower : Tower
        The user tower, in evaluation mode.
    history : Bags or Sequences
        The histories of ``b`` rows; each row reads all items of a sequence of its own.
    slopes : Tensor of shape (b, d)
        Gradients of the scores by the vector of the history field.

    Returns
    -------
    rows, parts : Tensor of shape (n_items,)
        Row of each item of ``history``, and what the item adds.
    """
    if isinstance(history, Bags):
        n = len(history.columns)
        ends = torch.cat([history.offsets[1:], torch.tensor([n])])
        rows = torch.arange(len(slopes)).repeat_interleave(ends - history.offsets)
        vectors = tower.pooled_items(history).detach()
        return rows, (vectors * slopes[rows]).sum(dim=1) * history.values
    reader = tower.reader
    assert reader is not None and history.vectors is not None
    # Rows are in the order of the queries, sequences need not be.
    n = len(history.items)
    row_of = torch.empty_like(history.sequence_of)
    row_of[history.sequence_of] = torch.arange(len(slopes))
    rows = row_of.repeat_interleave(history.lengths, output_size=n)
    vectors = F.embedding(history.items, history.vectors).clone()
    each = replace(history, items=torch.arange(n))

    def part(items: Tensor) -> Tensor:
        return (reader(replace(each, vectors=items), None) * slopes).sum()

    gradient = _mean_gradient(part, torch.zeros_like(vectors), vectors, N_POINTS)
    return rows, (vectors * gradient).sum(dim=1)


def _mean_gradient(
    value: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, n_points: int
) -> Tensor:
    """Gradient of a scalar function, averaged over the way from ``start`` to ``end``.

    The points and weights are those of Gauss-Legendre quadrature.
    """
    points, weights = np.polynomial.legendre.leggauss(n_points)
    mean = torch.zeros_like(end)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        at = torch.lerp(start, end, float(point)).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(value(at), at)
        mean.add_(gradient, alpha=float(weight))
    return mean
