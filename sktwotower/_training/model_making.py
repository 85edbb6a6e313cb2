"""The model at some point of a training, to validate or to serve."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import n_users_of_items, pair_matrix
from sktwotower._data.row_shares import OwnRows, RowShare
from sktwotower._data.user_shards import codes_of_shard, users_of_shard
from sktwotower._nn.distributed import Ranks, own_errors
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import OptimizerState
from sktwotower._nn.resize import remember
from sktwotower._training.configuration import Configuration
from sktwotower._training.data import TrainingData
from sktwotower._training.rows import past_items
from sktwotower._training.run import TrainingRun
from sktwotower._training.settings import Settings
from sktwotower._training.side_states import embedded_side
from sktwotower._training.state import ModelState, TrainingLog, UserShard, recommendable
from sktwotower.utils import _column_store as column_store


@dataclass(frozen=True, eq=False)
class _Users:
    """The users of a model.

    Attributes
    ----------
    entities : Entities
        Their ids and features.
    rows : EntityRows
        What their tower reads, by code.
    interactions : InteractionCodes
        Their rows.
    seen : csr_matrix of shape (n_users, n_items), bool
        The distinct pairs of the rows.
    """

    entities: Entities
    rows: EntityRows
    interactions: InteractionCodes
    seen: sp.csr_matrix


@dataclass(eq=False)
class ModelMaker:
    """Makes models from the towers of a training and from its data.

    Attributes
    ----------
    configuration : Configuration
        Without "auto".
    settings : Settings
        What "auto" stands for.
    data : TrainingData
        The rows of X, coded and encoded.
    interactions : InteractionCodes
        The rows that this process has, also those from before.
    share : RowShare
        Which of all rows these are.
    user_rows, item_rows : EntityRows
        What the towers read of all users and items, by code.
    catalogue : ndarray of shape (n_catalogue,)
        Codes of the items that are recommended.
    """

    configuration: Configuration
    settings: Settings
    data: TrainingData
    interactions: InteractionCodes
    share: RowShare
    user_rows: EntityRows
    item_rows: EntityRows
    catalogue: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.catalogue = recommendable(
            self.data.item.entities,
            trains_cold_path=self.configuration.trains_cold_path("item"),
        )
        self._everything: tuple[InteractionCodes, sp.csr_matrix] | None = None
        if not isinstance(self.share, OwnRows):
            self._all_rows()  # a full disk is an error now

    def validated(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model to validate: histories have training rows only, as in training.

        The tables have to be released before training goes on.
        """
        run.tables.gather(run.served)
        entities = self.data.user.entities
        users = _Users(entities, self.user_rows, *self._all_rows())
        return self._state(run, log, users, run.histories(), {})

    def complete(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model to serve: histories have all rows, and the optimizer its memory.

        If this process has read its share of the rows, the model has its users. The tables
        have to be released before training goes on.
        """
        own = self.share if isinstance(self.share, OwnRows) else None
        of_all = self.data.user.entities.now()
        run.tables.gather(run.served, own_users=own is not None)
        if own is None:
            users = _Users(of_all, self.user_rows, *self._all_rows())
        else:
            users = self._own_users(of_all, own.ranks)
        past, history = None, self.settings.history
        if history is not None:
            items = self.data.item.entities
            past = past_items(users.interactions, users.entities, items, history)
        memory = remember(run.optimizer, run.trained)
        memory = run.tables.complete(memory, own_users=own is not None)
        make = partial(self._state, run, log, users, past, memory)
        if own is None:
            state = make()
        else:  # vectors of one process alone may not be finite
            with own_errors():
                state = own.ranks.on_all(make)
        item = replace(state.item, entities=state.item.entities.now())
        return replace(
            state, item=item, shard=None if own is None else _shard_of(state, of_all, own)
        )

    def _own_users(self, of_all: Entities, ranks: Ranks) -> _Users:
        """The users of this process, which have codes of their own."""
        entities = users_of_shard(of_all, ranks.shard)
        code_of = np.zeros(len(of_all) + 1, dtype=np.int32)
        code_of[codes_of_shard(of_all, ranks.shard)] = np.arange(1, len(entities) + 1)
        rows, n_items = self.interactions, len(self.data.item.entities)
        rows = replace(rows, users=column_store.take(code_of, rows.users))
        return _Users(
            entities,
            entities.rows(with_id=self.configuration.user.id_embedding),
            rows,
            pair_matrix(rows.users, rows.items, len(entities), n_items),
        )

    def _state(
        self,
        run: TrainingRun,
        log: TrainingLog,
        users: _Users,
        past: PastItems | None,
        memory: OptimizerState,
    ) -> ModelState:
        if not self.configuration.is_self_supervised:  # else training has set it
            run.served.item_tower.set_unknown_id()
        data, last = self.data, (self.configuration, len(log.loss_curve))
        item = embedded_side("item", run.served, data.item, self.item_rows, None, *last)
        if past is not None:
            past = item.read_in(past, self.settings.embedding_dim)
        of_users = replace(data.user, entities=users.entities)
        user = embedded_side("user", run.served, of_users, users.rows, past, *last)
        return ModelState(
            roles=data.roles,
            user=user,
            item=item,
            towers=run.served,
            catalogue=self.catalogue,
            interactions=users.interactions,
            seen=users.seen,
            past=past,
            optimizer=(self.configuration.optimizer, memory),
            frequencies=run.frequencies,
            settings=self.settings,
            log=log,
        )

    def _all_rows(self) -> tuple[InteractionCodes, sp.csr_matrix]:
        """What the model will have seen, in all processes: rows, and distinct pairs."""
        if self._everything is None:
            rows = self.share.whole(self.interactions)
            n_users, n_items = len(self.data.user.entities), len(self.data.item.entities)
            self._everything = rows, pair_matrix(rows.users, rows.items, n_users, n_items)
        return self._everything

    def histories(
        self, train_rows: np.ndarray, past: PastItems | None, ranks: Ranks | None
    ) -> PastItems | None:
        """Histories of all users from the rows that train; ``past`` are this rank's."""
        history = self.settings.history
        if ranks is None or history is None:
            return past
        users, items = self.data.user.entities, self.data.item.entities
        rows = self._all_rows()[0].take(self.data.share.whole_column(train_rows))
        return past_items(rows, users, items, history)


def _shard_of(state: ModelState, of_all: Entities, share: OwnRows) -> UserShard:
    """What this process knows of all users, where the state has some of them."""
    n_items, total = len(state.item.entities), share.sum
    rows, vectors = state.interactions, state.user.embeddings
    return UserShard(
        shard=share.ranks.shard,
        users=of_all,
        numbers=share.numbers,
        n_rows=int(total(np.array(len(rows)))),
        n_positives=total(rows.n_positives(n_items)),
        n_users_of_items=total(n_users_of_items(state.seen)),
        mean_user=total(vectors.sum(axis=0)) / np.float32(len(of_all)),
    )
