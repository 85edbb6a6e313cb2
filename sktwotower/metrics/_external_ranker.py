"""Rankings of users by recommenders of other packages."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._answer_forms import (
    ids_and_others,
    objects,
    plain,
    refuse_no_collections,
    refuse_scores,
)
from sktwotower.metrics._relevant_pairs import Ranking, RelevantPairs, largest
from sktwotower.metrics._sources import Recommender, name_of, no_embeddings
from sktwotower.utils._ids import described, kinds_of
from sktwotower.utils._warnings import warn

# Ids that are held at a time.
_BLOCK_SIZE = 2**22
# How many items are asked for, at first and at most, where no number of items is known.
_FIRST_DEPTH, _LAST_DEPTH = 2**9, 2**20


class ExternalRanker:
    """Rankings of any recommender through its public ``recommend``.

    The candidates are the recommender's ``item_ids_`` if it has them, else the relevant
    items and all that it recommends.

    What was seen is what its ``seen_items`` says. Without this method, it is what a
    complete ranking has with ``exclude_seen=False``, but not with ``exclude_seen=True``.
    """

    def __init__(
        self,
        recommender: Recommender,
        asked: Any,
        user_ids: np.ndarray,
        relevant: RelevantPairs,
        exclude_seen: bool,
        candidates: np.ndarray | None,
    ) -> None:
        self.recommender = recommender
        self.name = name_of(recommender)
        self.asked = asked
        self.user_ids = user_ids
        self.pairs = relevant
        self.exclude_seen = exclude_seen
        self.options: dict[str, Any] = {}
        known_ids = getattr(recommender, "item_ids_", None)
        if candidates is not None:
            if known_ids is not None:
                is_known = pd.Index(candidates).isin(np.asarray(known_ids))
                candidates = candidates[is_known] if is_known.any() else candidates
            known_ids = self.options["candidates"] = candidates
        self.n_known = None if known_ids is None else len(known_ids)
        self.index = pd.Index(
            pd.unique(np.asarray(relevant.item_ids if known_ids is None else known_ids))
        )
        self._head: np.ndarray | None = None  # of all queries, if they have been ranked
        self._has_ranked = False
        self._knows_seen = True
        self._other_seen: set[tuple[Any, Any]] = set()

    @property
    def n_items(self) -> int:
        return len(self.index)

    @property
    def item_ids(self) -> np.ndarray:
        return self.index.to_numpy()

    def depth(self, cut_offs: list[int | None]) -> int:
        if self.n_known is not None:
            return largest(cut_offs, self.n_known)
        lengths = [k for k in cut_offs if k is not None]
        if len(lengths) < len(cut_offs):
            raise TypeError(
                f"{self.name} has no item_ids_, so its complete "
                "ranking, which 'auc' needs, has no known length; give candidates."
            )
        return max(lengths)

    def columns(self) -> np.ndarray:
        return self.index.get_indexer(self.pairs.item_ids)

    def seen(self, depth: int) -> np.ndarray:
        if not self.exclude_seen or not len(self.pairs):
            return np.zeros(len(self.pairs), dtype=bool)
        queries = np.arange(len(self.user_ids))
        wanted = _WantedPairs.of(self.pairs, len(queries))
        if hasattr(self.recommender, "seen_items"):
            told = self._seen_items(queries)
            self._warn_of_other_kinds(told)
            return wanted.among(np.arange(len(self.pairs)), queries, told)
        seen = np.zeros(len(self.pairs), dtype=bool)
        could_be = self.columns() >= 0
        heads = []
        try:
            for rows in _blocks(queries, self._width(depth)):
                head = self._ids(rows, depth, exclude_seen=True)
                heads.append(head)
                left = wanted.of_queries(rows)
                left = left[could_be[left]]
                left = left[~wanted.among(left, rows, head)]
                seen[self._seen_among_misses(wanted, left)] = True
        except _NoCompleteRanking as failure:
            warn(
                f"{self.name} does not say which items a user has seen, "
                f"and its complete rankings do not tell ({failure.__cause__}). Relevant "
                "pairs that were seen count as misses. Give it a method "
                "seen_items(user_ids) with the items of each user, or set "
                "exclude_seen=False."
            )
            self._knows_seen = False
            return np.zeros(len(self.pairs), dtype=bool)
        if len(queries) * depth <= _BLOCK_SIZE:
            self._head = np.concatenate(heads)
        return seen

    def rank(self, rows: np.ndarray, depth: int, *, with_relevant: bool = False) -> Ranking:
        if with_relevant and self.exclude_seen and self._knows_seen:
            ids = np.concatenate(
                [
                    self._ids_with_relevant(block, depth)
                    for block in _blocks(rows, self._width(depth))
                ]
            )
        elif self._head is not None and self._head.shape[1] == depth:
            ids = self._head[rows]
        else:
            ids = self._ids(rows, depth, exclude_seen=self.exclude_seen)
        filled = ~pd.isna(ids)
        shown = pd.Index(ids[filled]).infer_objects()
        new = shown[self.index.get_indexer(shown) < 0].unique()
        if not self._has_ranked:
            self._warn_if_all_are_new(shown, new)
            self._has_ranked = True
        if len(new):  # an empty index has no type that counts
            self.index = self.index.append(new) if len(self.index) else new
        ranked = np.full(ids.shape, -1, dtype=np.int64)
        ranked[filled] = self.index.get_indexer(shown)
        self._refuse_repeats(rows, ranked)
        return Ranking(ranked, self.n_items, self._popularity, self._embeddings)

    def covers_training(self, interactions: Interactions) -> bool:
        known = getattr(self.recommender, "user_ids_", None)
        if known is not None and not pd.Index(known).isin(interactions.users).all():
            return False
        items = pd.Series(interactions.items).astype(object)
        return self._other_seen <= set(zip(interactions.users, items, strict=True))

    def _width(self, depth: int) -> int:
        """Length of the longest ranking that a query may need."""
        return max(depth, _FIRST_DEPTH if self.n_known is None else self.n_known)

    def _ids(self, rows: np.ndarray, depth: int, *, exclude_seen: bool) -> np.ndarray:
        """Rankings of some queries as ids, (n_rows, depth); padded with None."""
        answers = self._answers(rows, depth, exclude_seen)
        ids = np.full((len(answers), depth), None, dtype=object)
        for row, answer in zip(ids, answers, strict=True):
            row[: len(answer)] = objects(answer[:depth])
        return ids

    def _answers(self, rows: np.ndarray, depth: int, exclude_seen: bool) -> Any:
        """One sequence of item ids a query."""
        is_pandas = isinstance(self.asked, pd.DataFrame)
        asked = self.asked.iloc[rows] if is_pandas else self.asked[rows]
        answers = self.recommender.recommend(
            asked, n_recommendations=depth, exclude_seen=exclude_seen, **self.options
        )
        what = "users" if np.ndim(asked) == 1 else "rows of X (per_row=True)"
        ids, others = ids_and_others(answers, len(rows), what=what, name=self.name)
        refuse_scores(ids, others, self.index, self.pairs.item_ids, name=self.name)
        return ids

    def _warn_if_all_are_new(self, shown: pd.Index, new: pd.Index) -> None:
        if not len(shown) or not len(self.index) or len(new) < shown.nunique():
            return
        known_as = "candidates" if self.options else "items of item_ids_"
        if self.n_known is None:
            known_as = "relevant items of X"
        warn(
            f"None of the {len(new)} items that {self.name} recommends is one of the "
            f"{known_as}: they are of type {described(kinds_of(new))}, where those are of "
            f"type {described(kinds_of(self.index))}. recommend must return ids as they "
            "are in X."
        )

    def _warn_of_other_kinds(self, told: Any) -> None:
        ids = _objects(list(chain.from_iterable(told)))
        kinds, known = kinds_of(ids[~pd.isna(ids)]), kinds_of(self.pairs.item_ids)
        if kinds and not set(kinds) & set(known):
            warn(
                f"{self.name}.seen_items returns ids of type {described(kinds)}, where "
                f"item ids of X are of type {described(known)}. So no pair counts as seen. "
                "It must return ids as they are in X."
            )

    def _refuse_repeats(self, rows: np.ndarray, ranked: np.ndarray) -> None:
        in_order = np.sort(ranked, axis=1)
        twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
        if twice.any():
            row, column = np.argwhere(twice)[0]
            item, user = self.index[in_order[row, column]], self.user_ids[rows[row]]
            raise ValueError(
                f"{self.name}.recommend returned item {plain(item)!r} more than once for "
                f"user {plain(user)!r}; an item may stand in a row once."
            )

    def _complete(self, rows: np.ndarray, *, exclude_seen: bool) -> Any:
        """Complete rankings of some queries, one sequence of item ids a query."""
        depth = _FIRST_DEPTH if self.n_known is None else self.n_known
        try:
            while True:
                answers = self._answers(rows, depth, exclude_seen)
                if self.n_known is not None or _are_all(answers, depth):
                    return answers
                if depth >= _LAST_DEPTH:
                    raise ValueError(f"more than {depth} items are recommended")
                depth *= 2
        except Exception as error:  # of another package: some refuse so many items
            raise _NoCompleteRanking from error

    def _seen_among_misses(self, wanted: _WantedPairs, left: np.ndarray) -> np.ndarray:
        """Seen pairs among some that are not recommended."""
        for exclude_seen in (True, False):
            rows = np.unique(self.pairs.queries[left])
            if not len(rows):
                break
            complete = self._complete(rows, exclude_seen=exclude_seen)
            left = left[wanted.among(left, rows, complete) ^ exclude_seen]
        return left

    def _seen_items(self, rows: np.ndarray) -> Any:
        """The items that the user of each query has seen, from ``seen_items``."""
        recommender: Any = self.recommender
        users = self.user_ids[rows]
        answers = recommender.seen_items(users)
        refuse_no_collections(answers, len(users), name=self.name)
        return answers

    def _ids_with_relevant(self, rows: np.ndarray, depth: int) -> np.ndarray:
        """Rankings without the seen items that are not relevant, (n_rows, depth)."""
        if hasattr(self.recommender, "seen_items"):
            seen = [set(items) for items in self._seen_items(rows)]
            longest = depth + max(map(len, seen))
            longest = longest if self.n_known is None else min(longest, self.n_known)
            answers = self._answers(rows, longest, False)
            ranked = [_filled(answer) for answer in answers]
        else:
            unseen = self._complete(rows, exclude_seen=True)
            ranked = [_filled(row) for row in self._complete(rows, exclude_seen=False)]
            both = zip(ranked, unseen, strict=True)
            seen = [set(items) - set(others) for items, others in both]
        relevant: dict[int, set] = {query: set() for query in rows}
        wanted = np.flatnonzero(np.isin(self.pairs.queries, rows))
        items = pd.Series(self.pairs.item_ids[wanted]).astype(object)
        for query, item in zip(self.pairs.queries[wanted], items, strict=True):
            relevant[query].add(item)
        ids = np.full((len(rows), depth), None, dtype=object)
        for n, query in enumerate(rows):
            hidden = seen[n] - relevant[query]
            kept = [item for item in ranked[n] if item not in hidden][:depth]
            ids[n, : len(kept)] = kept
            self._other_seen |= {(self.user_ids[query], item) for item in hidden}
        return ids

    def _popularity(self) -> np.ndarray:
        counts = self._item_attribute("item_counts_")
        if counts is None:
            raise TypeError(
                f"{self.name} does not say how often an item was in "
                "its training data (item_ids_ and item_counts_), which metrics of "
                "popularity need; use the functions of sktwotower.metrics on arrays."
            )
        return counts

    def _embeddings(self) -> np.ndarray:
        vectors = self._item_attribute("item_embeddings_")
        if vectors is None:
            raise TypeError(no_embeddings(self.recommender))
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


class _NoCompleteRanking(Exception):
    """A recommender does not rank as many items as there are."""


def _blocks(rows: np.ndarray, width: int) -> list[np.ndarray]:
    """Rows in blocks of rankings of this width."""
    size = max(1, _BLOCK_SIZE // max(width, 1))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _objects(ids: Any, n: int | None = None) -> np.ndarray:
    """Ids as an array of objects, also if they are tuples; an iterator has n of them."""
    return np.fromiter(ids, dtype=object, count=len(ids) if n is None else n)


def _filled(answer: Any) -> list[Any]:
    """The ids of a ranking without its padding."""
    ids = _objects(answer)
    return list(ids[~pd.isna(ids)])


def _are_all(answers: Any, depth: int) -> bool:
    """Whether no ranking is as long as it may be."""
    return all(len(ids) < depth or pd.isna(ids[depth - 1]) for ids in answers)


@dataclass(frozen=True, eq=False)
class _WantedPairs:
    """Pairs of a query and an item that are looked for in rankings.

    Attributes
    ----------
    queries : ndarray of shape (n_pairs,)
        Positions of the queries.
    index : Index
        The distinct items.
    items : ndarray of shape (n_pairs,)
        Position of each pair's item in ``index``.
    order : ndarray of shape (n_pairs,)
        The pairs by query.
    ends : ndarray of shape (n_queries + 1,)
        Where in ``order`` the pairs of each query begin.
    """

    queries: np.ndarray
    index: pd.Index
    items: np.ndarray
    order: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, pairs: RelevantPairs, n_queries: int) -> _WantedPairs:
        items, distinct = pd.factorize(np.asarray(pairs.item_ids))
        order = np.argsort(pairs.queries, kind="stable")
        ends = np.searchsorted(pairs.queries[order], np.arange(n_queries + 1))
        return cls(pairs.queries, pd.Index(distinct), items, order, ends)

    def of_queries(self, rows: np.ndarray) -> np.ndarray:
        """Pairs of consecutive queries."""
        return self.order[self.ends[rows[0]] : self.ends[rows[-1] + 1]]

    def among(self, pairs: np.ndarray, rows: np.ndarray, answers: Any) -> np.ndarray:
        """Whether some pairs are in the answers to some queries, (n_pairs,) bool."""
        if isinstance(answers, np.ndarray) and answers.ndim == 2:
            queries, ids = np.repeat(rows, answers.shape[1]), answers.ravel()
        else:
            queries = np.repeat(rows, [len(answer) for answer in answers])
            ids = _objects(chain.from_iterable(answers), len(queries))
        if ids.dtype == object:
            filled = ~pd.isna(ids)
            queries, ids = queries[filled], ids[filled]
        items = self._positions(ids)
        keys = (queries * len(self.index) + items)[items >= 0]
        return np.isin(self.queries[pairs] * len(self.index) + self.items[pairs], keys)

    def _positions(self, ids: np.ndarray) -> np.ndarray:
        """Position of each id in ``index``, -1 for others."""
        if ids.dtype != object:
            return self.index.get_indexer(pd.Index(ids))
        if self.index.dtype.kind in "mM":
            return self.index.get_indexer(pd.Index(ids, dtype=object).infer_objects())
        # A type is not looked for among so many objects.
        return self.index.astype(object).get_indexer(pd.Index(ids, dtype=object))
