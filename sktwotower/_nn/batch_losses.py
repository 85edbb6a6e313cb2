"""From the embeddings of a batch to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from sktwotower._nn.batches import Batch, SampledBatch, SoftmaxBatch
from sktwotower._nn.functional import pair_scores
from sktwotower._nn.losses import cross_entropy_loss, softmax_loss

B = TypeVar("B", bound=Batch)
# Users (g, d), divided by the temperature, and items (c, d) of a batch, to a scalar.
Objective = Callable[[Tensor, Tensor, B], Tensor]


def softmax_objective(users: Tensor, items: Tensor, batch: SoftmaxBatch) -> Tensor:
    """Softmax over shared candidates and the rows' own."""

    def scores(columns: Tensor) -> Tensor:
        return pair_scores(users, items, batch.groups, columns[:, None])[:, 0]

    log_q = batch.positive_log_q
    if log_q is None and batch.log_q is not None:
        log_q = batch.log_q[batch.positives]
    positives = users.new_zeros(len(batch))
    if log_q is not None:
        positives = positives - log_q
    if not batch.positive_is_shared:
        positives = positives + scores(batch.positives)
    turned_down = None
    if batch.turned_down is not None and batch.turned_down_log_q is not None:
        turned_down = scores(batch.turned_down) - batch.turned_down_log_q
    return softmax_loss(
        users,
        items[: batch.n_shared],
        positives,
        turned_down,
        groups=batch.groups,
        columns=batch.positives if batch.positive_is_shared else None,
        log_q=batch.log_q,
        masked=batch.masked,
        is_own=batch.positive_log_q is not None,
        weights=batch.weights,
    )


def cross_entropy_objective(users: Tensor, items: Tensor, batch: SampledBatch) -> Tensor:
    """Cross-entropy of the rows' labels and of their sampled negatives."""
    own, negatives = _scores(users, items, batch)
    labels = batch.labels[:, None]
    return cross_entropy_loss(
        torch.cat([own[:, None], negatives], dim=1),
        torch.cat([labels, torch.zeros_like(negatives)], dim=1),
        torch.cat([torch.ones_like(labels), batch.negative_weights], dim=1),
        batch.weights,
    )


def pairwise_objective(
    loss: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
) -> Objective[SampledBatch]:
    """A loss of the scores of the rows' positives and negatives, and of two weights."""

    def objective(users: Tensor, items: Tensor, batch: SampledBatch) -> Tensor:
        positives, negatives = _scores(users, items, batch)
        return loss(positives, negatives, batch.negative_weights, batch.weights)

    return objective


def _scores(users: Tensor, items: Tensor, batch: SampledBatch) -> tuple[Tensor, Tensor]:
    """Scores of the rows' items (b,) and negatives (b, k)."""
    columns = torch.cat([batch.items[:, None], batch.negatives], dim=1)
    scores = pair_scores(users, items, batch.groups, columns)
    return scores[:, 0], scores[:, 1:]
