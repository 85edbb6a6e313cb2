"""Recommendations by scores of any kind, in the form that ranking scorers take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.suite.data import DataSet


@dataclass(frozen=True, eq=False)
class Pairs:
    """The distinct pairs of the train rows.

    Attributes
    ----------
    user_ids : Index of shape (n_users,)
    item_ids : ndarray of shape (n_items,)
    matrix : csr_matrix of shape (n_users, n_items), float32
        1 for each pair.
    """

    user_ids: pd.Index
    item_ids: np.ndarray
    matrix: sp.csr_matrix

    @classmethod
    def of(cls, record: DataSet) -> Self:
        """The pairs of a record."""
        users, user_ids = pd.factorize(record.train[record.user_column])
        items, item_ids = pd.factorize(record.train[record.item_column])
        shape = len(user_ids), len(item_ids)
        matrix = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
        return cls(pd.Index(user_ids), np.asarray(item_ids), matrix.sign())

    def seen_items(self, user_ids: Any) -> list[np.ndarray]:
        """The items that each user has."""
        rows, of = self.user_ids.get_indexer(user_ids), self.matrix
        return [self.item_ids[of[[row]].indices if row >= 0 else []] for row in rows]


class ScoredItems:
    """A recommender that is nothing but scores.

    Parameters
    ----------
    pairs : Pairs
        What was learnt from.
    score : callable
        Takes row numbers of users, (b,), where -1 is an unknown one, and returns scores,
        (b, n_items).
    """

    def __init__(self, pairs: Pairs, score: Callable[[np.ndarray], np.ndarray]) -> None:
        self.pairs = pairs
        self.score = score
        self.user_ids_ = pairs.user_ids.to_numpy()
        self.item_ids_ = pairs.item_ids

    def recommend(
        self, user_ids: Any, *, n_recommendations: int, exclude_seen: bool
    ) -> np.ndarray:
        """The ids of the items with the highest scores, best first, (b, n)."""
        rows = self.pairs.user_ids.get_indexer(user_ids)
        scores = self.score(rows)
        if exclude_seen:
            known = np.flatnonzero(rows >= 0)
            users, items = self.pairs.matrix[rows[known]].nonzero()
            scores[known[users], items] = -np.inf
        n = min(n_recommendations, scores.shape[1])
        best = np.argpartition(-scores, n - 1, axis=1)[:, :n]
        best_scores = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        ids = self.item_ids_[np.take_along_axis(best, order, axis=1)].astype(object)
        return np.where(np.isneginf(best_scores), None, ids)

    def seen_items(self, user_ids: Any) -> list[np.ndarray]:
        """The items that each user has."""
        return self.pairs.seen_items(user_ids)


class ListedItems:
    """A recommender that is nothing but the best items of each user, seen ones left out.

    Parameters
    ----------
    pairs : Pairs
        What was learnt from.
    lists : DataFrame
        Columns user_id, item_id and rank, which starts at 1.
    """

    def __init__(self, pairs: Pairs, lists: pd.DataFrame) -> None:
        self.pairs = pairs
        self.user_ids_ = pairs.user_ids.to_numpy()
        self.item_ids_ = pairs.item_ids
        n = int(lists["rank"].max())
        self.lists = np.full((len(pairs.user_ids), n), None, dtype=object)
        rows = pairs.user_ids.get_indexer(lists["user_id"])
        self.lists[rows, lists["rank"] - 1] = lists["item_id"]

    def recommend(
        self, user_ids: Any, *, n_recommendations: int, exclude_seen: bool
    ) -> np.ndarray:
        """The ids of the best items, best first, (b, n)."""
        if not exclude_seen or n_recommendations > self.lists.shape[1]:
            raise ValueError(
                f"the lists have {self.lists.shape[1]} items that are not seen"
            )
        rows = self.pairs.user_ids.get_indexer(user_ids)
        return self.lists[rows, :n_recommendations]

    def seen_items(self, user_ids: Any) -> list[np.ndarray]:
        """The items that each user has."""
        return self.pairs.seen_items(user_ids)
