"""The inputs of a training step, gathered from the rows of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from sktwotower._nn.batch_losses import B
from sktwotower._nn.batches import Batches, SoftmaxBatch
from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import Division, Ranks
from sktwotower._nn.inputs import EntityRows, TowerInput, TowerRows
from sktwotower._nn.lazy_tables import LookedUpTables
from sktwotower._nn.runtime import Generators
from sktwotower._nn.segments import Bags, Sequences
from sktwotower._nn.self_supervision import Masks, SelfSupervision, Views
from sktwotower._nn.sequence_rows import SequenceRows
from sktwotower._nn.spread_softmax import SpreadRows
from sktwotower._nn.two_towers import TwoTowers

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class GatheredBatch(Generic[B]):
    """A batch with the inputs of both towers.

    Attributes
    ----------
    user_inputs : list of TowerInput
        Users; two inputs if two threads can embed them.
    user_order : Tensor of shape (g,) or None
        Where each user is among those of both inputs; None: there is one input.
    item_inputs : list of TowerInput
        Items of the batch, then those of the histories, and those of the views.
    has_sequences : bool
        Whether the user tower reads sequences, whose distinct items come then before the
        views.
    masks : tuple of Tensor or None
        Masks of the two views of self-supervision; None: there are no views.
    batch : Batch
        The rows; of this rank.
    n_rows : float
        Number of rows of the batch; with several processes, of an average batch of all.
    division, division_of_views : Division or None
        Which rank embeds each of the shared items and of the views: the inputs are those of
        this rank, before the items that others do not need. None: there is one process.
    spread : SpreadRows or None
        Rows of all ranks, if each rank ranks them against its own items.
    """

    user_inputs: list[TowerInput]
    user_order: Tensor | None
    item_inputs: list[TowerInput]
    has_sequences: bool
    masks: Masks | None
    batch: B
    n_rows: float
    division: Division | None = None
    spread: SpreadRows | None = None
    division_of_views: Division | None = None

    @property
    def views(self) -> Views | None:
        """Items and masks of self-supervision."""
        if self.masks is None:
            return None
        return Views(self.item_inputs[-1], self.masks, self.division_of_views)

    @property
    def past_items(self) -> TowerInput | None:
        """The items of the sequences that the user tower reads, each once."""
        return self.item_inputs[-1 - self.has_views] if self.has_sequences else None

    @property
    def has_views(self) -> bool:
        """Whether there are items of self-supervision."""
        return self.masks is not None

    def with_table_rows(
        self, towers: TwoTowers, tables: LookedUpTables
    ) -> GatheredBatch[B]:
        """The same batch with the vectors that it looks up in lazy tables."""
        user, item = towers.user_tower, towers.item_tower
        found = tables.look_up({user: self.user_inputs, item: self.item_inputs})
        return replace(self, user_inputs=found[user], item_inputs=found[item])

    def to(self, device: torch.device) -> GatheredBatch[B]:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            user_inputs=[one.to(device) for one in self.user_inputs],
            item_inputs=[one.to(device) for one in self.item_inputs],
            batch=self.batch.to(device),
            spread=None if self.spread is None else self.spread.to(device),
        )


def gathered_epoch(
    batches: Batches[B],
    user_rows: TowerRows,
    item_rows: EntityRows,
    generators: Generators,
    *,
    self_supervision: SelfSupervision | None,
    ranks: Ranks | None,
    n_rows: float,
    in_halves: bool,
) -> Iterator[GatheredBatch[B]]:
    """Yield the gathered batches of one epoch, on the CPU.

    Parameters
    ----------
    batches : Batches
        The batches, as indices of rows; of this rank.
    user_rows, item_rows : TowerRows
        The rows to gather from.
    generators : Generators
        Draw the order of the rows, the candidates, and the views.
    self_supervision : SelfSupervision or None
        Draws the views.
    ranks : Ranks or None
        The processes that share the items of their batches.
    n_rows : float
        With ranks: rows of an average batch of all.
    in_halves : bool
        Whether sequences are divided in two halves, for two threads.
    """
    lists = None if ranks is None else CodeLists(ranks)
    # A whole catalogue is the same tensor in all batches.
    last: tuple[Tensor, Division] | None = None

    def start(batch: B) -> Callable[[], GatheredBatch[B]]:
        """Gather a batch, but for what is under way from other ranks."""
        nonlocal last
        item_codes, division, wait = batch.item_rows, None, None
        parts = [torch.arange(len(batch.user_inputs))]
        if in_halves and isinstance(user_rows, SequenceRows):
            parts = user_rows.halves(batch.user_inputs)
        user_inputs = [user_rows.take(batch.user_inputs[part]) for part in parts]
        if ranks is not None and batch.n_shared:
            shared, private = item_codes[: batch.n_shared], item_codes[batch.n_shared :]
            if last is None or last[0] is not item_codes:
                last = item_codes, ranks.divide(item_rows.owner_codes(shared))
            division = last[1]
            item_codes = shared[division.own]
            if len(private):
                item_codes = torch.cat([item_codes, private])
            if isinstance(batch, SoftmaxBatch) and batch.is_spread and lists is not None:
                history = user_inputs[0].history
                bags = history if isinstance(history, Bags) else None
                wait = SpreadRows.start(batch, division, lists, bags)
        item_inputs = [item_rows.take(item_codes)]
        has_sequences = isinstance(user_inputs[0].history, Sequences)
        if has_sequences:
            user_inputs, past_items = _with_distinct_items(user_inputs)
            item_inputs.append(item_rows.take(past_items))
        masks, division_of_views = None, None
        if self_supervision is not None:
            drawn = self_supervision.draw(generators.common, ranks)
            masks, division_of_views = drawn.masks, drawn.division
            item_inputs.append(drawn.items)
        gathered = GatheredBatch(
            user_inputs,
            None if len(parts) == 1 else torch.cat(parts).argsort(),
            item_inputs,
            has_sequences,
            masks,
            batch,
            len(batch) if ranks is None else n_rows,
            division,
            division_of_views=division_of_views,
        )

        def finish() -> GatheredBatch[B]:
            if wait is None:
                return gathered
            spread, bags = wait()
            (inputs,) = user_inputs
            inputs = inputs if bags is None else replace(inputs, history=bags)
            return replace(gathered, user_inputs=[inputs], spread=spread)

        return finish

    if ranks is None:
        for batch in batches.epoch(generators.host):
            yield start(batch)()
    else:
        complete = _one_ahead(batches.started(generators.host))
        yield from _one_ahead(start(batch) for batch in complete)


def _one_ahead(started: Iterator[Callable[[], T]]) -> Iterator[T]:
    """Yield what each function waits for, when the next one has been started."""
    finish = next(started, None)
    while finish is not None:
        following = next(started, None)
        yield finish()
        finish = following


def _with_distinct_items(inputs: list[TowerInput]) -> tuple[list[TowerInput], Tensor]:
    """The same inputs, with positions among the distinct items of their sequences."""
    histories = [one.history for one in inputs if isinstance(one.history, Sequences)]
    together = torch.cat([history.items for history in histories])
    items, positions = together.unique(return_inverse=True)
    parts = positions.split([len(history.items) for history in histories])
    found = [
        replace(one, history=replace(history, items=part))
        for one, history, part in zip(inputs, histories, parts, strict=True)
    ]
    return found, items
