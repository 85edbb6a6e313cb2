"""The softmax loss, with its gradient computed in blocks of users."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sktwotower._nn.functional import in_blocks
from sktwotower._nn.kept_memory import empty_matrix
from sktwotower._nn.threads import has_second_thread, run_both

# Scores of a block, for each of torch's threads. In float32 they are 2 MB, which stay in
# the cache from one pass to the next.
SCORES_OF_A_BLOCK = 2**19
# Each block reads the vectors of all items. With fewer users than these, reading takes more
# time than scores that do not stay in the cache.
USERS_OF_A_BLOCK = 128
# Scores of such a block at most, 32 MB.
MOST_SCORES_OF_A_BLOCK = 2**23
# With masked scores, probabilities below exp(-50) = 2e-22 of the greatest are set to zero.
MIN_LOG_PROBABILITY = -50.0


def softmax_loss(
    users: Tensor,
    items: Tensor,
    positive_scores: Tensor,
    explicit_negative_scores: Tensor | None = None,
    *,
    groups: Tensor,
    columns: Tensor | None = None,
    log_q: Tensor | None = None,
    masked: Tensor | None = None,
    positive_per_row: bool,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Softmax over candidates that all rows share, and over a few of each row alone.

    The log-sum of the shared candidates of user :math:`g` is

    .. math::

        T_g = \log \sum_j \exp(\langle u_g, v_j \rangle - \log q_j)

    over all items but the masked ones. The loss of a row of :math:`g` with the positive
    :math:`p` is

    .. math::

        L = -\log \frac{\exp(s_p - c_p)}{\exp(s_p - c_p)
                         + \sum_{j \neq p} \exp(s_{gj} - \log q_j)} .

    Where the positive is among the shared candidates, this is :math:`T_g - s_p + c_p` with
    :math:`c_p = \log q_p` (logQ correction [1]_). Where the positive is masked, it is
    :math:`\log(1 + \exp(T_g - s_p + c_p))`. There :math:`c_p = 0` is possible, too (refined
    logQ correction [2]_): the positive is a candidate with certainty, whatever its ``q``.
    The latter has the gradient of

    .. math::

        \mathrm{sg}(1 - P) \left(-s_p
            + \log \sum_{j \neq p} \exp(s_{gj} - \log q_j)\right), \qquad P = \exp(-L),

    which is the form of [2]_, with sg for a stopped gradient; but :math:`L` is never
    negative.

    Rows of one user share :math:`T_g`. Scores are computed in blocks of users. Each block
    is turned into its part of the gradient while it is in the cache.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        User vectors, divided by the temperature.
    items : Tensor of shape (c, d)
        Vectors of the shared candidates.
    positive_scores : Tensor of shape (b,)
        Corrected score :math:`s_p - c_p` of each row's positive; with ``columns``,
        :math:`-c_p`.
    explicit_negative_scores : Tensor of shape (b,), optional
        Corrected score of one more candidate of each row; ``-inf`` for a row without.
    groups : Tensor of shape (b,)
        User of each row, an index of ``users``.
    columns : Tensor of shape (b,), optional
        Positive of each row, an index of ``items``. Its score :math:`s_p` is then taken
        from the scores of the shared candidates.
    log_q : Tensor of shape (c,), optional
        Log-probability of each item to be a candidate; None: no correction.
    masked : Tensor of shape (n_masked,), optional
        Positions ``user * c + item`` of the pairs that do not count, ascending.
    positive_per_row : bool
        Whether a row's positive is a candidate of that row alone, masked among the shared
        ones. Otherwise it is one of the shared candidates.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    .. [1] Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
       Recommendations", RecSys 2019.
    .. [2] Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax
       for Large-Scale Retrieval", RecSys 2025, arXiv 2507.09331.
    """
    if weights is None:
        weights = torch.ones_like(positive_scores)
    weights = weights.to(positive_scores)
    value: Tensor = _SharedSoftmax.apply(
        users,
        items,
        positive_scores,
        explicit_negative_scores,
        groups,
        columns,
        log_q,
        masked,
        positive_per_row,
        weights / weights.sum(),
    )
    return value


