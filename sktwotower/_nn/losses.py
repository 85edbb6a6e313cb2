"""Losses: functions of tensors, no module in sight.

Scores have the temperature applied. Each loss is a weighted mean over rows, so only the
proportions of the weights matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sktwotower._nn.threads import both, has_second

# A block of so many scores a thread (2 MB in float32) is near its core between its passes.
SCORES_OF_A_BLOCK = 2**19
# Where some are masked, shares below exp(-50) = 2e-22 of the greatest are none.
LEAST_LOG_SHARE = -50.0

# Some users, their rows, and their masked positions.
Block = tuple[slice, Tensor | slice, Tensor | None]


def softmax_loss(
    users: Tensor,
    items: Tensor,
    positives: Tensor,
    turned_down: Tensor | None = None,
    *,
    groups: Tensor,
    columns: Tensor | None = None,
    log_q: Tensor | None = None,
    masked: Tensor | None = None,
    is_own: bool,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Softmax over candidates that all rows share, and a few of their own.

    With what the candidates of user :math:`g` add up to,

    .. math::

        T_g = \log \sum_j \exp(\langle u_g, v_j \rangle - \log q_j)

    over all items but the masked ones, the loss of a row of :math:`g` with the positive
    :math:`p` is

    .. math::

        L = -\log \frac{\exp(s_p - c_p)}{\exp(s_p - c_p)
                         + \sum_{j \neq p} \exp(s_{gj} - \log q_j)} .

    With :math:`c_p = \log q_p` (logQ correction [1]_) it is :math:`T_g - s_p + c_p` where
    the positive is among the candidates. Where it is masked, it is
    :math:`\log(1 + \exp(T_g - s_p + c_p))`, also with :math:`c_p = 0` (refined logQ
    correction [2]_): the positive is there for certain, whatever its ``q``. The latter has
    the gradient of

    .. math::

        \mathrm{sg}(1 - P) \left(-s_p
            + \log \sum_{j \neq p} \exp(s_{gj} - \log q_j)\right), \qquad P = \exp(-L),

    in which [2]_ writes it, sg being a stopped gradient, but :math:`L` is never negative.

    Rows of one user share :math:`T_g`. Scores are computed in blocks of users, each of
    which is added up and turned into its part of the gradient while it is in the cache.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        Their vectors, divided by the temperature.
    items : Tensor of shape (c, d)
        Those of the candidates.
    positives : Tensor of shape (b,)
        Corrected score :math:`s_p - c_p` of each row's positive; with ``columns``,
        :math:`-c_p`.
    turned_down : Tensor of shape (b,), optional
        Corrected score of one more candidate of each row; ``-inf``: it has none.
    groups : Tensor of shape (b,)
        Which of the users each row has.
    columns : Tensor of shape (b,), optional
        Which of the items each row's positive is, so that :math:`s_p` is one of the scores
        that are computed anyway.
    log_q : Tensor of shape (c,), optional
        Logarithm of each candidate's probability of being one; None: no correction.
    masked : Tensor of shape (n_masked,), optional
        Positions ``user * c + item`` of the pairs that do not count, ascending.
    is_own : bool
        Whether the positives are candidates of their own rows only. Otherwise they are
        among the items.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        A scalar: the weighted mean.

    References
    ----------
    .. [1] Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
       Recommendations", RecSys 2019.
    .. [2] Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax
       for Large-Scale Retrieval", RecSys 2025, arXiv 2507.09331.
    """
    shares = torch.ones_like(positives) if weights is None else weights.to(positives)
    value: Tensor = _SharedSoftmax.apply(
        users,
        items,
        positives,
        turned_down,
        groups,
        columns,
        log_q,
        masked,
        is_own,
        shares / shares.sum(),
    )
    return value


