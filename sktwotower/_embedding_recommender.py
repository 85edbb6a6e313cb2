"""Queries of a recommender that has a vector for everyone: users, candidates, histories."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower._entities import Vocabulary
from sktwotower._histories import Events
from sktwotower._index import top_k
from sktwotower._interactions import Interactions, Roles, check_X
from sktwotower._nn.segments import segment_positions
from sktwotower._side import Side
from sktwotower._tower_transformer import TowerTransformer
from sktwotower.base import (
    RecommenderMixin,
    check_count,
    ids_of,
    long_frame,
    pairs_among,
    warn_of_unknown,
)
from sktwotower.utils._columns import (
    as_objects,
    as_pandas,
    id_array,
    is_frame,
    refuse_repeated_names,
    time_numbers,
    where_first,
)


class EmbeddingRecommenderMixin(RecommenderMixin):
    """A recommender whose score is the dot product of a user's and an item's vector.

    Attributes
    ----------
    user_embeddings_, item_embeddings_ : ndarray of shape (n, embedding_dim), float32
        Row ``r`` belongs to ``user_ids_[r]``, ``item_ids_[r]``.
    """

    user_embeddings_: np.ndarray
    item_embeddings_: np.ndarray

    def __sklearn_is_fitted__(self) -> bool:
        # Set last, and taken away first by the next fit: one that failed has none.
        return hasattr(self, "item_embeddings_")

    def _side(self, name: str) -> Side:
        """The users or the items, as vectors."""
        raise NotImplementedError

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

    def _query_scorer(
        self, queries: Interactions, user_codes: np.ndarray
    ) -> Callable[[slice], np.ndarray]:
        vectors = self._side("user").vectors(user_codes, _as_frame(queries.user_features))
        items = self._side("item").vectors(self._catalogue).T
        return lambda block: vectors[block] @ items

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
        interactions = self._read(X, None, None)
        users = self._side("user").vectors(
            self._user_vocabulary.codes(interactions.users),
            _as_frame(interactions.user_features),
        )
        items = self._side("item").vectors(
            self._item_vocabulary.codes(interactions.items),
            _as_frame(interactions.item_features),
        )
        return np.einsum("nd,nd->n", users, items)

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
        history: Any = None,
        cold_start: str = "tower",
        as_frame: bool = False,
    ) -> tuple[np.ndarray, np.ndarray] | pd.DataFrame:
        """The best items for each user, over the whole catalogue.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            User ids; or rows, each with an id, with features, or with both. Features that
            a frame has take the place of those of training, the others stay. A 2-D array
            is laid out like the X of ``fit``. Unknown users are answered by their
            features and their history.
        n_recommendations : int, default=10
            Items a user.
        candidates : array-like of shape (n_candidates,) or frame, default=None
            Item ids to choose from, for all users; None: the catalogue. Ids that are not
            known are left out, with a warning that counts them, but for rows of a frame
            with features, by which items are scored that training has never seen.
        exclude_seen : bool, default=True
            Leave out the items that a user has in the training data and in ``history``.
        history : frame or 2-D array, default=None
            Further interactions of these users, laid out like the X of ``fit`` (the
            timestamp may be missing: they are then the latest). They are treated as seen
            and, with ``history_size``, as part of the user's history. Items that are not
            known are left out, with a warning that counts them.
        cold_start : {"tower", "popular", "mean"}, default="tower"
            What an unknown user without features and history gets: the ranking of the
            unknown user, of the items with most positives (the score is their number), or
            of the mean of all users' vectors.
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
            are short. Users of a frame without ids are called by its index.
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        if cold_start not in ("tower", "popular", "mean"):
            raise ValueError(
                f"cold_start={cold_start!r} must be 'tower', 'popular' or 'mean'."
            )
        users = self._side("user")
        ids, codes, given = self._user_queries(X, users)
        more, windows = None, None
        is_cold = codes == 0 if given is None else np.zeros(len(codes), dtype=bool)
        if history is not None and len(history):
            more = self._read_history(history, ids, codes)
            has_more = np.bincount(more.users, minlength=len(codes)) > 0
            if users.past is not None:
                windows = users.past.with_more(codes, more)
                is_cold &= ~has_more
        vectors = users.vectors(codes, given, windows)
        if cold_start == "mean":
            vectors[is_cold] = self.user_embeddings_.mean(axis=0)
        item_ids, item_codes, item_vectors = self._offered(candidates)
        exclude = None
        if exclude_seen:
            exclude = self._seen_among(codes, item_codes)
            if more is not None:
                exclude += pairs_among(more.users, more.items, len(codes), item_codes)
        popularity = self._n_positives()[item_codes]

        def score(block: slice) -> np.ndarray:
            scores = vectors[block] @ item_vectors.T
            if cold_start == "popular":
                scores[is_cold[block]] = popularity
            return scores

        columns, scores = top_k(
            score, len(codes), len(item_codes), n_recommendations, exclude
        )
        found = ids_of(item_ids, columns)
        if as_frame:
            return long_frame(ids, found, scores, columns >= 0)
        return found, scores

    def _user_queries(
        self, X: Any, users: Side
    ) -> tuple[np.ndarray, np.ndarray, pd.DataFrame | None]:
        """Ids, codes and features of a query of users."""
        X = as_pandas(X)
        if isinstance(X, list) and X and isinstance(X[0], list | np.ndarray):
            X = as_objects(X)
        if isinstance(X, list | tuple) or np.ndim(X) != 2:
            ids = id_array(X, what="user id")
            return ids, self._user_vocabulary.codes(ids), None
        if len(X) == 0:
            return np.empty(0, dtype=object), np.empty(0, dtype=np.int32), None
        named, given = (None, None)
        if isinstance(X, pd.DataFrame):
            refuse_repeated_names(X, where="X")
            named, given = users.read(X)
            if named is None and given is not None:
                return X.index.to_numpy(), np.zeros(len(X), dtype=np.int32), given
        if named is None:  # laid out like the X of fit
            X = check_X(self, X, reset=False)
            roles = Roles.of(self)
            ids = roles.ids(X, "user_column")
            if roles.user_features is not None:
                given = _as_frame(roles.user_features.read(X))
        else:
            ids = id_array(named, what="user id", where=f"Column {named.name!r} of X")
        return ids, self._user_vocabulary.codes(ids), given

    def _read_history(self, history: Any, ids: np.ndarray, codes: np.ndarray) -> Events:
        """Interactions of the queries; their users are positions among the queries."""
        rows = check_X(self, history, reset=False)
        roles = Roles.of(self)
        users = roles.ids(rows, "user_column")
        items = self._item_vocabulary.codes(roles.ids(rows, "item_column"))
        times = None
        if roles.timestamp_column is not None and roles.has(rows, "timestamp_column"):
            column = roles.column(rows, "timestamp_column")
            times = time_numbers(column, name=roles.timestamp_column)
        n_unknown = int((items == 0).sum())
        if n_unknown:
            warnings.warn(
                f"{n_unknown} of the {len(items)} rows of history have items that are not "
                "known, and are left out.",
                stacklevel=3,
            )
        number, distinct = pd.factorize(ids)
        user_of = Vocabulary(distinct).codes(users) - 1
        keep = (items > 0) & (user_of >= 0)
        # One user may be asked for several times: each query has the user's rows.
        order = np.argsort(user_of[keep], kind="stable")
        events = Events(
            user_of[keep][order],
            items[keep][order],
            np.ones(len(order), dtype=bool),
            None if times is None else times[keep][order],
        )
        counts = np.bincount(events.users, minlength=len(distinct))
        starts = np.cumsum(counts) - counts
        rows_of_queries = segment_positions(
            torch.from_numpy(starts[number]), torch.from_numpy(counts[number])
        ).numpy()
        return replace(
            events.take(rows_of_queries),
            users=np.repeat(np.arange(len(codes)), counts[number]),
        )

    def _offered(self, candidates: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, codes and vectors of what can be recommended; a new item has code 0."""
        items = self._side("item")
        given = None
        if not is_frame(candidates):
            codes = self._candidate_codes(candidates)
            ids = self._item_vocabulary.ids[codes - 1]
        else:
            ids, given = self._item_rows_of(candidates, "candidates")
            codes = self._item_vocabulary.codes(ids)
            if given is None:
                warn_of_unknown(codes)
                ids, codes = ids[codes > 0], codes[codes > 0]
        return ids, codes, items.vectors(codes, given)

    def _item_rows_of(
        self, frame: Any, what: str
    ) -> tuple[np.ndarray, pd.DataFrame | None]:
        """Ids and features of a frame of items, each once."""
        frame = as_pandas(frame)
        refuse_repeated_names(frame, where=what)
        side = self._side("item")
        column, given = side.read(frame)
        if column is None:
            names = " or ".join(map(repr, side.id_names)) or "that of item_table"
            raise ValueError(
                f"{what} has no column with item ids ({names}); its columns are "
                f"{list(frame.columns)}."
            )
        ids = id_array(column, what="item id", where=f"Column {column.name!r} of {what}")
        repeated = pd.Series(ids).duplicated().to_numpy()
        if repeated.any():
            rows, first = where_first(repeated)
            raise ValueError(
                f"{what} has {rows} with a duplicate id in column {column.name!r} "
                f"{first}; keep one row for each item."
            )
        return ids, given

    def similar_items(
        self,
        item_ids: ArrayLike,
        *,
        n_recommendations: int = 10,
        as_frame: bool = False,
    ) -> tuple[np.ndarray, np.ndarray] | pd.DataFrame:
        """The items of the catalogue whose vectors are nearest to each of these items'.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,)
            Items to find the like of; unknown ones are answered with the vector of the
            unknown item.
        n_recommendations : int, default=10
            Items a query; never the query itself.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first; a short row is padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            ``<v, v'>``; a short row is padded with ``-inf``.
        frame : DataFrame with columns query, item, score, rank
            Instead of the two with ``as_frame=True``.
        """
        check_is_fitted(self)
        check_count(n_recommendations)
        queries = id_array(item_ids, what="item id", where="The query")
        codes = self._item_vocabulary.codes(queries)
        items = self._catalogue
        itself = pairs_among(np.arange(len(codes)), codes, len(codes), items)
        side = self._side("item")
        vectors = side.vectors(codes)
        others = side.vectors(items).T
        columns, scores = top_k(
            lambda block: vectors[block] @ others,
            len(codes),
            len(items),
            n_recommendations,
            itself,
        )
        found = ids_of(self._item_vocabulary.ids[items - 1], columns)
        if as_frame:
            return long_frame(queries, found, scores, columns >= 0, query="query")
        return found, scores


def _as_frame(features: pd.DataFrame | pd.Series | None) -> pd.DataFrame | None:
    return features.to_frame() if isinstance(features, pd.Series) else features
