"""The loss and the gradients of one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import torch
from torch import Tensor, nn

from sktwotower._nn.batch_losses import B, Objective
from sktwotower._nn.batches import SoftmaxBatch
from sktwotower._nn.distributed import DenseGradients, Ranks
from sktwotower._nn.divided_tables import DividedTables
from sktwotower._nn.gathering import GatheredBatch
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import SelfSupervision
from sktwotower._nn.shared_bags import SharedBags
from sktwotower._nn.spread_softmax import SpreadRows, spread_softmax
from sktwotower._nn.spread_users import AddedUpUsers, GatheredUsers, SpreadUsers
from sktwotower._nn.threads import Prefetched, SecondThread, run_both
from sktwotower._nn.two_towers import TwoTowers


class Step(nn.Module, Generic[B]):
    """Computes the loss of a batch, or this rank's part of the loss of all batches.

    Parameters
    ----------
    towers : TwoTowers
        Embed users and items.
    objective : Objective
        The loss of their embeddings.
    self_supervision : SelfSupervision or None
        A further loss of the item tower.
    ranks : Ranks or None
        The processes that share a batch.
    generators : Generators
        Random numbers of the dropouts.
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

    def forward(self, gathered: GatheredBatch[B]) -> Tensor:
        """The mean loss over the rows of a batch, a scalar.

        Of a rank it is a sum over its rows, so scaled that the mean over the ranks is the
        loss of all rows.
        """
        return self.loss(self.embed_users(gathered), self.embed_items(gathered), gathered)

    def embed_users(self, gathered: GatheredBatch[B]) -> Tensor:
        """Embeddings of the users, (g, d)."""
        (inputs,) = gathered.user_inputs
        if gathered.has_sequences:
            inputs = inputs.with_items(self.embed_past_items(gathered))
        users: Tensor = self.towers.user_tower(inputs, self.generators.users)
        return users

    def embed_past_items(self, gathered: GatheredBatch[B]) -> Tensor:
        """Embeddings of the items that the user tower reads, (n, d)."""
        item_tower = self.towers.item_tower
        vectors: Tensor = item_tower(gathered.past_items, self.generators.items)
        return vectors[:, : item_tower.dim]

    def embed_items(self, gathered: GatheredBatch[B]) -> Tensor:
        """Embeddings of the items, (c, d)."""
        items: Tensor = self.towers.item_tower(
            gathered.item_inputs[0], self.generators.items
        )
        return items

    def loss(self, users: Tensor, items: Tensor, gathered: GatheredBatch[B]) -> Tensor:
        """The loss of embedded users (g, d) and items (c, d)."""
        towers, ranks, batch = self.towers, self.ranks, gathered.batch
        if len(batch):
            value = self.objective(users / towers.temperature, items, batch)
        else:  # fewer rows than ranks
            value = 0.0 * (users.sum() / towers.temperature + items.sum())
        if batch.weights is not None and len(batch):
            # The objective is a weighted mean over the batch. A batch of small weights
            # counts for less.
            value = value * batch.weights.mean()
        if ranks is not None:  # gradients are averaged over the ranks
            value = value * (ranks.size * len(batch) / gathered.n_rows)
        of_views = self.loss_of_views(gathered)
        return value if of_views is None else value + of_views

    def loss_of_views(self, gathered: GatheredBatch[B]) -> Tensor | None:
        """The loss of self-supervision; None: there is none."""
        if gathered.views is None or self.self_supervision is None:
            return None
        towers = self.towers
        return self.self_supervision(
            towers.item_tower, gathered.views, towers.temperature, self.generators.items
        )

    def backward(
        self,
        gathered: GatheredBatch[B],
        upcoming: Prefetched[GatheredBatch[B]],
        second: SecondThread,
    ) -> Tensor:
        """Compute the loss and its gradients.

        The second thread runs the user tower, forward and backward, while this one runs
        the item tower. It then gathers the next batch. A user tower that reads sequences
        depends on the item tower; each thread runs it for half of them.
        """
        if gathered.user_order is not None:
            return self._backward_of_halves(gathered, upcoming, second)
        if gathered.has_sequences:
            value: Tensor = self.forward(gathered)
            value.backward()
            upcoming.start_next()
            return value
        users, items = run_both(
            lambda: self.embed_users(gathered), lambda: self.embed_items(gathered)
        )
        # The graph is cut at the embeddings, so that the towers have separate backward
        # passes.
        cut_users, cut_items = (one.detach().requires_grad_() for one in (users, items))
        value = self.loss(cut_users, cut_items, gathered)
        value.backward()
        wait_for_users = second.start(lambda: users.backward(cut_users.grad))
        upcoming.start_next()
        items.backward(cut_items.grad)
        wait_for_users()
        return value

    def _backward_of_halves(
        self,
        gathered: GatheredBatch[B],
        upcoming: Prefetched[GatheredBatch[B]],
        second: SecondThread,
    ) -> Tensor:
        """The same where each thread reads half of the sequences."""
        user_tower, generators = self.towers.user_tower, self.generators
        past, items = self.embed_past_items(gathered), self.embed_items(gathered)
        # Each half has a copy, so that no gradient is the sum of terms in some order.
        read = [past.detach().requires_grad_() for _ in gathered.user_inputs]
        first, other = (
            one.with_items(vectors)
            for one, vectors in zip(gathered.user_inputs, read, strict=True)
        )
        halves = run_both(
            lambda: user_tower(first, generators.users),
            lambda: user_tower(other, generators.items),
        )
        cuts = [half.detach().requires_grad_() for half in halves]
        cut_items = items.detach().requires_grad_()
        assert gathered.user_order is not None
        users = torch.cat(cuts).index_select(0, gathered.user_order)
        value = self.loss(users, cut_items, gathered)
        value.backward()
        wait_for_first = second.start(lambda: halves[0].backward(cuts[0].grad))
        upcoming.start_next()
        halves[1].backward(cuts[1].grad)
        wait_for_first()
        gradients = [one.grad for one in read if one.grad is not None]  # of both
        past.backward(torch.add(*gradients))
        items.backward(cut_items.grad)
        return value


