"""Losses: functions of tensors, no module in sight."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softmax_loss(
    scores: Tensor,
    positives: Tensor,
    log_q: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Softmax over sampled candidates, corrected for how they were sampled.

    .. math::

        L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
        L_i = -\log \frac{\exp(s_{ip} - \log q_p)}
                         {\sum_{j \in C} \exp(s_{ij} - \log q_j)}

    Parameters
    ----------
    scores : Tensor of shape (b, c)
        Score of each row's user against each candidate, temperature applied.
    positives : Tensor of shape (b,)
        The candidate that is the row's positive.
    log_q : Tensor of shape (c,), optional
        Logarithm of each candidate's probability of being among the candidates; None: no
        correction, and popular items are pushed down for being sampled often.
    weights : Tensor of shape (b,), optional
        Weights of the rows; None: all equal.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019.
    """
    logits = scores if log_q is None else scores - log_q
    if weights is None:
        return F.cross_entropy(logits, positives)
    losses = F.cross_entropy(logits, positives, reduction="none")  # (b,)
    return (weights * losses).sum() / weights.sum()
