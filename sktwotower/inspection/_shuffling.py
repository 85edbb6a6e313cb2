"""A model as the evaluation sees it, with a field of its users or items shuffled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._data.interactions import Interactions
from sktwotower._data.queries import as_feature_frame
from sktwotower._data.roles import Frame, SideName
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._search.top_k import DotScores
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._training.state import ModelState
from sktwotower.metrics._query_rows import query_rows

# What is shuffled: the ids, the histories, or a slice of the encoded features.
Part = str | slice
ID, HISTORY = "id", "history"


@dataclass(frozen=True, eq=False)
class TowerInputs:
    """What a tower reads of the users, or items, of an evaluation.

    Attributes
    ----------
    embedder : EntityEmbedder
        Embeds them.
    codes : ndarray of shape (n,)
        Their codes.
    entities : Entities
        A row for each of them.
    """

    embedder: EntityEmbedder
    codes: np.ndarray
    entities: Entities

    @classmethod
    def of(
        cls, embedder: EntityEmbedder, codes: np.ndarray, features: Frame | None = None
    ) -> TowerInputs:
        """The inputs of some codes, with features that replace those of training."""
        frame = as_feature_frame(features)
        if frame is not None:
            frame = frame.reset_index(drop=True)
        entities = embedder.state.entities.take(codes, frame)
        return cls(embedder, codes, entities)

    def __len__(self) -> int:
        return len(self.codes)

    def vectors(self, part: Part | None, others: Any = None) -> np.ndarray:
        """Embeddings, (n, embedding_dim), of which each has a part of another one.

        ``others`` (n,) has the position of that other one; with ``part=None`` each keeps
        all of its own.
        """
        entities, history_codes = self.entities, self.codes
        if isinstance(part, slice):
            own, of_others = entities.features, entities.features[others]
            blocks = [own[:, : part.start], of_others[:, part], own[:, part.stop :]]
            entities = replace(entities, features=sp.hstack(blocks, format="csr"))
        elif part == ID:
            entities = replace(entities, id_codes=entities.id_codes[others])
        elif part == HISTORY:
            history_codes = self.codes[others]
        tower, past = self.embedder.tower, self.embedder.past
        inputs: EntityRows = entities.rows(with_id=tower.id_table is not None)
        rows: TowerRows = inputs if past is None else past.rows(inputs, history_codes)
        vectors: np.ndarray = tower.embed(rows).numpy()
        return vectors


@dataclass(frozen=True, eq=False)
class ShuffledEvaluation(StateEvaluation):
    """The evaluation of a state whose users and items have given vectors.

    Attributes
    ----------
    rows : Interactions
        The rows that are evaluated. In place of features, each has the position of its
        vector; items have none if they are found by code.
    inputs : dict of SideName to TowerInputs
        What the vectors are made of.
    given : dict of SideName to ndarray
        The vectors. The last one of users is that of the unknown user.
    """

    rows: Interactions
    inputs: dict[SideName, TowerInputs]
    given: dict[SideName, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, state: ModelState, rows: Interactions, *, by_row: bool, per_row: bool
    ) -> ShuffledEvaluation:
        """An evaluation of rows.

        Parameters
        ----------
        state : ModelState
            The model.
        rows : Interactions
            Rows with features.
        by_row : bool
            Whether rows are evaluated, and nothing is ranked.
        per_row : bool
            Whether each row is ranked for itself.
        """
        users = EntityEmbedder.of(state, "user")
        if rows.user_features is None:
            asked = rows if by_row else rows.take(rows.positive)
            codes = np.unique(users.state.vocabulary.codes(asked.users))
            inputs: dict[SideName, TowerInputs]
            inputs = {"user": TowerInputs.of(users, codes[codes > 0])}
            user_positions = _positions(inputs["user"].codes, state.users.codes(rows.users))
        else:
            chosen = user_positions = np.arange(len(rows))
            if not by_row:
                queries = query_rows(rows, per_row=per_row)
                chosen = queries.rows
                user_positions = np.zeros(len(rows), dtype=np.int64)
                user_positions[rows.positive] = queries.query_of_pair
            asked = rows.take(chosen)
            codes = state.users.codes(asked.users)
            inputs = {"user": TowerInputs.of(users, codes, asked.user_features)}
        items, item_positions = EntityEmbedder.of(state, "item"), None
        if by_row and rows.item_features is not None:
            codes = state.items.codes(rows.items)
            inputs["item"] = TowerInputs.of(items, codes, rows.item_features)
            item_positions = pd.Series(np.arange(len(rows)))
        else:
            inputs["item"] = TowerInputs.of(items, state.catalogue)
        rows = replace(
            rows,
            user_features=pd.Series(user_positions),
            item_features=item_positions,
            times=None,
        )
        return cls(state, rows, inputs)

    def with_vectors(
        self, side: SideName, part: Part | None, others: Any = None
    ) -> ShuffledEvaluation:
        """The same with a part of the users or items shuffled."""
        vectors = self.inputs[side].vectors(part, others)
        if side == "user":
            vectors = np.vstack([vectors, self.state.user.unknown[np.newaxis]])
            return replace(self, given={**self.given, side: vectors})
        if self.rows.item_features is not None:
            return replace(self, given={**self.given, side: vectors})
        embeddings = self.state.item.embeddings.copy()
        embeddings[self.inputs[side].codes - 1] = vectors
        item = replace(self.state.item, embeddings=embeddings, index=None)
        return replace(self, state=replace(self.state, item=item))

    def query_scores(self, queries: Interactions, item_codes: np.ndarray) -> DotScores:
        """Scores of the users of some rows for items, by ascending codes."""
        items = EntityEmbedder.of(self.state, "item")
        return items.scores(self._vectors("user", queries.user_features), item_codes)

    def pair_scores(self, interactions: Interactions) -> np.ndarray:
        """Score of each row's pair, (n_rows,)."""
        users = self._vectors("user", interactions.user_features)
        if interactions.item_features is None:
            embedder = EntityEmbedder.of(self.state, "item")
            items = embedder.vectors(self.items.codes(interactions.items))
        else:
            items = self._vectors("item", interactions.item_features)
        scores: np.ndarray = np.einsum("nd,nd->n", users, items)
        return scores

    def other_item_features(self, interactions: Interactions) -> list:
        """Item features are positions here."""
        return []

    def _vectors(self, side: SideName, positions: Any) -> np.ndarray:
        return self.given[side][positions.to_numpy()]


def _positions(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of wanted codes among ascending codes, (n,); -1 for others."""
    positions = np.full(int(max(codes.max(initial=0), wanted.max(initial=0))) + 1, -1)
    positions[codes] = np.arange(len(codes))
    return positions[wanted]
