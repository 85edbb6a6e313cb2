"""One training: towers, rows, batches and an optimizer from a configuration and data."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import pair_matrix
from sktwotower._nn.batches import Batches, TrainingRows, batch_sizes
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._nn.lazy_tables import LazyTables, may_be_lazy
from sktwotower._nn.negatives import StreamingFrequencies
from sktwotower._nn.optim import (
    DECOUPLED,
    auto_weight_decay,
    make_optimizer,
    make_schedule,
)
from sktwotower._nn.resize import Sources, copy_weights, recall, remember
from sktwotower._nn.runtime import Generators, resolve_device
from sktwotower._nn.self_supervision import DrawMasks, SelfSupervision
from sktwotower._nn.towers import Tower
from sktwotower._nn.trainer import train
from sktwotower._nn.two_towers import TwoTowers, average_of
from sktwotower._training.configuration import SIDES, Configuration, SideName
from sktwotower._training.continuing import streaming_frequencies, table_sources
from sktwotower._training.data import TrainingData, with_popularity
from sktwotower._training.memory import training_bytes, warn_if_too_large
from sktwotower._training.objective import ObjectiveSpec, mask_drawer
from sktwotower._training.state import (
    ModelState,
    SideState,
    TrainingLog,
    recommendable,
)
from sktwotower.utils import _column_store as column_store


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training under way.

    Attributes
    ----------
    epochs : generator of float
        Trains for an epoch and yields its mean loss.
    served, trained : TwoTowers
        The average of the weights, and the weights; without an average they are the same.
    optimizer : Optimizer
        Steps the trained towers.
    tables : LazyTables
        Large tables, which the optimizer does not step.
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
    configuration : Configuration
        Parameters of towers, objective and optimizer.
    data : TrainingData
        The rows of X, coded and encoded.
    before : ModelState or None
        The model whose weights are the start; None: random weights.
    seed : int
        Of all random numbers.
    n_epochs : int
        The schedule of the learning rate ends after so many epochs.
    continues : bool, default=False
        Whether the rows follow those of ``before``, which are replayed with them, and the
        optimizer goes on with its memory. Otherwise only the weights are taken over.
    """

    def __init__(
        self,
        configuration: Configuration,
        data: TrainingData,
        before: ModelState | None,
        *,
        seed: int,
        n_epochs: int,
        continues: bool = False,
    ) -> None:
        self.configuration = configuration
        self.before = before
        self.seed = seed
        self.n_epochs = n_epochs
        self.continues = continues and before is not None
        self.replayed = before.interactions if before is not None and continues else None
        self.interactions = data.interactions  # all that the model will have seen
        if self.replayed is not None:
            self.interactions = self.replayed.followed_by(data.interactions)
        self.data = data = with_popularity(data, self.interactions, configuration)
        self.user_rows = data.users.rows(with_id=configuration.user.id_embedding)
        self.item_rows = data.items.rows(with_id=configuration.item.id_embedding)
        self.catalogue = recommendable(
            data.items, trains_cold_path=configuration.trains_cold_path("item")
        )
        self.seen = pair_matrix(
            self.interactions.users,
            self.interactions.items,
            len(data.users),
            len(data.items),
        )
        self.draw_masks = self._mask_drawer()
        if configuration.verbose:
            self._report_catalogue()

    @torch.inference_mode(False)  # the caller may be in it
    def start(self, train_rows: np.ndarray) -> TrainingRun:
        """Make the towers and the stream of their epochs' losses.

        Parameters
        ----------
        train_rows : ndarray of shape (n_samples,), bool
            The rows of X that train.
        """
        configuration, ranks = self.configuration, Ranks.current()
        device = resolve_device(configuration.device)
        rank = 0 if ranks is None else ranks.rank
        generators = Generators.seeded(self.seed, device, rank=rank)
        self._warn_if_too_large(device)
        towers, sources = self._make_towers(generators.host)
        towers = towers.to(device, torch.float32)
        if self.before is not None:
            copy_weights(towers, self.before.towers, sources)
        average = average_of(towers) if configuration.average else None
        user_rows = self._to_train(self.user_rows, towers.user_tower)
        rows, user_inputs, past = self._training_rows(train_rows, user_rows)
        objective, batches, frequencies = self._batches(rows, user_inputs, train_rows)
        optimizer = self._make_optimizer(towers, len(batches.rows), sources)
        tables = LazyTables(
            # A tied table has gradients from both towers, and is stepped as a whole.
            [t for t in towers.embedding_tables() if t is not towers.tied_table],
            optimizer,
            configuration.optimizer,
            batch_size=configuration.batch_size,
        )
        schedule = make_schedule(
            optimizer,
            configuration.lr_schedule,
            n_epochs=self.n_epochs,
            n_batches=batches.n_batches,
            warmup_fraction=configuration.warmup_fraction,
        )
        epochs = train(
            towers,
            user_inputs,
            self._to_train(self.item_rows, towers.item_tower),
            batches,
            objective.objective(),
            optimizer,
            schedule,
            tables,
            generators,
            self_supervision=self._self_supervision(),
            average=average,
            max_grad_norm=configuration.max_grad_norm,
            ranks=ranks,
        )
        served = towers if average is None else cast(TwoTowers, average.module)
        return TrainingRun(epochs, served, towers, optimizer, tables, frequencies, past)

    def state(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model as it is served at this point of a run."""
        return self._state(run, log, run.past)

    def final_state(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model at the end of a run: on the CPU, with histories of all rows."""
        run.epochs.close()  # frees its rows before histories are made of all rows
        past = None
        if self.configuration.history_size:
            past = self._past(self.interactions)
        state = self._state(run, log, past)
        run.served.cpu().eval()
        return replace(
            state,
            user=replace(state.user, entities=self.data.users.now()),
            item=replace(state.item, entities=self.data.items.now()),
        )

    def rows_that_stay(self, run: TrainingRun) -> dict[nn.Parameter, Tensor]:
        """Rows of the tables of ids and of history without an interaction in X.

        With a weight decay there are none: it shrinks all rows, and replayed rows train
        them again.
        """
        if self.configuration.weight_decay != 0:
            return {}
        users, items = run.trained.user_tower, run.trained.item_tower
        codes = self.data.interactions
        user_ids = self.data.users.id_codes[codes.users]
        item_ids = self.data.items.id_codes[codes.items]
        without = {}
        for table, ids in (
            (users.id_table, user_ids),
            (items.id_table, item_ids),
            (users.history_table, item_ids),
        ):
            if table is not None:
                without[table] = torch.ones(len(table), dtype=torch.bool)
                without[table][torch.from_numpy(ids).long()] = False
                without[table][0] = False  # the unknown id belongs to no interaction
        return without

    def _state(
        self, run: TrainingRun, log: TrainingLog, past: PastItems | None
    ) -> ModelState:
        sides = {name: self._side_state(name, run, log, past) for name in SIDES}
        return ModelState(
            roles=self.data.roles,
            user=sides["user"],
            item=sides["item"],
            towers=run.served,
            catalogue=self.catalogue,
            interactions=self.interactions,
            seen=self.seen,
            past=past,
            optimizer=(
                self.configuration.optimizer,
                remember(run.optimizer, run.trained),
            ),
            frequencies=run.frequencies,
            log=log,
        )

    def _side_state(
        self,
        name: SideName,
        run: TrainingRun,
        log: TrainingLog,
        past: PastItems | None,
    ) -> SideState:
        """Embed all entities of a side; row ``r`` of what a tower embeds has code ``r``."""
        data, is_user = self.data, name == "user"
        entities = data.users if is_user else data.items
        tower = run.served.user_tower if is_user else run.served.item_tower
        if is_user or not self.configuration.is_self_supervised:  # else it is trained
            tower.set_unknown_id()
        n = len(entities) + 1
        rows: TowerRows = (self.user_rows if is_user else self.item_rows).head(n)
        if is_user and past is not None:
            rows = past.rows(self.user_rows.head(n), np.arange(n))
        vectors = tower.embed(rows).numpy()
        if not np.isfinite(vectors).all():  # no loss has seen the last step
            raise ValueError(
                divergence_message(
                    self.configuration,
                    f"{name} embeddings",
                    "NaN or infinite",
                    len(log.loss_curve),
                )
            )
        return SideState(
            name=name,
            id_columns=data.user_id_columns if is_user else data.item_id_columns,
            entities=entities,
            embeddings=vectors[1:],
            unknown=vectors[0].copy(),
            trains_cold_path=self.configuration.trains_cold_path(name),
        )

    def _make_towers(self, generator: torch.Generator) -> tuple[TwoTowers, Sources]:
        """New towers, and the rows of the tables before that theirs start from."""
        configuration = self.configuration
        n_history_items = self._n_history_items()
        towers = TwoTowers(
            self._make_tower(self.user_rows, generator, n_history_items),
            self._make_tower(self.item_rows, generator),
            configuration.temperature,
            learned=configuration.learns_temperature,
            tied=configuration.tie_history,
        )
        sources: Sources = {}
        if self.before is not None:
            sources = table_sources(self.before, self.data, configuration, n_history_items)
        return towers, sources

    def _make_tower(
        self, rows: EntityRows, generator: torch.Generator, n_history_items: int = 0
    ) -> Tower:
        configuration = self.configuration
        return Tower(
            rows,
            embedding_dim=configuration.embedding_dim,
            hidden_layer_sizes=configuration.hidden_layer_sizes,
            activation=configuration.activation,
            batch_norm=configuration.batch_norm,
            dropout=configuration.dropout,
            normalize=configuration.normalize,
            id_dropout=configuration.id_dropout,
            n_history_items=n_history_items,
            generator=generator,
        )

    def _n_history_items(self) -> int:
        if not self.configuration.history_size:
            return 0
        return int(self.data.items.id_codes.max()) + 1

    def _to_train(self, rows: EntityRows, tower: Tower) -> EntityRows:
        """The same rows; a few columns before a linear layer become a matrix."""
        is_lazy = may_be_lazy(rows.n_columns, self.configuration.batch_size)
        if is_lazy or not (rows.is_narrow and tower.begins_with_a_layer):
            return rows
        return rows.with_matrix()

    def _past(self, interactions: InteractionCodes) -> PastItems:
        """Histories of all users, from these rows."""
        return PastItems.of(
            interactions,
            len(self.data.users),
            self.configuration.history_size,
            self.data.items.id_codes,
        )

    def _training_rows(
        self, train_rows: np.ndarray, trained_users: EntityRows
    ) -> tuple[TrainingRows, TowerRows, PastItems | None]:
        """Rows to train on, the user tower's input that they point into, and histories."""
        interactions, inputs, weights = self._rows_of_X(train_rows)
        ordered, n_replayed = interactions, 0
        if self.replayed is not None:
            # The new rows come first, but have their place in the histories. The replayed
            # rows have their users' present features: those of their time are not kept.
            n_replayed = len(self.replayed)
            ordered = interactions.followed_by(self.replayed)
            interactions = self.replayed.followed_by(interactions)
            inputs = column_store.joined([inputs, self.replayed.users])
            if weights is not None:
                ones = np.broadcast_to(np.float32(1), n_replayed)
                weights = column_store.joined([weights, ones])
        is_users = np.array_equal(inputs, ordered.users)  # each user has one row
        rows = TrainingRows(
            torch.from_numpy(ordered.users),
            torch.from_numpy(ordered.items),
            torch.from_numpy(ordered.positive),
            None if weights is None else torch.from_numpy(weights),
            n_users=len(self.data.users) + 1,
            n_items=len(self.data.items) + 1,
            user_inputs=None if is_users else torch.from_numpy(inputs),
        )
        if self.configuration.popularity_prior is not None:  # it counts as 1 in training
            weight = np.float32(self.configuration.temperature)
            whole = torch.from_numpy(np.full((len(trained_users), 1), weight))
            trained_users = replace(trained_users, appended=whole)
        if not self.configuration.history_size:
            return rows, trained_users, None
        past = self._past(interactions)
        if self.configuration.history_dropout and self.replayed is None:
            drawn = past.to_draw_from(trained_users, inputs, interactions.users)
            return rows, drawn, past
        # The new rows come last in the histories.
        user_rows = past.before_events(
            trained_users, inputs, ordered.items, first=n_replayed
        )
        numbers = torch.from_numpy(column_store.arange(len(interactions)))
        return replace(rows, user_inputs=numbers), user_rows, past

    def _rows_of_X(
        self, train_rows: np.ndarray
    ) -> tuple[InteractionCodes, np.ndarray, np.ndarray | None]:
        """The rows of X that train: codes, inputs of the user tower, and weights."""
        data = self.data
        interactions, inputs, weights = data.interactions, data.user_inputs, data.weights
        if not train_rows.all():  # no copy where all rows train
            interactions = interactions.take(train_rows)
            inputs = column_store.take(inputs, train_rows)
            weights = None if weights is None else column_store.take(weights, train_rows)
        if weights is not None:  # in float64, so that their scale does not matter
            scaled = column_store.empty(len(weights), np.float32)
            weights = np.divide(weights, weights.mean(), out=scaled, casting="same_kind")
        return interactions, inputs, weights

    def _batches(
        self, rows: TrainingRows, user_inputs: TowerRows, train_rows: np.ndarray
    ) -> tuple[ObjectiveSpec, Batches, StreamingFrequencies | None]:
        """The resolved objective, its batches, and frequencies of items in a stream."""
        ranks = Ranks.current()
        items = torch.bincount(rows.item_rows).nonzero()[:, 0].to(rows.item_rows.dtype)
        objective, n_new = self.configuration.objective.resolve(rows, items), None
        frequencies = None
        if self.before is not None and self.replayed is not None:
            n_new = int(train_rows.sum())
            frequencies = streaming_frequencies(
                self.before.frequencies, rows, n_new, self.configuration.batch_size
            )
        if self.configuration.verbose:
            print(f"{objective}: {n_new or len(rows)} rows, {len(items)} items")
        batches = objective.batches(
            rows,
            items,
            n_new=n_new,
            frequencies=frequencies,
            rank_slice=None if ranks is None else ranks.slice_of,
            in_history=getattr(user_inputs, "in_history", None),
        )
        return objective, batches, frequencies

    def _make_optimizer(
        self, towers: TwoTowers, n_rows: int, sources: Sources
    ) -> torch.optim.Optimizer:
        configuration = self.configuration
        optimizer = make_optimizer(
            configuration.optimizer,
            towers.embedding_tables(),
            towers.parameters(),
            learning_rate=configuration.learning_rate,
            weight_decay=self._weight_decay(n_rows),
            epsilon=configuration.epsilon,
        )
        if self.before is not None and self.continues:
            name, memory = self.before.optimizer
            if name == configuration.optimizer:
                recall(optimizer, towers, memory, sources)
        return optimizer

    def _weight_decay(self, n_rows: int) -> float:
        """Weight decay, computed from the number of all rows."""
        configuration = self.configuration
        if isinstance(configuration.weight_decay, str):
            n_batches, _ = batch_sizes(n_rows, configuration.batch_size)
            return auto_weight_decay(
                configuration.optimizer, configuration.learning_rate, n_batches
            )
        return float(configuration.weight_decay)

    def _mask_drawer(self) -> DrawMasks | None:
        pattern = self.configuration.objective.ssl_pattern
        if pattern is None or not self.configuration.is_self_supervised:
            return None
        blocks = self.data.items.blocks()
        fields = [block[self.catalogue] for kind in blocks for block in kind]
        return mask_drawer(pattern, self.item_rows, fields)

    def _self_supervision(self) -> SelfSupervision | None:
        if self.draw_masks is None:
            return None
        return SelfSupervision(
            self.item_rows,
            torch.from_numpy(self.catalogue),
            n_draws=self.configuration.batch_size,
            draw_masks=self.draw_masks,
            weight=self.configuration.ssl_weight,
        )

    def _warn_if_too_large(self, device: torch.device) -> None:
        configuration = self.configuration
        needed = training_bytes(
            self.user_rows,
            self.item_rows,
            self._n_history_items(),
            embedding_dim=configuration.embedding_dim,
            optimizer=configuration.optimizer,
            average=configuration.average,
            has_penalty=(
                self._weight_decay(1) > 0 and not DECOUPLED[configuration.optimizer]
            ),
        )
        warn_if_too_large(needed, device)

    def _report_catalogue(self) -> None:
        n_outside = len(self.data.items) - len(self.catalogue)
        if n_outside:
            print(
                f"{n_outside} items without a training row are recommended only when "
                "candidates names them: no positive has trained the item tower without "
                "ids. Set id_dropout to have them in the catalogue."
            )


def divergence_message(
    configuration: Configuration, what: str, value: object, epoch: int
) -> str:
    """What to say, and to advise, when training has diverged."""
    advice = [
        f"a lower learning_rate (now {configuration.learning_rate})",
        f"a lower weight_decay (now {configuration.weight_decay})",
    ]
    if not configuration.learns_temperature:
        advice.append(f"a higher temperature (now {configuration.temperature})")
    if not configuration.normalize:
        advice.append("normalize=True")
    return (
        f"The {what} became {value} in epoch {epoch}: training has diverged. Try "
        f"{', or '.join([', '.join(advice[:-1]), advice[-1]])}."
    )
