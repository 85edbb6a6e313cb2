"""What an estimator ranks for users: this package's and anybody's with ``recommend``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.utils._columns import id_array, is_frame


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of some users, and what the metrics need to know of the items.

    Attributes
    ----------
    ranked : ndarray of shape (n_users, n_ranked), int64
        Columns of candidates, padded with -1.
    n_items : int
        The number of candidates.
    popularity, embeddings : callable
        Of each candidate; called only when a metric asks.
    """

    ranked: np.ndarray
    n_items: int
    popularity: Callable[[], np.ndarray]
    embeddings: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class RelevantPairs:
    """Who should be shown what.

    Attributes
    ----------
    users : ndarray of shape (n_pairs,)
        Rows of the queries.
    item_ids : ndarray of shape (n_pairs,)
        A pair may be repeated.
    gains : ndarray of shape (n_pairs,) or None
        What each is worth, above 0; None: 1.
    """

    users: np.ndarray
    item_ids: np.ndarray
    gains: np.ndarray | None

    def matrix(self, columns: np.ndarray, n_users: int, n_items: int) -> sp.csr_matrix:
        """The largest gain of each pair, (n_users, n_items).

        ``columns`` are those of the items, -1 for what is no candidate.
        """
        inside = np.flatnonzero(columns >= 0)
        gains = np.ones(len(columns)) if self.gains is None else self.gains
        order = inside[np.argsort(-gains[inside], kind="stable")]
        keys = pd.Series(self.users[order] * n_items + columns[order])
        order = order[~keys.duplicated().to_numpy()]
        cells = self.users[order], columns[order]
        return sp.csr_matrix((gains[order], cells), shape=(n_users, n_items))

    def n_dropped(self, columns: np.ndarray, n_users: int) -> np.ndarray:
        """Different items of each user that are no candidates, (n_users,)."""
        outside = columns < 0
        pairs = pd.DataFrame({"user": self.users, "item": self.item_ids})[outside]
        users = pairs.drop_duplicates()["user"].to_numpy(dtype=np.int64)
        return np.bincount(users, minlength=n_users)


class NativeRanker:
    """Rankings of a recommender of this package."""

    def __init__(
        self,
        recommender: Any,
        queries: Interactions,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: ArrayLike | None,
    ) -> None:
        if candidates is not None:
            codes = recommender._item_vocabulary.codes(_candidate_ids(candidates))
            recommender = copy.copy(recommender)
            recommender._catalogue = np.unique(codes[codes > 0])
            if not len(recommender._catalogue):
                raise ValueError(
                    f"None of the {len(codes)} candidates is a known item; candidates are "
                    "item ids as in X."
                )
        self.recommender = recommender
        self.queries = queries
        self.exclude_seen = exclude_seen
        self.catalogue = recommender._catalogue
        self.n_items = len(self.catalogue)
        column_of = np.full(len(recommender._item_vocabulary) + 1, -1)
        column_of[self.catalogue] = np.arange(self.n_items)
        columns = column_of[recommender._item_vocabulary.codes(relevant.item_ids)]
        self._relevant = relevant.matrix(columns, len(queries), self.n_items)
        self._n_dropped = relevant.n_dropped(columns, len(queries))

    def depth(self, wanted: list[int | None]) -> int:
        return min(max(self.n_items if k is None else k for k in wanted), self.n_items)

    def rank(self, rows: np.ndarray, depth: int) -> tuple[Ranking, sp.csr_matrix]:
        relevant = self._relevant[rows]
        ranked = self.recommender._rank_held_out(
            self.queries.take(rows), relevant.sign(), depth, exclude_seen=self.exclude_seen
        )
        ranking = Ranking(ranked, self.n_items, self._popularity, self._embeddings)
        return ranking, relevant

    def relevant(self) -> sp.csr_matrix:
        return self._relevant

    def n_dropped(self) -> np.ndarray:
        return self._n_dropped

    def _popularity(self) -> np.ndarray:
        """Users of each candidate in training."""
        seen = np.asarray(self.recommender._seen.sum(axis=0)).ravel()
        counts = np.zeros(len(self.recommender._item_vocabulary))
        counts[: len(seen)] = seen
        return counts[self.catalogue - 1]

    def _embeddings(self) -> np.ndarray:
        if not hasattr(self.recommender, "_side"):
            raise TypeError(_no_embeddings(self.recommender))
        vectors: np.ndarray = self.recommender._side("item").vectors(self.catalogue)
        return vectors


