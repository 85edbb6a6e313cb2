"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.batches import Batch, InBatchSampler
from sktwotower._nn.losses import softmax_loss
from sktwotower._nn.runtime import Generators
from sktwotower._nn.towers import EntityRows, Tower

Objective = Callable[[Tensor, Tensor, Batch], Tensor]


class TwoTowers(nn.Module):
    """The two towers, side by side.

    Parameters
    ----------
    user_tower, item_tower : Tower
        One for each side, of equal output width.
    """

    def __init__(self, user_tower: Tower, item_tower: Tower) -> None:
        super().__init__()
        self.user_tower = user_tower
        self.item_tower = item_tower

    def embedding_tables(self) -> Iterator[nn.Parameter]:
        """The embedding tables of both towers."""
        yield from self.user_tower.embedding_tables()
        yield from self.item_tower.embedding_tables()


def average_of(towers: TwoTowers) -> AveragedModel:
    r"""A running average of the weights after each epoch, to serve in their place.

    With :math:`w_t` the weights after epoch :math:`t`,

    .. math:: \bar w_t = \bar w_{t-1} + \frac{4}{t + 3} (w_t - \bar w_{t-1}),

    the polynomial-decay average: it forgets the first epochs, can be had after any, and
    costs one copy of the weights, updated once an epoch.

    References
    ----------
    Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J.
    Control Optim. 30(4), 1992. Shamir & Zhang, "Stochastic Gradient Descent for
    Non-smooth Optimization", ICML 2013 (the weights, with eta = 3).
    """

    def step(average: Tensor, weights: Tensor, n_averaged: Tensor | int) -> Tensor:
        return average + (weights - average) * 4.0 / (n_averaged + 4.0)

    return AveragedModel(towers, avg_fn=step, use_buffers=True)


def softmax_objective(temperature: float) -> Objective:
    """The softmax loss of a batch, given its users' and candidates' embeddings."""

    def objective(users: Tensor, items: Tensor, batch: Batch) -> Tensor:
        scores = (users / temperature) @ items.T  # (b, c), the cheaper side scaled
        if batch.masked is not None:
            flat = scores.flatten().index_fill(0, batch.masked, -torch.inf)
            scores = flat.view_as(scores)
        loss = softmax_loss(scores, batch.positives, batch.log_q, batch.weights)
        # The loss is a mean over this batch; light batches shall count less than heavy.
        return loss if batch.weights is None else loss * batch.weights.mean()

    return objective


def train(
    towers: TwoTowers,
    user_rows: EntityRows,
    item_rows: EntityRows,
    batches: InBatchSampler,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generators: Generators,
    average: AveragedModel | None = None,
) -> Iterator[float]:
    """Train without end, an epoch at a time; whoever iterates decides when to stop.

    Yields
    ------
    float
        Mean loss over the rows of the epoch, weighted.
    """
    device = next(towers.parameters()).device
    while True:
        towers.train()
        # Whatever the caller is in: under no_grad there would be nothing to learn.
        with torch.inference_mode(False), torch.enable_grad():
            total = torch.zeros((), device=device)
            for batch in batches.epoch(generators.host):
                batch_on_device = batch.to(device)
                users = towers.user_tower(
                    user_rows.take(batch.user_rows).to(device), generators.device
                )
                items = towers.item_tower(
                    item_rows.take(batch.item_rows).to(device), generators.device
                )
                value = objective(users, items, batch_on_device)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
                schedule.step()
                total += value.detach() * len(batch)  # no graph, no device sync
            if average is not None:
                average.update_parameters(towers)
        yield float(total) / batches.n_rows
