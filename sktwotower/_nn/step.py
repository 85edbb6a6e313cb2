"""The loss and the gradients of one batch."""

from __future__ import annotations

from typing import Generic

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sktwotower._nn.batch_losses import B, Objective
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.gathering import GatheredBatch
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import SelfSupervision
from sktwotower._nn.threads import Prefetched, SecondThread, run_both
from sktwotower._nn.two_towers import TwoTowers


class Step(nn.Module, Generic[B]):
    """Computes the loss of a batch, or of this rank's slice of it.

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
        """The mean loss over the rows of a batch, a scalar."""
        return self.loss(self.embed_users(gathered), self.embed_items(gathered), gathered)

    def embed_users(self, gathered: GatheredBatch[B]) -> Tensor:
        """Embeddings of the users, (g, d)."""
        inputs, past_items = gathered.user_inputs[0], gathered.past_items
        if past_items is not None:
            vectors = self.towers.item_tower(past_items, self.generators.items)
            inputs = inputs.with_items(vectors[:, : self.towers.item_tower.dim])
        users: Tensor = self.towers.user_tower(inputs, self.generators.users)
        return users

    def embed_items(self, gathered: GatheredBatch[B]) -> Tensor:
        """Embeddings of the items, (c, d)."""
        items: Tensor = self.towers.item_tower(
            gathered.item_inputs[0], self.generators.items
        )
        return items

    def loss(self, users: Tensor, items: Tensor, gathered: GatheredBatch[B]) -> Tensor:
        """The loss of embedded users (g, d) and items (c, d)."""
        towers, ranks, batch = self.towers, self.ranks, gathered.batch
        if ranks is not None:
            items = ranks.gather(items, len(batch.item_rows))
        if len(batch):
            value = self.objective(users / towers.temperature, items, batch)
        else:  # fewer users than ranks: DistributedDataParallel needs gradients of zero
            value = 0.0 * (users.sum() / towers.temperature + items.sum())
        if batch.weights is not None and len(batch):
            # The objective is a weighted mean over the batch. A batch of small weights
            # counts for less.
            value = value * batch.weights.mean()
        if ranks is not None:  # DistributedDataParallel averages over the ranks
            value = value * (ranks.size * len(batch) / gathered.n_rows)
        if gathered.views is not None and self.self_supervision is not None:
            value = value + self.self_supervision(
                towers.item_tower, gathered.views, towers.temperature, self.generators.items
            )
        return value

    def backward(
        self,
        gathered: GatheredBatch[B],
        upcoming: Prefetched[GatheredBatch[B]],
        second: SecondThread,
    ) -> Tensor:
        """Compute the loss and its gradients.

        The second thread runs the user tower, forward and backward, while this one runs
        the item tower. It then gathers the next batch. A user tower that reads sequences
        depends on the item tower.
        """
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


class DistributedStep(Generic[B]):
    """A step of which several ranks compute a slice each, and average the gradients.

    Parameters
    ----------
    step : Step
        The step of this rank.
    ranks : Ranks
        The processes that share a batch.
    tables : LazyTables
        Tables whose gradients DistributedDataParallel does not see.
    """

    def __init__(self, step: Step[B], ranks: Ranks, tables: LazyTables) -> None:
        self.module: nn.Module = step
        if any(parameter.requires_grad for parameter in step.parameters()):
            self.module = DistributedDataParallel(step)  # refuses to have none
        self.ranks = ranks
        self.tables = tables

    def backward(
        self,
        gathered: GatheredBatch[B],
        upcoming: Prefetched[GatheredBatch[B]],
        second: SecondThread,
    ) -> Tensor:
        """Compute the loss and its gradients."""
        value: Tensor = self.module(gathered)
        value.backward()
        self.ranks.average_gradients(self.tables.vectors)
        upcoming.start_next()
        return value