class _SharedSoftmax(torch.autograd.Function):
    """The loss and, with it, its gradient: the scores are needed for both."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        positives: Tensor,
        turned_down: Tensor | None,
        groups: Tensor,
        columns: Tensor | None,
        log_q: Tensor | None,
        masked: Tensor | None,
        is_own: bool,
        weights: Tensor,
    ) -> Tensor:
        of_users, of_positives = torch.empty_like(users), torch.empty_like(positives)
        of_turned_down = None if turned_down is None else torch.empty_like(turned_down)

        @torch.no_grad()  # in a second thread, too
        def add_up(blocks: list[Block]) -> tuple[Tensor, Tensor]:
            """The loss of some users, and their part of the items' gradient (d, c)."""
            value, of_items = positives.new_zeros(()), items.new_zeros(items.T.shape)
            longest = max(some.stop - some.start for some, _, _ in blocks)
            memory = users.new_empty(longest, len(items))  # fresh memory costs more
            for some, rows, absent in blocks:
                of_block, group = users[some], groups[rows] - some.start
                scores = torch.mm(of_block, items.T, out=memory[: len(of_block)])
                own = positives[rows]
                if columns is not None:
                    places = group * len(items) + columns[rows]
                    own = own + scores.view(-1).index_select(0, places)
                if log_q is not None:
                    scores -= log_q
                shares, greatest = _shares_of_greatest(scores, absent)
                sums = shares.sum(dim=1, keepdim=True)
                shared = totals = (greatest + sums.log())[group, 0]
                if turned_down is not None:
                    totals = torch.logaddexp(shared, turned_down[rows])
                margins, weight = totals - own, weights[rows]
                value += weight @ (F.softplus(margins) if is_own else margins)
                of_rows = of_own = weight * margins.sigmoid() if is_own else weight
                of_positives[rows] = -of_own
                if turned_down is not None and of_turned_down is not None:
                    # Nothing of both is nothing, and not nan.
                    finite = totals.masked_fill(totals == -torch.inf, 0.0)
                    of_turned_down[rows] = of_rows * torch.exp(turned_down[rows] - finite)
                    of_rows = of_rows * torch.exp(shared - finite)
                of_totals = torch.zeros_like(sums[:, 0]).index_add_(0, group, of_rows)
                # The greatest share is 1, so that a smaller sum is that of no candidate.
                of_scores = shares.mul_(of_totals[:, None] / sums.clamp(min=1.0))
                if columns is not None:
                    of_scores.view(-1).index_add_(0, places, -of_own)
                torch.mm(of_scores, items, out=of_users[some])
                of_items.addmm_(of_block.T, of_scores)
            return value, of_items

        blocks = _blocks_of_users(users, len(items), groups, masked)
        if len(blocks) == 1:
            value, of_items = add_up(blocks)
        else:
            parts = both(lambda: add_up(blocks[::2]), lambda: add_up(blocks[1::2]))
            value, of_items = (one + other for one, other in zip(*parts, strict=True))
        ctx.save_for_backward(of_users, of_items.T, of_positives, of_turned_down)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value: Tensor) -> tuple[Any, ...]:
        gradients = (None if one is None else one * of_value for one in ctx.saved_tensors)
        return *gradients, None, None, None, None, None, None


def _shares_of_greatest(scores: Tensor, absent: Tensor | None) -> tuple[Tensor, Tensor]:
    """In place of scores (g, c), exp of them minus the greatest (g, 1) of each row.

    Those at the places ``absent`` are left out, and 0.
    """
    if absent is not None:
        scores.view(-1).index_fill_(0, absent, -torch.inf)
    greatest = scores.amax(dim=1, keepdim=True)
    greatest.masked_fill_(greatest == -torch.inf, 0.0)
    shares = scores.sub_(greatest)
    if absent is None:
        shares.exp_()
    else:  # with -inf among them, exp takes several times as long
        shares.clamp_(min=LEAST_LOG_SHARE).exp_()
        F.threshold(shares, 2 * math.exp(LEAST_LOG_SHARE), 0.0, inplace=True)
    return shares, greatest


