"""Metrics beyond accuracy: how varied, popular and surprising recommendations are.

They do not measure quality by themselves: random lists are diverse and novel. Read them
next to a metric of accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sktwotower.metrics._matched import (
    DEFAULT_K,
    FloatArray,
    IntArray,
    check_positive_int,
    check_ranked,
    match_relevance,
)


def catalogue_coverage(ranked: npt.ArrayLike, n_items: int, *, k: int = DEFAULT_K) -> float:
    """Share of the catalogue that is among the first `k` items of at least one user.

    ``Coverage@k = number of distinct items in ranked[:, :k] / n_items``. Use it to see how
    much of the catalogue users get to see. It is one number for all users and grows with
    their number, so compare it on the same users.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        Item columns, best first, padded at the end with -1.
    n_items : int
        Size of the catalogue.
    k : int, default=10
        Length of the list; may exceed `n_ranked`.

    Returns
    -------
    coverage : float
        In [0, 1].

    References
    ----------
    M. Ge, C. Delgado-Battenfeld, D. Jannach (2010). Beyond accuracy: evaluating
    recommender systems by coverage and serendipity. RecSys.

    Examples
    --------
    >>> from sktwotower.metrics import catalogue_coverage
    >>> catalogue_coverage([[2, 0], [2, -1]], n_items=4, k=2)
    0.5
    """
    check_positive_int("k", k)
    check_positive_int("n_items", n_items)
    top = check_ranked(ranked, n_items)[:, :k]
    recommended = np.zeros(n_items, dtype=bool)
    recommended[top[top >= 0]] = True
    return float(recommended.mean())


def gini(ranked: npt.ArrayLike, n_items: int, *, k: int = DEFAULT_K) -> float:
    """How unequally the recommendations fall on the items of the catalogue.

    The Gini coefficient of how often each item is among the first `k` of a user. With
    ``c_(1) <= ... <= c_(n)`` the sorted counts of all n items of the catalogue::

        Gini@k = sum_{i=1..n} (2 i - n - 1) c_(i)  /  (n * sum_{i=1..n} c_(i))

    It is one number for all users: 0 if all items are recommended equally often, and
    ``(n - 1) / n`` if only one item is recommended.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        As in :func:`catalogue_coverage`.
    n_items : int
        Size of the catalogue.
    k : int, default=10
        Length of the list.

    Returns
    -------
    gini : float
        In [0, 1); NaN if nothing is recommended.

    References
    ----------
    G. Shani, A. Gunawardana (2011). Evaluating recommendation systems. Recommender
    Systems Handbook, chapter 8.

    Examples
    --------
    >>> from sktwotower.metrics import gini
    >>> gini([[2, 0], [2, 1], [2, 3]], n_items=4, k=1)
    0.75
    >>> gini([[0, 1], [2, 3]], n_items=4, k=2)
    0.0
    """
    check_positive_int("k", k)
    check_positive_int("n_items", n_items)
    top = check_ranked(ranked, n_items)[:, :k]
    counts = np.sort(np.bincount(top[top >= 0], minlength=n_items))
    if counts[-1] == 0:
        return float("nan")
    coefficients = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(coefficients @ counts / (n_items * counts.sum()))


def average_popularity(
    ranked: npt.ArrayLike, popularity: npt.ArrayLike, *, k: int = DEFAULT_K
) -> FloatArray:
    """Mean popularity of each user's first `k` items; its mean over users is ARP@k.

    ``ARP@k = mean of popularity over the items among the first k``, in the unit of
    `popularity`. Empty ranks do not count. Use it to see whether a model recommends little
    but popular items.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        As in :func:`catalogue_coverage`.
    popularity : array-like of shape (n_items,)
        Popularity of each item, such as its number of users in the training data.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        NaN for a user without recommendations.

    References
    ----------
    H. Abdollahpouri, R. Burke, B. Mobasher (2019). Managing popularity bias in
    recommender systems with personalized re-ranking. FLAIRS.

    Examples
    --------
    >>> from sktwotower.metrics import average_popularity
    >>> average_popularity([[2, 0], [1, -1]], [5, 1, 9], k=2)
    array([7., 1.])
    """
    popularity = _check_popularity(popularity)
    return _mean_over_list(_check_top(ranked, len(popularity), k), popularity)


def novelty(
    ranked: npt.ArrayLike, popularity: npt.ArrayLike, *, k: int = DEFAULT_K
) -> FloatArray:
    """Mean self-information of each user's first `k` items, in bits.

    With ``p_i`` the share of item i in the total popularity::

        Novelty@k = mean of -log2(p_i) over the items among the first k

    Rare items are novel: half the popularity is one bit more. Items of popularity 0 count
    as much as the least popular item above 0. Empty ranks do not count.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        As in :func:`catalogue_coverage`.
    popularity : array-like of shape (n_items,)
        As in :func:`average_popularity`. Its scale does not matter.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        At least 0; NaN for a user without recommendations.

    References
    ----------
    S. Vargas, P. Castells (2011). Rank and relevance in novelty and diversity metrics for
    recommender systems. RecSys.

    Examples
    --------
    >>> from sktwotower.metrics import novelty
    >>> novelty([[2, 0], [1, -1]], [4, 4, 8], k=2)
    array([1.5, 2. ])
    """
    popularity = _check_popularity(popularity)
    if not popularity.any():
        raise ValueError("popularity is 0 for every item; novelty is not defined.")
    floor = popularity[popularity > 0].min()
    bits = -np.log2(np.maximum(popularity, floor) / popularity.sum())
    return _mean_over_list(_check_top(ranked, len(popularity), k), bits)


def intra_list_diversity(
    ranked: npt.ArrayLike, embeddings: npt.ArrayLike, *, k: int = DEFAULT_K
) -> FloatArray:
    """How different each user's first `k` items are from each other.

    One minus the mean cosine of two items. With ``e_i`` the vector of item i and n the
    number of items among the first k::

        ILD@k = 1 - sum_{i != j} cos(e_i, e_j) / (n (n - 1))

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        As in :func:`catalogue_coverage`.
    embeddings : array-like of shape (n_items, n_dimensions)
        A vector for each item: an embedding, or encoded features. Use the same vectors to
        compare models, since the cosines of two models have different scales. The cosine
        with a vector of zeros is 0.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 2]: 0 for equal directions, 1 for orthogonal ones. NaN for a list of fewer
        than two items.

    References
    ----------
    C.-N. Ziegler et al. (2005). Improving recommendation lists through topic
    diversification. WWW.

    Examples
    --------
    >>> from sktwotower.metrics import intra_list_diversity
    >>> intra_list_diversity([[0, 1], [0, 2]], [[1, 0], [0, 3], [2, 0]], k=2)
    array([1., 0.])
    """
    vectors = np.array(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(
            f"embeddings has shape {vectors.shape}; it must be (n_items, n_dimensions), "
            "all of it finite."
        )
    top = _check_top(ranked, len(vectors), k)
    norms = np.linalg.norm(vectors, axis=1)
    vectors /= np.where(norms > 0, norms, 1.0)[:, np.newaxis]
    filled = top >= 0
    n = np.count_nonzero(filled, axis=1)
    indptr = np.concatenate([[0], np.cumsum(n)])
    lists = sparse.csr_array(
        (np.ones(indptr[-1]), top[filled], indptr), shape=(len(top), len(vectors))
    )
    # |sum of e_i|^2 is the sum of all cosines and of the squared norms of the items.
    total = np.square(lists @ vectors).sum(axis=1) - lists @ (norms > 0)
    values = np.full(len(top), np.nan)
    np.divide(total, n * (n - 1), out=values, where=n > 1)
    return 1.0 - values


def serendipity(
    ranked: npt.ArrayLike, relevant: Any, popularity: npt.ArrayLike, *, k: int = DEFAULT_K
) -> FloatArray:
    """Share of relevant items among the first `k` that are not among the most popular.

    With ``P_k`` the k most popular items of the catalogue, the same for every user::

        Serendipity@k = |{relevant items among the first k} - P_k| / k

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix
        As in :func:`ndcg`.
    popularity : array-like of shape (n_items,)
        As in :func:`average_popularity`. Ties are broken by the order of the items.
    k : int, default=10
        Length of both lists.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1], at most the precision; NaN for a user without a relevant item.

    References
    ----------
    M. Ge, C. Delgado-Battenfeld, D. Jannach (2010). Beyond accuracy: evaluating
    recommender systems by coverage and serendipity. RecSys.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import serendipity
    >>> serendipity([[2, 0, 1]], csr_array([[1, 0, 1]]), [9, 5, 1], k=2)
    array([0.5])
    """
    check_positive_int("k", k)
    popularity = _check_popularity(popularity)
    matched = match_relevance(ranked, relevant, k=k)
    top = _check_top(ranked, len(popularity), k)
    expected = np.zeros(len(popularity) + 1, dtype=bool)  # padding takes the last
    expected[np.argsort(-popularity, kind="stable")[:k]] = True
    surprising = np.count_nonzero(matched.hits & ~expected[top], axis=1)
    return np.where(matched.n_relevant > 0, surprising / k, np.nan)


def _check_top(ranked: npt.ArrayLike, n_items: int, k: int) -> IntArray:
    check_positive_int("k", k)
    return check_ranked(ranked, n_items)[:, :k]


def _check_popularity(popularity: npt.ArrayLike) -> FloatArray:
    values = np.asarray(popularity, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"popularity has shape {values.shape}; it must be (n_items,), finite and not "
            "negative."
        )
    return values


def _mean_over_list(top: IntArray, item_values: FloatArray) -> FloatArray:
    """Mean of the items' values over each row, (n_queries,); NaN for an empty row."""
    filled = top >= 0
    n = np.count_nonzero(filled, axis=1)
    total = np.sum(np.append(item_values, 0.0)[top], axis=1)  # padding takes the last, 0
    values = np.full(len(top), np.nan)
    np.divide(total, n, out=values, where=n > 0)
    return values
