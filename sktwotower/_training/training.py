"""One training: towers, rows, batches and an optimiser, from the parameters of a model."""

from __future__ import annotations

from collections.abc import Generator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sktwotower._data.entities import Entities, column_source
from sktwotower._data.histories import Histories, InteractionCodes, PastItems
from sktwotower._nn.batches import TrainingRows, batch_sizes, n_replayed
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._nn.lazy_tables import LazyTables, may_be_lazy
from sktwotower._nn.negatives import StreamingFrequencies, in_batch_log_absence
from sktwotower._nn.optim import (
    DECOUPLED,
    auto_weight_decay,
    make_optimizer,
    make_schedule,
)
from sktwotower._nn.resize import (
    OptimizerState,
    Source,
    Sources,
    copy_weights,
    recall,
    remember,
)
from sktwotower._nn.runtime import Generators, resolve_device
from sktwotower._nn.self_supervision import DrawMasks, SelfSupervision
from sktwotower._nn.towers import Tower
from sktwotower._nn.trainer import train
from sktwotower._nn.two_towers import TwoTowers, average_of
from sktwotower._training.memory import training_bytes, warn_if_too_large
from sktwotower._training.objective import ObjectiveSpec, mask_drawer
from sktwotower.utils import _memmap as memmap

_FIRST_TEMPERATURE = 0.12  # of a learned one, for cosines


