"""The softmax over shared candidates that are divided among several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from sktwotower._nn.batches import SoftmaxBatch
from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import Division, Shares
from sktwotower._nn.segments import Bags, positions_where
from sktwotower._nn.shared_bags import SharedBags
from sktwotower._nn.softmax import (
    MOST_SCORES_OF_A_BLOCK,
    Block,
    blocks_of_users,
    exponentials,
)


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
    def start(
        cls,
        batch: SoftmaxBatch,
        division: Division,
        lists: CodeLists,
        history: Bags | None = None,
    ) -> Callable[[], tuple[SpreadRows, SharedBags | None]]:
        """Start to exchange the rows of the batches of all ranks, and their histories.

        Of the histories, the bags of all users have the items that belong to this rank.
        """
        none = batch.groups[:0]
        past = [none, none, none.float()]
        if history is not None:
            past = [history.lengths, history.columns, history.values]
        wait = lists.start_tensors(
            [
                torch.tensor([len(batch.user_inputs)]),
                batch.groups,
                batch.positives,
                none if batch.masked is None else batch.masked,
                none.float() if batch.log_q is None else batch.log_q,
                *past,
            ]
        )

        def finish() -> tuple[SpreadRows, SharedBags | None]:
            rows, bags = cls._of(batch, division, wait())
            return rows, None if history is None else SharedBags.of(bags, rows.users)

        return finish

    @classmethod
    def _of(
        cls, batch: SoftmaxBatch, division: Division, found: list[list[Tensor]]
    ) -> tuple[SpreadRows, list[Tensor]]:
        """The rows, and lengths, columns and values of bags, from what each has sent."""
        ranks, own_items = division.ranks, division.own
        n_items, n_own = len(division.order), len(own_items)
        column_of = torch.full((n_items,), -1)
        column_of[own_items] = torch.arange(n_own)
        n_users, groups, positives, pairs, log_q, *bags = zip(*found, strict=True)
        shares = Shares(ranks, torch.cat(n_users).tolist())
        firsts = [sum(shares.counts[:rank]) for rank in range(ranks.size)]
        all_groups = torch.cat([a + n for a, n in zip(groups, firsts, strict=True)])
        columns = column_of.index_select(0, torch.cat(positives))
        here = positions_where(columns >= 0)
        of_here = all_groups.index_select(0, here) * n_own + columns.index_select(0, here)
        masked = None
        if batch.masked is not None:
            starts = [first * n_items for first in firsts]
            masked = torch.cat([a + n for a, n in zip(pairs, starts, strict=True)])
            mask_columns = column_of.index_select(0, masked % n_items)
            own = positions_where(mask_columns >= 0)
            masked = masked.index_select(0, own).div_(n_items, rounding_mode="floor")
            masked = masked.mul_(n_own).add_(mask_columns.index_select(0, own))
        start = sum(map(len, groups[: ranks.rank]))
        rows = cls(
            shares,
            all_groups,
            here,
            of_here,
            masked,
            None if batch.log_q is None else torch.stack(log_q)[:, own_items],
            slice(start, start + len(batch)),
        )
        return rows, [torch.cat(parts) for parts in bags]

    def to(self, device: torch.device) -> Self:
        """The same rows on another device, which is not waited for."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


@torch.no_grad()
def spread_softmax(
    users: Tensor,
    items: Tensor,
    rows: SpreadRows,
    weights: Tensor,
    positive_log_q: Tensor,
    *,
    positive_per_row: bool,
    meanwhile: Callable[[], None],
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of :func:`~sktwotower._nn.softmax.softmax_loss`, and its gradients.

    Every rank scores the users of all ranks against its own items, and they exchange the
    log-sums of the users. All ranks have to call it. Scores of many users are computed in
    blocks, and again for the gradients.

    Parameters
    ----------
    users : Tensor of shape (n_users, d)
        Vectors of the users of all ranks, divided by the temperature.
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
    meanwhile : callable
        Called while log-sums are under way.

    Returns
    -------
    value : Tensor
        The weighted sum of the losses of this rank's rows, a scalar.
    users_gradient : Tensor of shape (n_users, d)
        This rank's part of the gradient of the users, of the losses of all ranks.
    items_gradient : Tensor of shape (n_own, d)
        Gradient of this rank's items.
    """
    shares, groups, here = rows.users, rows.groups, rows.here
    ranks, n_users = shares.ranks, len(users)
    softmax = _OwnSoftmax(users, items, rows)
    blocks = softmax.blocks()
    greatest, sums = users.new_empty(2, n_users)
    of_rows = users.new_zeros(2, len(groups))  # scores of the positives, and weights
    for block in blocks:
        probabilities, scores, highest = softmax.unnormalized(block)
        greatest[block.users], sums[block.users] = highest, probabilities.sum(dim=1)
        of_rows[0, here[block.rows]] = scores
    of_rows[0, rows.own] -= positive_log_q.to(users)
    of_rows[1, rows.own] = weights.to(users)
    wait = ranks.start_all_gather(torch.cat([greatest, sums, of_rows.flatten()]))
    meanwhile()
    found = wait()
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
    users_gradient, items_gradient = torch.empty_like(users), torch.empty_like(items)
    for n, block in enumerate(blocks):
        if len(blocks) > 1:  # rather than to keep those of all users
            probabilities, *_ = softmax.unnormalized(block)
        gradient = probabilities.mul_(factors[block.users, None])
        positions = softmax.positions(block)
        gradient.view(-1).index_add_(0, positions, -from_rows[here[block.rows]])
        torch.mm(gradient, items, out=users_gradient[block.users])
        items_gradient.addmm_(gradient.T, users[block.users], beta=float(n > 0))
    return losses[rows.own].sum(), users_gradient, items_gradient


class _OwnSoftmax(NamedTuple):
    """Users of all ranks and the items of this one, of which blocks have scores.

    Attributes
    ----------
    users, items, rows
        As in :func:`spread_softmax`.
    """

    users: Tensor
    items: Tensor
    rows: SpreadRows

    def blocks(self) -> list[Block]:
        """Blocks of users, with rows that are indices of ``rows.here``."""
        n_own = len(self.items)
        return blocks_of_users(
            self.users,
            n_own,
            self.rows.groups[self.rows.here],
            self.rows.masked,
            max(MOST_SCORES_OF_A_BLOCK // max(n_own, 1), 1),
        )

    def positions(self, block: Block) -> Tensor:
        """Positions of the rows of a block with their positives."""
        first = block.users.start * len(self.items)
        positives = self.rows.positives[block.rows]
        return positives - first if first else positives

    def unnormalized(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Exponentials of scores minus the greatest, scores of positives, the greatest."""
        scores = self.users[block.users] @ self.items.T
        of_positives = scores.view(-1).index_select(0, self.positions(block))
        if self.rows.log_q is not None:
            first = -block.users.start
            for n, log_q in zip(self.rows.users.counts, self.rows.log_q, strict=True):
                scores[max(first, 0) : max(first + n, 0)] -= log_q
                first += n
        if block.masked is not None:
            scores.view(-1).index_fill_(0, block.masked, -torch.inf)
        greatest = scores.new_full((len(scores),), -torch.inf)
        if len(self.items):
            greatest = scores.amax(dim=1)
        # Where all are masked, some finite number.
        greatest.clamp_(min=torch.finfo(scores.dtype).min / 2)
        scores.sub_(greatest[:, None])
        are_masked = block.masked is not None
        return exponentials(scores, are_masked=are_masked), of_positives, greatest