class _SharedSoftmax(torch.autograd.Function):
    """The loss. Its gradient is computed with it, since both need the scores."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        positive_scores: Tensor,
        explicit_negative_scores: Tensor | None,
        groups: Tensor,
        columns: Tensor | None,
        log_q: Tensor | None,
        masked: Tensor | None,
        positive_per_row: bool,
        weights: Tensor,
    ) -> Tensor:
        explicit_gradient = None
        if explicit_negative_scores is not None:
            explicit_gradient = torch.empty_like(explicit_negative_scores)
        softmax = _BlockwiseSoftmax(
            users,
            items,
            positive_scores,
            explicit_negative_scores,
            groups,
            columns,
            log_q,
            positive_per_row,
            weights,
            users_gradient=torch.empty_like(users),
            positives_gradient=torch.empty_like(positive_scores),
            explicit_gradient=explicit_gradient,
        )
        blocks = _blocks_of_users(users, len(items), groups, masked)
        if len(blocks) == 1:
            value, items_gradient = softmax.run(blocks)
        else:
            parts = run_both(
                lambda: softmax.run(blocks[::2]), lambda: softmax.run(blocks[1::2])
            )
            (value, items_gradient), (of_others, others) = parts
            value += of_others
            # In place, as elsewhere: the items may be a whole catalogue.
            in_blocks(lambda some: items_gradient[some].add_(others[some]), others)
        ctx.save_for_backward(
            softmax.users_gradient,
            items_gradient,
            softmax.positives_gradient,
            softmax.explicit_gradient,
        )
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return *_times(gradient, ctx.saved_tensors), None, None, None, None, None, None


def _times(factor: Tensor, gradients: Iterable[Tensor | None]) -> Iterator[Tensor | None]:
    """Gradients times a scalar, which is 1 if the loss is what is minimised."""
    is_one = factor.device.type == "cpu" and factor == 1  # a device would be waited for
    for one in gradients:
        yield one if one is None or is_one else one * factor


class Block(NamedTuple):
    """Some users.

    Attributes
    ----------
    users : slice
        The users.
    rows : Tensor of shape (n_rows,) or slice
        Their rows.
    masked : Tensor or None
        Masked positions, counted from the first user of the block.
    """

    users: slice
    rows: Tensor | slice
    masked: Tensor | None


@dataclass(frozen=True, eq=False)
class _BlockwiseSoftmax:
    """Inputs of the softmax, and the gradients that its blocks fill in.

    Attributes
    ----------
    users, items, positive_scores, explicit_negative_scores, groups, columns, log_q, \
positive_per_row, weights
        As in :func:`softmax_loss`; the weights add up to 1.
    users_gradient : Tensor of shape (g, d)
        Gradient of ``users``.
    positives_gradient : Tensor of shape (b,)
        Gradient of ``positive_scores``.
    explicit_gradient : Tensor of shape (b,) or None
        Gradient of ``explicit_negative_scores``.
    """

    users: Tensor
    items: Tensor
    positive_scores: Tensor
    explicit_negative_scores: Tensor | None
    groups: Tensor
    columns: Tensor | None
    log_q: Tensor | None
    positive_per_row: bool
    weights: Tensor
    users_gradient: Tensor
    positives_gradient: Tensor
    explicit_gradient: Tensor | None

    @torch.no_grad()  # which a second thread needs, too
    def run(self, blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
        """Compute some blocks.

        Returns
        -------
        value : Tensor
            Their part of the loss, a scalar.
        items_gradient : Tensor of shape (c, d)
            Their part of the items' gradient.
        """
        users, items, log_q = self.users, self.items, self.log_q
        value = self.positive_scores.new_zeros(())
        # Row by row like the items: operators on two layouts take several times as long.
        items_gradient = empty_matrix(len(items), items.shape[1], items)
        longest = max(block.users.stop - block.users.start for block in blocks)
        buffer = empty_matrix(longest, len(items), users)  # fresh memory costs more
        for n, (block, rows, masked) in enumerate(blocks):
            vectors, groups = users[block], self.groups[rows] - block.start
            scores = torch.mm(vectors, items.T, out=buffer[: len(vectors)])
            positive_scores = self.positive_scores[rows]
            if self.columns is not None:
                positions = groups * len(items) + self.columns[rows]
                positive_scores = positive_scores + scores.view(-1).index_select(
                    0, positions
                )
            if log_q is not None:
                scores -= log_q
            probabilities, greatest = _unnormalized_probabilities(scores, masked)
            sums = probabilities.sum(dim=1, keepdim=True)
            log_sums = (greatest + sums.log())[groups, 0]
            losses, from_log_sums, from_positives = self._losses(
                rows, log_sums, positive_scores
            )
            value += losses
            from_sums = torch.zeros_like(sums[:, 0]).index_add_(0, groups, from_log_sums)
            # A sum is at least 1, its greatest term, unless all candidates are masked.
            gradient = probabilities.mul_(from_sums[:, None] / sums.clamp(min=1.0))
            if self.columns is not None:
                gradient.view(-1).index_add_(0, positions, from_positives)
            torch.mm(gradient, items, out=self.users_gradient[block])
            items_gradient.addmm_(gradient.T, vectors, beta=float(n > 0))
        return value, items_gradient

    def _losses(
        self, rows: Tensor | slice, log_sums: Tensor, positive_scores: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of some rows, and its gradients.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,) or slice
            The rows.
        log_sums : Tensor of shape (n_rows,)
            Log-sums of the shared candidates of each row.
        positive_scores : Tensor of shape (n_rows,)
            Corrected score of each row's positive.

        Returns
        -------
        losses : Tensor
            Weighted sum of the losses, a scalar.
        from_log_sums, from_positives : Tensor of shape (n_rows,)
            Gradients of ``log_sums`` and ``positive_scores``.
        """
        explicit_scores, totals = None, log_sums
        if self.explicit_negative_scores is not None:
            explicit_scores = self.explicit_negative_scores[rows]
            totals = torch.logaddexp(log_sums, explicit_scores)
        margins, weights = totals - positive_scores, self.weights[rows]
        losses = weights @ (F.softplus(margins) if self.positive_per_row else margins)
        from_totals = weights * margins.sigmoid() if self.positive_per_row else weights
        from_log_sums, from_positives = from_totals, -from_totals
        self.positives_gradient[rows] = from_positives
        if explicit_scores is not None and self.explicit_gradient is not None:
            # Without any candidate the gradients are 0, not nan.
            finite = totals.masked_fill(totals == -torch.inf, 0.0)
            self.explicit_gradient[rows] = from_totals * torch.exp(explicit_scores - finite)
            from_log_sums = from_totals * torch.exp(log_sums - finite)
        return losses, from_log_sums, from_positives