def _blocks_of_users(
    users: Tensor, n_items: int, groups: Tensor, masked: Tensor | None
) -> list[Block]:
    """Users whose scores are computed at a time."""
    n_users = len(users)
    size = max(SCORES_OF_A_BLOCK * torch.get_num_threads() // n_items, 1)
    n_blocks = math.ceil(n_users / size)
    if has_second() and n_users > 1:
        n_blocks += n_blocks % 2
    # An accelerator's memory is fast, and finding the blocks would wait for it.
    if users.device.type != "cpu" or n_blocks == 1:
        return [(slice(0, n_users), slice(None), masked)]
    stops = [n_users * i // n_blocks for i in range(n_blocks + 1)]
    ends = torch.tensor(stops[1:])
    ordered, order = groups.sort()
    rows = order.tensor_split(torch.searchsorted(ordered, ends)[:-1])
    absent: Sequence[Tensor | None] = [None] * n_blocks
    if masked is not None:
        parts = masked.tensor_split(torch.searchsorted(masked, ends * n_items)[:-1])
        absent = [
            part - start * n_items for part, start in zip(parts, stops[:-1], strict=True)
        ]
    blocks = [slice(*ends) for ends in pairwise(stops)]
    return list(zip(blocks, rows, absent, strict=True))


def cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    pair_weights: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Binary cross-entropy of labels, for one or several pairs a row.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = -\frac{1}{k} \sum_j v_{ij} \left(
            y_{ij} \log \sigma(s_{ij}) + (1 - y_{ij}) \log(1 - \sigma(s_{ij})) \right)

    Parameters
    ----------
    scores : Tensor of shape (b, k)
        Score of each pair.
    labels : Tensor of shape (b, k)
        1 for a positive, 0 for a negative.
    pair_weights : Tensor of shape (b, k), optional
        :math:`v`; None: 1.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        A scalar.
    """
    losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return _mean(losses, pair_weights, weights)


def bpr_loss(
    positives: Tensor,
    negatives: Tensor,
    negative_weights: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Bayesian personalised ranking: a positive above each of its negatives.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = -\frac{1}{k} \sum_j v_{ij} \log \sigma(s_{ip} - s_{ij})

    Parameters
    ----------
    positives : Tensor of shape (b,)
        Score of each row's positive.
    negatives : Tensor of shape (b, k)
        Scores of its negatives.
    negative_weights : Tensor of shape (b, k), optional
        :math:`v`; None: 1.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    losses = F.softplus(negatives - positives[:, None])
    return _mean(losses, negative_weights, weights)


def max_margin_loss(
    positives: Tensor,
    negatives: Tensor,
    negative_weights: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    margin: float,
) -> Tensor:
    r"""Hinge loss: a positive above each of its negatives by a margin.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = \frac{1}{k} \sum_j v_{ij} \max(0, m + s_{ij} - s_{ip})

    Parameters
    ----------
    positives : Tensor of shape (b,)
        Score of each row's positive.
    negatives : Tensor of shape (b, k)
        Scores of its negatives.
    negative_weights : Tensor of shape (b, k), optional
        :math:`v`; None: 1.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.
    margin : float
        :math:`m`, in units of the scores.

    Returns
    -------
    Tensor
        A scalar.
    """
    losses = F.relu(margin + negatives - positives[:, None])
    return _mean(losses, negative_weights, weights)


def _mean(losses: Tensor, pair_weights: Tensor | None, weights: Tensor | None) -> Tensor:
    """Mean over a row's pairs, then the weighted one over rows."""
    if pair_weights is not None:
        losses = pair_weights * losses
    return weighted_mean(losses.mean(dim=1), weights)


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of the rows' losses (b,)."""
    if weights is None:
        return losses.mean()
    return (weights * losses).sum() / weights.sum()
