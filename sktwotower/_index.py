"""Exact top-k search: scores in blocks, exclusions inside the search, stable ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

# Bytes of the block of scores that is held at a time; partitioning it takes about as
# much again twice over (positions are 8 bytes).
_BLOCK_BYTES = 32 * 2**20


def top_k(
    score: Callable[[slice], np.ndarray],
    n_queries: int,
    n_candidates: int,
    k: int,
    exclude: sp.csr_matrix | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best candidates of each query.

    Parameters
    ----------
    score : callable
        Scores ``(b, n_candidates)`` of a slice of the queries; the array is written to.
    n_queries, n_candidates, k : int
        Sizes.
    exclude : csr_matrix of shape (n_queries, n_candidates), optional
        Pairs that must not be returned.

    Returns
    -------
    columns : ndarray of shape (n_queries, k), int64
        Candidates, best first, equal scores in their own order; -1 where a query has
        fewer than k eligible ones.
    scores : ndarray of shape (n_queries, k), float32
        ``-inf`` where the column is -1.
    """
    columns = np.full((n_queries, k), -1, dtype=np.int64)
    scores = np.full((n_queries, k), -np.inf, dtype=np.float32)
    width = min(k, n_candidates)
    if width == 0:
        return columns, scores
    block_size = max(1, _BLOCK_BYTES // (4 * n_candidates))
    for start in range(0, n_queries, block_size):
        block = slice(start, min(start + block_size, n_queries))
        block_scores = score(block)
        if exclude is not None:
            hidden = exclude[block]
            rows = np.repeat(np.arange(hidden.shape[0]), np.diff(hidden.indptr))
            block_scores[rows, hidden.indices] = -np.inf
        best = _best_columns(block_scores, width)
        columns[block, :width] = best
        scores[block, :width] = np.take_along_axis(block_scores, best, axis=1)
    columns[scores == -np.inf] = -1
    return columns, scores


def _best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest of each row, best first, equal ones left to right."""
    n = scores.shape[1]
    if k == n:
        return np.argsort(-scores, axis=1, kind="stable")
    chosen = np.argpartition(scores, n - k, axis=1)[:, n - k :]
    chosen.sort(axis=1)
    values = np.take_along_axis(scores, chosen, axis=1)
    # A partition takes any of the scores that equal the k-th; where it had a choice, the
    # row is sorted whole.
    last = values.min(axis=1, keepdims=True)
    had_choice = (scores == last).sum(axis=1) > (values == last).sum(axis=1)
    had_choice &= last[:, 0] > -np.inf
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.take_along_axis(chosen, order, axis=1)
    if had_choice.any():
        best[had_choice] = np.argsort(-scores[had_choice], axis=1, kind="stable")[:, :k]
    return best
