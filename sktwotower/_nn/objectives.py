"""From the embeddings of a batch to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sktwotower._nn.batches import Batch, SampledBatch, SoftmaxBatch
from sktwotower._nn.losses import cross_entropy_loss, softmax_loss

B = TypeVar("B", bound=Batch)
# Users (b, d), divided by the temperature, and items (c, d) of a batch, to a scalar.
Objective = Callable[[Tensor, Tensor, B], Tensor]


def softmax_objective(*, refined: bool) -> Objective[SoftmaxBatch]:
    """Softmax over shared candidates and the rows' own."""

    def objective(users: Tensor, items: Tensor, batch: SoftmaxBatch) -> Tensor:
        scores = users @ items[: batch.n_shared].T  # (b, n_shared)
        if batch.masked is not None:
            # Out of autograd's sight: the softmax has no gradient at -inf anyway.
            scores.detach().view(-1).index_fill_(0, batch.masked, -torch.inf)
        log_q = batch.log_q
        if batch.own is not None and batch.own_log_q is not None:
            own = torch.einsum("bd,bkd->bk", users, F.embedding(batch.own, items))
            if log_q is None:
                log_q = scores.new_zeros(batch.n_shared)
            log_q = torch.cat([log_q.expand(len(scores), -1), batch.own_log_q], dim=1)
            scores = torch.cat([scores, own], dim=1)
        return softmax_loss(
            scores, batch.positives, log_q, batch.weights, correct_positive=not refined
        )

    return objective


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
    return (
        (users * F.embedding(batch.items, items)).sum(dim=1),
        torch.einsum("bd,bkd->bk", users, F.embedding(batch.negatives, items)),
    )
