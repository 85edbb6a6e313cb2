"""Candidates of queries: the catalogue, a list for all queries, or one for each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower.utils._columns import as_pandas, id_array
from sktwotower.utils._ids import positions_in


class KnownIds(Protocol):
    """Ids with codes."""

    def codes(self, ids: np.ndarray) -> np.ndarray:
        """Codes of ids, (n,); 0 for unknown ids."""


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """The candidates that queries rank, one column for each.

    Attributes
    ----------
    codes : ndarray of shape (n,)
        Codes of the candidates, ascending. If the candidates are rows of a frame: their
        codes in the order of the rows, 0 for unknown ids.
    ids : ndarray of shape (n,) or None
        Ids of the candidates, if they are rows of a frame; each id occurs once.
    allowed : csr_matrix of shape (n_queries, n) or None
        Which candidates each query may rank; None: all.
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
        """Columns of codes, (n,); -1 for code 0 and for codes of no candidate."""
        if len(self.codes) == 0:
            return np.full(len(codes), -1, dtype=np.int64)
        order = None if self.ids is None else np.argsort(self.codes, kind="stable")
        ascending = self.codes if order is None else self.codes[order]
        positions = np.searchsorted(ascending, codes)
        positions[positions == len(ascending)] = 0
        is_candidate = (ascending[positions] == codes) & (codes > 0)
        return np.where(is_candidate, positions if order is None else order[positions], -1)

    def columns_of_ids(self, ids: np.ndarray, known: KnownIds) -> np.ndarray:
        """Columns of ids, (n,), including ids that only the frame has; -1 for others."""
        if self.ids is None:
            return self.columns(known.codes(ids))
        return positions_in(pd.Index(self.ids), ids)

    def pairs(
        self, queries: np.ndarray, columns: np.ndarray, n_queries: int
    ) -> sp.csr_matrix:
        """Matrix (n_queries, n) of pairs of query and column, without columns of -1."""
        inside = columns >= 0
        ones = np.ones(int(inside.sum()), dtype=np.float32)
        return sp.csr_matrix(
            (ones, (queries[inside], columns[inside])), shape=(n_queries, len(self.codes))
        )

    def ids_of(self, columns: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Ids of ranked columns; an object array with None where the column is -1.

        ``known`` holds the ids of the codes 1, 2, ...
        """
        filled = columns >= 0
        chosen = columns[filled]
        ids = known[self.codes[chosen] - 1] if self.ids is None else self.ids[chosen]
        if filled.all():
            return ids.reshape(columns.shape)
        out = np.full(columns.shape, None, dtype=object)
        # A Series converts datetimes to objects without losing their type.
        out[filled] = pd.Series(ids).astype(object).to_numpy()
        return out


def ids_of_each_query(candidates: Any, n_queries: int) -> list | np.ndarray | None:
    """Candidates as one list of ids per query; None if they are ids for all queries.

    A list of lists, a list of arrays and a 2-D array have one row per query. A tuple is an
    id, since it can be hashed.
    """
    candidates = as_pandas(candidates)
    n_dimensions = 1 if isinstance(candidates, list | tuple) else np.ndim(candidates)
    if n_dimensions == 2:
        rows: list | np.ndarray = np.asarray(candidates)
    else:
        # If the first element is a list, all elements must be lists.
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
    """Pairs of lists of ids: the position of the query, and the id.

    Missing ids, which pad the rows of an array, are left out. Messages call an id ``what``.
    """
    if isinstance(rows, np.ndarray):
        flat = pd.Series(rows.ravel())
    else:
        flat = pd.Series(list(chain.from_iterable(rows)), dtype=object)
    queries = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    is_id = flat.notna().to_numpy()
    return queries[is_id], id_array(flat[is_id], what=what, where="candidates")


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
