"""Queries of a recommender that has a vector for everyone, and their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import Interactions
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.top_k import DotScores, RowScores, draw_k, generator_of, top_k
from sktwotower._serving.approximate import ApproximateSearchMixin
from sktwotower._serving.queries import Query, as_feature_frame
from sktwotower._serving.tower_transformer import TowerTransformer
from sktwotower.base import check_count, long_frame

Answer = tuple[np.ndarray, np.ndarray] | pd.DataFrame


class EmbeddingRecommenderMixin(ApproximateSearchMixin):
    """A recommender whose score is the dot product of a user's and an item's vector.

    Attributes
    ----------
    user_embeddings_, item_embeddings_ : ndarray of shape (n, embedding_dim), float32
        Row ``r`` belongs to ``user_ids_[r]``, ``item_ids_[r]``.
    """

    user_embeddings_: np.ndarray
    item_embeddings_: np.ndarray
    temperature_: float

    def __sklearn_is_fitted__(self) -> bool:
        # Set last, and taken away first by the next fit: one that failed has none.
        return hasattr(self, "item_embeddings_")

    def _n_positives(self) -> np.ndarray:
        """Positives of each item, by code, (n_items + 1,) float32."""
        raise NotImplementedError

    @property
    def user_tower_(self) -> TowerTransformer:
        """User ids or rows in, embeddings out: a fitted transformer for other Pipelines."""
        check_is_fitted(self)
        return TowerTransformer(self._side("user"))

    @property
    def item_tower_(self) -> TowerTransformer:
        """Item ids or rows in, embeddings out: a fitted transformer for other Pipelines."""
        check_is_fitted(self)
        return TowerTransformer(self._side("item"))

    def _query_scores(self, queries: Interactions, item_codes: np.ndarray) -> DotScores:
        vectors = self._side("user").vectors(
            self._user_vocabulary.codes(queries.users),
            as_feature_frame(queries.user_features),
        )
        return self._side("item").scores(vectors, item_codes)

    def _scores_of_rows(self, interactions: Interactions) -> np.ndarray:
        users = self._side("user").vectors(
            self._user_vocabulary.codes(interactions.users),
            as_feature_frame(interactions.user_features),
        )
        items = self._side("item").vectors(
            self._item_vocabulary.codes(interactions.items),
            as_feature_frame(interactions.item_features),
        )
        return np.einsum("nd,nd->n", users, items)

    def _item_vectors(self, item_codes: np.ndarray) -> np.ndarray:
        return self._side("item").vectors(item_codes)

    def predict(self, X: Any) -> np.ndarray:
        """Score of each row's pair.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``. Unknown users and items are
            answered, never refused. Feature columns that X has are those of the row;
            where a frame lacks them, they are as they were in training.

        Returns
        -------
        ndarray of shape (n_samples,), float32
            ``<u, v>``, a cosine when embeddings are normalised; the temperature is not
            applied.
        """
        check_is_fitted(self)
        return self._scores_of_rows(self._read(X, None, None))

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
        history: Any = None,
        cold_start: str = "tower",
        sample: bool = False,
        random_state: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        r"""The best items for each user, over the whole catalogue.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            User ids; or rows, each with an id, with features, or with both. Features that
            a frame has take the place of those of training, the others stay. A 2-D array
            is laid out like the X of ``fit``. Unknown users are answered by their
            features and their history.
        n_recommendations : int, default=10
            Items a user.
        candidates : array-like of shape (n_candidates,), lists or frame, default=None
            Item ids to choose from, for all users; or a list of lists, or a 2-D array
            with a row for each user, in which None is padding. A tuple is an id. None:
            the catalogue. Ids that are not known are left out, with a warning that
            counts them, but for rows of a frame with features, for all users, by which
            items are scored that training has never seen.
        exclude_seen : bool, default=True
            Leave out the items that a user has in the training data and in ``history``.
        exclude_interactions : frame or 2-D array, default=None
            Further pairs to leave out, rows laid out like the X of ``fit``: what is out
            of stock, was bought elsewhere or shown an hour ago. Unlike ``history`` it
            says nothing about a user.
        history : frame or 2-D array, default=None
            Further interactions of these users, laid out like the X of ``fit`` (the
            timestamp may be missing: they are then the latest). They are treated as seen
            and, with ``history_size``, as part of the user's history. Items that are not
            known are left out, with a warning that counts them.
        cold_start : {"tower", "popular", "mean"}, default="tower"
            What an unknown user without features and history gets: the ranking of the
            unknown user, of the items with most positives (the score is their number), or
            of the mean of all users' vectors.
        sample : bool, default=False
            Draw items instead of taking the best: one after the other, without
            replacement, from the softmax :math:`p_j \propto \exp(s_j / \tau)` over those
            that are left, with :math:`\tau` = ``temperature_``, which is the
            Plackett-Luce distribution over rankings. The draw is made by adding Gumbel
            noise to :math:`s_j / \tau` and taking the best [1]_. With
            ``cold_start="popular"``, in proportion to 1 + the number of positives.
        random_state : int, RandomState instance or None, default=None
            Seeds ``sample``: the same number and the same call give the same draw.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``; with ``sample`` in the
            order in which they were drawn. Where fewer items are eligible the row is
            padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Padded with ``-inf``.
        frame : DataFrame with columns user, item, score, rank
            Instead of the two with ``as_frame=True``; rank counts from 1 and short rows
            are short. Users of a frame without ids are called by its index.

        See Also
        --------
        recommend_users : The best users for an item.
        build_index : Answers approximately, for large catalogues.

        References
        ----------
        .. [1] Kool, van Hoof & Welling, "Stochastic Beams and Where to Find Them: The
           Gumbel-Top-k Trick for Sampling Sequences Without Replacement", ICML 2019.
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        if cold_start not in ("tower", "popular", "mean"):
            raise ValueError(
                f"cold_start={cold_start!r} must be 'tower', 'popular' or 'mean'."
            )
        users = self._side("user")
        asked = self._asked(X, "user", "X")
        n_queries = len(asked.codes)
        more, windows = None, None
        is_cold = asked.codes == 0 if asked.given is None else np.zeros(n_queries, bool)
        if history is not None and len(history):
            more = self._read_history(history, asked.ids, asked.codes)
            has_more = np.bincount(more.users, minlength=n_queries) > 0
            if users.past is not None:
                windows = users.past.with_more(asked.codes, more)
                is_cold &= ~has_more
        vectors = users.vectors(asked.codes, asked.given, windows)
        if cold_start == "mean":
            vectors[is_cold] = self.user_embeddings_.mean(axis=0)
        offered, scores = self._offered_scores(candidates, vectors, "item")
        exclude = self._excluded(
            asked.ids, asked.codes, offered, exclude_seen, exclude_interactions
        )
        if exclude_seen and more is not None:
            columns = offered.columns(more.items)
            exclude = exclude + offered.pairs(more.users, columns, n_queries)
        k, generator = n_recommendations, generator_of(random_state) if sample else None
        if generator is None:
            found, values = self._search("item", scores, k, offered, exclude)
        else:
            pairs = {"exclude": exclude, "allowed": offered.allowed}
            found, values = draw_k(scores, k, self.temperature_, generator, **pairs)
        if cold_start == "popular" and is_cold.any():
            rows = np.flatnonzero(is_cold)
            found[rows], values[rows] = self._popular(rows, k, offered, exclude, generator)
        return self._answer(asked, offered, found, values, as_frame, "user", "item")

    def _popular(
        self,
        rows: np.ndarray,
        k: int,
        offered: CandidateSet,
        exclude: sp.csr_matrix | None,
        generator: np.random.Generator | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores of some of the queries, by how many positives items have."""
        counts = self._n_positives()[offered.codes]
        hidden = None if exclude is None else exclude[rows]
        allowed = None if offered.allowed is None else offered.allowed[rows]
        if generator is None:
            scores = RowScores.same(counts, len(rows))
            return top_k(scores, k, exclude=hidden, allowed=allowed)
        logs = RowScores.same(np.log1p(counts), len(rows))
        found, values = draw_k(logs, k, 1.0, generator, exclude=hidden, allowed=allowed)
        filled = found >= 0
        values[filled] = counts[found[filled]]
        return found, values

    def recommend_users(
        self,
        item_ids: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The best users for each item: whom to tell about it.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of item rows
            Item ids; or rows, each with an id, with features, or with both, as the users
            of :meth:`recommend`. So the audience of an item that training has never seen
            is found by its features.
        n_recommendations : int, default=10
            Users an item.
        candidates : array-like of shape (n_candidates,), one list a query, or frame, \
                default=None
            Users to choose from, as the items of :meth:`recommend`. None: those that have
            training rows, and those that only have features if the path without an id is
            trained (``id_dropout > 0`` or ``user_id_embedding=False``).
        exclude_seen : bool, default=True
            Leave out the users that have the item in the training data.
        exclude_interactions : frame or 2-D array, default=None
            Further pairs to leave out, rows laid out like the X of ``fit``.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        user_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``user_ids_``; a short row is padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            ``<u, v>``; a short row is padded with ``-inf``.
        frame : DataFrame with columns item, user, score, rank
            Instead of the two with ``as_frame=True``.

        See Also
        --------
        recommend : The best items for a user.

        Notes
        -----
        Scores of one item for many users are comparable as far as the model is: a softmax
        over items says how items rank for a user, and not which user is the keenest.

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "milk"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> user_ids, scores = model.recommend_users(["tea"], n_recommendations=1)
        >>> user_ids.tolist()
        [['cid']]
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        asked = self._asked(item_ids, "item", "item_ids")
        vectors = self._side("item").vectors(asked.codes, asked.given)
        offered, scores = self._offered_scores(candidates, vectors, "user")
        exclude = self._excluded(
            asked.ids, asked.codes, offered, exclude_seen, exclude_interactions, "item"
        )
        found, values = self._search("user", scores, n_recommendations, offered, exclude)
        return self._answer(asked, offered, found, values, as_frame, "item", "user")

    def similar_items(
        self,
        item_ids: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The items of the catalogue whose vectors are nearest to each of these items'.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of item rows
            Items to find the like of: ids, or rows with features. An unknown id without
            features is answered with the vector of the unknown item.
        n_recommendations : int, default=10
            Items a query; never the query itself.
        candidates : array-like of shape (n_candidates,), one list a query, or frame, \
                default=None
            Items to choose from, as in :meth:`recommend`.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``; a short row is padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            ``<v, v'>``; a short row is padded with ``-inf``.
        frame : DataFrame with columns query, item, score, rank
            Instead of the two with ``as_frame=True``.
        """
        return self._similar(
            "item", item_ids, n_recommendations, candidates, as_frame=as_frame
        )

    def similar_users(
        self,
        user_ids: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The users whose vectors are nearest to each of these users'.

        Parameters
        ----------
        user_ids : array-like of shape (n_queries,), or frame or 2-D array of user rows
            Users to find the like of: ids, or rows with features, as in
            :meth:`recommend`.
        n_recommendations : int, default=10
            Users a query; never the query itself.
        candidates : array-like of shape (n_candidates,), one list a query, or frame, \
                default=None
            Users to choose from, as in :meth:`recommend_users`.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        user_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``user_ids_``; a short row is padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            ``<u, u'>``; a short row is padded with ``-inf``.
        frame : DataFrame with columns query, user, score, rank
            Instead of the two with ``as_frame=True``.
        """
        return self._similar(
            "user", user_ids, n_recommendations, candidates, as_frame=as_frame
        )

    def _similar(
        self, name: str, ids: Any, k: int, candidates: Any, *, as_frame: bool
    ) -> Answer:
        check_is_fitted(self)
        check_count(k)
        asked = self._asked(ids, name, f"{name}_ids")
        side = self._side(name)
        vectors = side.vectors(asked.codes, asked.given)
        if side.entities.popularity is not None:  # which makes nobody alike
            vectors[:, -1] = 0.0
        offered, scores = self._offered_scores(candidates, vectors, name)
        itself = offered.columns(asked.codes)
        if asked.has_ids and offered.ids is not None:
            itself = offered.columns_of_ids(asked.ids, self._vocabulary(name))
        n_queries = len(asked.codes)
        exclude = offered.pairs(np.arange(n_queries), itself, n_queries)
        found, values = self._search(name, scores, k, offered, exclude)
        return self._answer(asked, offered, found, values, as_frame, "query", name)

    def _answer(
        self,
        asked: Query,
        offered: CandidateSet,
        columns: np.ndarray,
        scores: np.ndarray,
        as_frame: bool,
        query: str,
        answer: str,
    ) -> Answer:
        known = self.item_ids_ if answer == "item" else self.user_ids_
        found = offered.ids_of(columns, known)
        if as_frame:
            return long_frame(
                asked.ids, found, scores, columns >= 0, query=query, answer=answer
            )
        return found, scores