class DistributedStep(Generic[B]):
    """A step of several ranks, each of which has a batch of its own.

    What ranks send is under way while they compute something else.

    Parameters
    ----------
    step : Step
        The step of this rank.
    ranks : Ranks
        The processes.
    tables : DividedTables
        The tables whose rows are divided among the ranks.
    """

    def __init__(self, step: Step[B], ranks: Ranks, tables: DividedTables) -> None:
        self.step = step
        self.tables = tables
        trained = [one for one in step.parameters() if one.requires_grad]
        self.layers = DenseGradients(ranks, trained)

    def backward(
        self,
        gathered: GatheredBatch[B],
        upcoming: Prefetched[GatheredBatch[B]],
        second: SecondThread,
    ) -> Tensor:
        """Compute the loss and its gradients."""
        if gathered.spread is not None:
            value = self._backward_of_spread(gathered, gathered.spread, upcoming)
            self._send_gradients()
        else:
            value = self._backward_of_shared(gathered)
            self._send_gradients()
            upcoming.compute_next()
        self.layers.receive()
        self.tables.receive_gradients()
        return value

    def _send_gradients(self) -> None:
        self.layers.send()
        self.tables.send_gradients()

    def _backward_of_shared(self, gathered: GatheredBatch[B]) -> Tensor:
        """The same where ranks exchange the vectors of items."""
        step, division = self.step, gathered.division
        own = step.embed_items(gathered)
        finish: Callable[[], Tensor] | None = None
        shared = own.detach()
        if division is not None:
            n_own = division.counts[division.ranks.rank]
            finish = division.start_gather(shared[:n_own])
        users = step.embed_users(gathered)
        if finish is not None:
            shared = _followed_by(finish(), shared[n_own:])
        cut_users, cut_items = (one.detach().requires_grad_() for one in (users, shared))
        value = step.loss(cut_users, cut_items, gathered)
        value.backward()
        gradient = cut_items.grad
        assert gradient is not None
        if division is not None:
            n_shared = len(division.order)
            finish = division.start_return(gradient[:n_shared])
        users.backward(cut_users.grad)
        if finish is not None:
            gradient = _followed_by(finish(), gradient[n_shared:])
        own.backward(gradient)
        return value

    def _backward_of_spread(
        self,
        gathered: GatheredBatch[B],
        spread: SpreadRows,
        upcoming: Prefetched[GatheredBatch[B]],
    ) -> Tensor:
        """The same where the items stay where they are, and users are exchanged."""
        step, batch = self.step, gathered.batch
        assert isinstance(batch, SoftmaxBatch)
        users = self._spread_users(gathered, spread)
        own = step.embed_items(gathered)
        weights = own.new_ones(len(batch)) if batch.weights is None else batch.weights
        log_q = batch.log_q_of_positives
        value, users_gradient, items_gradient = spread_softmax(
            users.vectors(),
            own,
            spread,
            weights * (spread.users.ranks.size / gathered.n_rows),
            own.new_zeros(len(batch)) if log_q is None else log_q,
            positive_per_row=batch.positive_log_q is not None,
            meanwhile=upcoming.compute_next,
        )
        users.send(users_gradient)
        own.backward(items_gradient)
        of_views = step.loss_of_views(gathered)
        if of_views is not None:
            of_views.backward()
            value = value + of_views.detach()
        users.backward()
        return value

    def _spread_users(self, gathered: GatheredBatch[B], spread: SpreadRows) -> SpreadUsers:
        """The users of all ranks, who are under way."""
        step, (inputs, *_) = self.step, gathered.user_inputs
        tower, temperature = step.towers.user_tower, step.towers.temperature
        is_scaled_sum = tower.is_sum and not tower.mlp
        if is_scaled_sum and isinstance(inputs.history, SharedBags):
            return AddedUpUsers(tower, inputs, temperature, step.generators.users)
        return GatheredUsers(spread.users, step.embed_users(gathered) / temperature)


def _followed_by(vectors: Tensor, others: Tensor) -> Tensor:
    """Both, one after the other; without a copy if there are no others."""
    return torch.cat([vectors, others]) if len(others) else vectors
