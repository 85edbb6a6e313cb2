"""Candidates of queries: the catalogue, a list for all queries, or one for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

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
