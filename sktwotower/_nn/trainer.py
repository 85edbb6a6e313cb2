"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.batch_losses import B, Objective
from sktwotower._nn.batches import Batches
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import TowerInput, TowerRows
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import Masks, SelfSupervision, Views
from sktwotower._nn.threads import SecondThread, both
from sktwotower._nn.towers import Tower

T = TypeVar("T")
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


@dataclass(frozen=True, eq=False)
class Gathered(Generic[B]):
    """What a step needs of a batch; with ranks, this process's share of it.

    Attributes
    ----------
    user_inputs, item_inputs : list of TowerInput
        The first are embedded. The others say what tables the whole batch needs; the last
        one of the items' is that of the views.
    masks : tuple of Tensor or None
        Of the two views of self-supervision; None: there are none.
    batch : Batch
        The rows.
    n_rows : int
        Those of all processes.
    """

    user_inputs: list[TowerInput]
    item_inputs: list[TowerInput]
    masks: Masks | None
    batch: B
    n_rows: int

    @property
    def views(self) -> Views | None:
        """What self-supervision sees."""
        return None if self.masks is None else (self.item_inputs[-1], self.masks)

    def looked_up(self, towers: TwoTowers, tables: LazyTables) -> Gathered[B]:
        """The same with the rows of large tables that it needs."""
        return replace(
            self,
            user_inputs=tables.look_up(towers.user_tower, self.user_inputs),
            item_inputs=tables.look_up(towers.item_tower, self.item_inputs),
        )

    def to(self, device: torch.device) -> Gathered[B]:
        """What goes through the towers and the loss; it was gathered on the CPU."""
        if device.type == "cpu":
            return self
        views = [] if self.masks is None else self.item_inputs[-1:]
        return replace(
            self,
            user_inputs=[self.user_inputs[0].to(device)],
            item_inputs=[one.to(device) for one in (self.item_inputs[0], *views)],
            batch=self.batch.to(device),
        )


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
    generators : Generators
        Of what is dropped.
    """

    def __init__(
        self,
        towers: TwoTowers,
        objective: Objective[B],
        self_supervision: SelfSupervision | None,
        ranks: Ranks | None,
        generators: Generators,
    ) -> None:
        super().__init__()
        self.towers = towers
        self.objective = objective
        self.self_supervision = self_supervision
        self.ranks = ranks
        self.generators = generators

    def forward(self, given: Gathered[B]) -> Tensor:
        """Mean loss over the ``n_rows`` of a batch, of which ``given`` may be a part."""
        return self.loss(self.users(given), self.items(given), given)

    def users(self, given: Gathered[B]) -> Tensor:
        """Their embeddings."""
        users: Tensor = self.towers.user_tower(given.user_inputs[0], self.generators.users)
        return users

    def items(self, given: Gathered[B]) -> Tensor:
        """Their embeddings."""
        items: Tensor = self.towers.item_tower(given.item_inputs[0], self.generators.items)
        return items

    def loss(self, users: Tensor, items: Tensor, given: Gathered[B]) -> Tensor:
        """The same of embeddings."""
        towers, ranks, batch = self.towers, self.ranks, given.batch
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
            value = value * (ranks.size * len(batch) / given.n_rows)
        if given.views is not None and self.self_supervision is not None:
            value = value + self.self_supervision(
                towers.item_tower, given.views, towers.temperature, self.generators.items
            )
        return value

    def backward(
        self, given: Gathered[B], second: SecondThread, then: Callable[[], T]
    ) -> tuple[Tensor, Callable[[], T]]:
        """The loss and its gradients: the towers go there and back beside each other.

        The second thread goes on with ``then`` as soon as it has done its part; the call
        that waits for that is returned beside the loss.
        """
        users, items = both(lambda: self.users(given), lambda: self.items(given))
        of_users, of_items = (ends.detach().requires_grad_() for ends in (users, items))
        value = self.loss(of_users, of_items, given)
        value.backward()
        users_are_done = second.start(lambda: users.backward(of_users.grad))
        result_of_then = second.start(then)
        items.backward(of_items.grad)
        users_are_done()
        return value, result_of_then


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
    step: Step[B] = Step(towers, objective, self_supervision, ranks, generators)
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
            user_inputs = [user_rows.take(rows) for rows in users]
            item_inputs = [item_rows.take(rows) for rows in items]
            masks = None
            if self_supervision is not None:
                views, masks = self_supervision.draw(generators.host)
                item_inputs.append(views)
            yield Gathered(user_inputs, item_inputs, masks, part, len(batch))

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
                now = now.looked_up(towers, tables).to(device)
                optimizer.zero_grad(set_to_none=True)
                if shared is None:
                    value, following = step.backward(now, second, following_of)
                else:
                    value = shared(now)
                    value.backward()
                    following = following_of
                if ranks is not None:
                    ranks.average_gradients(tables.vectors)
                if max_grad_norm is not None:
                    leaves = [*parameters, *tables.vectors]
                    nn.utils.clip_grad_norm_(leaves, max_grad_norm)
                optimizer.step()
                tables.step()
                schedule.step()
                towers.clamp_temperature()
                total += value.detach() * now.n_rows  # no graph, no device sync
            tables.settle()
            if ranks is not None:
                total = ranks.mean(total)
                ranks.agree(towers.buffers())
            if average is not None:
                average.update_parameters(towers)
        yield float(total) / batches.n_rows
