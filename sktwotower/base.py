"""What every recommender of the package has in common."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.candidate_forms import CandidateReader
from sktwotower._data.interactions import FittedState, read_later
from sktwotower._data.queries import FrameColumns, Query, read_query
from sktwotower._data.roles import SideName
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.top_k import Scores, top_k
from sktwotower._serving.answers import Answer, FrameNames, check_count, ranked_answer
from sktwotower._serving.selection import excluded_pairs, known_candidates
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._sources import EvaluationSource
from sktwotower.metrics._task import RankingOptions
from sktwotower.utils._forms import check_bool


class ScoringSource(EvaluationSource, Protocol):
    """What ``recommend`` needs beside what the evaluation asks for."""

    def code_scores(self, user_codes: np.ndarray, item_codes: np.ndarray, /) -> Scores:
        """Scores of users for items, (n_users, n_items)."""


class RecommenderMixin:
    """``recommend`` and ``score`` for an estimator that can score users against items.

    A subclass sets ``_state`` at the end of ``fit`` and defines ``_evaluation_source``.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    seen_ : csr_matrix of shape (n_users, n_items), bool
        Pairs of the training data.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, if X has any.
    """

    _state: FittedState

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def _evaluation_source(self) -> ScoringSource:
        """The fitted recommender as ``recommend`` and the evaluation see it."""
        raise NotImplementedError

    def _fitted(self) -> FittedState:
        """The state; NotFittedError, which is an AttributeError, before ``fit``."""
        check_is_fitted(self)
        return self._state

    def _frame_columns(self, side: SideName) -> FrameColumns:
        """The columns that are read from a frame of users or items."""
        return FrameColumns.of_ids(self._fitted().roles, side)

    def _chosen_items(self, query: Query, asked: SideName, candidates: Any) -> CandidateSet:
        """The known items that a query about users or items chooses from."""
        source = self._evaluation_source()
        reader = CandidateReader(
            query=query,
            side="item",
            asked=asked,
            vocabulary=source.items,
            roles=source.roles,
            columns=self._frame_columns("item"),
            asked_columns=self._frame_columns(asked),
        )
        return known_candidates(
            reader.read(candidates),
            "item",
            vocabulary=source.items,
            catalogue=source.catalogue,
        )

    @property
    def user_ids_(self) -> np.ndarray:
        """Known user ids, (n_users,)."""
        return self._fitted().users.ids

    @property
    def item_ids_(self) -> np.ndarray:
        """Known item ids, (n_items,)."""
        return self._fitted().items.ids

    @property
    def seen_(self) -> sp.csr_matrix:
        """Pairs of the training data, (n_users, n_items), bool.

        Row ``r`` belongs to ``user_ids_[r]``, column ``c`` to ``item_ids_[c]``.
        """
        return self._evaluation_source().seen

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return len(self._fitted().roles.names or [])

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns of X, ``(n_features_in_,)``."""
        names = self._fitted().roles.feature_names
        if names is None:
            raise AttributeError(
                f"{type(self).__name__} has no feature_names_in_: it was fitted on data "
                "without column names."
            )
        return names

    def recommend(
        self,
        X: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The best items for each user, over the whole catalogue.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            User ids, or rows laid out like the X of ``fit``, of which the user column is
            read. Unknown users get recommendations, too.
        n_recommendations : int, default=10
            Number of items for each user.
        candidates : array-like, lists, dict, Series or frame, default=None
            Item ids to choose from, for all users; or for each user: a list of lists, or a
            2-D array with a row for each user, in which None is padding; a dict or Series
            of lists by user id; or a frame of pairs, with the columns of user and item ids
            of X. A user without an entry has nothing to choose from. A tuple is an id.
            None: the catalogue. Unknown ids are left out, with a warning that counts them.
        exclude_seen : bool, default=True
            Leave out the items of the user in the training data.
        exclude_interactions : frame, 2-D array, dict or Series, default=None
            Further pairs to leave out, in rows laid out like the X of ``fit``, or as lists
            of item ids by user id.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``. Rows with fewer items
            are padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Padded with ``-inf``.
        frame : DataFrame with columns of user ids, item ids, score, rank
            With ``as_frame=True``, instead of the two arrays; rank counts from 1, and
            there is no padding. Ids are in columns called as in the X of ``fit``, or
            ``user`` and ``item`` if it had no names.
        """
        n_recommendations = check_count(n_recommendations)
        check_bool("exclude_seen", exclude_seen)
        check_bool("as_frame", as_frame)
        roles = self._fitted().roles
        names = FrameNames.of(roles, "user", "item") if as_frame else None
        source = self._evaluation_source()
        query = read_query(
            X, "user", where="X", roles=source.roles, vocabulary=source.users
        )
        chosen = self._chosen_items(query, "user", candidates)
        exclude = excluded_pairs(
            query,
            chosen,
            "user",
            seen=source.seen if exclude_seen else None,
            exclude_interactions=exclude_interactions,
            roles=source.roles,
            vocabulary=source.items,
        )
        columns, scores = top_k(
            source.code_scores(query.codes, chosen.codes),
            n_recommendations,
            exclude=exclude,
            allowed=chosen.allowed,
        )
        return ranked_answer(query, chosen, columns, scores, source.items, names=names)

    def score(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """NDCG@10 over the whole catalogue, mean over users.

        Seen pairs are excluded from the ranking. Relevant pairs that were seen in training
        or whose item is not in the catalogue are dropped, and users without another one are
        left out. A warning gives the share of the seen ones if it is above 1 %; to evaluate
        repeat purchases, use
        ``make_ranking_scorer("ndcg@10", exclude_seen=False)(estimator, X)``.

        If *all* relevant pairs that could be recommended were seen, nothing would be left,
        so they stay in the ranking: the value is one of training rows. A warning says so if
        X is only a part of the training rows.

        Features of users in X are those of the earliest relevant row of the user, if X has
        the timestamp column; of several earliest rows, or without timestamps, those that
        most rows have, and of equally frequent ones the smallest.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``.
        y : array-like of shape (n_samples,), default=None
            A row is relevant when its y is above 0; None: all are.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of a user is the mean weight of their relevant rows. Rows of weight
            0 do not count.

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
        source = self._evaluation_source()
        rows = read_later(X, y, sample_weight, known=source, with_times=True)
        advice = (
            "To evaluate repeat purchases, use sktwotower.metrics.make_ranking_scorer "
            "with exclude_seen=False."
        )
        evaluation = evaluate(source, rows, ["ndcg@10"], RankingOptions(advice=advice))
        evaluation.warn()
        return evaluation.means["ndcg@10"]
