"""Candidates chosen one after the other, each by those that were chosen before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sktwotower._search.searches import Search
from sktwotower._search.top_k import DotScores, unit_vectors

_BLOCK_BYTES = 16 * 2**20  # of the vectors of the pools of a block of queries


@dataclass(frozen=True, eq=False)
class Quota:
    """At most so many candidates of each group.

    Attributes
    ----------
    groups : ndarray of shape (n_candidates,)
        The group of each candidate; -1 for those without one, which have no limit.
    limit : int
        How many of a group a query may get.
    """

    groups: np.ndarray
    limit: int

    def of(self, columns: np.ndarray) -> np.ndarray:
        """Groups of columns of any shape; -1 for padding."""
        return np.where(columns >= 0, self.groups[columns], -1)


@dataclass(frozen=True, eq=False)
class GreedyRule:
    """How the next candidate follows from those that are chosen.

    Attributes
    ----------
    diversity : float
        Weight of the similarity to what is chosen, in [0, 1]; the relevance has the rest.
        Above 0 nothing is drawn.
    vectors_of : callable
        Returns the vectors of columns, by which candidates are similar.
    quotas : tuple of Quota
        All of which hold.
    """

    diversity: float
    vectors_of: Callable[[np.ndarray], np.ndarray]
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, eq=False)
class OpenScores:
    """Scores without those candidates of which a group is full.

    Attributes
    ----------
    scores : DotScores
        Scores of shape (n_queries, n_candidates).
    full : list of tuples of two ndarrays
        For each quota a number of each candidate's group, (n_candidates,), and the numbers
        of which the group is full for a query, (n_queries, n_numbers) bool.
    """

    scores: DotScores
    full: list[tuple[np.ndarray, np.ndarray]]
    whole_rows = False

    @classmethod
    def of(
        cls, scores: DotScores, quotas: tuple[Quota, ...], chosen: np.ndarray
    ) -> OpenScores:
        """The scores after some columns are chosen, (n_queries, k), padded with -1."""
        return cls(scores, [_full_groups(quota, chosen) for quota in quotas])

    @property
    def shape(self) -> tuple[int, int]:
        return self.scores.shape

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        block = self.scores.block(rows, columns)
        for groups, full in self.full:
            block[full[rows][:, groups[columns]]] = -np.inf
        return block

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        scores = self.scores.pairs(rows, columns)
        for groups, full in self.full:
            scores[full[rows, groups[columns]]] = -np.inf
        return scores


def _full_groups(quota: Quota, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `OpenScores.full` has of a quota; the groups that are full nowhere are 0."""
    groups = quota.of(chosen)
    n_groups = int(quota.groups.max(initial=-1)) + 1
    rows, places = np.nonzero(groups >= 0)
    pairs, counts = np.unique(rows * n_groups + groups[rows, places], return_counts=True)
    rows, numbers = np.divmod(pairs[counts >= quota.limit], max(n_groups, 1))
    somewhere, numbers = np.unique(numbers, return_inverse=True)
    renumbered = np.zeros(n_groups + 1, dtype=np.int64)
    renumbered[somewhere] = np.arange(1, len(somewhere) + 1)
    full = np.zeros((len(chosen), len(somewhere) + 1), dtype=bool)
    full[rows, numbers + 1] = True
    return renumbered[quota.groups], full  # -1, without a group, takes the last: 0


def choose_k(search: Search, k: int, rule: GreedyRule) -> tuple[np.ndarray, np.ndarray]:
    r"""Like `Search.best`, but each next candidate depends on those before it.

    Candidates come from a pool of the ``max(100, 5 k)`` best ones, in the order of the
    search. With the diversity :math:`\lambda` the next one has the largest

    .. math::

       (1 - \lambda) \frac{s_i - s_{min}}{s_{max} - s_{min}}
       - \lambda \max_{j \in S} \cos(v_i, v_j) ,

    of those of which no group is full, where :math:`S` is what is chosen and the range of
    scores is that of the pool. The first one has no second term, and of equal ones the
    better one by the search is taken. With :math:`\lambda = 0` the order is that of the
    search. If the groups that are full leave nothing of a pool, the next pool has the best
    ones of the rest.

    Parameters
    ----------
    search : Search
        Finds the pools.
    k : int
        Length of the answers, at least 1.
    rule : GreedyRule
        The diversity and the quotas.

    Returns
    -------
    columns : ndarray of shape (n_queries, k), int64
        In the order in which they were chosen; -1 where too few are left.
    scores : ndarray of shape (n_queries, k), float32
        Those of the search; ``-inf`` where the column is -1.
    """
    n_queries = len(search.scores.queries)
    columns = np.full((n_queries, k), -1, dtype=np.int64)
    scores = np.full((n_queries, k), -np.inf, dtype=np.float32)
    if 0 in search.scores.shape:
        return columns, scores
    width = min(k, search.scores.shape[1])
    size = min(_pool_size(k), search.scores.shape[1])
    # The vectors, and as much for the pool itself as 16 numbers of a vector.
    row_bytes = 4 * size * (16 + rule.vectors_of(np.zeros(0, np.int64)).shape[1])
    n_rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, n_queries, n_rows):
        rows = slice(start, min(start + n_rows, n_queries))
        found, values = _choose(search.take(rows), width, size, rule)
        columns[rows, :width], scores[rows, :width] = found, values
    return columns, scores


def _pool_size(k: int) -> int:
    """Number of candidates that k are chosen from; the same for up to 20."""
    return max(100, 5 * k)


