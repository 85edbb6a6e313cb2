"""What a fit leaves: everything that queries, saving and a later training need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from sktwotower._data.entities import Entities
from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import n_users_of_items
from sktwotower._data.roles import SIDES, ColumnRoles, SideName
from sktwotower._data.user_shards import codes_of_shard
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.optim import OptimizerState
from sktwotower._nn.shards import Shard
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._search.faiss_index import FaissIndex
from sktwotower._training.settings import Settings
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import Column


@dataclass(frozen=True, eq=False)
class SideState:
    """The users or the items of a fitted model.

    Attributes
    ----------
    name : {"user", "item"}
        Which side it is.
    id_columns : tuple of str or int
        Columns of a frame that may hold its ids; the first one that is there is read.
    entities : Entities
        Known ids with their codes, encoded features and encoder.
    embeddings : ndarray of shape (n, embedding_dim), float32
        Row ``r`` belongs to code ``r + 1``.
    unknown : ndarray of shape (embedding_dim,), float32
        The vector of code 0.
    trains_cold_path : bool
        Whether the tower was trained without ids, so that an entity without training rows
        is placed by its features.
    index : FaissIndex or None
        An index over the embeddings that queries choose from. Pickles and deep copies do
        not contain it.
    """

    name: SideName
    id_columns: tuple[Column, ...]
    entities: Entities
    embeddings: np.ndarray
    unknown: np.ndarray
    trains_cold_path: bool
    index: FaissIndex | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "index": None}

    @property
    def vocabulary(self) -> Vocabulary:
        """Ids and codes."""
        return self.entities.vocabulary

    def read_in(self, past: PastItems, width: int) -> PastItems:
        """Histories of these items, with ``width`` numbers of each that a tower reads."""
        if not past.are_sequences:
            return past
        vectors = np.concatenate([self.unknown[None, :width], self.embeddings[:, :width]])
        return replace(past, vectors=torch.from_numpy(vectors))

    def recommendable(self) -> np.ndarray:
        """Codes that queries choose from unless they name candidates, ascending."""
        return recommendable(self.entities, trains_cold_path=self.trains_cold_path)


def recommendable(entities: Entities, *, trains_cold_path: bool) -> np.ndarray:
    """Codes of the entities that can be recommended, ascending.

    These are the entities with training rows and, if the tower was trained without ids,
    those with features.
    """
    inside = entities.id_codes[: len(entities) + 1] > 0
    if trains_cold_path:
        inside = inside | entities.described
    return np.flatnonzero(inside)


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """How training went.

    Attributes
    ----------
    loss_curve : tuple of float
        Mean loss of each epoch.
    validation_metric : str, tuple of str or None
        What was validated, as it was given; None without validation.
    validation_scores : tuple of tuples of float
        Each metric after each epoch.
    """

    loss_curve: tuple[float, ...] = ()
    validation_metric: str | tuple[str, ...] | None = None
    validation_scores: tuple[tuple[float, ...], ...] = ()

    @property
    def deciding_metric(self) -> str | None:
        """The metric that decides; None without validation."""
        metric = self.validation_metric
        return metric if metric is None or isinstance(metric, str) else metric[0]

    @property
    def best_validation_score(self) -> float | None:
        """The highest value of the metric that decides; None without validation."""
        if self.validation_metric is None:
            return None
        scores = self.validation_scores[0]
        return max((s for s in scores if s == s), default=float("nan"))


@dataclass(frozen=True, eq=False)
class UserShard:
    """What a process knows of all users, whose model has some of them.

    Attributes
    ----------
    shard : Shard
        Which of the users the model has.
    users : Entities
        All users.
    numbers : ndarray of shape (n_rows,), int64
        Where the training rows of this process are among those of all.
    n_rows : int
        Training rows of all processes.
    n_positives : ndarray of shape (n_items + 1,), float32
        Number of positives of each item code.
    n_users_of_items : ndarray of shape (n_items,), float64
        Number of users that have seen each item.
    mean_user : ndarray of shape (embedding_dim,), float32
        The mean of the users' embeddings.
    """

    shard: Shard
    users: Entities
    numbers: np.ndarray
    n_rows: int
    n_positives: np.ndarray
    n_users_of_items: np.ndarray
    mean_user: np.ndarray


def _longer(counts: np.ndarray, n: int) -> np.ndarray:
    """Counts of ``n`` items, of which the last ones were added without a row."""
    return np.pad(counts, (0, n - len(counts)))


@dataclass(frozen=True, eq=False)
class ModelState:
    """Everything that a fit leaves.

    ``fit``, ``partial_fit``, ``add_items`` and ``load`` make a new one; nothing changes it.
    Queries, ``save`` and ``export_onnx`` read it.

    Attributes
    ----------
    roles : ColumnRoles
        What the columns of X mean.
    user, item : SideState
        Both sides.
    towers : TwoTowers
        As they are served, on the CPU.
    catalogue : ndarray of shape (n_catalogue,)
        Codes of the items that are recommended, ascending.
    interactions : InteractionCodes
        All training rows so far.
    seen : csr_matrix of shape (n_users, n_items), bool
        Their pairs.
    past : PastItems or None
        The users' histories; None without a history field.
    optimizer : tuple of str and dict
        Name and memory of the optimizer, for a later training.
    frequencies : StreamingFrequencies or None
        How often items have been in a batch; None: computed from the interactions.
    settings : Settings
        What "auto" stood for in the last training.
    log : TrainingLog
        How training went.
    shard : UserShard or None
        What is known of all users where ``user``, ``seen``, ``past`` and ``interactions``
        are of some of them; None: they are of all.
    """

    roles: ColumnRoles
    user: SideState
    item: SideState
    towers: TwoTowers
    catalogue: np.ndarray
    interactions: InteractionCodes
    seen: sp.csr_matrix
    past: PastItems | None
    optimizer: tuple[str, OptimizerState]
    frequencies: StreamingFrequencies | None
    settings: Settings
    log: TrainingLog
    shard: UserShard | None = None

    @property
    def users(self) -> Vocabulary:
        """Known users."""
        return self.user.vocabulary

    @property
    def items(self) -> Vocabulary:
        """Known items."""
        return self.item.vocabulary

    def side(self, name: SideName) -> SideState:
        """The users or the items."""
        return self.user if name == "user" else self.item

    def tower(self, name: SideName) -> Tower:
        """The tower of the users or the items."""
        return self.towers.user_tower if name == "user" else self.towers.item_tower

    @property
    def temperature(self) -> float:
        """What scores were divided by in the loss."""
        temperature = self.towers.temperature
        return temperature if isinstance(temperature, float) else temperature.item()

    @property
    def n_rows(self) -> int:
        """Number of training rows, of all users."""
        return len(self.interactions) if self.shard is None else self.shard.n_rows

    @property
    def n_positives(self) -> np.ndarray:
        """Number of positives of each item code, of all users; (n_items + 1,) float32."""
        n_items = len(self.item.entities)
        if self.shard is None:
            return self.interactions.n_positives(n_items)
        return _longer(self.shard.n_positives, n_items + 1)

    @property
    def n_users_of_items(self) -> np.ndarray:
        """Number of users that have seen each item, (n_items,)."""
        if self.shard is not None:
            return _longer(self.shard.n_users_of_items, len(self.item.entities))
        return n_users_of_items(self.seen)

    @property
    def mean_user(self) -> np.ndarray:
        """The mean of the users' embeddings, (embedding_dim,)."""
        if self.shard is not None:
            return self.shard.mean_user
        mean: np.ndarray = self.user.embeddings.mean(axis=0)
        return mean

    @property
    def all_users(self) -> Entities:
        """The users of all shards."""
        return self.user.entities if self.shard is None else self.shard.users

    def with_all_users(self) -> ModelState:
        """The state to go on from, in which users have their codes among all users."""
        if self.shard is None:
            return self
        users = self.shard.users
        codes = codes_of_shard(users, self.shard.shard).astype(np.int32)
        rows = self.interactions
        rows = replace(rows, users=column_store.take(codes, rows.users - 1))
        return replace(self, user=replace(self.user, entities=users), interactions=rows)

    def differs_in_indexes_only(self, other: ModelState) -> bool:
        """Whether the other one is the same model, with or without indexes."""
        return self.towers is other.towers and all(
            self.side(name).entities is other.side(name).entities for name in SIDES
        )

    def with_items(self, item: SideState) -> ModelState:
        """The state with more items, or with other features of items."""
        shape = len(self.user.entities), len(item.entities)
        # The same arrays: only columns are added, and the matrix may be mapped from a file.
        arrays = self.seen.data, self.seen.indices, self.seen.indptr
        seen = sp.csr_matrix(arrays, shape=shape)
        past = self.past
        if past is not None:
            past = replace(past, id_codes=item.entities.id_codes)
            past = item.read_in(past, self.settings.embedding_dim)
        return replace(
            self, item=item, catalogue=item.recommendable(), seen=seen, past=past
        )
