"""A model state as the evaluation sees it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

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
    def n_users_of_items(self) -> np.ndarray:
        """Number of users that have seen each item in training, (n_items,)."""
        return self.state.n_users_of_items

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
        scores: np.ndarray = np.einsum("nd,nd->n", *self.pair_vectors(interactions))
        return scores

    def pair_vectors(self, interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of each row's user and item, each (n_rows, embedding_dim)."""
        users = EntityEmbedder.of(self.state, "user").vectors(
            self.users.codes(interactions.users),
            as_feature_frame(interactions.user_features),
        )
        items = EntityEmbedder.of(self.state, "item").vectors(
            self.items.codes(interactions.items),
            as_feature_frame(interactions.item_features),
        )
        return users, items

    def other_item_features(self, interactions: Interactions) -> list:
        """Names of item features that are those of other items.

        A feature that changed from row to row in training, or has new values now, drifts.
        """
        features = as_feature_frame(interactions.item_features)
        entities = self.state.item.entities
        if features is None or entities.raw_positions is None:
            return []
        codes = self.items.codes(interactions.items)
        known = np.flatnonzero(entities.described[codes])
        features = features.iloc[known].reset_index(drop=True)
        ranked_with = pd.DataFrame(entities.complete(codes[known], features.iloc[:, :0]))
        known_features = pd.DataFrame(entities.raw_features)
        return [
            name
            for name, column in features.items()
            if name not in entities.varying
            and _are_of_others(column, ranked_with[name], known_features[name])
        ]

    def item_vectors(self, item_codes: np.ndarray) -> np.ndarray:
        """Embeddings of items, (n, embedding_dim), without the entry of popularity.

        Items are not alike because they are equally popular.
        """
        embedder = EntityEmbedder.of(self.state, "item")
        return embedder.vectors(item_codes)[:, : embedder.tower.dim]


def _differ(given: pd.Series, known: pd.Series) -> np.ndarray:
    """Which values differ, (n,); floats as far as the coarser type can tell."""
    one, other = _plain(given), _plain(known)
    if _are_lists(one) and _are_lists(other):
        return _lists_differ(one, other)
    floats = [kind for kind in map(_float_kind, (given, known)) if kind is not None]
    if floats and all(pd.api.types.is_numeric_dtype(each) for each in (one, other)):
        coarser = max(floats, key=lambda kind: kind.eps)
        return ~np.isclose(
            one.to_numpy(dtype=np.float64, na_value=np.nan),
            other.to_numpy(dtype=np.float64, na_value=np.nan),
            rtol=2 * float(coarser.eps),
            atol=float(coarser.smallest_subnormal),
            equal_nan=True,
        )
    both = [column.astype(object) for column in (one, other)]
    values = value_codes(pd.concat(both, ignore_index=True))
    differ: np.ndarray = values[: len(one)] != values[len(one) :]
    return differ


def _are_of_others(given: pd.Series, known: pd.Series, of_all: pd.Series) -> bool:
    """Whether a value that differs from the known one is among those of all entities."""
    other = given[_differ(given, known)]
    one, all_values = _plain(other), _plain(of_all)
    floats = [kind for kind in map(_float_kind, (given, of_all)) if kind is not None]
    if floats and all(pd.api.types.is_numeric_dtype(each) for each in (one, all_values)):
        coarser = max(floats, key=lambda kind: kind.eps).dtype
        with np.errstate(over="ignore"):
            numbers, all_numbers = (
                each.to_numpy(dtype=np.float64, na_value=np.nan).astype(coarser)
                for each in (one, all_values)
            )
        return bool(np.isin(numbers, all_numbers).any())
    both = [column.astype(object) for column in (one, all_values)]
    values = value_codes(pd.concat(both, ignore_index=True))
    return bool(np.isin(values[: len(one)], values[len(one) :]).any())


def _plain(column: pd.Series) -> pd.Series:
    """Values of a Categorical or of objects, in a dtype of their own if they have one."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    return column.convert_dtypes() if column.dtype == object else column


def _float_kind(column: pd.Series) -> np.finfo | None:
    """What floats a column has, if any; objects do not tell, so they may be float32."""
    dtype: Any = _plain(column).dtype
    dtype = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
    if not isinstance(dtype, np.dtype) or dtype.kind != "f":
        return None
    return np.finfo(np.float32 if column.dtype == object else dtype)


def _are_lists(column: pd.Series) -> bool:
    """Whether all values that are there are lists, tuples or arrays."""
    kinds = (list, tuple, np.ndarray)
    return column.dtype.kind == "O" and all(
        isinstance(value, kinds) for value in column[column.notna()]
    )


def _lists_differ(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Which lists differ in their length or in an entry, (n,)."""
    lengths = [
        np.array(
            [-1 if gap else len(v) for v, gap in zip(column, column.isna(), strict=True)],
            dtype=np.int64,
        )
        for column in (one, other)
    ]
    differ: np.ndarray = lengths[0] != lengths[1]
    alike = np.flatnonzero(~differ & (lengths[0] > 0))
    if len(alike):
        entries = [
            pd.Series(list(chain.from_iterable(column.iloc[alike])), dtype=object)
            for column in (one, other)
        ]
        rows = np.repeat(alike, lengths[0][alike])
        differ[rows[_differ(*entries)]] = True
    return differ
