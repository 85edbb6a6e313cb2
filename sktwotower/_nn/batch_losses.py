"""Objectives: functions from the embeddings of a batch to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from sktwotower._nn.batches import Batch, SampledBatch, SoftmaxBatch
from sktwotower._nn.functional import pair_scores
from sktwotower._nn.losses import cross_entropy_loss
from sktwotower._nn.softmax import softmax_loss

B = TypeVar("B", bound=Batch)
# The loss of users (g, d), divided by the temperature, and items (c, d) of a batch.
Objective = Callable[[Tensor, Tensor, B], Tensor]


def softmax_objective(users: Tensor, items: Tensor, batch: SoftmaxBatch) -> Tensor:
    """Softmax over shared candidates and those of single rows."""

    def scores(columns: Tensor) -> Tensor:
        return pair_scores(users, items, batch.groups, columns[:, None])[:, 0]

    log_q = batch.log_q_of_positives
    positive_scores = users.new_zeros(len(batch))
    if log_q is not None:
        positive_scores = positive_scores - log_q
    if not batch.positive_is_shared:
        positive_scores = positive_scores + scores(batch.positives)
    explicit_scores, explicit_log_q = None, batch.explicit_negative_log_q
    if batch.explicit_negatives is not None and explicit_log_q is not None:
        explicit_scores = scores(batch.explicit_negatives) - explicit_log_q
    # A slice of all of them would have a gradient of its own.
    shared = items if len(items) == batch.n_shared else items[: batch.n_shared]
    return softmax_loss(
        users,
        shared,
        positive_scores,
        explicit_scores,
        groups=batch.groups,
        columns=batch.positives if batch.positive_is_shared else None,
        log_q=batch.log_q,
        masked=batch.masked,
        positive_per_row=batch.positive_log_q is not None,
        weights=batch.weights,
    )


def cross_entropy_objective(users: Tensor, items: Tensor, batch: SampledBatch) -> Tensor:
    """Binary cross-entropy of the labels of rows and of their sampled negatives."""
    scores, negative_scores = _scores(users, items, batch)
    labels = batch.labels[:, None]
    return cross_entropy_loss(
        torch.cat([scores[:, None], negative_scores], dim=1),
        torch.cat([labels, torch.zeros_like(negative_scores)], dim=1),
        torch.cat([torch.ones_like(labels), batch.negative_weights], dim=1),
        batch.weights,
    )


def pairwise_objective(
    loss: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
) -> Objective[SampledBatch]:
    """The objective of a pairwise loss.

    Parameters
    ----------
    loss : callable
        Maps scores of positives (b,) and negatives (b, k), weights of negatives (b, k) and
        weights of rows (b,) to a scalar.
    """

    def objective(users: Tensor, items: Tensor, batch: SampledBatch) -> Tensor:
        scores, negative_scores = _scores(users, items, batch)
        return loss(scores, negative_scores, batch.negative_weights, batch.weights)

    return objective


def _scores(users: Tensor, items: Tensor, batch: SampledBatch) -> tuple[Tensor, Tensor]:
    """Scores of the items of rows (b,), and of their negatives (b, k)."""
    columns = torch.cat([batch.items[:, None], batch.negatives], dim=1)
    scores = pair_scores(users, items, batch.groups, columns)
    return scores[:, 0], scores[:, 1:]
