"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.batches import Batches
from sktwotower._nn.beside import SecondThread, both
from sktwotower._nn.inputs import TowerInput, TowerRows
from sktwotower._nn.lazy import LazyTables
from sktwotower._nn.objectives import B, Objective
from sktwotower._nn.ranks import Ranks
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import Masks, SelfSupervision, Views
from sktwotower._nn.towers import Tower

# What a step needs: inputs of the two towers, masks of views, the rows (of this process)
# and the number of all of them.
Gathered = tuple[list[TowerInput], list[TowerInput], Masks | None, B, int]
# Where a learned temperature stays. Below, a cosine of 1 is a logit of more than 100.
LEAST_TEMPERATURE, GREATEST_TEMPERATURE = 0.01, 10.0


class TwoTowers(nn.Module):
    """The two towers, side by side, and the temperature that scales their scores.

    Parameters
    ----------
    user_tower, item_tower : Tower
        One for each side, of equal output width.
    temperature : float
        Of the scores in the loss.
    learned : bool
        Whether its logarithm is a parameter that is trained.
    tied : bool
        Whether the history of the user tower pools the ids of the item tower.
    """

    def __init__(
        self,
        user_tower: Tower,
        item_tower: Tower,
        temperature: float,
        *,
        learned: bool,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if tied:
            user_tower.history_table = item_tower.id_table
        self.user_tower = user_tower
        self.item_tower = item_tower
        self._temperature = temperature
        self.log_temperature = None
        if learned:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def tied_table(self) -> nn.Parameter | None:
        """The table that both towers look up; None: each has its own."""
        table = self.item_tower.id_table
        return table if table is self.user_tower.history_table else None

    @property
    def temperature(self) -> float | Tensor:
        """What scores are divided by."""
        if self.log_temperature is None:
            return self._temperature
        return self.log_temperature.exp()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Bring a learned temperature back into its range, where it has a gradient."""
        if self.log_temperature is not None:
            self.log_temperature.clamp_(
                math.log(LEAST_TEMPERATURE), math.log(GREATEST_TEMPERATURE)
            )

    def embedding_tables(self) -> Iterator[nn.Parameter]:
        """The embedding tables of both towers, each once."""
        for table in self.user_tower.embedding_tables():
            if table is not self.tied_table:
                yield table
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

    def step(averages: Any, weights: Any, n_averaged: Tensor | int) -> None:
        share = 4.0 / (float(n_averaged) + 4.0)
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, share)  # in place: a table may be most of the memory
            else:
                average.copy_(weight)

    return AveragedModel(towers, multi_avg_fn=step, use_buffers=True)


class Step(nn.Module, Generic[B]):
    """The loss of a batch; with ranks, this process's share of it.

    Parameters
    ----------
    towers : TwoTowers
        Embed users and items.
    objective : Objective
        Of their embeddings.
    self_supervision : SelfSupervision or None
        A further loss of the item tower.
    ranks : Ranks or None
        The processes that share a batch.
    """

    def __init__(
        self,
        towers: TwoTowers,
        objective: Objective[B],
        self_supervision: SelfSupervision | None,
        ranks: Ranks | None,
    ) -> None:
        super().__init__()
        self.towers = towers
        self.objective = objective
        self.self_supervision = self_supervision
        self.ranks = ranks

    def forward(
        self,
        user_input: TowerInput,
        item_input: TowerInput,
        views: Views | None,
        batch: B,
        n_rows: int,
        generators: Generators,
    ) -> Tensor:
        """Mean loss over the ``n_rows`` of a batch, of which ``batch`` may be a part."""
        towers = self.towers
        users = towers.user_tower(user_input, generators.users)
        items = towers.item_tower(item_input, generators.items)
        return self.loss(users, items, views, batch, n_rows, generators)

    def loss(
        self,
        users: Tensor,
        items: Tensor,
        views: Views | None,
        batch: B,
        n_rows: int,
        generators: Generators,
    ) -> Tensor:
        """The same of embeddings."""
        towers, ranks = self.towers, self.ranks
        if ranks is not None:
            items = ranks.gather(items, len(batch.item_rows))
        if len(batch):
            value = self.objective(users / towers.temperature, items, batch)
        else:  # fewer users than processes; the gradients are zero, but there
            value = 0.0 * (users.sum() / towers.temperature + items.sum())
        if batch.weights is not None and len(batch):
            # It is a mean over the batch; a light batch shall count for less.
            value = value * batch.weights.mean()
        if ranks is not None:  # DistributedDataParallel has the mean over the processes
            value = value * (ranks.size * len(batch) / n_rows)
        if views is not None and self.self_supervision is not None:
            value = value + self.self_supervision(
                towers.item_tower, views, towers.temperature, generators.items
            )
        return value

    def backward(
        self,
        user_input: TowerInput,
        item_input: TowerInput,
        views: Views | None,
        batch: B,
        n_rows: int,
        generators: Generators,
    ) -> Tensor:
        """The loss and its gradients: the towers go there and back beside each other."""
        towers = self.towers
        users, items = both(
            lambda: towers.user_tower(user_input, generators.users),
            lambda: towers.item_tower(item_input, generators.items),
        )
        of_users, of_items = (ends.detach().requires_grad_() for ends in (users, items))
        value = self.loss(of_users, of_items, views, batch, n_rows, generators)
        value.backward()
        both(lambda: users.backward(of_users.grad), lambda: items.backward(of_items.grad))
        return value


def train(
    towers: TwoTowers,
    user_rows: TowerRows,
    item_rows: TowerRows,
    batches: Batches[B],
    objective: Objective[B],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    tables: LazyTables,
    generators: Generators,
    *,
    self_supervision: SelfSupervision | None = None,
    average: AveragedModel | None = None,
    max_grad_norm: float | None = None,
    ranks: Ranks | None = None,
) -> Generator[float, None, None]:
    """Train without end, an epoch at a time; whoever iterates decides when to stop.

    Parameters
    ----------
    towers : TwoTowers
        Trained in place.
    user_rows, item_rows : TowerRows
        What batches take their rows from.
    batches : Batches
        The rows of an epoch, and what they are ranked against.
    objective : Objective
        The loss of a batch.
    optimizer, schedule : Optimizer, LRScheduler
        Step all parameters but those of ``tables``.
    tables : LazyTables
        Step the large tables.
    generators : Generators
        Random numbers.
    self_supervision : SelfSupervision, optional
        A further loss of the item tower.
    average : AveragedModel, optional
        Takes in the weights after each epoch.
    max_grad_norm : float, optional
        Gradients are scaled down to it.
    ranks : Ranks, optional
        The processes that share each batch.

    Yields
    ------
    float
        Mean loss over the rows of the epoch, weighted.
    """
    parameters = list(towers.parameters())
    device = parameters[0].device
    step: Step[B] = Step(towers, objective, self_supervision, ranks)
    shared = None if ranks is None else DistributedDataParallel(step)
    # Two threads would add up the gradients of a table of both in any order.
    apart = shared is None and device.type == "cpu" and towers.tied_table is None

    def gathered() -> Iterator[Gathered[B]]:
        for batch in batches.epoch(generators.host):
            part, users, items = batch, [batch.user_inputs], [batch.item_rows]
            if ranks is not None:
                part = batch.part(ranks.share(len(batch.user_inputs)))
                users = [part.user_inputs, *users]
                items = [batch.item_rows[ranks.share(len(batch.item_rows))], *items]
            # The first are embedded; the others say what tables the whole batch needs.
            user_inputs = [user_rows.take(rows) for rows in users]
            item_inputs = [item_rows.take(rows) for rows in items]
            masks = None
            if self_supervision is not None:
                views, masks = self_supervision.draw(generators.host)
                item_inputs.append(views)
            yield user_inputs, item_inputs, masks, part, len(batch)

    while True:
        towers.train()
        # Whatever the caller is in: under no_grad there would be nothing to learn.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            SecondThread(wanted=apart) as second,
        ):
            total = torch.zeros((), device=device)
            following_of = partial(next, gathered(), None)
            following = second.start(following_of)
            while (now := following()) is not None:
                user_inputs, item_inputs, masks, part, n_rows = now
                user_inputs = tables.look_up(towers.user_tower, user_inputs)
                item_inputs = tables.look_up(towers.item_tower, item_inputs)
                given = (
                    user_inputs[0].to(device),
                    item_inputs[0].to(device),
                    None if masks is None else (item_inputs[-1].to(device), masks),
                    part.to(device),
                    n_rows,
                    generators,
                )
                optimizer.zero_grad(set_to_none=True)
                if shared is None:
                    value = step.backward(*given)
                else:
                    value = shared(*given)
                    value.backward()
                following = second.start(following_of)
                if ranks is not None:
                    ranks.average_gradients(tables.vectors)
                if max_grad_norm is not None:
                    leaves = [*parameters, *tables.vectors]
                    nn.utils.clip_grad_norm_(leaves, max_grad_norm)
                optimizer.step()
                tables.step()
                schedule.step()
                towers.clamp_temperature()
                total += value.detach() * n_rows  # no graph, no device sync
            tables.settle()
            if ranks is not None:
                total = ranks.mean(total)
                ranks.agree(towers.buffers())
            if average is not None:
                average.update_parameters(towers)
        yield float(total) / batches.n_rows
