"""What every recommender of the package has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import Interactions, Roles, check_X, read_interactions
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.candidate_sets import CandidateSet, flat_pairs, ids_of_each_query
from sktwotower._search.top_k import RowScores, Scores, top_k
from sktwotower.metrics._scorer import evaluate
from sktwotower.utils import _memmap as memmap
from sktwotower.utils._columns import as_objects, as_pandas, id_array, is_frame
from sktwotower.utils._warnings import warn


class RecommenderMixin:
    """``recommend`` and ``score`` for an estimator that can score users against items.

    A subclass sets ``user_column`` and ``item_column`` in its constructor and, in ``fit``,
    calls ``_set_interactions`` and defines ``_item_scorer`` and ``_score_pairs``.

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

    def _score_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        """Scores of single pairs, (n_pairs,)."""
        raise NotImplementedError

    def _read(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        reset: bool = False,
    ) -> Interactions:
        X = check_X(self, X, reset=reset)
        roles = Roles.of(self)
        if not reset:  # nobody asks for the order of what is not learnt from
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
        return self._pairs_of_codes(
            self._user_vocabulary.codes(interactions.users),
            self._item_vocabulary.codes(interactions.items),
        )

    def _pairs_of_codes(self, users: np.ndarray, items: np.ndarray) -> sp.csr_matrix:
        """(n_users, n_items), bool; a repeated pair is one pair here."""
        n_users, n_items = len(self._user_vocabulary), len(self._item_vocabulary)
        _, columns, counts = memmap.distinct_pairs(users, items, n_items + 1)
        columns -= 1  # there is no column of code 0, and no row
        ends = np.zeros(n_users + 1, dtype=np.int64)
        ends[1 : len(counts)] = counts[1:]
        ones = memmap.full(len(columns), True, bool)
        return sp.csr_matrix((ones, columns, ends.cumsum()), shape=(n_users, n_items))

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
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
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
        candidates : array-like of shape (n_candidates,), or one list a query, default=None
            Item ids to choose from, for all users; or a list of lists, or a 2-D array
            with a row for each user, in which None is padding. A tuple is an id. None:
            the catalogue. Ids that are not known are left out, with a warning that
            counts them.
        exclude_seen : bool, default=True
            Leave out the items that a user has in the training data.
        exclude_interactions : frame or 2-D array, default=None
            Further pairs to leave out, rows laid out like the X of ``fit``.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``. Where fewer items are
            eligible the row is padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Padded with ``-inf``.
        frame : DataFrame with columns user, item, score, rank
            Instead of the two with ``as_frame=True``; rank counts from 1 and short rows
            are short.
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        users = self._query_users(X)
        codes = self._user_vocabulary.codes(users)
        offered = self._offered(candidates, len(codes))
        exclude = self._excluded(users, codes, offered, exclude_seen, exclude_interactions)
        columns, scores = top_k(
            self._row_scores(codes, offered.codes),
            n_recommendations,
            exclude=exclude,
            allowed=offered.allowed,
        )
        found = offered.ids_of(columns, self.item_ids_)
        if as_frame:
            return long_frame(users, found, scores, columns >= 0)
        return found, scores

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
            A user counts with the mean weight of their relevant rows; rows of weight 0 do
            not count.

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
            exclude = self._seen_among(user_codes, CandidateSet(self._catalogue))
            exclude = exclude - exclude.multiply(held_out)
            exclude.eliminate_zeros()
        return top_k(self._query_scores(queries, user_codes), k, exclude=exclude)[0]

    def _query_scores(self, queries: Interactions, user_codes: np.ndarray) -> Scores:
        """Scores of the queries for the catalogue."""
        return self._row_scores(user_codes, self._catalogue)

    def _row_scores(self, user_codes: np.ndarray, item_codes: np.ndarray) -> Scores:
        score = self._item_scorer(item_codes)
        return RowScores(
            (len(user_codes), len(item_codes)),
            lambda rows: score(user_codes[rows]),
            lambda rows, columns: self._score_pairs(user_codes[rows], item_codes[columns]),
        )

    def _vocabulary(self, name: str) -> Vocabulary:
        return self._user_vocabulary if name == "user" else self._item_vocabulary

    def _choice(self, name: str) -> np.ndarray:
        """Codes of what queries choose from when they do not say, ascending."""
        return self._catalogue

    def _offered(self, candidates: Any, n_queries: int, name: str = "item") -> CandidateSet:
        """What is chosen from, items or users; warns of ids that are not known."""
        vocabulary = self._vocabulary(name)
        if candidates is None:
            return CandidateSet(self._choice(name))
        if is_frame(candidates):
            raise TypeError(
                f"candidates must be {name} ids, for all queries (1-D) or a list for "
                "each; got a frame. Pass its id column."
            )
        rows = ids_of_each_query(candidates, n_queries)
        if rows is None:
            codes = vocabulary.codes(id_array(candidates, what="candidate id"))
            warn_of_unknown(codes, name)
            return CandidateSet(np.unique(codes[codes > 0]))
        queries, ids = flat_pairs(rows, what="candidate id")
        codes = vocabulary.codes(ids)
        warn_of_unknown(codes, name)
        offered = CandidateSet(np.unique(codes[codes > 0]))
        allowed = offered.pairs(queries, offered.columns(codes), n_queries)
        return replace(offered, allowed=allowed)

    def _excluded(
        self,
        ids: np.ndarray,
        codes: np.ndarray,
        offered: CandidateSet,
        exclude_seen: bool,
        exclude_interactions: Any,
        name: str = "user",
    ) -> sp.csr_matrix | None:
        """Pairs of queries, users or items, and what is offered that are left out."""
        exclude = self._seen_among(codes, offered, name) if exclude_seen else None
        if exclude_interactions is None or len(exclude_interactions) == 0:
            return exclude
        rows = check_X(self, exclude_interactions, reset=False)
        roles = Roles.of(self)
        asked = roles.ids(rows, f"{name}_column")
        others = roles.ids(rows, f"{OTHER[name]}_column")
        columns = offered.columns_of_ids(others, self._vocabulary(OTHER[name]))
        # One user may be asked for several times: each query has the user's pairs.
        number, distinct = pd.factorize(ids)
        query = Vocabulary(distinct).codes(asked) - 1
        inside = query >= 0
        given = offered.pairs(query[inside], columns[inside], len(distinct))[number]
        return given if exclude is None else exclude + given

    def _seen_among(
        self, codes: np.ndarray, offered: CandidateSet, name: str = "user"
    ) -> sp.csr_matrix:
        """Seen pairs of queries and what is offered; who is not known has none."""
        known = codes > 0
        seen = self._seen if name == "user" else self._seen.T
        rows = seen[codes[known] - 1].tocsr()
        queries = np.repeat(np.flatnonzero(known), np.diff(rows.indptr))
        return offered.pairs(queries, offered.columns(rows.indices + 1), len(codes))


OTHER = {"user": "item", "item": "user"}


def warn_of_unknown(codes: np.ndarray, name: str = "item") -> None:
    """Warn of candidates that are not known, which have code 0."""
    n_unknown = int((codes == 0).sum())
    if n_unknown:
        warn(
            f"{n_unknown} of {len(codes)} candidates are not known {name}s and are left "
            "out."
        )


def check_count(value: Any, name: str = "n_recommendations") -> None:
    """Raise ValueError unless it is a number of answers."""
    if not isinstance(value, Integral) or value is True or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def long_frame(
    queries: np.ndarray,
    found: np.ndarray,
    scores: np.ndarray,
    filled: np.ndarray,
    *,
    query: str = "user",
    answer: str = "item",
) -> pd.DataFrame:
    """One row a query and answer, short where a query has few."""
    rows, ranks = np.nonzero(filled)
    return pd.DataFrame(
        {
            query: queries[rows],
            answer: pd.Series(found[filled]).infer_objects(),
            "score": scores[filled],
            "rank": ranks + 1,
        }
    )