@dataclass(frozen=True, eq=False)
class Before:
    """What a training goes on from.

    Attributes
    ----------
    users, items : Entities
        With their codes and encoders.
    towers : TwoTowers
        As they are served.
    optimizer : tuple of str and dict
        Its name and what it remembers.
    events : InteractionCodes
        All rows so far.
    frequencies : StreamingFrequencies or None
        How often items have been in a batch; None: the events say it.
    """

    users: Entities
    items: Entities
    towers: TwoTowers
    optimizer: tuple[str, OptimizerState]
    events: InteractionCodes
    frequencies: StreamingFrequencies | None


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training under way.

    Attributes
    ----------
    epochs : generator of float
        Trains for an epoch and yields its mean loss.
    served, trained : TwoTowers
        The average and the weights of which it is one, or twice the latter.
    optimizer : Optimizer
        Its steps move the trained ones.
    tables : LazyTables
        Those that it leaves to them.
    frequencies : StreamingFrequencies or None
        How often items have been in a batch.
    past : PastItems or None
        Histories of the rows that train.
    """

    epochs: Generator[float, None, None]
    served: TwoTowers
    trained: TwoTowers
    optimizer: torch.optim.Optimizer
    tables: LazyTables
    frequencies: StreamingFrequencies | None
    past: PastItems | None


class Training:
    """What is trained on, and how.

    Parameters
    ----------
    model : TwoTowerRecommender
        For its parameters.
    users, items : Entities
        Both sides.
    catalogue : ndarray of shape (n_catalogue,)
        Codes of the items that self-supervision draws.
    events : InteractionCodes
        The rows of X.
    inputs : ndarray of shape (n_samples,)
        Which row of the users' input each has.
    weights : ndarray of shape (n_samples,) or None
        Sample weights.
    objective : ObjectiveSpec
        What is trained against what.
    seed : int
        Of all random numbers.
    before : Before or None
        To go on from.
    n_epochs : int
        After which the schedule of the learning rate is at its end.
    goes_on : bool
        Whether the rows follow those from before, which are replayed beside them.
        Otherwise training begins anew, from those weights at most.
    """

    def __init__(
        self,
        model: Any,
        users: Entities,
        items: Entities,
        *,
        catalogue: np.ndarray,
        events: InteractionCodes,
        inputs: np.ndarray,
        weights: np.ndarray | None,
        objective: ObjectiveSpec,
        seed: int,
        before: Before | None,
        n_epochs: int,
        goes_on: bool = False,
    ) -> None:
        self.model = model
        self.users = users
        self.items = items
        self.user_rows = users.rows(with_id=model.user_id_embedding)
        self.item_rows = items.rows(with_id=model.item_id_embedding)
        self.catalogue = catalogue
        self.events = events
        self.inputs = inputs
        self.weights = weights
        self.objective = objective
        self.seed = seed
        self.before = before
        self.n_epochs = n_epochs
        self.goes_on = goes_on
        self.past = before.events if before is not None and goes_on else None
        self.draw_masks = self._mask_drawer()

    @property
    def is_self_supervised(self) -> bool:
        """Whether the item tower has a loss of its own."""
        return self.model.ssl_pattern is not None and self.model.ssl_weight > 0

    @torch.inference_mode(False)  # the caller may be in it
    def start(self, train_rows: np.ndarray) -> TrainingRun:
        """Make the towers and the stream of their epochs' losses.

        Parameters
        ----------
        train_rows : ndarray of shape (n_samples,), bool
            Which rows of X train.
        """
        model = self.model
        device = resolve_device(model.device)
        ranks = Ranks.current()
        rank = 0 if ranks is None else ranks.rank
        generators = Generators.seeded(self.seed, device, rank=rank)
        n_history_items = int(self.items.id_codes.max()) + 1 if model.history_size else 0
        needed = training_bytes(
            self.user_rows,
            self.item_rows,
            n_history_items,
            embedding_dim=model.embedding_dim,
            optimizer=model.optimizer,
            average=model.average,
            has_penalty=self._weight_decay(1) > 0 and not DECOUPLED[model.optimizer],
        )
        warn_if_too_large(needed, device)
        towers = TwoTowers(
            self._make_tower(self.user_rows, generators.host, n_history_items),
            self._make_tower(self.item_rows, generators.host),
            self._first_temperature(),
            learned=model.temperature == "learned",
            tied=model.tie_history,
        ).to(device, torch.float32)
        sources: Sources = {}
        if self.before is not None:
            sources = self._table_sources(self.before, n_history_items)
            copy_weights(towers, self.before.towers, sources)
        average = average_of(towers) if model.average else None
        rows, user_rows, past = self._rows(
            train_rows, self._to_train(self.user_rows, towers.user_tower)
        )
        items = torch.bincount(rows.item_rows).nonzero()[:, 0].to(rows.item_rows.dtype)
        objective, n_new = self.objective.resolve(rows, items), None
        frequencies = None
        if self.past is not None:
            n_new = int(train_rows.sum())
            frequencies = self._streaming_frequencies(rows, n_new)
        if model.verbose:
            print(f"{objective}: {n_new or len(rows)} rows, {len(items)} items")
        batches = objective.batches(
            rows,
            items,
            n_new=n_new,
            frequencies=frequencies,
            rank_slice=None if ranks is None else ranks.slice_of,
            in_history=getattr(user_rows, "in_history", None),
        )
        optimizer = make_optimizer(
            model.optimizer,
            towers.embedding_tables(),
            towers.parameters(),
            learning_rate=model.learning_rate,
            weight_decay=self._weight_decay(len(batches.rows)),
            epsilon=model.epsilon,
        )
        if self.before is not None and self.goes_on:
            name, memory = self.before.optimizer
            if name == model.optimizer:
                recall(optimizer, towers, memory, sources)
        tables = LazyTables(
            # A tied table has gradients from both towers, and is stepped as a whole.
            [t for t in towers.embedding_tables() if t is not towers.tied_table],
            optimizer,
            model.optimizer,
            batch_size=model.batch_size,
        )
        epochs = train(
            towers,
            user_rows,
            self._to_train(self.item_rows, towers.item_tower),
            batches,
            objective.objective(),
            optimizer,
            make_schedule(
                optimizer,
                model.lr_schedule,
                n_epochs=self.n_epochs,
                n_batches=batches.n_batches,
                warmup_fraction=model.warmup_fraction,
            ),
            tables,
            generators,
            self_supervision=self._self_supervision(),
            average=average,
            max_grad_norm=model.max_grad_norm,
            ranks=ranks,
        )
        served = towers if average is None else cast(TwoTowers, average.module)
        return TrainingRun(epochs, served, towers, optimizer, tables, frequencies, past)

    def input_rows(self, past: PastItems | None) -> dict[str, TowerRows]:
        """What the towers embed, as it is now: row ``r`` belongs to code ``r``."""
        users = self.user_rows.head(len(self.users) + 1)
        items = self.item_rows.head(len(self.items) + 1)
        if past is None:
            return {"user": users, "item": items}
        return {"user": past.rows(users, np.arange(len(users))), "item": items}

    def all_past(self, events: InteractionCodes) -> PastItems:
        """Histories of all the events."""
        histories = Histories(events, len(self.users))
        times = None if events.times is None else histories.ordered(events.times)
        return PastItems(histories, self.model.history_size, self.items.id_codes, times)

    def rows_that_stay(self, run: TrainingRun) -> dict[nn.Parameter, Tensor]:
        """Rows of the tables of ids, and of history, that X says nothing of.

        With a weight decay there are none: it shrinks them all, and replayed rows train
        them again.
        """
        if self.model.weight_decay != 0:
            return {}
        users, items = run.trained.user_tower, run.trained.item_tower
        user_ids = self.users.id_codes[self.events.users]
        item_ids = self.items.id_codes[self.events.items]
        without = {}
        for table, ids in (
            (users.id_table, user_ids),
            (items.id_table, item_ids),
            (users.history_table, item_ids),
        ):
            if table is not None:
                without[table] = torch.ones(len(table), dtype=torch.bool)
                without[table][torch.from_numpy(ids).long()] = False
                without[table][0] = False  # the unknown one is everybody's
        return without

    def memory(self, run: TrainingRun) -> tuple[str, OptimizerState]:
        """What a later training needs of the optimiser."""
        return self.model.optimizer, remember(run.optimizer, run.trained)

    def _to_train(self, rows: EntityRows, tower: Tower) -> EntityRows:
        """The same rows; few columns that a layer comes after are a matrix."""
        is_lazy = may_be_lazy(rows.n_columns, self.model.batch_size)
        if is_lazy or not (rows.is_narrow and tower.begins_with_a_layer):
            return rows
        return rows.with_matrix()

    def _rows(
        self, train_rows: np.ndarray, trained_users: EntityRows
    ) -> tuple[TrainingRows, TowerRows, PastItems | None]:
        """Rows to train on, the user tower's input that they point into, and histories."""
        # Not a copy where all rows train, of which there may be very many.
        events, inputs, weights = self.events, self.inputs, self.weights
        if not train_rows.all():
            events, inputs = events.take(train_rows), memmap.take(inputs, train_rows)
            weights = None if weights is None else memmap.take(weights, train_rows)
        if weights is not None:  # in float64, so that their scale does not matter
            scaled = memmap.empty(len(weights), np.float32)
            weights = np.divide(weights, weights.mean(), out=scaled, casting="same_kind")
        ordered, n_past = events, 0
        if self.past is not None:
            # The new rows first, but in their place in the histories. Features of their
            # time are gone for the others, which have those of now.
            n_past = len(self.past)
            ordered, events = events.followed_by(self.past), self.past.followed_by(events)
            inputs = memmap.joined([inputs, self.past.users])
            if weights is not None:
                ones = np.broadcast_to(np.float32(1), n_past)
                weights = memmap.joined([weights, ones])
        is_users = np.array_equal(inputs, ordered.users)  # a user has one row
        rows = TrainingRows(
            torch.from_numpy(ordered.users),
            torch.from_numpy(ordered.items),
            torch.from_numpy(ordered.positive),
            None if weights is None else torch.from_numpy(weights),
            n_users=len(self.users) + 1,
            n_items=len(self.items) + 1,
            user_inputs=None if is_users else torch.from_numpy(inputs),
        )
        if self.model.popularity_prior is not None:  # in training it counts as it is
            weight = np.float32(self.model.temperature)
            whole = torch.from_numpy(np.full((len(trained_users), 1), weight))
            trained_users = replace(trained_users, appended=whole)
        if not self.model.history_size:
            return rows, trained_users, None
        past = self.all_past(events)
        if self.model.history_dropout and self.past is None:
            return rows, past.to_draw_from(trained_users, inputs, events.users), past
        # The new events come last.
        user_rows = past.before_events(trained_users, inputs, ordered.items, first=n_past)
        numbers = torch.from_numpy(memmap.arange(len(events)))
        return replace(rows, user_inputs=numbers), user_rows, past

    def _streaming_frequencies(
        self, rows: TrainingRows, n_new: int
    ) -> StreamingFrequencies | None:
        """How often items have been in a batch, new ones as the rows to come say.

        None where all rows from before are replayed: their counts say it.
        """

        def log_absence(counts: Tensor) -> Tensor:
            _, sizes = batch_sizes(int(counts.sum()), self.model.batch_size)
            return in_batch_log_absence(counts, max(sizes))

        assert self.before is not None
        is_new = torch.arange(len(rows)) < n_new
        new, old = (
            torch.bincount(rows.item_rows[rows.positive & part], minlength=rows.n_items)
            for part in (is_new, ~is_new)
        )
        n_before = int(old.sum())
        share = n_replayed(int(new.sum()), n_before) / n_before
        if share == 1:
            return None
        frequencies = deepcopy(self.before.frequencies)
        if frequencies is None:
            frequencies = StreamingFrequencies(log_absence(old))
        frequencies.extend(log_absence(new + (share * old).round().long()))
        return frequencies

    def _table_sources(self, before: Before, n_history_items: int) -> Sources:
        """Which rows of the tables from before those of the towers start from."""
        sources: Sources = {}
        for side, old, now in (
            ("user", before.users, self.users),
            ("item", before.items, self.items),
        ):
            if getattr(self.model, f"{side}_id_embedding"):
                sources[f"{side}_tower.id_table"] = Source.append(
                    int(old.id_codes.max()) + 1, int(now.id_codes.max()) + 1, first=0
                )
            sparse, dense = now.field_order()
            if sparse:
                sources[f"{side}_tower.column_table"] = column_source(old, now, sparse)
            for i, name in enumerate(dense):
                sources[f"{side}_tower.dense_tables.{i}"] = column_source(old, now, [name])
        if n_history_items:
            sources["user_tower.history_table"] = Source.append(
                int(before.items.id_codes.max()) + 1, n_history_items, first=-1
            )
        return sources

    def _make_tower(
        self, rows: EntityRows, generator: torch.Generator, n_history_items: int = 0
    ) -> Tower:
        model = self.model
        return Tower(
            rows,
            embedding_dim=model.embedding_dim,
            hidden_layer_sizes=model._hidden_sizes(),
            activation=model.activation,
            batch_norm=model.batch_norm,
            dropout=model.dropout,
            normalize=model.normalize,
            id_dropout=model.id_dropout,
            n_history_items=n_history_items,
            generator=generator,
        )

    def _first_temperature(self) -> float:
        if not isinstance(self.model.temperature, str):
            return float(self.model.temperature)
        return _FIRST_TEMPERATURE if self.model.normalize else 1.0

    def _weight_decay(self, n_rows: int) -> float:
        """That of all the rows, of which an epoch has fewer if not all are replayed."""
        model = self.model
        if isinstance(model.weight_decay, str):
            n_batches, _ = batch_sizes(n_rows, model.batch_size)
            return auto_weight_decay(model.optimizer, model.learning_rate, n_batches)
        return float(model.weight_decay)

    def _mask_drawer(self) -> DrawMasks | None:
        if not self.is_self_supervised:
            return None
        fields = [block[self.catalogue] for kind in self.items.blocks() for block in kind]
        return mask_drawer(self.model.ssl_pattern, self.item_rows, fields)

    def _self_supervision(self) -> SelfSupervision | None:
        if self.draw_masks is None:
            return None
        return SelfSupervision(
            self.item_rows,
            torch.from_numpy(self.catalogue),
            n_draws=self.model.batch_size,
            draw_masks=self.draw_masks,
            weight=self.model.ssl_weight,
        )
