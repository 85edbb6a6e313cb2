"""Losses on pairs: functions of tensors that know no module.

Scores are divided by the temperature already. Each loss is a weighted mean over rows, so
that only the proportions of the weights matter.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    pair_weights: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Binary cross-entropy of the labels of one or several pairs of each row.

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
        The weighted mean, a scalar.
    """
    losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return _mean(losses, pair_weights, weights)


def bpr_loss(
    positive_scores: Tensor,
    negative_scores: Tensor,
    negative_weights: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Bayesian personalised ranking: log-sigmoid of positive minus negative scores.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = -\frac{1}{k} \sum_j v_{ij} \log \sigma(s_{ip} - s_{ij})

    Parameters
    ----------
    positive_scores : Tensor of shape (b,)
        Score of each row's positive.
    negative_scores : Tensor of shape (b, k)
        Scores of its negatives.
    negative_weights : Tensor of shape (b, k), optional
        :math:`v`; None: 1.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    losses = F.softplus(negative_scores - positive_scores[:, None])
    return _mean(losses, negative_weights, weights)


def max_margin_loss(
    positive_scores: Tensor,
    negative_scores: Tensor,
    negative_weights: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    margin: float,
) -> Tensor:
    r"""Hinge loss: a positive should exceed each of its negatives by a margin.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = \frac{1}{k} \sum_j v_{ij} \max(0, m + s_{ij} - s_{ip})

    Parameters
    ----------
    positive_scores : Tensor of shape (b,)
        Score of each row's positive.
    negative_scores : Tensor of shape (b, k)
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
        The weighted mean, a scalar.
    """
    losses = F.relu(margin + negative_scores - positive_scores[:, None])
    return _mean(losses, negative_weights, weights)


def _mean(losses: Tensor, pair_weights: Tensor | None, weights: Tensor | None) -> Tensor:
    """The weighted mean over rows of the mean over the pairs of a row."""
    if pair_weights is not None:
        losses = pair_weights * losses
    means = losses.mean(dim=1)
    if weights is None:
        return means.mean()
    return (weights * means).sum() / weights.sum()
