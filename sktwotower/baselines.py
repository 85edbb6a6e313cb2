"""References to compare with: short, exact, and with the same face."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.interactions import Interactions, read_interactions
from sktwotower._data.pairs import pair_matrix
from sktwotower._data.roles import ColumnRoles, as_interactions
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.top_k import RowScores
from sktwotower.base import RecommenderMixin
from sktwotower.model_selection._time import time_kind
from sktwotower.utils._columns import time_numbers
from sktwotower.utils._sklearn import Interval, fit_context

__all__ = ["EASERecommender", "ItemKNNRecommender", "PopularRecommender"]


@dataclass(frozen=True, eq=False)
class _Counts:
    """Counts of the training rows: the state of a fitted baseline.

    Attributes
    ----------
    roles : ColumnRoles
        What the columns of X mean.
    users, items : Vocabulary
        Known ids.
    seen : csr_matrix of shape (n_users, n_items), bool
        Pairs of all rows.
    catalogue : ndarray of shape (n_catalogue,)
        Codes of the items with a positive.
    positives : csr_matrix of shape (n_users, n_items), float32
        Pairs of the positive rows, binary.
    popularity : ndarray of shape (n_items + 1,)
        Number, or total weight, of the positives of each item code.
    """

    roles: ColumnRoles
    users: Vocabulary
    items: Vocabulary
    seen: sp.csr_matrix
    catalogue: np.ndarray
    positives: sp.csr_matrix
    popularity: np.ndarray

    temperature = 1.0

    @classmethod
    def of(
        cls,
        roles: ColumnRoles,
        interactions: Interactions,
        counted: np.ndarray,
        **fields: Any,
    ) -> Self:
        """The counts of checked rows.

        Parameters
        ----------
        roles : ColumnRoles
            Their columns.
        interactions : Interactions
            The rows.
        counted : ndarray of shape (n_rows,), bool
            The rows that make an item popular.
        **fields
            What a subclass knows besides.
        """
        users, items = Vocabulary(interactions.users), Vocabulary(interactions.items)
        user_codes = users.codes(interactions.users)
        item_codes = items.codes(interactions.items)
        positive = interactions.positive
        weights = None if interactions.weights is None else interactions.weights[counted]
        counts = np.bincount(item_codes[counted], weights, len(items) + 1)
        sizes = len(users), len(items)
        positives = pair_matrix(user_codes[positive], item_codes[positive], *sizes)
        return cls(
            roles=roles,
            users=users,
            items=items,
            seen=pair_matrix(user_codes, item_codes, *sizes),
            catalogue=np.unique(item_codes[positive]),
            positives=positives.astype(np.float32),
            popularity=counts.astype(np.float64),
            **fields,
        )

    def scores_of_items(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function that scores user codes (b,) for these items: (b, n_items)."""
        counts = self.popularity[item_codes]
        return lambda user_codes: np.tile(counts, (len(user_codes), 1))

    def scores_of_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        """Scores of single pairs, (n_pairs,)."""
        return self.popularity[item_codes]

    def code_scores(self, user_codes: np.ndarray, item_codes: np.ndarray) -> RowScores:
        """Scores of users for items."""
        score = self.scores_of_items(item_codes)
        return RowScores(
            (len(user_codes), len(item_codes)),
            lambda rows: score(user_codes[rows]),
            lambda rows, columns: self.scores_of_pairs(
                user_codes[rows], item_codes[columns]
            ),
        )

    def query_scores(self, queries: Interactions, item_codes: np.ndarray) -> RowScores:
        """Scores of the users of some rows for items."""
        return self.code_scores(self.users.codes(queries.users), item_codes)

    def pair_scores(self, interactions: Interactions) -> np.ndarray:
        """Score of each row's pair, (n_rows,)."""
        return self.scores_of_pairs(
            self.users.codes(interactions.users), self.items.codes(interactions.items)
        )

    def item_vectors(self, item_codes: np.ndarray) -> None:
        """Items have no vectors here."""


