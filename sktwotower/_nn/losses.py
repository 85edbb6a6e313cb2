"""Losses: functions of tensors, no module in sight.

Scores have the temperature applied. Each loss is a weighted mean over rows, so only the
proportions of the weights matter.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# A matrix of more scores than these (16 MB) is computed twice on a CPU rather than kept.
KEPT_SCORES = 2**22
SCORES_OF_A_BLOCK = 2**20


def candidate_totals(
    users: Tensor,
    items: Tensor,
    log_q: Tensor | None = None,
    masked: Tensor | None = None,
    groups: Tensor | None = None,
    columns: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""What the candidates of a softmax add up to for each user.

    .. math::

        T_g = \log \sum_j \exp(\langle u_g, v_j \rangle - \log q_j)

    over all items but the masked ones. The loss of a row of user :math:`g` with the
    positive :math:`p` is

    .. math::

        L = -\log \frac{\exp(s_{gp} - c_p)}{\exp(s_{gp} - c_p)
                         + \sum_{j \neq p} \exp(s_{gj} - \log q_j)} .

    With :math:`c_p = \log q_p` (logQ correction [1]_) it is :math:`T_g - s_{gp} + c_p`
    where the positive is among the candidates. Where it is masked, it is
    :math:`\log(1 + \exp(T_g - s_{gp} + c_p))`, also with :math:`c_p = 0` (refined logQ
    correction [2]_): the positive is there for certain, whatever its ``q``. The latter has
    the gradient of

    .. math::

        \mathrm{sg}(1 - P) \left(-s_{gp}
            + \log \sum_{j \neq p} \exp(s_{gj} - \log q_j)\right), \qquad P = \exp(-L),

    in which [2]_ writes it, sg being a stopped gradient, but :math:`L` is never negative.
    Rows of one user share :math:`T_g`, and scores are exponentiated once, in place.

    Parameters
    ----------
    users : Tensor of shape (g, d)
        Their vectors, divided by the temperature.
    items : Tensor of shape (c, d)
        Those of the candidates.
    log_q : Tensor of shape (c,), optional
        Logarithm of each candidate's probability of being one; None: no correction.
    masked : Tensor of shape (n_masked,), optional
        Positions ``user * c + item`` of the pairs that do not count.
    groups, columns : Tensor of shape (b,), optional
        Users and items of pairs whose corrected scores are returned, too.

    Returns
    -------
    totals : Tensor of shape (g,)
        ``-inf`` for a user without a candidate.
    scores : Tensor of shape (b,)
        Those of the pairs; empty without any.

    References
    ----------
    .. [1] Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
       Recommendations", RecSys 2019.
    .. [2] Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax
       for Large-Scale Retrieval", RecSys 2025, arXiv 2507.09331.
    """
    totals: Tensor = _CandidateTotals.apply(users, items, log_q, masked)
    if groups is None or columns is None:
        return totals, users.new_empty(0)
    # Rows by embedding, whose gradient does not go through an index_put.
    scores = (F.embedding(groups, users) * F.embedding(columns, items)).sum(dim=1)
    return totals, scores if log_q is None else scores - log_q[columns]


class _CandidateTotals(torch.autograd.Function):
    """Scores to totals, with one matrix of scores that becomes that of their shares.

    A large one is not kept: it would be written to fresh memory and read back at every
    step, which takes longer than to compute it again for the gradient, in blocks of users.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, log_q: Tensor | None, masked: Tensor | None
    ) -> Tensor:
        totals = users.new_empty(len(users))
        kept: tuple[Tensor, ...] = ()
        blocks = [(slice(0, len(users)), masked)]
        # On an accelerator memory is fast, and finding the blocks would wait for it.
        if users.device.type == "cpu" and len(users) * len(items) > KEPT_SCORES:
            blocks = _blocks_of_users(len(users), len(items), masked)
        for some, absent in blocks:
            scores = _masked_scores(users[some], items, log_q, absent)
            greatest = scores.amax(dim=1, keepdim=True)
            greatest.masked_fill_(greatest == -torch.inf, 0.0)
            shares = scores.sub_(greatest).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            totals[some] = (greatest + sums.log())[:, 0]
            if len(blocks) == 1:
                kept = (shares, sums)
        ctx.blocks = blocks
        ctx.save_for_backward(users, items, log_q, totals, *kept)
        return totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_totals: Tensor) -> tuple[Any, ...]:
        users, items, log_q, totals, *kept = ctx.saved_tensors
        of_users, of_items = torch.empty_like(users), torch.zeros_like(items)
        for some, absent in ctx.blocks:
            weights = of_totals[some, None]
            if kept:
                shares, sums = kept
                # The greatest share is 1, so that a smaller sum is that of no candidate.
                of_scores = shares * (weights / sums.clamp(min=1.0))
            else:
                scores = _masked_scores(users[some], items, log_q, absent)
                total = totals[some, None]
                total = total.masked_fill(total == -torch.inf, 0.0)
                of_scores = scores.sub_(total).exp_().mul_(weights)
            of_users[some] = of_scores @ items
            of_items.addmm_(of_scores.T, users[some])
        return of_users, of_items, None, None


def _blocks_of_users(
    n_users: int, n_items: int, masked: Tensor | None
) -> list[tuple[slice, Tensor | None]]:
    """Users whose scores are computed at a time, and their masked positions."""
    size = max(SCORES_OF_A_BLOCK // n_items, 1)
    blocks = [slice(start, start + size) for start in range(0, n_users, size)]
    if masked is None:
        return [(block, None) for block in blocks]
    masked = masked.sort().values
    ends = torch.tensor([block.stop * n_items for block in blocks])
    parts = masked.tensor_split(torch.searchsorted(masked, ends)[:-1])
    return [
        (block, part - block.start * n_items)
        for block, part in zip(blocks, parts, strict=True)
    ]


def _masked_scores(
    users: Tensor, items: Tensor, log_q: Tensor | None, masked: Tensor | None
) -> Tensor:
    """Corrected scores (g, c), ``-inf`` where masked."""
    scores = users @ items.T
    if log_q is not None:
        scores -= log_q
    if masked is not None:
        scores.view(-1).index_fill_(0, masked, -torch.inf)
    return scores


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
