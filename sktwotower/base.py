"""What every recommender of the package has in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower._entities import Vocabulary
from sktwotower._index import top_k
from sktwotower._interactions import Interactions, Roles, check_X, read_interactions
from sktwotower.metrics._scorer import evaluate
from sktwotower.utils._columns import as_objects, as_pandas, id_array, is_frame


class RecommenderMixin:
    """``recommend`` and ``score`` for an estimator that can score users against items.

    A subclass sets ``user_column`` and ``item_column`` in its constructor and, in ``fit``,
    calls ``_set_interactions`` and defines ``_item_scorer``.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids; row ``r`` of anything about them belongs to code ``r + 1``.
    """

    user_column: str | int
    item_column: str | int
    _user_vocabulary: Vocabulary
    _item_vocabulary: Vocabulary
    _seen: sp.csr_matrix  # (n_users, n_items)
    _catalogue: np.ndarray  # codes of the items that can be recommended

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "item_ids_")

    def _item_scorer(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function that scores user codes (b,) against these items: (b, n_items)."""
        raise NotImplementedError

    def _read(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        reset: bool = False,
        training: bool = False,
    ) -> Interactions:
        X = check_X(self, X, reset=reset)
        roles = Roles.of(self)
        if not (reset or training):  # nobody asks for the order of what is not learnt from
            roles = replace(roles, timestamp_column=None)
        return read_interactions(X, y, sample_weight, roles=roles)

    def _set_interactions(
        self,
        interactions: Interactions,
        users: Vocabulary,
        items: Vocabulary,
        catalogue: np.ndarray,
    ) -> None:
        """Remember who and what there is, and which pairs have been seen."""
        self._set_vocabularies(users, items, catalogue)
        self._seen = self._pairs(interactions)

    def _set_vocabularies(
        self, users: Vocabulary, items: Vocabulary, catalogue: np.ndarray
    ) -> None:
        self._user_vocabulary = users
        self._item_vocabulary = items
        self._catalogue = catalogue
        self.user_ids_ = users.ids
        self.item_ids_ = items.ids

    def _pairs(self, interactions: Interactions) -> sp.csr_matrix:
        """Binary (n_users, n_items); a repeated pair is one pair here."""
        return self._pairs_of_codes(
            self._user_vocabulary.codes(interactions.users),
            self._item_vocabulary.codes(interactions.items),
        )

    def _pairs_of_codes(self, users: np.ndarray, items: np.ndarray) -> sp.csr_matrix:
        pairs = sp.csr_matrix(
            (np.ones(len(users), dtype=np.float32), (users - 1, items - 1)),
            shape=(len(self._user_vocabulary), len(self._item_vocabulary)),
        )
        pairs.data[:] = 1.0
        return pairs

    def _query_users(self, X: Any) -> np.ndarray:
        """User ids of a query: 1-D ids, or the user column of rows laid out like X."""
        X = as_pandas(X)
        if isinstance(X, list) and X and isinstance(X[0], list | np.ndarray):
            X = as_objects(X)
        if not isinstance(X, list | tuple) and np.ndim(X) == 2:
            if len(X) == 0:
                return np.empty(0, dtype=object)
            return Roles.of(self).ids(check_X(self, X, reset=False), "user_column")
        return id_array(X, what="user id")

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: ArrayLike | None = None,
        exclude_seen: bool = True,
        as_frame: bool = False,
    ) -> tuple[np.ndarray, np.ndarray] | pd.DataFrame:
        """The best items for each user, over the whole catalogue.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            User ids, or rows laid out like the X of ``fit``, of which the user column is
            read. Unknown users are answered too.
        n_recommendations : int, default=10
            Items a user.
        candidates : array-like of shape (n_candidates,), default=None
            Item ids to choose from, for all users; None: the catalogue. Ids that are not
            known are left out, with a warning that counts them.
        exclude_seen : bool, default=True
            Leave out the items that a user has in the training data.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first. Where fewer items are eligible the row is padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Padded with ``-inf``.
        frame : DataFrame with columns user, item, score, rank
            Instead of the two with ``as_frame=True``; rank counts from 1 and short rows
            are short.
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        users = self._query_users(X)
        user_codes = self._user_vocabulary.codes(users)
        items = self._candidate_codes(candidates)
        exclude = self._seen_among(user_codes, items) if exclude_seen else None
        score = self._item_scorer(items)
        columns, scores = top_k(
            lambda block: score(user_codes[block]),
            len(user_codes),
            len(items),
            n_recommendations,
            exclude,
        )
        item_ids = ids_of(self._item_vocabulary.ids[items - 1], columns)
        if as_frame:
            return long_frame(users, item_ids, scores, columns >= 0)
        return item_ids, scores

    def score(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """NDCG@10 over the whole catalogue, mean over users.

        Seen pairs are excluded from the ranking, except the pairs that are scored, so
        that training rows can be scored too. Relevant items that are not in the catalogue
        are dropped, and users without a relevant item are left out.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``.
        y : array-like of shape (n_samples,), default=None
            A row is relevant when its y is above 0; None: all are.
        sample_weight : array-like of shape (n_samples,), default=None
            A user counts with the mean weight of their rows; rows of weight 0 do not
            count.

        Returns
        -------
        float
            In [0, 1]; NaN, with a warning, if no user has a relevant item in the
            catalogue.

        Raises
        ------
        ValueError
            If no row is relevant.
        """
        check_is_fitted(self)
        evaluation = evaluate(self, self._read(X, y, sample_weight), ["ndcg@10"])
        evaluation.warn_if_undefined()
        return evaluation.means["ndcg@10"]

    def _rank_held_out(
        self, queries: Interactions, held_out: sp.csr_matrix, k: int, *, exclude_seen: bool
    ) -> np.ndarray:
        """Ranked columns of the catalogue (n_queries, k) for scoring pairs ``held_out``.

        ``held_out`` is (n_queries, n_catalogue): pairs that are ranked even when seen.
        """
        user_codes = self._user_vocabulary.codes(queries.users)
        exclude = None
        if exclude_seen:
            exclude = self._seen_among(user_codes, self._catalogue)
            exclude = exclude - exclude.multiply(held_out)
            exclude.eliminate_zeros()
        score = self._query_scorer(queries, user_codes)
        return top_k(score, len(user_codes), len(self._catalogue), k, exclude)[0]

    def _query_scorer(
        self, queries: Interactions, user_codes: np.ndarray
    ) -> Callable[[slice], np.ndarray]:
        """A function that scores a slice of the queries against the catalogue."""
        score = self._item_scorer(self._catalogue)
        return lambda block: score(user_codes[block])

    def _candidate_codes(self, candidates: ArrayLike | None) -> np.ndarray:
        if candidates is None:
            return self._catalogue
        if is_frame(candidates):
            raise TypeError(
                "candidates must be item ids (1-D); got a frame. Pass its id column."
            )
        codes = self._item_vocabulary.codes(id_array(candidates, what="candidate id"))
        warn_of_unknown(codes)
        return np.unique(codes[codes > 0])

    def _seen_among(self, user_codes: np.ndarray, item_codes: np.ndarray) -> sp.csr_matrix:
        """Seen pairs as (n_queries, n_item_codes); unknown users have none."""
        known = user_codes > 0
        rows = self._seen[user_codes[known] - 1]
        queries = np.repeat(np.flatnonzero(known), np.diff(rows.indptr))
        return pairs_among(queries, rows.indices + 1, len(user_codes), item_codes)


def pairs_among(
    queries: np.ndarray, item_codes: np.ndarray, n_queries: int, candidates: np.ndarray
) -> sp.csr_matrix:
    """Pairs of a query and an item as (n_queries, n_candidates); others are left out."""
    highest = max(item_codes.max(initial=0), candidates.max(initial=0))
    column_of = np.full(highest + 1, -1, dtype=np.int64)
    column_of[candidates] = np.arange(len(candidates))
    columns = column_of[item_codes]
    inside = columns >= 0
    return sp.csr_matrix(
        (np.ones(int(inside.sum()), dtype=np.float32), (queries[inside], columns[inside])),
        shape=(n_queries, len(candidates)),
    )


def ids_of(ids: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Ids of ranked columns; None, in an object array, where there is none."""
    padded = columns < 0
    if not padded.any():
        return ids[columns]
    out = np.full(columns.shape, None, dtype=object)
    # Through a Series, which makes objects of datetimes without losing their kind.
    objects = pd.Series(ids).astype(object).to_numpy()
    out[~padded] = objects[columns[~padded]]
    return out


def warn_of_unknown(codes: np.ndarray) -> None:
    """Warn of candidates that are not known, which have code 0."""
    n_unknown = int((codes == 0).sum())
    if n_unknown:
        warnings.warn(
            f"{n_unknown} of {len(codes)} candidates are not known items and are left out.",
            stacklevel=4,
        )


def check_count(n_recommendations: Any) -> None:
    """Raise ValueError unless it is a number of items to return."""
    is_integer = isinstance(n_recommendations, Integral) and n_recommendations is not True
    if not is_integer or n_recommendations < 1:
        raise ValueError(
            f"n_recommendations must be an integer of at least 1; got "
            f"{n_recommendations!r}."
        )


def long_frame(
    queries: np.ndarray,
    item_ids: np.ndarray,
    scores: np.ndarray,
    filled: np.ndarray,
    *,
    query: str = "user",
) -> pd.DataFrame:
    """One row a query and item, short where a query has few."""
    rows, ranks = np.nonzero(filled)
    return pd.DataFrame(
        {
            query: queries[rows],
            "item": pd.Series(item_ids[filled]).infer_objects(),
            "score": scores[filled],
            "rank": ranks + 1,
        }
    )
