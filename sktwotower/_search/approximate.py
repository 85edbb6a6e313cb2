"""Top-k search by an index, with the exact answer where the index finds too few."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sktwotower._search.faiss_index import FaissIndex
from sktwotower._search.top_k import DotScores, top_k


def approximate_top_k(
    index: FaissIndex, scores: DotScores, k: int, exclude: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """The k best candidates of each query as an index finds them.

    Queries that are left with fewer candidates than there are get the exact answer.

    Parameters
    ----------
    index : FaissIndex
        Of the candidates' vectors.
    scores : DotScores
        Of ``n_queries`` and ``n_candidates``.
    k : int
        At least 1.
    exclude : csr_matrix of shape (n_queries, n_candidates) or None
        Pairs that must not be returned.

    Returns
    -------
    columns : ndarray of shape (n_queries, k), int64
        Best first; -1 where a query has fewer candidates.
    scores : ndarray of shape (n_queries, k), float32
        ``-inf`` where the column is -1.
    """
    columns, values = index.search(scores.queries, k, exclude)
    n_hidden = 0 if exclude is None else np.diff(exclude.indptr)
    wanted = np.minimum(k, len(index) - n_hidden)
    short = np.flatnonzero((columns >= 0).sum(axis=1) < wanted)
    if len(short):
        hidden = None if exclude is None else exclude[short]
        columns[short], values[short] = top_k(scores.take(short), k, exclude=hidden)
    return columns, values
