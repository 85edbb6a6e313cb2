"""The inputs of a training step, gathered from the rows of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic

import torch
from torch import Tensor

from sktwotower._nn.batch_losses import B
from sktwotower._nn.batches import Batches
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import TowerInput, TowerRows
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.segments import Sequences
from sktwotower._nn.self_supervision import Masks, SelfSupervision, Views
from sktwotower._nn.two_towers import TwoTowers


@dataclass(frozen=True, eq=False)
class GatheredBatch(Generic[B]):
    """A batch, or this rank's slice of it, with the inputs of both towers.

    Attributes
    ----------
    user_inputs, item_inputs : list of TowerInput
        The first input of each list is embedded. The others list what else is looked up in
        lazy tables: the inputs of the whole batch and, of the items, of the histories and
        of the views.
    has_sequences : bool
        Whether the user tower reads sequences, whose distinct items come then before the
        views.
    masks : tuple of Tensor or None
        Masks of the two views of self-supervision; None: there are no views.
    batch : Batch
        The rows.
    n_rows : int
        Number of rows of the whole batch.
    """

    user_inputs: list[TowerInput]
    item_inputs: list[TowerInput]
    has_sequences: bool
    masks: Masks | None
    batch: B
    n_rows: int

    @property
    def views(self) -> Views | None:
        """Items and masks of self-supervision."""
        return None if self.masks is None else (self.item_inputs[-1], self.masks)

    @property
    def past_items(self) -> TowerInput | None:
        """The items of the sequences that the user tower reads, each once."""
        return self.item_inputs[-1 - self.has_views] if self.has_sequences else None

    @property
    def has_views(self) -> bool:
        """Whether there are items of self-supervision."""
        return self.masks is not None

    def with_table_rows(self, towers: TwoTowers, tables: LazyTables) -> GatheredBatch[B]:
        """The same batch with the vectors that it looks up in lazy tables."""
        user, item = towers.user_tower, towers.item_tower
        found = tables.look_up({user: self.user_inputs, item: self.item_inputs})
        return replace(self, user_inputs=found[user], item_inputs=found[item])

    def to(self, device: torch.device) -> GatheredBatch[B]:
        """The same batch on a device, reduced to what the towers and the loss need."""
        if device.type == "cpu":
            return self
        n_others = self.has_sequences + self.has_views
        others = self.item_inputs[len(self.item_inputs) - n_others :]
        return replace(
            self,
            user_inputs=[self.user_inputs[0].to(device)],
            item_inputs=[one.to(device) for one in (self.item_inputs[0], *others)],
            batch=self.batch.to(device),
        )


def gathered_epoch(
    batches: Batches[B],
    user_rows: TowerRows,
    item_rows: TowerRows,
    generator: torch.Generator,
    *,
    self_supervision: SelfSupervision | None,
    ranks: Ranks | None,
) -> Iterator[GatheredBatch[B]]:
    """Yield the gathered batches of one epoch, on the CPU.

    Parameters
    ----------
    batches : Batches
        The batches, as indices of rows.
    user_rows, item_rows : TowerRows
        The rows to gather from.
    generator : torch.Generator
        Draws the order of the rows, the candidates, and the views.
    self_supervision : SelfSupervision or None
        Draws the views.
    ranks : Ranks or None
        The processes that share each batch.
    """
    for batch in batches.epoch(generator):
        part, users, items = batch, [batch.user_inputs], [batch.item_rows]
        if ranks is not None:
            part = batch.part(ranks.slice_of(len(batch.user_inputs)))
            users = [part.user_inputs, *users]
            items = [batch.item_rows[ranks.slice_of(len(batch.item_rows))], *items]
        user_inputs = [user_rows.take(rows) for rows in users]
        item_inputs = [item_rows.take(rows) for rows in items]
        has_sequences = isinstance(user_inputs[0].history, Sequences)
        if has_sequences:  # those of this rank come last
            for n in reversed(range(len(user_inputs))):
                user_inputs[n], past_items = _with_distinct_items(user_inputs[n])
                item_inputs.append(item_rows.take(past_items))
        masks = None
        if self_supervision is not None:
            views, masks = self_supervision.draw(generator)
            item_inputs.append(views)
        yield GatheredBatch(
            user_inputs, item_inputs, has_sequences, masks, part, len(batch)
        )


def _with_distinct_items(inputs: TowerInput) -> tuple[TowerInput, Tensor]:
    """The same input, with positions among the distinct items of its sequences."""
    history = inputs.history
    assert isinstance(history, Sequences)
    items, positions = history.items.unique(return_inverse=True)
    return replace(inputs, history=replace(history, items=positions)), items
