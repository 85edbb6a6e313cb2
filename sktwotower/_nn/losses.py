"""Losses: functions of tensors, no module in sight.

Scores have the temperature applied. Each loss is a weighted mean over rows, so only the
proportions of the weights matter.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softmax_loss(
    scores: Tensor,
    positives: Tensor,
    log_q: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    correct_positive: bool = True,
) -> Tensor:
    r"""Softmax over sampled candidates, corrected for how they were sampled.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = -\log \frac{\exp(s_{ip} - c_p)}{\exp(s_{ip} - c_p)
                         + \sum_{j \in C, j \neq p} \exp(s_{ij} - \log q_j)}

    with :math:`c_p = \log q_p` (logQ correction [1]_), or :math:`c_p = 0` with
    ``correct_positive=False`` (refined logQ correction [2]_): the positive is among the
    candidates for certain, whatever its ``q``. The latter has the gradient of

    .. math::

        \mathrm{sg}(1 - P_i) \left(-s_{ip}
            + \log \sum_{j \in C, j \neq p} \exp(s_{ij} - \log q_j)\right), \qquad
        P_i = \exp(-L_i),

    in which [2]_ writes it, sg being a stopped gradient: both have
    :math:`(1 - P_i)` times that of the parenthesis. But :math:`L_i` is never negative.

    Parameters
    ----------
    scores : Tensor of shape (b, c)
        Score of each row's user against each candidate.
    positives : Tensor of shape (b,)
        The candidate that is the row's positive.
    log_q : Tensor of shape (c,) or (b, c), optional
        Logarithm of each candidate's probability of being among the candidates; None: no
        correction, and popular items are pushed down for being sampled often.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.
    correct_positive : bool, default=True
        Whether the positive is corrected like the others.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    .. [1] Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
       Recommendations", RecSys 2019.
    .. [2] Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax
       for Large-Scale Retrieval", RecSys 2025, arXiv 2507.09331.
    """
    logits = scores if log_q is None else scores - log_q
    if log_q is not None and not correct_positive:
        columns = positives[:, None]
        logits = logits.scatter(1, columns, scores.gather(1, columns))
    return _weighted_mean(F.cross_entropy(logits, positives, reduction="none"), weights)


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
    return _weighted_mean(losses.mean(dim=1), weights)


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return losses.mean()
    return (weights * losses).sum() / weights.sum()
