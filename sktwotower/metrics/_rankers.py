"""Rankings of users by recommenders of this package and of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower._search.candidate_sets import CandidateSet, seen_pairs
from sktwotower._search.top_k import top_k
from sktwotower.metrics._sources import EvaluationSource, Recommender, Source, name_of
from sktwotower.utils._columns import id_array, is_frame


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of some users, and what the metrics need to know of the items.

    Attributes
    ----------
    ranked : ndarray of shape (n_queries, n_ranked), int64
        Columns of candidates, best first, padded with -1.
    n_items : int
        Number of candidates.
    popularity : callable
        Returns how many users each candidate has in the training data, (n_items,). Called
        only if a metric needs it.
    embeddings : callable
        Returns the vector of each candidate, (n_items, n_dimensions). Called only if a
        metric needs it.
    """

    ranked: np.ndarray
    n_items: int
    popularity: Callable[[], np.ndarray]
    embeddings: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class RelevantPairs:
    """Queries and the items that are relevant for them.

    Attributes
    ----------
    queries : ndarray of shape (n_pairs,)
        Positions of the queries.
    item_ids : ndarray of shape (n_pairs,)
        Relevant items; a pair may be repeated.
    gains : ndarray of shape (n_pairs,) or None
        The gain of each pair, above 0; None: 1.
    """

    queries: np.ndarray
    item_ids: np.ndarray
    gains: np.ndarray | None

    @classmethod
    def none(cls) -> RelevantPairs:
        """No pairs, for rankings that are not measured."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=object), None)

    def matrix(self, columns: np.ndarray, n_queries: int, n_items: int) -> sp.csr_matrix:
        """The largest gain of each pair, (n_queries, n_items).

        ``columns`` has the column of each pair's item, -1 for items that are not
        candidates.
        """
        inside = np.flatnonzero(columns >= 0)
        gains = np.ones(len(columns)) if self.gains is None else self.gains
        order = inside[np.argsort(-gains[inside], kind="stable")]
        keys = pd.Series(self.queries[order] * n_items + columns[order])
        order = order[~keys.duplicated().to_numpy()]
        cells = self.queries[order], columns[order]
        return sp.csr_matrix((gains[order], cells), shape=(n_queries, n_items))

    def n_dropped(self, columns: np.ndarray, n_queries: int) -> np.ndarray:
        """Number of distinct items of each query that are not candidates, (n_queries,)."""
        outside = columns < 0
        pairs = pd.DataFrame({"query": self.queries, "item": self.item_ids})[outside]
        queries = pairs.drop_duplicates()["query"].to_numpy(dtype=np.int64)
        return np.bincount(queries, minlength=n_queries)


class Ranker(Protocol):
    """Ranks candidates for queries, block by block.

    The candidates of an external recommender may grow while it answers, so ``n_items``,
    ``item_ids``, ``relevant`` and ``n_dropped`` are final only after the last ``rank``.
    """

    @property
    def n_items(self) -> int:
        """Number of candidates."""

    @property
    def item_ids(self) -> np.ndarray:
        """Id of each candidate, (n_items,)."""

    def depth(self, cut_offs: list[int | None]) -> int:
        """Length of the rankings that these cut-offs need; None is a complete ranking."""

    def rank(self, rows: np.ndarray, depth: int) -> tuple[Ranking, sp.csr_matrix]:
        """Rankings and relevant items of some of the queries."""

    def relevant(self) -> sp.csr_matrix:
        """Gains of relevant candidates, (n_queries, n_items)."""

    def n_dropped(self) -> np.ndarray:
        """Number of relevant items of each query that are not candidates, (n_queries,)."""


def make_ranker(
    source: Source,
    queries: Interactions,
    relevant: RelevantPairs,
    *,
    exclude_seen: bool,
    candidates: ArrayLike | None = None,
) -> Ranker:
    """The ranker that fits a source.

    Parameters
    ----------
    source : EvaluationSource or Recommender
        Ranks the items.
    queries : Interactions
        One row a query.
    relevant : RelevantPairs
        Pairs that are scored.
    exclude_seen : bool
        Leave pairs of the training data out of the rankings. A native source still ranks
        those that are scored.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank; None: the catalogue.
    """
    if isinstance(source, EvaluationSource):
        return NativeRanker(source, queries, relevant, exclude_seen, candidates)
    return ExternalRanker(source, queries, relevant, exclude_seen, candidates)


class NativeRanker:
    """Rankings of a recommender of this package, exact and over the whole catalogue."""

    def __init__(
        self,
        source: EvaluationSource,
        queries: Interactions,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: ArrayLike | None,
    ) -> None:
        self.source = source
        self.queries = queries
        self.exclude_seen = exclude_seen
        item_codes = source.catalogue
        if candidates is not None:
            item_codes = _known_codes(source, candidates)
        self.candidates = CandidateSet(item_codes)
        columns = self.candidates.columns(source.items.codes(relevant.item_ids))
        self._relevant = relevant.matrix(columns, len(queries), self.n_items)
        self._n_dropped = relevant.n_dropped(columns, len(queries))

    @property
    def n_items(self) -> int:
        return len(self.candidates.codes)

    @property
    def item_ids(self) -> np.ndarray:
        return self.source.items.ids[self.candidates.codes - 1]

    def depth(self, cut_offs: list[int | None]) -> int:
        return _largest(cut_offs, self.n_items)

    def rank(self, rows: np.ndarray, depth: int) -> tuple[Ranking, sp.csr_matrix]:
        relevant = self._relevant[rows]
        queries = self.queries.take(rows)
        scores = self.source.query_scores(queries, self.candidates.codes)
        exclude = None
        if self.exclude_seen:
            codes = self.source.users.codes(queries.users)
            exclude = seen_pairs(self.source.seen, codes, self.candidates)
            exclude = exclude - exclude.multiply(relevant.sign())
            exclude.eliminate_zeros()
        ranked = top_k(scores, depth, exclude=exclude)[0]
        ranking = Ranking(ranked, self.n_items, self._popularity, self._embeddings)
        return ranking, relevant

    def relevant(self) -> sp.csr_matrix:
        return self._relevant

    def n_dropped(self) -> np.ndarray:
        return self._n_dropped

    def _popularity(self) -> np.ndarray:
        n_users = np.asarray(self.source.seen.sum(axis=0), dtype=np.float64).ravel()
        return n_users[self.candidates.codes - 1]

    def _embeddings(self) -> np.ndarray:
        vectors = self.source.item_vectors(self.candidates.codes)
        if vectors is None:
            raise TypeError(_no_embeddings(self.source))
        return vectors


class ExternalRanker:
    """Rankings of any recommender through its public ``recommend``.

    The candidates are the recommender's ``item_ids_`` if it has them, else the relevant
    items and all that it recommends.
    """

    def __init__(
        self,
        recommender: Recommender,
        queries: Interactions,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: ArrayLike | None,
    ) -> None:
        self.recommender = recommender
        self.user_ids = queries.users
        self.pairs = relevant
        self.options: dict[str, Any] = {"exclude_seen": exclude_seen}
        known_ids = getattr(recommender, "item_ids_", None)
        if candidates is not None:
            known_ids = self.options["candidates"] = _candidate_ids(candidates)
        self.n_known = None if known_ids is None else len(known_ids)
        self.index = pd.Index(
            pd.unique(np.asarray(relevant.item_ids if known_ids is None else known_ids))
        )

    @property
    def n_items(self) -> int:
        return len(self.index)

    @property
    def item_ids(self) -> np.ndarray:
        return self.index.to_numpy()

    def depth(self, cut_offs: list[int | None]) -> int:
        if self.n_known is not None:
            return _largest(cut_offs, self.n_known)
        lengths = [k for k in cut_offs if k is not None]
        if len(lengths) < len(cut_offs):
            raise TypeError(
                f"{name_of(self.recommender)} has no item_ids_, so its complete "
                "ranking, which 'auc' needs, has no known length; give candidates."
            )
        return max(lengths)

    def rank(self, rows: np.ndarray, depth: int) -> tuple[Ranking, sp.csr_matrix]:
        answers = self._answers(self.user_ids[rows], depth)
        answered_ids = np.full((len(answers), depth), None, dtype=object)
        for row, ids in zip(answered_ids, answers, strict=True):
            row[: len(ids)] = ids[:depth]
        filled = ~pd.isna(answered_ids)
        shown = pd.Index(answered_ids[filled]).infer_objects()
        self.index = self.index.append(shown[self.index.get_indexer(shown) < 0].unique())
        ranked = np.full(answered_ids.shape, -1, dtype=np.int64)
        ranked[filled] = self.index.get_indexer(shown)
        ranking = Ranking(ranked, self.n_items, self._popularity, self._embeddings)
        return ranking, self.relevant()[rows]

    def relevant(self) -> sp.csr_matrix:
        return self.pairs.matrix(self._columns(), len(self.user_ids), self.n_items)

    def n_dropped(self) -> np.ndarray:
        return self.pairs.n_dropped(self._columns(), len(self.user_ids))

    def _answers(self, user_ids: np.ndarray, depth: int) -> Any:
        """One sequence of item ids a user."""
        answers = self.recommender.recommend(
            user_ids, n_recommendations=depth, **self.options
        )
        if isinstance(answers, tuple):
            answers = answers[0]
        if is_frame(answers) or len(answers) != len(user_ids):
            raise TypeError(
                f"{name_of(self.recommender)}.recommend returned a "
                f"{type(answers).__name__} of {len(answers)} rows for {len(user_ids)} "
                "users; a scorer needs one row of item ids for each, or a tuple that "
                "starts with such rows."
            )
        return answers

    def _columns(self) -> np.ndarray:
        return self.index.get_indexer(self.pairs.item_ids)

    def _popularity(self) -> np.ndarray:
        counts = self._item_attribute("item_counts_")
        if counts is None:
            raise TypeError(
                f"{name_of(self.recommender)} does not say how often an item was in "
                "its training data (item_ids_ and item_counts_), which metrics of "
                "popularity need; use the functions of sktwotower.metrics on arrays."
            )
        return counts

    def _embeddings(self) -> np.ndarray:
        vectors = self._item_attribute("item_embeddings_")
        if vectors is None:
            raise TypeError(_no_embeddings(self.recommender))
        return vectors

    def _item_attribute(self, name: str) -> np.ndarray | None:
        """An attribute in the order of ``item_ids_``, by candidate; 0 for other items."""
        values = getattr(self.recommender, name, None)
        item_ids = getattr(self.recommender, "item_ids_", None)
        if values is None or item_ids is None:
            return None
        values = np.asarray(values, dtype=np.float64)
        by_candidate = np.zeros((self.n_items, *values.shape[1:]))
        columns = self.index.get_indexer(np.asarray(item_ids))
        by_candidate[columns[columns >= 0]] = values[columns >= 0]
        return by_candidate


def _largest(cut_offs: list[int | None], n_items: int) -> int:
    """The largest cut-off, at most the number of candidates."""
    return min(max(n_items if k is None else k for k in cut_offs), n_items)


def _known_codes(source: EvaluationSource, candidates: ArrayLike) -> np.ndarray:
    """Ascending codes of the candidates that are known."""
    codes = source.items.codes(_candidate_ids(candidates))
    known = np.unique(codes[codes > 0])
    if not len(known):
        raise ValueError(
            f"None of the {len(codes)} candidates is a known item; candidates are "
            "item ids as in X."
        )
    return known


def _candidate_ids(candidates: ArrayLike) -> np.ndarray:
    if is_frame(candidates):
        raise TypeError(
            "candidates must be item ids (1-D); got a frame. Pass its id column."
        )
    return np.asarray(pd.unique(id_array(candidates, what="candidate id")))


def _no_embeddings(source: Source) -> str:
    return (
        f"{name_of(source)} has no item vectors, which 'diversity' needs; use "
        "sktwotower.metrics.intra_list_diversity with vectors of your own."
    )
