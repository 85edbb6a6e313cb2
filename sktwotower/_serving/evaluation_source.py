"""A model state as the evaluation sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.feature_frames import value_codes
from sktwotower._data.interactions import Interactions
from sktwotower._data.queries import as_feature_frame
from sktwotower._data.roles import ColumnRoles
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.top_k import DotScores
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.state import ModelState


@dataclass(frozen=True, eq=False)
class StateEvaluation:
    """What :class:`~sktwotower.metrics._sources.EvaluationSource` asks for.

    Attributes
    ----------
    state : ModelState
        The model.
    """

    state: ModelState

    @property
    def roles(self) -> ColumnRoles:
        """What the columns of X mean."""
        return self.state.roles

    @property
    def users(self) -> Vocabulary:
        """Known users."""
        return self.state.user.vocabulary

    @property
    def items(self) -> Vocabulary:
        """Known items."""
        return self.state.item.vocabulary

    @property
    def seen(self) -> sp.csr_matrix:
        """Pairs of training, (n_users, n_items)."""
        return self.state.seen

    @property
    def catalogue(self) -> np.ndarray:
        """Codes of the items that are ranked."""
        return self.state.catalogue

    @property
    def temperature(self) -> float:
        """The temperature of the loss."""
        return self.state.temperature

    def query_scores(self, queries: Interactions, item_codes: np.ndarray) -> DotScores:
        """Scores of the users of some rows for items, by ascending codes."""
        features = as_feature_frame(queries.user_features)
        return self.code_scores(self.users.codes(queries.users), item_codes, features)

    def code_scores(
        self,
        user_codes: np.ndarray,
        item_codes: np.ndarray,
        user_features: pd.DataFrame | None = None,
    ) -> DotScores:
        """Scores of users for items, by ascending codes."""
        users = EntityEmbedder.of(self.state, "user")
        items = EntityEmbedder.of(self.state, "item")
        return items.scores(users.vectors(user_codes, user_features), item_codes)

    def pair_scores(self, interactions: Interactions) -> np.ndarray:
        """Score of each row's pair, (n_rows,)."""
        users = EntityEmbedder.of(self.state, "user").vectors(
            self.users.codes(interactions.users),
            as_feature_frame(interactions.user_features),
        )
        items = EntityEmbedder.of(self.state, "item").vectors(
            self.items.codes(interactions.items),
            as_feature_frame(interactions.item_features),
        )
        scores: np.ndarray = np.einsum("nd,nd->n", users, items)
        return scores

    def other_item_features(self, interactions: Interactions) -> list:
        """Names of item features that differ from those that items are ranked with."""
        features = as_feature_frame(interactions.item_features)
        entities = self.state.item.entities
        if features is None or entities.raw_positions is None:
            return []
        codes = self.items.codes(interactions.items)
        known = np.flatnonzero(entities.described[codes])
        features = features.iloc[known].reset_index(drop=True)
        ranked_with = pd.DataFrame(entities.complete(codes[known], features.iloc[:, :0]))
        names = []
        for name, column in features.items():
            both = [column.astype(object), ranked_with[name].astype(object)]
            values = value_codes(pd.concat(both, ignore_index=True))
            if (values[: len(known)] != values[len(known) :]).any():
                names.append(name)
        return names

    def item_vectors(self, item_codes: np.ndarray) -> np.ndarray:
        """Embeddings of items, (n, embedding_dim)."""
        return EntityEmbedder.of(self.state, "item").vectors(item_codes)