def _unnormalized_probabilities(
    scores: Tensor, masked: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Exponentials of scores (g, c) minus the greatest of each row, in their place.

    Returns
    -------
    probabilities : Tensor of shape (g, c)
        The memory of ``scores``. It is 0 at the positions ``masked``.
    greatest : Tensor of shape (g, 1)
        The greatest score of each row; 0 where all are masked.
    """
    if masked is not None:
        scores.view(-1).index_fill_(0, masked, -torch.inf)
    greatest = scores.amax(dim=1, keepdim=True)
    greatest.masked_fill_(greatest == -torch.inf, 0.0)
    return exponentials(scores.sub_(greatest), are_masked=masked is not None), greatest


def exponentials(scores: Tensor, *, are_masked: bool) -> Tensor:
    """Exponentials of scores of at most 0, in their place; if some are -inf, 0 for them."""
    if not are_masked:
        return scores.exp_()
    # The exp of -inf takes several times as long.
    scores.clamp_(min=MIN_LOG_PROBABILITY).exp_()
    return F.threshold(scores, 2 * math.exp(MIN_LOG_PROBABILITY), 0.0, inplace=True)


def _blocks_of_users(
    users: Tensor, n_items: int, groups: Tensor, masked: Tensor | None
) -> list[Block]:
    """Split users into blocks whose scores fit into the cache."""
    size = max(
        SCORES_OF_A_BLOCK * torch.get_num_threads() // n_items,
        min(USERS_OF_A_BLOCK, MOST_SCORES_OF_A_BLOCK // n_items),
        1,
    )
    return blocks_of_users(users, n_items, groups, masked, size)


def blocks_of_users(
    users: Tensor, n_items: int, groups: Tensor, masked: Tensor | None, size: int
) -> list[Block]:
    """Split users into blocks of about equally many, at most ``size``.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        User vectors.
    n_items : int
        Number of items.
    groups : Tensor of shape (b,)
        User of each row.
    masked : Tensor of shape (n_masked,) or None
        Positions ``user * n_items + item``, ascending.
    size : int
        Most users of a block.
    """
    n_users = len(users)
    n_blocks = math.ceil(n_users / size)
    if has_second_thread() and n_users > 1:
        n_blocks += n_blocks % 2
    # An accelerator's memory is fast, and to find the rows of blocks would synchronise.
    if users.device.type != "cpu" or n_blocks == 1:
        return [Block(slice(0, n_users), slice(None), masked)]
    bounds = [n_users * i // n_blocks for i in range(n_blocks + 1)]
    ends = torch.tensor(bounds[1:])
    ordered, order = groups.sort()
    rows = order.tensor_split(torch.searchsorted(ordered, ends)[:-1])
    masked_of: Sequence[Tensor | None] = [None] * n_blocks
    if masked is not None:
        parts = masked.tensor_split(torch.searchsorted(masked, ends * n_items)[:-1])
        masked_of = [
            part - start * n_items for part, start in zip(parts, bounds[:-1], strict=True)
        ]
    blocks = [slice(*pair) for pair in pairwise(bounds)]
    return [Block(*block) for block in zip(blocks, rows, masked_of, strict=True)]
