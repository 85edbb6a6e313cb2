"""Counts of pairs and items: what every baseline learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import (
    Interactions,
    read_interactions,
    read_later,
    refuse_mixed_ids,
)
from sktwotower._data.pairs import n_users_of_items, pair_matrix
from sktwotower._data.roles import ColumnRoles, as_interactions
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.top_k import RowScores
from sktwotower.base import RecommenderMixin


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of the training rows: the state of a fitted baseline.

    Attributes
    ----------
    roles : ColumnRoles
        What the columns of X mean.
    users, items : Vocabulary
        Known ids.
    seen : csr_matrix of shape (n_users, n_items), bool
        Pairs of all rows.
    catalogue : ndarray of shape (n_catalogue,)
        Codes of the items with a positive.
    positives : csr_matrix of shape (n_users, n_items), float32
        Pairs of the positive rows, binary.
    popularity : ndarray of shape (n_items + 1,)
        Number, or total weight, of the positives of each item code.
    """

    roles: ColumnRoles
    users: Vocabulary
    items: Vocabulary
    seen: sp.csr_matrix
    catalogue: np.ndarray
    positives: sp.csr_matrix
    popularity: np.ndarray

    temperature = 1.0

    @property
    def n_users_of_items(self) -> np.ndarray:
        """Number of users that have seen each item, (n_items,)."""
        return n_users_of_items(self.seen)

    @classmethod
    def of(
        cls, roles: ColumnRoles, interactions: Interactions, counted: np.ndarray
    ) -> Self:
        """The counts of checked rows.

        Parameters
        ----------
        roles : ColumnRoles
            Their columns.
        interactions : Interactions
            The rows.
        counted : ndarray of shape (n_rows,), bool
            The rows that make an item popular.
        """
        users, items = Vocabulary(interactions.users), Vocabulary(interactions.items)
        user_codes = users.codes(interactions.users)
        item_codes = items.codes(interactions.items)
        positive = interactions.positive
        weights = None if interactions.weights is None else interactions.weights[counted]
        counts = np.bincount(item_codes[counted], weights, len(items) + 1)
        sizes = len(users), len(items)
        positives = pair_matrix(user_codes[positive], item_codes[positive], *sizes)
        return cls(
            roles=roles,
            users=users,
            items=items,
            seen=pair_matrix(user_codes, item_codes, *sizes),
            catalogue=np.unique(item_codes[positive]),
            positives=positives.astype(np.float32),
            popularity=counts.astype(np.float64),
        )

    def scores_of_items(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function that scores user codes (b,) for these items: (b, n_items)."""
        counts = self.popularity[item_codes]
        return lambda user_codes: np.tile(counts, (len(user_codes), 1))

    def scores_of_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        """Scores of single pairs, (n_pairs,)."""
        return self.popularity[item_codes]

    def code_scores(self, user_codes: np.ndarray, item_codes: np.ndarray) -> RowScores:
        """Scores of users for items."""
        score = self.scores_of_items(item_codes)
        return RowScores(
            (len(user_codes), len(item_codes)),
            lambda rows: score(user_codes[rows]),
            lambda rows, columns: self.scores_of_pairs(
                user_codes[rows], item_codes[columns]
            ),
        )

    def query_scores(self, queries: Interactions, item_codes: np.ndarray) -> RowScores:
        """Scores of the users of some rows for items."""
        return self.code_scores(self.users.codes(queries.users), item_codes)

    def pair_scores(self, interactions: Interactions) -> np.ndarray:
        """Score of each row's pair, (n_rows,)."""
        return self.scores_of_pairs(
            self.users.codes(interactions.users), self.items.codes(interactions.items)
        )

    def other_item_features(self, interactions: Interactions) -> list:
        """Items have no features here."""
        return []

    def item_vectors(self, item_codes: np.ndarray) -> None:
        """Items have no vectors here."""


class CountingRecommender(RecommenderMixin, BaseEstimator):
    """A recommender that needs pairs of users and items only."""

    _parameter_constraints: dict = {
        "user_column": [str, Integral],
        "item_column": [str, Integral],
    }

    user_column: str | int
    item_column: str | int
    _state: Counts

    def _evaluation_source(self) -> Counts:
        check_is_fitted(self)
        return self._state

    def _read_training(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        timestamp_column: str | int | None = None,
    ) -> tuple[pd.DataFrame | np.ndarray, ColumnRoles, Interactions]:
        """The rows to learn from: as a table, their columns, and checked."""
        owner = type(self).__name__
        names = (self.user_column, self.item_column, timestamp_column)
        rows = as_interactions(X, owner=owner, in_index=names)
        roles = ColumnRoles.of_fit(
            rows,
            owner=owner,
            user_column=self.user_column,
            item_column=self.item_column,
            timestamp_column=timestamp_column,
        )
        interactions = read_interactions(rows, y, sample_weight, roles=roles)
        refuse_mixed_ids(interactions, roles)
        if not interactions.positive.any():
            raise ValueError(
                "There is nothing to learn from: no row of X is a positive (y > 0)."
            )
        return rows, replace(roles, times=interactions.time_range), interactions

    def predict(self, X: Any) -> np.ndarray:
        """Score of each row's pair.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores; an unknown item has 0.
        """
        counts = self._evaluation_source()
        rows = read_later(X, None, None, known=counts)
        return counts.pair_scores(rows)
