"""The softmax over shared candidates that are divided among several processes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sktwotower._nn.batches import SoftmaxBatch
from sktwotower._nn.distributed import CodeLists, Division, Shares
from sktwotower._nn.segments import Bags
from sktwotower._nn.shared_bags import SharedBags
from sktwotower._nn.softmax import exponentials, times


@dataclass(frozen=True, eq=False)
class SpreadRows:
    """The rows of all ranks, as a rank needs them to rank its own items.

    Attributes
    ----------
    users : Shares
        The users of all ranks.
    groups : Tensor of shape (n_rows,)
        User of each row.
    here : Tensor of shape (n_here,)
        Rows whose positive is an item of this rank.
    positives : Tensor of shape (n_here,)
        Positions ``user * n_own + column`` of these rows with their positives.
    masked : Tensor of shape (n_masked,) or None
        Positions ``user * n_own + column`` of pairs with an item of this rank that do not
        count.
    log_q : Tensor of shape (n_ranks, n_own) or None
        Log-probability of each item of this rank to be a candidate, for rows of each rank.
    own : slice
        The rows of this rank.
    """

    users: Shares
    groups: Tensor
    here: Tensor
    positives: Tensor
    masked: Tensor | None
    log_q: Tensor | None
    own: slice

    @classmethod
    def of(
        cls,
        batch: SoftmaxBatch,
        division: Division,
        lists: CodeLists,
        history: Bags | None = None,
    ) -> tuple[SpreadRows, SharedBags | None]:
        """Exchange the rows of the batches of all ranks, and the histories of the users.

        Of the histories, the bags of all users have the items that belong to this rank.
        """
        ranks, own_items = division.ranks, division.own
        n_items, n_own = len(division.order), len(own_items)
        column_of = torch.full((n_items,), -1)
        column_of[own_items] = torch.arange(n_own)
        none = batch.groups[:0]
        past = [none, none, none.float()]
        if history is not None:
            past = [history.lengths, history.columns, history.values]
        found = lists.gather_tensors(
            [
                torch.tensor([len(batch.user_inputs)]),
                batch.groups,
                batch.positives,
                none if batch.masked is None else batch.masked,
                none.float() if batch.log_q is None else batch.log_q,
                *past,
            ]
        )
        groups, columns, masked, log_q, bags = [], [], [], [], []
        counts = [int(part[0]) for part in found]
        for rank, (_, of_rows, positives, pairs, of_items, *bag) in enumerate(found):
            first = sum(counts[:rank])
            groups.append(of_rows + first)
            columns.append(column_of[positives])
            mask_columns = column_of[pairs % n_items]
            is_own = mask_columns >= 0
            users = pairs[is_own] // n_items + first
            masked.append(users * n_own + mask_columns[is_own])
            log_q.append(of_items)
            bags.append(bag)
        start = sum(len(part) for part in groups[: ranks.rank])
        shares = Shares(ranks, counts)
        all_groups, all_columns = torch.cat(groups), torch.cat(columns)
        here = (all_columns >= 0).nonzero()[:, 0]
        rows = cls(
            shares,
            all_groups,
            here,
            all_groups[here] * n_own + all_columns[here],
            None if batch.masked is None else torch.cat(masked),
            None if batch.log_q is None else torch.stack(log_q)[:, own_items],
            slice(start, start + len(batch)),
        )
        return rows, None if history is None else SharedBags.of(bags, shares)

    def to(self, device: torch.device) -> Self:
        """The same rows on another device, which is not waited for."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def spread_softmax_loss(
    users: Tensor,
    items: Tensor,
    rows: SpreadRows,
    weights: Tensor,
    positive_log_q: Tensor,
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
        Rows of all ranks, on the device of the vectors.
    weights : Tensor of shape (b,)
        Weights of this rank's rows, with which their losses are added up.
    positive_log_q : Tensor of shape (b,)
        Subtracted from the scores of the positives of this rank's rows.
    positive_per_row : bool
        Whether a row's positive is masked among the items, and a candidate of its row
        alone.
    """
    value: Tensor = _SpreadSoftmax.apply(
        users, items, rows, weights, positive_log_q, positive_per_row
    )
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
        positive_log_q: Tensor,
        positive_per_row: bool,
    ) -> Tensor:
        shares, groups, here = rows.users, rows.groups, rows.here
        ranks, n_own = shares.ranks, len(items)
        users = shares.of_all(users)
        n_users = len(users)
        scores = users @ items.T  # (n_users, n_own)
        of_rows = users.new_zeros(2, len(groups))  # scores of the positives, and weights
        of_rows[0, here] = scores.view(-1).index_select(0, rows.positives)
        of_rows[0, rows.own] -= positive_log_q.to(users)
        of_rows[1, rows.own] = weights.to(users)
        if rows.log_q is not None:
            for part, log_q in zip(scores.split(shares.counts), rows.log_q, strict=True):
                part -= log_q
        if rows.masked is not None:
            scores.view(-1).index_fill_(0, rows.masked, -torch.inf)
        greatest = users.new_full((n_users,), -torch.inf)
        if n_own:
            greatest = scores.amax(dim=1)
        # Where all are masked, some finite number.
        greatest = greatest.clamp(min=torch.finfo(scores.dtype).min / 2)
        scores.sub_(greatest[:, None])
        probabilities = exponentials(scores, are_masked=rows.masked is not None)
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
        gradient.view(-1).index_add_(0, rows.positives, -from_rows[here])
        ctx.save_for_backward(shares.own_sums(gradient @ items), gradient.T @ users)
        return losses[rows.own].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return *times(gradient, ctx.saved_tensors), None, None, None, None
