"""References to compare with: short, exact, and with the same face."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sktwotower._entities import Vocabulary
from sktwotower.base import RecommenderMixin
from sktwotower.utils._sklearn import Interval, fit_context

__all__ = ["EASERecommender", "PopularRecommender"]


class _CountingRecommender(RecommenderMixin, BaseEstimator):
    """A recommender that needs nothing but who had what."""

    _parameter_constraints: dict = {
        "user_column": [str, Integral],
        "item_column": [str, Integral],
    }

    def _count(self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        """Read the interactions; set the vocabularies, ``_seen`` and ``_popularity``."""
        interactions = self._read(X, y, sample_weight, reset=True)
        if not interactions.positive.any():
            raise ValueError(
                "There is nothing to learn from: no row of X is a positive (y > 0)."
            )
        users, items = Vocabulary(interactions.users), Vocabulary(interactions.items)
        positives = interactions.take(interactions.positive)
        counts = np.bincount(
            items.codes(positives.items), positives.weights, minlength=len(items) + 1
        )
        self._popularity = counts.astype(np.float64)  # (n_items + 1,), by code
        catalogue = np.unique(items.codes(positives.items))
        self._set_interactions(interactions, users, items, catalogue)
        self._positives = self._pairs(positives)

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
        check_is_fitted(self)
        interactions = self._read(X, None, None)
        users = self._user_vocabulary.codes(interactions.users)
        items = self._item_vocabulary.codes(interactions.items)
        return self._score_pairs(users, items)

    def _score_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class PopularRecommender(_CountingRecommender):
    """Recommends what most rows are about, to everyone the same but for what is seen.

    The score of an item is its number of positive rows (or their total weight). No model
    should lose against it.

    Parameters
    ----------
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.

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

    Examples
    --------
    >>> from sktwotower.baselines import PopularRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "tea"]]
    >>> item_ids, scores = PopularRecommender().fit(X).recommend(
    ...     ["ann", "dan"], n_recommendations=1)
    >>> item_ids.tolist()
    [['milk'], ['tea']]
    """

    def __init__(self, *, user_column: str | int = 0, item_column: str | int = 1) -> None:
        self.user_column = user_column
        self.item_column = item_column

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
        self._count(X, y, sample_weight)
        self.item_counts_ = self._popularity[1:]
        return self

    def _item_scorer(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        counts = self._popularity[item_codes]
        return lambda user_codes: np.tile(counts, (len(user_codes), 1))

    def _score_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        return self._popularity[item_codes]


class EASERecommender(_CountingRecommender):
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
            Rows with y > 0 count; None: all. Repeated pairs count once.
        sample_weight : array-like of shape (n_samples,), default=None
            Only whether a weight is 0 matters: the matrix is binary.

        Returns
        -------
        self : EASERecommender
            Fitted.
        """
        self._count(X, y, sample_weight)
        gram = (self._positives.T @ self._positives).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.regularization
        precision = np.linalg.inv(gram)
        weights = -precision / np.diag(precision)
        np.fill_diagonal(weights, 0.0)
        self.item_weights_ = weights.astype(np.float32)
        return self

    def _item_scorer(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        weights = self.item_weights_[:, item_codes - 1]
        popularity = self._popularity[item_codes].astype(np.float32)

        def score(user_codes: np.ndarray) -> np.ndarray:
            scores = np.asarray(self._positives[user_codes - 1] @ weights)
            scores[user_codes == 0] = popularity
            return scores

        return score

    def _score_pairs(self, user_codes: np.ndarray, item_codes: np.ndarray) -> np.ndarray:
        scores = np.zeros(len(user_codes), dtype=np.float32)
        for start in range(0, len(scores), 4096):  # a block is (4096, n_items) at most
            rows = slice(start, start + 4096)
            weights = self.item_weights_[:, item_codes[rows] - 1].T
            own = self._positives[user_codes[rows] - 1]
            scores[rows] = np.asarray(own.multiply(weights).sum(axis=1)).ravel()
        unknown = user_codes == 0
        scores[unknown] = self._popularity[item_codes[unknown]]
        scores[item_codes == 0] = 0.0
        return scores
