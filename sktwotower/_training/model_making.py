"""The model at some point of a training, to validate or to serve."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import n_users_of_items, pair_matrix
from sktwotower._data.row_shares import OwnRows, RowShare
from sktwotower._data.user_shards import codes_of_shard, users_of_shard
from sktwotower._nn.distributed import Ranks, own_errors
from sktwotower._nn.inputs import EntityRows
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
    share : OwnRows or None
        Which rows they are, if they are those of one of several processes.
    """

    entities: Entities
    rows: EntityRows
    interactions: InteractionCodes
    seen: sp.csr_matrix
    share: OwnRows | None = None


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
        self._ranks = Ranks.current()
        if not isinstance(self.share, OwnRows):  # a full disk is an error now
            self._all_users = self._users(self._of_all, self.user_rows, self.interactions)

    def validated(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model to validate: histories have training rows only, as in training.

        It has the users of this process. The tables have to be released before training
        goes on.
        """
        if self._ranks is None:
            return self._model(run, log, self._all_users, run.past)
        past = run.past
        if past is not None:
            past = past.of_users(codes_of_shard(self._of_all, self._ranks.shard))
        return self._model(run, log, self._own_users, past)

    def complete(self, run: TrainingRun, log: TrainingLog) -> ModelState:
        """The model to serve: histories have all rows, and the optimizer its memory.

        If this process has read its share of the rows, the model has its users. The tables
        have to be released before training goes on.
        """
        has_share = isinstance(self.share, OwnRows)
        users = self._own_users if has_share else self._all_users
        past, history = None, self.settings.history
        if history is not None:
            items = self.data.item.entities
            past = past_items(users.interactions, users.entities, items, history)
        state = self._model(run, log, users, past)
        memory = remember(run.optimizer, run.trained)
        memory = run.tables.complete(memory, own_users=has_share)
        return replace(
            state,
            item=replace(state.item, entities=state.item.entities.now()),
            optimizer=(self.configuration.optimizer, memory),
        )

    @cached_property
    def _of_all(self) -> Entities:
        """The users of all processes."""
        return self.data.user.entities.now()

    @cached_property
    def _own_users(self) -> _Users:
        """The users of this process, which have codes of their own."""
        assert self._ranks is not None
        of_all, shard = self._of_all, self._ranks.shard
        share, rows = self.share, self.interactions
        if not isinstance(share, OwnRows):
            owners = column_store.take(of_all.id_codes, rows.users) % shard.size
            share, rows = OwnRows.of_all_rows(rows, owners, self._ranks)
        entities = users_of_shard(of_all, shard)
        code_of = np.zeros(len(of_all) + 1, dtype=np.int32)
        code_of[codes_of_shard(of_all, shard)] = np.arange(1, len(entities) + 1)
        rows = replace(rows, users=column_store.take(code_of, rows.users))
        entity_rows = entities.rows(with_id=self.configuration.user.id_embedding)
        return self._users(entities, entity_rows, rows, share)

    def _users(
        self,
        entities: Entities,
        entity_rows: EntityRows,
        interactions: InteractionCodes,
        share: OwnRows | None = None,
    ) -> _Users:
        """Users and what they have seen."""
        users, items = interactions.users, interactions.items
        seen = pair_matrix(users, items, len(entities), len(self.data.item.entities))
        return _Users(entities, entity_rows, interactions, seen, share)

    def _model(
        self, run: TrainingRun, log: TrainingLog, users: _Users, past: PastItems | None
    ) -> ModelState:
        """A model of some users, without the memory of the optimizer."""
        share = users.share
        run.tables.gather(run.served, own_users=share is not None)
        make = partial(self._state, run, log, users, past)
        if share is None:
            return make()
        with own_errors():  # vectors of one process alone may not be finite
            state = share.ranks.on_all(make)
        return replace(state, shard=_shard_of(state, self._of_all, share))

    def _state(
        self,
        run: TrainingRun,
        log: TrainingLog,
        users: _Users,
        past: PastItems | None,
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
            optimizer=(self.configuration.optimizer, {}),
            frequencies=run.frequencies,
            settings=self.settings,
            log=log,
        )


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
