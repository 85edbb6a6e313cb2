"""Exact top-k search: scores in tiles, exclusions inside the search, stable ties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

# Bytes of one block of scores. With its mask, partitions and positions a search needs up to
# eight times as much in addition to its answer, 64 MB, for any number of queries and
# candidates. It needs more only if one row of the answer takes more than a tenth of a
# block, or if a row of scores must be computed whole.
_BLOCK_BYTES = 8 * 2**20
_TILE = 8192  # candidates in a block; up to _WIDE_TILE for few queries
_WIDE_TILE = 65536
_MIN_WIDTH = 8  # a row of a block has memory for at least this many times k columns


class Scores(Protocol):
    """A matrix of scores that is computed in parts: queries by candidates."""

    @property
    def whole_rows(self) -> bool:
        """Whether a few columns cost as much as all columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and number of candidates."""

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        """Scores of these rows and columns, in a new array."""

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Scores of single pairs, (n_pairs,)."""


@dataclass(frozen=True, eq=False)
class DotScores:
    """Dot products of queries and candidates, times a factor and plus a term.

    Attributes
    ----------
    queries : ndarray of shape (n_queries, dim)
        Vectors of the queries.
    vectors : ndarray of shape (n, dim)
        Vectors, some of which belong to candidates.
    chosen : ndarray of shape (n_candidates,) or None
        Rows of ``vectors`` that belong to candidates; None: all.
    factors, terms : ndarray of shape (n_candidates,) or None
        What a candidate's scores are multiplied by, and what is then added; None: nothing.
    """

    queries: np.ndarray
    vectors: np.ndarray
    chosen: np.ndarray | None = None
    factors: np.ndarray | None = None
    terms: np.ndarray | None = None
    whole_rows = False

    @property
    def shape(self) -> tuple[int, int]:
        candidates = self.vectors if self.chosen is None else self.chosen
        return len(self.queries), len(candidates)

    @property
    def are_plain(self) -> bool:
        """Whether they are just the dot products."""
        return self.factors is None and self.terms is None

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        scores: np.ndarray = self.queries[rows] @ self.vectors_of(columns).T
        return self._adjusted(scores, columns)

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        scores = np.empty(len(rows), dtype=np.float32)
        step = max(1, _BLOCK_BYTES // (8 * self.queries.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            scores[part] = np.einsum(
                "nd,nd->n", self.queries[rows[part]], self.vectors_of(columns[part])
            )
        return self._adjusted(scores, columns)

    def take(self, rows: np.ndarray | slice) -> DotScores:
        """Scores of some of the queries."""
        return replace(self, queries=self.queries[rows])

    def vectors_of(self, columns: Any) -> np.ndarray:
        """Vectors of candidates: of a slice, or of an array of columns of any shape."""
        candidates = columns if self.chosen is None else self.chosen[columns]
        vectors: np.ndarray = self.vectors[candidates]
        return vectors

    def cosines(self, dim: int) -> DotScores:
        """The cosines of the first ``dim`` numbers of each vector; 0 for those of zeros."""
        queries = np.zeros_like(self.queries)
        queries[:, :dim] = unit_vectors(self.queries[:, :dim])
        known = self.vectors[:, :dim]
        lengths = np.sqrt(np.einsum("nd,nd->n", known, known))
        factors = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        chosen = slice(None) if self.chosen is None else self.chosen
        return replace(self, queries=queries, factors=factors[chosen])

    def _adjusted(self, scores: np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        if self.factors is not None:
            scores *= self.factors[columns]
        if self.terms is not None:
            scores += self.terms[columns]
        return scores


@dataclass(frozen=True, eq=False)
class RowScores:
    """Scores from two functions: one computes whole rows, the other single pairs."""

    shape: tuple[int, int]
    of_rows: Callable[[slice], np.ndarray]
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray]
    whole_rows = True

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        return self.of_rows(rows)[:, columns]


