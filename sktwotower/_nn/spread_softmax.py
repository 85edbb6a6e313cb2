"""The softmax over a whole catalogue whose items are divided among several processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sktwotower._nn.batches import SoftmaxBatch
from sktwotower._nn.distributed import CodeLists, Division


@dataclass(frozen=True, eq=False)
class SpreadRows:
    """The rows of all ranks, as a rank needs them to rank its own items.

    Attributes
    ----------
    division : Division
        Which rank has each item.
    n_groups : list of int
        Number of users of each rank, which are numbered one rank after the other.
    groups : Tensor of shape (n_rows,)
        User of each row.
    columns : Tensor of shape (n_rows,)
        Position of each row's positive among this rank's items; -1: another rank has it.
    masked : Tensor of shape (n_masked,) or None
        Positions ``user * n_own + column`` of pairs with an item of this rank that do not
        count.
    own : slice
        The rows of this rank.
    """

    division: Division
    n_groups: list[int]
    groups: Tensor
    columns: Tensor
    masked: Tensor | None
    own: slice

    @classmethod
    def of(cls, batch: SoftmaxBatch, division: Division, lists: CodeLists) -> SpreadRows:
        """Exchange the rows of the batches of all ranks."""
        n_items = len(division.order)
        masked = batch.masked if batch.masked is not None else batch.groups[:0]
        message = torch.cat(
            [
                torch.tensor([len(batch.user_inputs), len(batch)]),
                batch.groups.long(),
                batch.positives.long(),
                masked,
            ]
        )
        column_of = torch.full((n_items,), -1)
        column_of[division.own] = torch.arange(len(division.own))
        n_groups: list[int] = []
        n_rows: list[int] = []
        groups, columns, pairs = [], [], []
        for part in lists.gather(message):
            n_users, n, first = *part[:2].tolist(), sum(n_groups)
            of_rows, positives, of_mask = part[2:].split([n, n, len(part) - 2 - 2 * n])
            groups.append(of_rows + first)
            columns.append(column_of[positives])
            mask_columns = column_of[of_mask % n_items]
            is_own = mask_columns >= 0
            users = of_mask[is_own] // n_items + first
            pairs.append(users * len(division.own) + mask_columns[is_own])
            n_groups.append(n_users)
            n_rows.append(n)
        start = sum(n_rows[: division.ranks.rank])
        return cls(
            division,
            n_groups,
            torch.cat(groups),
            torch.cat(columns),
            None if batch.masked is None else torch.cat(pairs),
            slice(start, start + len(batch)),
        )


def spread_softmax_loss(
    users: Tensor,
    items: Tensor,
    rows: SpreadRows,
    weights: Tensor,
    *,
    positive_per_row: bool,
) -> Tensor:
    """The loss of :func:`~sktwotower._nn.softmax.softmax_loss`, of this rank's rows.

    Every rank scores the users of all ranks against its own items. Exchanged are the users'
    vectors, their log-sums and the gradients of the vectors, but none of the items. All
    ranks have to call it, and to backpropagate from it with a gradient of 1.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        Vectors of this rank's users, divided by the temperature.
    items : Tensor of shape (n_own, d)
        Vectors of this rank's items.
    rows : SpreadRows
        Rows of all ranks.
    weights : Tensor of shape (b,)
        Weights of this rank's rows, with which their losses are added up.
    positive_per_row : bool
        Whether a row's positive is masked among the items, and a candidate of its row
        alone.
    """
    value: Tensor = _SpreadSoftmax.apply(users, items, rows, weights, positive_per_row)
    return value


class _SpreadSoftmax(torch.autograd.Function):
    """The loss. Its gradient is computed with it, since both need the scores."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        rows: SpreadRows,
        weights: Tensor,
        positive_per_row: bool,
    ) -> Tensor:
        division, groups = rows.division, rows.groups.to(users.device)
        ranks, n_users, n_own = division.ranks, sum(rows.n_groups), len(items)
        users = _of_all(users, rows)
        scores = users @ items.T  # (n_users, n_own)
        is_here = (rows.columns >= 0).to(users.device)
        cells = groups[is_here] * n_own + rows.columns.to(users.device)[is_here]
        of_rows = users.new_zeros(2, len(groups))  # scores of the positives, and weights
        of_rows[0, is_here] = scores.view(-1).index_select(0, cells)
        of_rows[1, rows.own] = weights.to(users)
        if rows.masked is not None:
            masked = rows.masked.to(users.device)
            scores.view(-1).index_fill_(0, masked, -torch.inf)
        greatest = users.new_full((n_users,), -torch.inf)
        if n_own:
            greatest = scores.amax(dim=1)
        # Where all are masked, some finite number.
        greatest = greatest.clamp(min=torch.finfo(scores.dtype).min / 2)
        probabilities = scores.sub_(greatest[:, None]).exp_()
        sums = probabilities.sum(dim=1)
        found = ranks.all_gather(torch.cat([greatest, sums, of_rows.flatten()]))
        of_users, of_rows = found[:, : 2 * n_users], found[:, 2 * n_users :]
        all_greatest, all_sums = of_users.view(ranks.size, 2, n_users).unbind(1)
        highest = all_greatest.amax(dim=0)
        log_sums = highest + (all_sums * (all_greatest - highest).exp()).sum(0).log()
        positive_scores, weights = of_rows.sum(0).view(2, len(groups))
        margins = log_sums[groups] - positive_scores
        losses = weights * (F.softplus(margins) if positive_per_row else margins)
        from_rows = weights * margins.sigmoid() if positive_per_row else weights
        from_users = torch.zeros_like(sums).index_add_(0, groups, from_rows)
        # Without any candidate, a log-sum is -inf, and the probabilities are 0.
        factors = from_users * (greatest - log_sums).clamp(max=0.0).exp()
        gradient = probabilities.mul_(factors[:, None])
        gradient.view(-1).index_add_(0, cells, -from_rows[is_here])
        ctx.save_for_backward(_returned(gradient @ items, rows), gradient.T @ users)
        return losses[rows.own].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return *(one * gradient for one in ctx.saved_tensors), None, None, None


def _of_all(users: Tensor, rows: SpreadRows) -> Tensor:
    """Vectors of the users of all ranks from those of this one."""
    padded = users.new_zeros(max(rows.n_groups), users.shape[1])
    padded[: len(users)] = users
    found = rows.division.ranks.all_gather(padded)
    return torch.cat([part[:n] for part, n in zip(found, rows.n_groups, strict=True)])


def _returned(gradient: Tensor, rows: SpreadRows) -> Tensor:
    """Sums over the ranks of the gradients of this rank's users."""
    ranks = rows.division.ranks
    n_own = rows.n_groups[ranks.rank]
    parts = ranks.start_exchange(gradient, rows.n_groups, [n_own] * ranks.size)()
    return parts.view(ranks.size, n_own, gradient.shape[1]).sum(0)