@dataclass(frozen=True, eq=False)
class _LinearCounts(_Counts):
    """Counts, and item-item weights that score a user's binary row.

    Attributes
    ----------
    weights : ndarray or sparse matrix of shape (n_items, n_items)
        From an item that a user has, a row, to an item that is scored, a column.
    """

    weights: Any = None

    def scores_of_items(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        weights = self.weights[:, item_codes - 1]
        popularity = self.popularity[item_codes].astype(np.float32)

        def score(user_codes: np.ndarray) -> np.ndarray:
            scores = self.positives[user_codes - 1] @ weights
            scores = scores.toarray() if sp.issparse(scores) else np.asarray(scores)
            scores[user_codes == 0] = popularity
            return scores

        return score

    def scores_of_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        scores = np.zeros(len(user_codes), dtype=np.float32)
        for start in range(0, len(scores), 4096):  # a block is (4096, n_items) at most
            rows = slice(start, start + 4096)
            weights = self.weights[:, item_codes[rows] - 1].T
            positives = self.positives[user_codes[rows] - 1]
            scores[rows] = np.asarray(positives.multiply(weights).sum(axis=1)).ravel()
        unknown = user_codes == 0
        scores[unknown] = self.popularity[item_codes[unknown]]
        scores[item_codes == 0] = 0.0
        return scores


class _CountingRecommender(RecommenderMixin, BaseEstimator):
    """A recommender that needs pairs of users and items only."""

    _parameter_constraints: dict = {
        "user_column": [str, Integral],
        "item_column": [str, Integral],
    }

    user_column: str | int
    item_column: str | int
    _state: _Counts

    def _evaluation_source(self) -> _Counts:
        check_is_fitted(self)
        return self._state

    def _read_training(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        timestamp_column: str | int | None = None,
    ) -> tuple[pd.DataFrame | np.ndarray, ColumnRoles, Interactions]:
        """The rows to learn from: as a table, their columns, and checked."""
        owner = type(self).__name__
        rows = as_interactions(X, owner=owner)
        roles = ColumnRoles.of_fit(
            rows,
            owner=owner,
            user_column=self.user_column,
            item_column=self.item_column,
            timestamp_column=timestamp_column,
        )
        interactions = read_interactions(rows, y, sample_weight, roles=roles)
        if not interactions.positive.any():
            raise ValueError(
                "There is nothing to learn from: no row of X is a positive (y > 0)."
            )
        return rows, roles, interactions

    def predict(self, X: Any) -> np.ndarray:
        """Score of each row's pair.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores; an unknown item has 0.
        """
        return self._evaluation_source().pair_scores(self._read(X, None, None))


class PopularRecommender(_CountingRecommender):
    """Recommends what most rows are about, to everyone the same but for what is seen.

    The score of an item is its number of positive rows (or their total weight). No model
    should lose against it.

    Parameters
    ----------
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.
    timestamp_column : str or int, default=None
        Column of X with numbers or datetimes, for the `window`.
    window : float or timedelta, default=None
        Count only rows so far back from the latest positive one, both ends included: a
        duration for datetimes; a number, in their unit, for numbers. None: all rows.
        What is older scores 0, and stays in the catalogue.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    item_counts_ : ndarray of shape (n_items,)
        Score of each item.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X has any.

    See Also
    --------
    EASERecommender : A strong linear reference.
    ItemKNNRecommender : The oldest personal one.

    Examples
    --------
    >>> from sktwotower.baselines import PopularRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "tea"]]
    >>> item_ids, scores = PopularRecommender().fit(X).recommend(
    ...     ["ann", "dan"], n_recommendations=1)
    >>> item_ids.tolist()
    [['milk'], ['tea']]
    """

    _parameter_constraints: dict = {
        **_CountingRecommender._parameter_constraints,
        "timestamp_column": [str, Integral, None],
        "window": [
            dt.timedelta,
            np.timedelta64,
            Interval(Real, 0, None, closed="left"),
            None,
        ],
    }

    def __init__(
        self,
        *,
        user_column: str | int = 0,
        item_column: str | int = 1,
        timestamp_column: str | int | None = None,
        window: float | dt.timedelta | np.timedelta64 | None = None,
    ) -> None:
        self.user_column = user_column
        self.item_column = item_column
        self.timestamp_column = timestamp_column
        self.window = window

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> PopularRecommender:
        """Count.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all.
        sample_weight : array-like of shape (n_samples,), default=None
            What a row counts.

        Returns
        -------
        self : PopularRecommender
            Fitted.
        """
        rows, roles, interactions = self._read_training(
            X, y, sample_weight, timestamp_column=self.timestamp_column
        )
        counted = interactions.positive
        if self.window is not None:
            times = interactions.times
            if times is None:
                raise ValueError(
                    f"window={self.window!r} needs timestamp_column; it is None."
                )
            column = pd.Series(roles.column(rows, "timestamp_column"))
            counted = counted & (times[counted].max() - times <= self._window(column))
        self._state = _Counts.of(roles, interactions, counted)
        return self

    @property
    def item_counts_(self) -> np.ndarray:
        """Score of each item, (n_items,)."""
        return self._evaluation_source().popularity[1:]

    def _window(self, column: pd.Series) -> Any:
        """The window in the unit of checked timestamps."""
        is_duration = isinstance(self.window, dt.timedelta | np.timedelta64)
        if is_duration == (time_kind(column) == "number"):
            wanted = "a number" if is_duration else "a duration, such as a timedelta"
            raise ValueError(
                f"window={self.window!r} does not fit the timestamps in column "
                f"{self.timestamp_column!r}, of dtype {column.dtype}; give {wanted}."
            )
        if not is_duration:
            return self.window
        window = time_numbers(pd.Series([self.window]), name="window")[0]
        if window < 0:
            raise ValueError(f"window={self.window!r} must not be negative.")
        return window


class _LinearRecommender(_CountingRecommender):
    """Scores are a user's binary row times item-item weights, dense or sparse.

    Attributes
    ----------
    item_weights_ : ndarray or sparse matrix of shape (n_items, n_items)
        From an item that a user has, a row, to one that is scored, a column.
    """

    _state: _LinearCounts

    @property
    def item_weights_(self) -> Any:
        """Item-item weights, (n_items, n_items)."""
        check_is_fitted(self)
        return self._state.weights

    def _count(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> _LinearCounts:
        """The counts, without weights yet."""
        _, roles, interactions = self._read_training(X, y, sample_weight)
        return _LinearCounts.of(roles, interactions, interactions.positive)


class EASERecommender(_LinearRecommender):
    r"""Embarrassingly shallow autoencoder: a linear item-item model in closed form.

    With :math:`X` the binary user-item matrix and :math:`P = (X^T X + \lambda I)^{-1}`,

    .. math:: B_{ij} = -P_{ij} / P_{jj} \; (i \ne j), \quad B_{jj} = 0, \qquad
              S = X B.

    It inverts an n_items x n_items matrix, so memory grows with the square and time with
    the cube of the catalogue: a reference for up to some 20,000 items. An unknown user
    gets the most popular items.

    Parameters
    ----------
    regularization : float, default=300.0
        :math:`\lambda`, in rows: higher values trust co-occurrences less.
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    item_weights_ : ndarray of shape (n_items, n_items), float32
        :math:`B`.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X has any.

    See Also
    --------
    PopularRecommender : What every model should beat.

    References
    ----------
    H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

    Examples
    --------
    >>> from sktwotower.baselines import EASERecommender
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"],
    ...      ["cid", "rum"], ["dan", "milk"]]
    >>> model = EASERecommender(regularization=1.0).fit(X)
    >>> model.recommend(["dan"], n_recommendations=1)[0].tolist()
    [['tea']]
    """

    _parameter_constraints: dict = {
        **_CountingRecommender._parameter_constraints,
        "regularization": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        regularization: float = 300.0,
        user_column: str | int = 0,
        item_column: str | int = 1,
    ) -> None:
        self.regularization = regularization
        self.user_column = user_column
        self.item_column = item_column

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> EASERecommender:
        """Solve for the item-item weights.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all. DedupedFeatures pairs count once.
        sample_weight : array-like of shape (n_samples,), default=None
            Only whether a weight is 0 matters: the matrix is binary.

        Returns
        -------
        self : EASERecommender
            Fitted.
        """
        counts = self._count(X, y, sample_weight)
        gram = (counts.positives.T @ counts.positives).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.regularization
        precision = np.linalg.inv(gram)
        weights = -precision / np.diag(precision)
        np.fill_diagonal(weights, 0.0)
        self._state = replace(counts, weights=weights.astype(np.float32))
        return self


class ItemKNNRecommender(_LinearRecommender):
    r"""What is like the items that a user has: nearest neighbours by who had them.

    An item is the binary vector of its users. With :math:`N_k(i)` the `n_neighbors` items
    nearest to :math:`i` by cosine,

    .. math:: s_{uj} = \sum_{i \in \text{items of } u,\; j \in N_k(i)} \cos(i, j).

    An unknown user gets the most popular items.

    Parameters
    ----------
    n_neighbors : int, default=100
        Neighbours an item has. More of them bring in weak ones, fewer leave items
        without a score, which is 0.
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    item_weights_ : csr_matrix of shape (n_items, n_items), float32
        Row ``i`` has the cosines of the neighbours of item ``i``.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X has any.

    See Also
    --------
    EASERecommender : Learns the weights instead.
    PopularRecommender : What every model should beat.

    References
    ----------
    M. Deshpande and G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM
    Transactions on Information Systems 22(1), 2004.

    Examples
    --------
    >>> from sktwotower.baselines import ItemKNNRecommender
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"],
    ...      ["cid", "rum"], ["dan", "milk"]]
    >>> model = ItemKNNRecommender(n_neighbors=1).fit(X)
    >>> model.recommend(["dan"], n_recommendations=1)[0].tolist()
    [['tea']]
    """

    _parameter_constraints: dict = {
        **_CountingRecommender._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 100,
        user_column: str | int = 0,
        item_column: str | int = 1,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.user_column = user_column
        self.item_column = item_column

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> ItemKNNRecommender:
        """Find the neighbours.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all. DedupedFeatures pairs count once.
        sample_weight : array-like of shape (n_samples,), default=None
            Only whether a weight is 0 matters: the vectors are binary.

        Returns
        -------
        self : ItemKNNRecommender
            Fitted.
        """
        counts = self._count(X, y, sample_weight)
        vectors = counts.positives.T.tocsr().astype(np.float64)
        n_items = vectors.shape[0]
        n_neighbors = min(self.n_neighbors, n_items - 1)  # never itself
        weights = sp.csr_matrix((n_items, n_items))
        if n_neighbors:
            search = NearestNeighbors(
                n_neighbors=n_neighbors, metric="cosine", algorithm="brute"
            )
            weights = search.fit(vectors).kneighbors_graph(mode="distance")
            weights.data = 1.0 - weights.data
            weights.data[weights.data < 1e-12] = 0.0  # of items that share no user
            weights.eliminate_zeros()
        self._state = replace(counts, weights=weights.astype(np.float32))
        return self