def _choose(
    search: Search, k: int, size: int, rule: GreedyRule
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores (n_queries, k) of a block of queries."""
    found, values = search.best(size)
    pool = _Pool.first(found, values, k, rule)
    pool.choose()
    columns, scores = pool.columns, pool.scores
    rows = np.arange(len(columns))
    while True:
        # A pool with room is all there is.
        short = (pool.columns[:, -1] < 0) & (pool.found[:, -1] >= 0)
        rows = rows[short]
        if len(rows) == 0:
            return columns, scores
        search, chosen = search.take(short.nonzero()[0]), pool.columns[short]
        left = OpenScores.of(search.scores, rule.quotas, chosen)
        found, values = search.best_of_others(left, size, chosen)
        pool = pool.after(short, found, values)
        pool.choose()
        columns[rows], scores[rows] = pool.columns, pool.scores


class _Pool:
    """What queries choose from next, and what they have chosen so far.

    Parameters
    ----------
    rule : GreedyRule
        The diversity and the quotas.
    found, values : ndarray of shape (n_queries, size)
        Columns in the order of the search, padded with -1, and their scores.
    columns, scores : ndarray of shape (n_queries, k)
        What is chosen, with its scores; `choose` completes them in place.
    span : tuple of two ndarrays of shape (n_queries, 1)
        The lowest and the highest score, which have a relevance of 0 and of 1.
    """

    def __init__(
        self,
        rule: GreedyRule,
        found: np.ndarray,
        values: np.ndarray,
        columns: np.ndarray,
        scores: np.ndarray,
        span: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self.rule, self.found, self.values = rule, found, values
        self.columns, self.scores, self.span = columns, scores, span
        self._n_chosen = (columns >= 0).sum(axis=1)
        self._is_left = found >= 0
        self._groups = [quota.of(found) for quota in rule.quotas]
        self._n_taken = [np.zeros(found.shape, dtype=np.int64) for _ in rule.quotas]
        self._relevance = -np.arange(found.shape[1], dtype=np.float32)[None, :]
        if rule.diversity > 0:
            low, high = span
            heights = np.where(self._is_left, values, low) - low
            relevance = np.divide(
                heights, high - low, out=np.zeros_like(heights), where=high > low
            )
            self._relevance = np.float32(1 - rule.diversity) * relevance
            self._vectors = unit_vectors(rule.vectors_of(found))  # (n, size, dim)
            self._nearest = np.full(found.shape, -np.inf, dtype=np.float32)
        for chosen in columns[:, : self._n_chosen.max(initial=0)].T:
            self._count(chosen)

    @classmethod
    def first(
        cls, found: np.ndarray, values: np.ndarray, k: int, rule: GreedyRule
    ) -> _Pool:
        """The pool of queries that have chosen nothing."""
        columns = np.full((len(found), k), -1, dtype=np.int64)
        scores = np.full((len(found), k), -np.inf, dtype=np.float32)
        filled = found >= 0
        low = np.where(filled, values, np.inf).min(axis=1, keepdims=True)
        low[~filled.any(axis=1)] = 0.0
        high = np.where(filled, values, low).max(axis=1, keepdims=True)
        return cls(rule, found, values, columns, scores, (low, high))

    def after(self, short: np.ndarray, found: np.ndarray, values: np.ndarray) -> _Pool:
        """The next pool of some of the queries, (n_queries,) bool."""
        low, high = self.span
        return _Pool(
            self.rule,
            found,
            values,
            self.columns[short],
            self.scores[short],
            (low[short], high[short]),
        )

    def choose(self) -> None:
        """Choose until each query has k or nothing that is open."""
        every, k = np.arange(len(self.found)), self.columns.shape[1]
        while True:
            is_open = self._is_left & (self._n_chosen < k)[:, None]
            for quota, n_taken in zip(self.rule.quotas, self._n_taken, strict=True):
                is_open &= n_taken < quota.limit
            best = np.where(is_open, self._merits(), -np.inf).argmax(axis=1)
            rows = every[is_open[every, best]]
            if len(rows) == 0:
                return
            best, places = best[rows], self._n_chosen[rows]
            chosen = np.full(len(self.found), -1, dtype=np.int64)
            chosen[rows] = self.columns[rows, places] = self.found[rows, best]
            self.scores[rows, places] = self.values[rows, best]
            self._is_left[rows, best] = False
            self._n_chosen[rows] += 1
            self._count(chosen)

    def _merits(self) -> np.ndarray:
        """What the next one is chosen by, (n_queries, size)."""
        if self.rule.diversity == 0:
            return self._relevance
        likeness = np.where(self._nearest == -np.inf, 0, self._nearest)
        return self._relevance - np.float32(self.rule.diversity) * likeness

    def _count(self, chosen: np.ndarray) -> None:
        """Note what each query has chosen, (n_queries,); -1: nothing."""
        tables = zip(self.rule.quotas, self._groups, self._n_taken, strict=True)
        for quota, groups, n_taken in tables:
            group = quota.of(chosen)[:, None]
            n_taken += (groups == group) & (group >= 0)
        if self.rule.diversity > 0:
            vectors = unit_vectors(self.rule.vectors_of(chosen))[:, :, None]
            cosines = (self._vectors @ vectors)[:, :, 0]
            is_new = (chosen >= 0)[:, None]
            np.maximum(self._nearest, cosines, out=self._nearest, where=is_new)
