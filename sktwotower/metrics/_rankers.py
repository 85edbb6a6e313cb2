"""Rankings of users by recommenders of this package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower._data.known_ids import other_kinds, warn_of_unknown
from sktwotower._data.pair_forms import has_lists, ungrouped
from sktwotower._search.candidate_sets import CandidateSet, seen_pairs
from sktwotower._search.top_k import top_k
from sktwotower.metrics._external_ranker import ExternalRanker
from sktwotower.metrics._relevant_pairs import Ranker, Ranking, RelevantPairs, largest
from sktwotower.metrics._sources import EvaluationSource, Source, no_embeddings
from sktwotower.utils._columns import as_pandas, id_array, is_frame
from sktwotower.utils._forms import given


def make_ranker(
    source: Source,
    queries: Interactions,
    relevant: RelevantPairs,
    *,
    exclude_seen: bool,
    candidates: ArrayLike | None = None,
    query_rows: Any = None,
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
        Leave pairs of the training data out of the rankings.
    candidates : array-like of shape (n_candidates,), default=None
        Ids of the items to rank; None: the catalogue.
    query_rows : DataFrame or ndarray of n_queries rows, optional
        What an external recommender is asked with; None: the ids of the users.
    """
    chosen = None if candidates is None else _candidate_ids(candidates)
    if isinstance(source, EvaluationSource):
        return NativeRanker(source, queries, relevant, exclude_seen, chosen)
    asked = queries.users if query_rows is None else query_rows
    return ExternalRanker(source, asked, queries.users, relevant, exclude_seen, chosen)


class NativeRanker:
    """Rankings of a recommender of this package, exact and over the whole catalogue."""

    def __init__(
        self,
        source: EvaluationSource,
        queries: Interactions,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: np.ndarray | None,
    ) -> None:
        self.source = source
        self.queries = queries
        self.pairs = relevant
        self.exclude_seen = exclude_seen
        item_codes = source.catalogue
        if candidates is not None:
            item_codes = _known_codes(source, candidates)
        self.candidates = CandidateSet(item_codes)
        self._item_codes = source.items.codes(relevant.item_ids)
        self._columns = self.candidates.columns(self._item_codes)

    @cached_property
    def _relevant(self) -> sp.csr_matrix:
        shape = len(self.queries), self.n_items
        return self.pairs.matrix(self._columns, *shape).sign()

    @property
    def n_items(self) -> int:
        return len(self.candidates.codes)

    @property
    def item_ids(self) -> np.ndarray:
        return self.source.items.ids[self.candidates.codes - 1]

    def depth(self, cut_offs: list[int | None]) -> int:
        return largest(cut_offs, self.n_items)

    def columns(self) -> np.ndarray:
        return self._columns

    def seen(self, depth: int) -> np.ndarray:
        if not self.exclude_seen:
            return np.zeros(len(self.pairs), dtype=bool)
        users = self.source.users.codes(self.queries.users)[self.pairs.queries]
        return _are_seen(self.source, users, self._item_codes)

    def rank(self, rows: np.ndarray, depth: int, *, with_relevant: bool = False) -> Ranking:
        queries = self.queries.take(rows)
        scores = self.source.query_scores(queries, self.candidates.codes)
        exclude = None
        if self.exclude_seen:
            codes = self.source.users.codes(queries.users)
            exclude = seen_pairs(self.source.seen, codes, self.candidates)
            if with_relevant:
                exclude = exclude - exclude.multiply(self._relevant[rows])
                exclude.eliminate_zeros()
        ranked = top_k(scores, depth, exclude=exclude)[0]
        return Ranking(ranked, self.n_items, self._popularity, self._embeddings)

    def covers_training(self, interactions: Interactions) -> bool:
        users = self.source.users.codes(interactions.users).astype(np.int64)
        items = self.source.items.codes(interactions.items)
        width = len(self.source.items) + 1
        users, items = np.divmod(np.unique(users * width + items), width)
        n_seen = np.count_nonzero(_are_seen(self.source, users, items))
        return bool(n_seen == self.source.seen.nnz)

    def _popularity(self) -> np.ndarray:
        counts: np.ndarray = self.source.n_users_of_items[self.candidates.codes - 1]
        return counts

    def _embeddings(self) -> np.ndarray:
        vectors = self.source.item_vectors(self.candidates.codes)
        if vectors is None:
            raise TypeError(no_embeddings(self.source))
        return vectors


def _are_seen(
    source: EvaluationSource, user_codes: np.ndarray, item_codes: np.ndarray
) -> np.ndarray:
    """Whether pairs are in the training data, (n_pairs,) bool; False for unknown ids."""
    seen = np.zeros(len(user_codes), dtype=bool)
    known = np.flatnonzero((user_codes > 0) & (item_codes > 0))
    if len(known):  # SciPy refuses no pairs
        pairs = source.seen[user_codes[known] - 1, item_codes[known] - 1]
        seen[known] = np.asarray(pairs).ravel()
    return seen


def _known_codes(source: EvaluationSource, candidates: np.ndarray) -> np.ndarray:
    """Ascending codes of the candidates that are known."""
    codes = source.items.codes(candidates)
    known = np.unique(codes[codes > 0])
    if not len(known):
        other, _ = other_kinds(candidates, codes, source.items)
        raise ValueError(
            f"None of the {len(codes)} candidates is a known item; candidates are "
            f"item ids as in X{other and ': ' + other}."
        )
    warn_of_unknown(
        candidates,
        codes,
        source.items,
        side="item",
        subject="candidates",
        then="are left out",
    )
    return known


def _candidate_ids(candidates: Any) -> np.ndarray:
    """The distinct ids of candidates for all users."""
    candidates = ungrouped(as_pandas(candidates, where="candidates"))
    refused = ""
    if isinstance(candidates, list | tuple | pd.Series) and has_lists(candidates):
        refused = f"a {type(candidates).__name__} of lists"
    elif is_frame(candidates) or isinstance(candidates, Mapping) or sp.issparse(candidates):
        refused = f"a {type(candidates).__name__}"
    elif not isinstance(candidates, list | tuple) and np.ndim(candidates) > 1:
        refused = given(candidates)
    if refused:
        raise TypeError(
            "candidates must be item ids for all users, in one dimension; got "
            f"{refused}. A scorer takes no candidates by user; of a frame, pass the column "
            "of ids."
        )
    return np.asarray(pd.unique(id_array(candidates, what="item id", where="candidates")))
