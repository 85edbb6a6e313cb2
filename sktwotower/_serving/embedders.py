"""Embeddings of users and items, known ones and new ones, from a model state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.entity_building import add_entities
from sktwotower._data.histories import InteractionCodes, PastItems, Windows
from sktwotower._data.known_ids import refuse_mixed, refuse_other_kinds
from sktwotower._data.queries import (
    FrameColumns,
    Query,
    read_entities,
    read_history,
    read_query,
)
from sktwotower._data.roles import ColumnRoles, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.inputs import TowerRows
from sktwotower._nn.towers import Tower
from sktwotower._search.top_k import DotScores
from sktwotower._training.state import ModelState, SideState
from sktwotower.utils._forms import is_empty


@dataclass(frozen=True, eq=False, repr=False)
class EntityEmbedder:
    """Embeds the users or the items of a fitted model.

    Attributes
    ----------
    roles : ColumnRoles
        What the columns of X mean.
    state : SideState
        Known ids, their features and embeddings.
    tower : Tower
        Embeds new ids and other features.
    past : PastItems or None
        The users' histories.
    """

    roles: ColumnRoles
    state: SideState
    tower: Tower
    past: PastItems | None = None

    def __repr__(self) -> str:
        n = len(self.state.embeddings)
        return f"<{n} {self.name}s, embedding_dim={self.tower.dim}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> EntityEmbedder:
        """Itself: it never changes, and clones of a tower share it."""
        return self

    @classmethod
    def of(cls, state: ModelState, name: SideName) -> EntityEmbedder:
        """The embedder of the users or the items."""
        past = state.past if name == "user" else None
        return cls(state.roles, state.side(name), state.tower(name), past)

    @property
    def name(self) -> SideName:
        """``"user"`` or ``"item"``."""
        return self.state.name

    @property
    def columns(self) -> FrameColumns:
        """The columns that are read from a frame of users or items."""
        return FrameColumns(
            self.state.id_columns,
            self.state.entities.columns,
            [] if self.roles.feature_names is None else self.roles.feature_names.tolist(),
        )

    @property
    def field_names(self) -> list[str]:
        """Names of the fields of the tower, in its order."""
        fields = ["id"] if self.tower.id_table is not None else []
        fields += ["history"] if self.past is not None else []
        sparse, dense = self.state.entities.field_order()
        return fields + [str(name) for name in (*sparse, *dense)]

    def query(self, X: Any, where: str, *, unknown: str | None = None) -> Query:
        """Read what a query is given in the argument ``where``; see `read_query`."""
        return read_query(
            X,
            self.name,
            where=where,
            roles=self.roles,
            vocabulary=self.state.vocabulary,
            columns=self.columns,
            unknown=unknown,
        )

    def later_history(
        self, query: Query, history: Any, items: Vocabulary
    ) -> tuple[InteractionCodes | None, Windows | None]:
        """Further interactions of users who are asked about, and the windows with them.

        None: there are none, or nothing that the tower reads changes.
        """
        if history is None or is_empty(history):
            return None, None
        further = read_history(history, query, roles=self.roles, items=items)
        if self.past is None:
            return further, None
        return further, self.past.with_more(query.codes, further)

    def rows_of(self, frame: Any, where: str) -> tuple[np.ndarray, pd.DataFrame | None]:
        """Ids and features of a frame with one row for each user or item."""
        return read_entities(frame, self.name, where=where, columns=self.columns)

    def rows_to_add(self, frame: Any, where: str) -> tuple[np.ndarray, pd.DataFrame | None]:
        """The same, whose ids are going to be known: of one type with the known ones."""
        ids, features = self.rows_of(frame, where)
        what = f"{self.name} id"
        refuse_mixed(ids, where=where, what=what)
        refuse_other_kinds(ids, self.state.vocabulary, where=where, what=what)
        return ids, features

    def vectors(
        self,
        codes: np.ndarray,
        features: pd.DataFrame | None = None,
        windows: Windows | None = None,
    ) -> np.ndarray:
        """Embeddings of codes, (n, embedding_dim), float32.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            0 for unknown ids.
        features : DataFrame of n rows, optional
            Feature columns that replace those of training.
        windows : Windows, optional
            Histories that replace those of training.
        """
        if features is None and windows is None:
            if not len(self.state.embeddings):  # a shard without a user
                return np.tile(self.state.unknown, (len(codes), 1))
            vectors: np.ndarray = self.state.embeddings[codes - 1]
            vectors[codes == 0] = self.state.unknown  # code 0 had taken the last row
            return vectors
        return self.tower.embed(self.inputs(codes, features, windows)).numpy()

    def inputs(
        self,
        codes: np.ndarray,
        features: pd.DataFrame | None = None,
        windows: Windows | None = None,
    ) -> TowerRows:
        """What the tower reads of codes; the parameters are those of `vectors`."""
        entities = self.state.entities.take(codes, features)
        rows = entities.rows(with_id=self.tower.id_table is not None)
        return rows if self.past is None else self.past.rows(rows, codes, windows)

    def scores(self, queries: np.ndarray, codes: np.ndarray) -> DotScores:
        """Scores of vectors (n_queries, dim) for known entities, by ascending codes."""
        embeddings = self.state.embeddings
        if len(codes) and codes[-1] - codes[0] == len(codes) - 1:  # no copy is needed
            return DotScores(queries, embeddings[codes[0] - 1 : codes[-1]])
        return DotScores(queries, embeddings, codes - 1)

    def with_entities(self, ids: np.ndarray, features: pd.DataFrame) -> SideState:
        """The side with more entities, or with other features of known ones."""
        state = self.state
        vectors = self.vectors(state.vocabulary.codes(ids), features)
        entities, codes = add_entities(state.entities, ids, features)
        embeddings = np.empty((len(entities), vectors.shape[1]), dtype=vectors.dtype)
        embeddings[: len(state.embeddings)] = state.embeddings
        embeddings[codes - 1] = vectors
        return replace(state, entities=entities, embeddings=embeddings, index=None)