class ExternalRanker:
    """The same through the public ``recommend`` of any estimator.

    The catalogue is its ``item_ids_`` where it has them, else whatever it recommended and
    whatever is relevant.
    """

    def __init__(
        self,
        recommender: Any,
        queries: Interactions,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: ArrayLike | None,
    ) -> None:
        self.recommender = recommender
        self.query_ids = queries.users
        self.pairs = relevant
        self.options: dict[str, Any] = {"exclude_seen": exclude_seen}
        known = getattr(recommender, "item_ids_", None)
        if candidates is not None:
            known = self.options["candidates"] = _candidate_ids(candidates)
        self.n_known = None if known is None else len(known)
        self.index = pd.Index(
            pd.unique(np.asarray(relevant.item_ids if known is None else known))
        )

    @property
    def n_items(self) -> int:
        return len(self.index)

    def depth(self, wanted: list[int | None]) -> int:
        if self.n_known is None:
            named = [k for k in wanted if k is not None]
            if len(named) < len(wanted):
                raise TypeError(
                    f"{type(self.recommender).__name__} has no item_ids_, so its complete "
                    "ranking, which 'auc' needs, has no known length; give candidates."
                )
            return max(named)
        return min(max(self.n_known if k is None else k for k in wanted), self.n_known)

    def rank(self, rows: np.ndarray, depth: int) -> tuple[Ranking, sp.csr_matrix]:
        query_ids = self.query_ids[rows]
        found = self.recommender.recommend(
            query_ids, n_recommendations=depth, **self.options
        )
        answers = found[0] if isinstance(found, tuple) else found
        if is_frame(answers) or len(answers) != len(query_ids):
            raise TypeError(
                f"{type(self.recommender).__name__}.recommend returned a "
                f"{type(answers).__name__} of {len(answers)} rows for {len(query_ids)} "
                "users; a scorer needs one row of item ids for each, or a tuple that "
                "starts with such rows."
            )
        found_ids = np.full((len(answers), depth), None, dtype=object)
        for row, ids in zip(found_ids, answers, strict=True):
            row[: len(ids)] = ids[:depth]
        filled = ~pd.isna(found_ids)
        shown = pd.Index(found_ids[filled]).infer_objects()
        self.index = self.index.append(shown[self.index.get_indexer(shown) < 0].unique())
        ranked = np.full(found_ids.shape, -1, dtype=np.int64)
        ranked[filled] = self.index.get_indexer(shown)
        ranking = Ranking(ranked, self.n_items, self._popularity, self._embeddings)
        return ranking, self.relevant()[rows]

    def relevant(self) -> sp.csr_matrix:
        return self.pairs.matrix(self._columns(), len(self.query_ids), self.n_items)

    def n_dropped(self) -> np.ndarray:
        return self.pairs.n_dropped(self._columns(), len(self.query_ids))

    def _columns(self) -> np.ndarray:
        return self.index.get_indexer(self.pairs.item_ids)

    def _popularity(self) -> np.ndarray:
        counts = self._of_items("item_counts_")
        if counts is None:
            raise TypeError(
                f"{type(self.recommender).__name__} does not say how often an item was in "
                "its training data (item_ids_ and item_counts_), which metrics of "
                "popularity need; use the functions of sktwotower.metrics on arrays."
            )
        return counts

    def _embeddings(self) -> np.ndarray:
        vectors = self._of_items("item_embeddings_")
        if vectors is None:
            raise TypeError(_no_embeddings(self.recommender))
        return vectors

    def _of_items(self, attribute: str) -> np.ndarray | None:
        """An attribute that goes with ``item_ids_``; 0 for items that are not there."""
        values = getattr(self.recommender, attribute, None)
        if values is None or not hasattr(self.recommender, "item_ids_"):
            return None
        values = np.asarray(values, dtype=np.float64)
        out = np.zeros((self.n_items, *values.shape[1:]))
        columns = self.index.get_indexer(np.asarray(self.recommender.item_ids_))
        out[columns[columns >= 0]] = values[columns >= 0]
        return out


def _candidate_ids(candidates: ArrayLike) -> np.ndarray:
    if is_frame(candidates):
        raise TypeError(
            "candidates must be item ids (1-D); got a frame. Pass its id column."
        )
    return np.asarray(pd.unique(id_array(candidates, what="candidate id")))


def _no_embeddings(recommender: Any) -> str:
    return (
        f"{type(recommender).__name__} has no item vectors, which 'diversity' needs; use "
        "sktwotower.metrics.intra_list_diversity with vectors of your own."
    )
