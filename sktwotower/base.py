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
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktwotower._entities import Vocabulary
from sktwotower._histories import Events
from sktwotower._index import top_k
from sktwotower._interactions import Interactions, Roles, check_X, read_interactions
from sktwotower._nn.segments import segment_positions
from sktwotower._side import Side
from sktwotower._tower_transformer import TowerTransformer
from sktwotower.metrics._scorer import evaluate
from sktwotower.utils._columns import (
    as_objects,
    as_pandas,
    id_array,
    is_frame,
    refuse_repeated_names,
    time_numbers,
    where_first,
)


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
        _check_count(n_recommendations)
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
        item_ids = _ids_of(self._item_vocabulary.ids[items - 1], columns)
        if as_frame:
            return _long_frame(users, item_ids, scores, columns >= 0)
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
        _warn_of_unknown(codes)
        return np.unique(codes[codes > 0])

    def _seen_among(self, user_codes: np.ndarray, item_codes: np.ndarray) -> sp.csr_matrix:
        """Seen pairs as (n_queries, n_item_codes); unknown users have none."""
        known = user_codes > 0
        rows = self._seen[user_codes[known] - 1]
        queries = np.repeat(np.flatnonzero(known), np.diff(rows.indptr))
        return _pairs_among(queries, rows.indices + 1, len(user_codes), item_codes)


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
        _check_count(n_recommendations)
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
                exclude += _pairs_among(more.users, more.items, len(codes), item_codes)
        popularity = self._n_positives()[item_codes]

        def score(block: slice) -> np.ndarray:
            scores = vectors[block] @ item_vectors.T
            if cold_start == "popular":
                scores[is_cold[block]] = popularity
            return scores

        columns, scores = top_k(
            score, len(codes), len(item_codes), n_recommendations, exclude
        )
        found = _ids_of(item_ids, columns)
        if as_frame:
            return _long_frame(ids, found, scores, columns >= 0)
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
                _warn_of_unknown(codes)
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
        _check_count(n_recommendations)
        queries = id_array(item_ids, what="item id", where="The query")
        codes = self._item_vocabulary.codes(queries)
        items = self._catalogue
        itself = _pairs_among(np.arange(len(codes)), codes, len(codes), items)
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
        found = _ids_of(self._item_vocabulary.ids[items - 1], columns)
        if as_frame:
            return _long_frame(queries, found, scores, columns >= 0, query="query")
        return found, scores


def _pairs_among(
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


def _ids_of(ids: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Ids of ranked columns; None, in an object array, where there is none."""
    padded = columns < 0
    if not padded.any():
        return ids[columns]
    out = np.full(columns.shape, None, dtype=object)
    # Through a Series, which makes objects of datetimes without losing their kind.
    objects = pd.Series(ids).astype(object).to_numpy()
    out[~padded] = objects[columns[~padded]]
    return out


def _as_frame(features: pd.DataFrame | pd.Series | None) -> pd.DataFrame | None:
    return features.to_frame() if isinstance(features, pd.Series) else features


def _warn_of_unknown(codes: np.ndarray) -> None:
    n_unknown = int((codes == 0).sum())
    if n_unknown:
        warnings.warn(
            f"{n_unknown} of {len(codes)} candidates are not known items and are left out.",
            stacklevel=4,
        )


def _check_count(n_recommendations: Any) -> None:
    is_integer = isinstance(n_recommendations, Integral) and n_recommendations is not True
    if not is_integer or n_recommendations < 1:
        raise ValueError(
            f"n_recommendations must be an integer of at least 1; got "
            f"{n_recommendations!r}."
        )


def _long_frame(
    queries: np.ndarray,
    item_ids: np.ndarray,
    scores: np.ndarray,
    filled: np.ndarray,
    *,
    query: str = "user",
) -> pd.DataFrame:
    rows, ranks = np.nonzero(filled)
    return pd.DataFrame(
        {
            query: queries[rows],
            "item": pd.Series(item_ids[filled]).infer_objects(),
            "score": scores[filled],
            "rank": ranks + 1,
        }
    )