@dataclass(frozen=True, eq=False)
class GumbelScores:
    """Scores divided by a temperature plus Gumbel noise: their top k is a draw of k.

    The draw is without replacement. Each next candidate is drawn from the rest with
    probabilities proportional to ``exp(score / temperature)``.
    """

    scores: Scores
    temperature: float
    generator: np.random.Generator

    @property
    def whole_rows(self) -> bool:
        return self.scores.whole_rows

    @property
    def shape(self) -> tuple[int, int]:
        return self.scores.shape

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        return self._noisy(self.scores.block(rows, columns))

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self._noisy(self.scores.pairs(rows, columns))

    def _noisy(self, scores: np.ndarray) -> np.ndarray:
        # In double precision, since the largest values come from the smallest exponentials.
        noise = -np.log(self.generator.standard_exponential(scores.shape))
        noise += scores / self.temperature
        return noise


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors along the last axis divided by their lengths; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def generator_of(
    random_state: int | np.random.RandomState | None,
) -> np.random.Generator:
    """A generator seeded by scikit-learn's ``random_state``.

    None makes a fresh one and does not use the global random state of NumPy.
    """
    if random_state is None:
        return np.random.default_rng()
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return np.random.default_rng(seed)


def top_k(
    scores: Scores,
    k: int,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: sp.csr_matrix | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best candidates of each query, as from a stable sort of each row.

    Columns are searched in tiles. After the first tile only scores above the current k-th
    best are considered: an equal score comes later in the order and loses.

    Parameters
    ----------
    scores : Scores
        Scores of shape (n_queries, n_candidates).
    k : int
        Length of the answers, at least 1.
    exclude : csr_matrix of shape (n_queries, n_candidates), optional
        Pairs that must not be returned.
    allowed : csr_matrix of shape (n_queries, n_candidates), optional
        The only pairs that may be returned. No other pairs are scored.

    Returns
    -------
    columns : ndarray of shape (n_queries, k), int64
        Candidates, best first, equal scores in the order of the columns; -1 where a query
        has fewer than k eligible candidates.
    scores : ndarray of shape (n_queries, k), float32
        ``-inf`` where the column is -1.
    """
    n_queries, n_candidates = scores.shape
    columns = np.full((n_queries, k), -1, dtype=np.int64)
    values = np.full((n_queries, k), -np.inf, dtype=np.float32)
    width = min(k, n_candidates)
    if width == 0 or n_queries == 0:
        return columns, values
    tile = n_candidates
    if allowed is not None:  # on average as many pairs as a block has cells
        tile = max(16 * k, 4 * allowed.nnz // n_queries)
    elif not scores.whole_rows:
        wide = min(_BLOCK_BYTES // (4 * n_queries), _WIDE_TILE)
        tile = min(n_candidates, max(_TILE, _MIN_WIDTH * k, wide))
    n_rows = max(1, _BLOCK_BYTES // (4 * max(tile, _MIN_WIDTH * width)))
    for start in range(0, n_queries, n_rows):
        rows = slice(start, min(start + n_rows, n_queries))
        hidden = None if exclude is None else exclude[rows]
        if allowed is None:
            best, best_values = _best_of_tiles(scores, rows, width, tile, hidden)
        else:
            best, best_values = _best_of_pairs(scores, rows, width, allowed[rows], hidden)
        columns[rows, :width] = best
        values[rows, :width] = best_values
    columns[values == -np.inf] = -1
    return columns, values


def draw_k(
    scores: Scores,
    k: int,
    temperature: float,
    generator: np.random.Generator,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: sp.csr_matrix | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Like `top_k`, but the k candidates are drawn without replacement, in order.

    Each next candidate is drawn from the softmax of ``score / temperature`` over the rest.
    The returned scores are without noise.
    """
    noisy = GumbelScores(scores, temperature, generator)
    columns, values = top_k(noisy, k, exclude=exclude, allowed=allowed)
    rows, positions = np.nonzero(columns >= 0)
    values[rows, positions] = scores.pairs(rows, columns[rows, positions])
    return columns, values


def _best_of_tiles(
    scores: Scores, rows: slice, k: int, tile: int, hidden: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of a block of queries, (n_rows, k)."""
    n_rows, n_columns = rows.stop - rows.start, scores.shape[1]
    limit = n_rows * k
    pooled: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_pooled = 0
    for columns, excluded in _tiles(n_columns, tile, hidden):
        block = scores.block(rows, columns)
        block[excluded] = -np.inf
        if columns.start == 0:
            best = _best_columns(block, k)
            values = np.take_along_axis(block, best, axis=1)
            continue
        above = block > values[:, -1:]
        if np.count_nonzero(above) > limit:  # in the worst case nearly all are above
            is_best = np.zeros_like(above)
            best_here = _best_columns(block, min(k, block.shape[1]))
            np.put_along_axis(is_best, best_here, True, axis=1)
            above &= is_best
        cells = np.flatnonzero(above)
        row, column = np.divmod(cells, block.shape[1])
        pooled.append((row, column + columns.start, block.ravel()[cells]))
        n_pooled += len(cells)
        if n_pooled > limit:
            best, values = _merged(best, values, pooled)
            pooled, n_pooled = [], 0
    if n_pooled:
        best, values = _merged(best, values, pooled)
    return best, values


def _tiles(
    n_columns: int, tile: int, hidden: sp.csr_matrix | None
) -> Iterator[tuple[slice, tuple[np.ndarray, np.ndarray]]]:
    """Slices of the columns, and the excluded cells of each slice."""
    nothing = np.empty(0, dtype=np.int64)
    hidden_rows, hidden_columns = nothing, nothing
    if hidden is not None:
        order = np.argsort(hidden.indices, kind="stable")
        hidden_columns = hidden.indices[order].astype(np.int64)
        counts = np.diff(hidden.indptr)
        hidden_rows = np.repeat(np.arange(hidden.shape[0]), counts)[order]
    starts = np.arange(0, n_columns, tile)
    edges = np.searchsorted(hidden_columns, np.append(starts, n_columns))
    for start, first, last in zip(starts.tolist(), edges[:-1], edges[1:], strict=True):
        cells = hidden_rows[first:last], hidden_columns[first:last] - start
        yield slice(start, min(start + tile, n_columns)), cells


def _best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest in each row, best first, equal scores left to right."""
    n = scores.shape[1]
    if k == n:
        return np.argsort(-scores, axis=1, kind="stable")
    last = np.partition(scores, n - k, axis=1)[:, n - k, None]
    chosen = scores >= last
    tied = np.flatnonzero(np.count_nonzero(chosen, axis=1) > k)
    if len(tied):  # among the scores equal to the k-th the first ones are taken
        equal = scores[tied] == last[tied]
        n_above = np.count_nonzero(chosen[tied] & ~equal, axis=1)
        rank = np.cumsum(equal, axis=1, dtype=np.int32)
        chosen[tied] &= ~equal | (rank <= (k - n_above)[:, None])
    columns = np.flatnonzero(chosen).reshape(-1, k) % n
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _merged(
    best: np.ndarray,
    values: np.ndarray,
    pooled: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each row: from the best so far and from pairs of later columns."""
    n_rows, k = best.shape
    so_far = np.repeat(np.arange(n_rows), k), best.ravel(), values.ravel()
    rows, columns, scores = map(np.concatenate, zip(so_far, *pooled, strict=True))
    return _ranked(rows, columns, scores, n_rows, k)


def _best_of_pairs(
    scores: Scores, rows: slice, k: int, pairs: sp.csr_matrix, hidden: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of the k best pairs of each row; padded with -1 and -inf."""
    n_rows, n_columns = pairs.shape
    cells = _cells(pairs)
    if hidden is not None:
        cells = np.setdiff1d(cells, _cells(hidden), assume_unique=True)
    row, column = np.divmod(np.sort(cells), n_columns)
    values = scores.pairs(row + rows.start, column)
    padding = np.repeat(np.arange(n_rows), k)
    return _ranked(
        np.concatenate([row, padding]),
        np.concatenate([column, np.full(len(padding), -1)]),
        np.concatenate([values, np.full(len(padding), -np.inf, dtype=values.dtype)]),
        n_rows,
        k,
    )


def _cells(pairs: sp.csr_matrix) -> np.ndarray:
    """Positions of the entries in the flattened matrix."""
    row = np.repeat(np.arange(pairs.shape[0], dtype=np.int64), np.diff(pairs.indptr))
    return row * pairs.shape[1] + pairs.indices


def _ranked(
    rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, n_rows: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best pairs of each row, which has at least k; equal scores keep their order."""
    order = np.lexsort((-scores, rows))  # stable; the last key is the first
    counts = np.bincount(rows, minlength=n_rows)
    first = np.cumsum(counts) - counts
    chosen = order[first[:, None] + np.arange(k)]
    return columns[chosen], scores[chosen]
