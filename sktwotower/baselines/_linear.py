"""Linear item-item models: EASE and item-kNN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor
from scipy.linalg.lapack import dpotri
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.queries import read_query
from sktwotower._search.top_k import top_k
from sktwotower._serving.answers import Answer, FrameNames, check_count, ranked_answer
from sktwotower._serving.selection import pairs_with_itself
from sktwotower.baselines._counts import CountingRecommender, Counts
from sktwotower.utils._forms import check_bool
from sktwotower.utils._sklearn import Interval, fit_context

_BLOCK = 512  # rows, or columns, of a large matrix that are copied at a time


@dataclass(frozen=True, eq=False)
class LinearCounts(Counts):
    """Counts, and item-item weights that score a user's binary row.

    Attributes
    ----------
    weights : ndarray or sparse matrix of shape (n_items, n_items)
        From an item that a user has, a row, to an item that is scored, a column.
    """

    weights: np.ndarray | sp.csr_matrix

    def with_single_items(self) -> LinearCounts:
        """The same weights with a user for each item, who has just that one."""
        n_items = len(self.items)
        return replace(self, positives=sp.eye(n_items, format="csr", dtype=np.float32))

    def scores_of_items(self, item_codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        chosen: np.ndarray | slice = item_codes - 1
        if len(item_codes) and item_codes[-1] - item_codes[0] == len(item_codes) - 1:
            chosen = slice(item_codes[0] - 1, item_codes[-1])  # no copy is needed
        weights = self.weights[:, chosen]
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


class LinearRecommender(CountingRecommender):
    """Scores are a user's binary row times item-item weights, dense or sparse.

    Attributes
    ----------
    item_weights_ : ndarray or sparse matrix of shape (n_items, n_items)
        Rows are items that the user has, columns are scored items.
    """

    _state: LinearCounts

    @property
    def item_weights_(self) -> np.ndarray | sp.csr_matrix:
        """Item-item weights, (n_items, n_items)."""
        return self._fitted().weights

    def similar_items(
        self,
        item_ids: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        r"""The items that a user who has only this item is recommended, for each item.

        The score of item :math:`j` for item :math:`i` is the weight :math:`W_{ij}`, the row
        of ``item_weights_``. For :class:`ItemKNNRecommender` it is the cosine of the
        neighbours of :math:`i`, and 0 for other items. For :class:`EASERecommender` it is
        :math:`B_{ij} = -P_{ij} / P_{jj}`, which may be negative and is not symmetric: the
        items that having :math:`i` speaks for, beyond what their popularity and other
        items explain.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of item rows
            Item ids, or rows of which the item column is read. An unknown item gets the
            most popular items, with a warning that counts them.
        n_recommendations : int, default=10
            Number of items for each query, which is never among them.
        candidates : array-like, lists, dict, Series or frame, default=None
            Items to choose from, as in :meth:`recommend`; dicts are by the id that is asked
            about, and a frame is for all queries.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``; short rows are padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Weights; short rows are padded with ``-inf``.
        frame : DataFrame with columns query, item ids, score, rank
            With ``as_frame=True``, instead of the two arrays. The items found are in a
            column called as in the X of ``fit``, or ``item``.

        Examples
        --------
        >>> from sktwotower.baselines import ItemKNNRecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"],
        ...      ["cid", "rum"], ["dan", "milk"]]
        >>> model = ItemKNNRecommender().fit(X)
        >>> item_ids, scores = model.similar_items(["tea"], n_recommendations=2)
        >>> item_ids.tolist(), scores.round(2).tolist()
        ([['milk', 'rum']], [[0.8199999928474426, 0.0]])
        """
        n_recommendations = check_count(n_recommendations)
        check_bool("as_frame", as_frame)
        counts = self._fitted()
        names = FrameNames.of(counts.roles, "item", "item") if as_frame else None
        query = read_query(
            item_ids,
            "item",
            where="item_ids",
            roles=counts.roles,
            vocabulary=counts.items,
            columns=self._frame_columns("item"),
            unknown="get the most popular items",
        )
        chosen = self._chosen_items(query, "item", candidates)
        columns, scores = top_k(
            counts.with_single_items().code_scores(query.codes, chosen.codes),
            n_recommendations,
            exclude=pairs_with_itself(query, chosen, counts.items),
            allowed=chosen.allowed,
        )
        return ranked_answer(query, chosen, columns, scores, counts.items, names=names)

    def _fitted(self) -> LinearCounts:
        check_is_fitted(self)
        return self._state

    def _count(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> Counts:
        """The counts of the training rows."""
        _, roles, interactions = self._read_training(X, y, sample_weight)
        return Counts.of(roles, interactions, interactions.positive)


class EASERecommender(LinearRecommender):
    r"""Embarrassingly shallow autoencoder: a linear item-item model in closed form.

    With :math:`X` the binary user-item matrix and :math:`P = (X^T X + \lambda I)^{-1}`,

    .. math:: B_{ij} = -P_{ij} / P_{jj} \; (i \ne j), \quad B_{jj} = 0, \qquad
              S = X B.

    With fewer users than items it takes the inverse of the smaller matrix of users,
    :math:`P = (I - X^T (X X^T + \lambda I)^{-1} X) / \lambda` (Woodbury).

    Time grows with the cube of the number of items, or of users if there are fewer. ``fit``
    needs 4 bytes for each pair of items, which the model keeps, and 8 for each entry of the
    matrix that is inverted: 5 GB for 20,000 items and more users, 14 GB for 41,000 items
    and 30,000 users. Use it as a reference as far as this has room. An unknown user gets
    the most popular items.

    Parameters
    ----------
    regularization : float, default=300.0
        :math:`\lambda`, in units of rows. Higher values trust co-occurrences less.
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    seen_ : csr_matrix of shape (n_users, n_items), bool
        Pairs of the training data.
    item_weights_ : ndarray of shape (n_items, n_items), float32
        :math:`B`.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, if X has any.

    See Also
    --------
    PopularRecommender : The baseline that every model must beat.

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
        **CountingRecommender._parameter_constraints,
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
            Rows of weight 0 are dropped; other weights have no effect.

        Returns
        -------
        self : EASERecommender
            Fitted.

        Raises
        ------
        ValueError
            If no row is a positive, or if ``regularization`` is so small that it is lost.
        """
        counts = self._count(X, y, sample_weight)
        weights = _ease_weights(counts.positives, float(self.regularization))
        self._state = LinearCounts(**vars(counts), weights=weights)
        return self


def _ease_weights(positives: sp.csr_matrix, regularization: float) -> np.ndarray:
    """The weights of EASE, (n_items, n_items), float32."""
    n_users, n_items = positives.shape
    is_dual = n_users < n_items
    rows = positives.astype(np.float64)
    inverse = _inverse_gram(rows if is_dual else rows.T.tocsr(), regularization)
    of_items = rows.tocsc()
    weights = np.empty((n_items, n_items), dtype=np.float32)
    for block in gen_batches(n_items, _BLOCK):
        here = np.arange(block.start, block.stop), np.arange(block.stop - block.start)
        if is_dual:
            precision = rows.T @ (inverse @ of_items[:, block])
            precision *= -1.0
            precision[here] += 1.0  # and all of it is divided by the regularization
        else:
            precision = inverse[:, block]
        weights[:, block] = precision / -precision[here]
        weights[:, block][here] = 0.0
    return weights


def _inverse_gram(rows: sp.csr_matrix, regularization: float) -> np.ndarray:
    """``(R R^T + regularization * I)^-1`` of the n rows R, (n, n), float64.

    It needs no second matrix: the Cholesky factor and the inverse replace the first one.

    Raises
    ------
    ValueError
        If the regularization is lost beside the counts, which leaves a singular matrix.
    """
    n = rows.shape[0]
    gram = np.empty((n, n))
    for block in gen_batches(n, _BLOCK):
        gram[block] = (rows[block] @ rows.T).toarray()
    gram[np.diag_indices_from(gram)] += regularization
    # LAPACK takes columns first, as the transpose has them; both are the same matrix.
    try:
        factor, _ = cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise ValueError(
            f"regularization={regularization!r} is too small: the matrix of co-occurrences "
            "is singular in double precision. Start with 1 or more."
        ) from error
    inverse, _ = dpotri(factor, lower=True, overwrite_c=True)
    for block in gen_batches(n, _BLOCK):  # the upper triangle is left over from before
        inverse[block, block.stop :] = inverse[block.stop :, block].T
        corner = inverse[block, block]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T
    return inverse


class ItemKNNRecommender(LinearRecommender):
    r"""Item-based nearest neighbours: recommends the neighbours of a user's items.

    An item is represented by the binary vector of its users. With :math:`N_k(i)` the
    `n_neighbors` items nearest to :math:`i` by cosine,

    .. math:: s_{uj} = \sum_{i \in \text{items of } u,\; j \in N_k(i)} \cos(i, j).

    An unknown user gets the most popular items.

    Parameters
    ----------
    n_neighbors : int, default=100
        Number of neighbours of an item. With many, weak neighbours add noise; with few,
        more items have no neighbour among the user's items, and score 0.
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    seen_ : csr_matrix of shape (n_users, n_items), bool
        Pairs of the training data.
    item_weights_ : csr_matrix of shape (n_items, n_items), float32
        Row ``i`` has the cosines of the neighbours of item ``i``.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, if X has any.

    See Also
    --------
    EASERecommender : Learns the weights instead.
    PopularRecommender : The baseline that every model must beat.

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
        **CountingRecommender._parameter_constraints,
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
            Rows with y > 0 count; None: all. Repeated pairs count once.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight 0 are dropped; other weights have no effect.

        Returns
        -------
        self : ItemKNNRecommender
            Fitted.
        """
        counts = self._count(X, y, sample_weight)
        vectors = counts.positives.T.tocsr().astype(np.float64)
        n_items = vectors.shape[0]
        n_neighbors = min(int(self.n_neighbors), n_items - 1)  # never itself
        weights = sp.csr_matrix((n_items, n_items))
        if n_neighbors:
            search = NearestNeighbors(
                n_neighbors=n_neighbors, metric="cosine", algorithm="brute"
            )
            weights = search.fit(vectors).kneighbors_graph(mode="distance")
            weights.data = 1.0 - weights.data
            weights.data[weights.data < 1e-12] = 0.0  # of items that share no user
            weights.eliminate_zeros()
        self._state = LinearCounts(**vars(counts), weights=weights.astype(np.float32))
        return self
