"""What queries choose from: a catalogue, candidates of all, or of each query."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils._columns import as_pandas, id_array


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """What queries choose from, one column each.

    Attributes
    ----------
    codes : ndarray of shape (n,)
        Ascending; of rows of a frame in their order, and 0 for who is not known.
    ids : ndarray of shape (n,) or None
        Of rows of a frame; None: those of the codes.
    allowed : csr_matrix of shape (n_queries, n) or None
        Which of them each query may choose; None: all.
    """

    codes: np.ndarray
    ids: np.ndarray | None = None
    allowed: sp.csr_matrix | None = None

    def is_all_of(self, codes: np.ndarray) -> bool:
        """Whether all queries choose from just these codes."""
        if self.ids is not None or self.allowed is not None:
            return False
        return codes is self.codes or np.array_equal(codes, self.codes)

    def columns(self, codes: np.ndarray) -> np.ndarray:
        """Columns of codes; -1 for what is not offered, and for code 0."""
        order = None if self.ids is None else np.argsort(self.codes, kind="stable")
        ascending = self.codes if order is None else self.codes[order]
        places = np.searchsorted(ascending, codes)
        places[places == len(ascending)] = 0
        if len(ascending) == 0:
            return np.full(len(codes), -1, dtype=np.int64)
        there = (ascending[places] == codes) & (codes > 0)
        return np.where(there, places if order is None else order[places], -1)

    def columns_of_ids(self, ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
        """Columns of ids, also of those that only the frame has."""
        if self.ids is None:
            return self.columns(vocabulary.codes(ids))
        return Vocabulary(self.ids).codes(ids).astype(np.int64) - 1

    def pairs(
        self, queries: np.ndarray, columns: np.ndarray, n_queries: int
    ) -> sp.csr_matrix:
        """Pairs of a query and a column as (n_queries, n); columns of -1 are left out."""
        inside = columns >= 0
        ones = np.ones(int(inside.sum()), dtype=np.float32)
        return sp.csr_matrix(
            (ones, (queries[inside], columns[inside])), shape=(n_queries, len(self.codes))
        )

    def ids_of(self, columns: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Ids of ranked columns; None, in an object array, where there is none.

        ``known`` are the ids of the codes 1, 2, ...
        """
        filled = columns >= 0
        chosen = columns[filled]
        ids = known[self.codes[chosen] - 1] if self.ids is None else self.ids[chosen]
        if filled.all():
            return ids.reshape(columns.shape)
        out = np.full(columns.shape, None, dtype=object)
        # Through a Series, which makes objects of datetimes without losing their kind.
        out[filled] = pd.Series(ids).astype(object).to_numpy()
        return out


def ids_of_each_query(candidates: Any, n_queries: int) -> list | np.ndarray | None:
    """Candidates as one list of ids a query; None if they are ids for all queries.

    Lists and arrays are no ids, since they cannot be hashed; tuples may be. So a list of
    lists, or of arrays, and a 2-D array have one row a query.
    """
    candidates = as_pandas(candidates)
    n_dimensions = 1 if isinstance(candidates, list | tuple) else np.ndim(candidates)
    if n_dimensions == 2:
        rows: list | np.ndarray = np.asarray(candidates)
    else:
        # The first one tells what they are; if it is a list, all must be.
        first = next(iter(candidates), None) if n_dimensions else None
        if not _is_list(first):
            return None
        rows = [as_pandas(row) for row in candidates]
        if not all(_is_list(row) for row in rows):
            raise ValueError(
                "candidates mixes lists and single ids; give one list of ids for all "
                "queries, or one list for each."
            )
    if len(rows) != n_queries:
        raise ValueError(
            f"candidates has {len(rows)} lists of ids for {n_queries} queries; give one "
            "for each, or a single list of ids, in one dimension, for all."
        )
    return rows


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (np.ndim(value) == 1 and not isinstance(value, tuple))


def flat_pairs(rows: list | np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries and ids of lists of ids, without missing ones, which pad a 2-D array."""
    if isinstance(rows, np.ndarray):
        flat = pd.Series(rows.ravel())
    else:
        flat = pd.Series(list(chain.from_iterable(rows)), dtype=object)
    queries = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    there = flat.notna().to_numpy()
    return queries[there], id_array(flat[there], what=what)


def seen_pairs(
    seen: sp.csr_matrix, codes: np.ndarray, candidates: CandidateSet
) -> sp.csr_matrix:
    """Seen pairs of queries and candidates, (n_queries, n_candidates).

    Parameters
    ----------
    seen : csr_matrix of shape (n, n_others)
        Row ``r`` belongs to code ``r + 1`` of the queries' side.
    codes : ndarray of shape (n_queries,)
        Codes of the queries; code 0 has no pairs.
    candidates : CandidateSet
        What the queries choose from.
    """
    known = codes > 0
    rows = seen[codes[known] - 1].tocsr()
    queries = np.repeat(np.flatnonzero(known), np.diff(rows.indptr))
    return candidates.pairs(queries, candidates.columns(rows.indices + 1), len(codes))
