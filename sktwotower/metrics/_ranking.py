"""Ranking metrics on arrays, with one value a user: how high relevant items are ranked.

Every metric takes ``ranked`` and ``relevant``, or in place of both what
:func:`~sktwotower.metrics.match_relevance` returns for them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sktwotower.metrics._matched import (
    DEFAULT_K,
    FloatArray,
    IntArray,
    RankedRelevance,
    check_positive_int,
    match_relevance,
)


def ndcg(
    ranked: npt.ArrayLike | RankedRelevance,
    relevant: Any = None,
    *,
    k: int = DEFAULT_K,
    gains: Literal["binary", "graded"] = "binary",
) -> FloatArray:
    """Normalised discounted cumulative gain of each user's first `k` items.

    The metric to try first: it counts how many relevant items are in the list and how
    high they are. With ``g_r`` the gain at rank r (from 1) and ``g*_r`` the gain at rank
    r when all relevant items are ranked by falling gain::

        NDCG@k = sum_{r=1..k} g_r / log2(r + 1)  /  sum_{r=1..k} g*_r / log2(r + 1)

    It is 1 when the list is filled with relevant items as far as there are any. The ideal
    list is cut at `k`, not at the length of the ranking, so a short ranking loses.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1. For several
        metrics of the same rankings, pass what :func:`match_relevance` returns for both
        arguments, and leave out `relevant`.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item, and its value is the gain.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.
    gains : {"binary", "graded"}, default="binary"
        The gain of a relevant item: 1 for "binary"; its value in `relevant` for "graded"
        (linear, not ``2**value - 1``). Scorers call the latter ``graded_ndcg``.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    See Also
    --------
    sklearn.metrics.ndcg_score : NDCG of dense scores, averaged over ties.

    References
    ----------
    K. Jarvelin, J. Kekalainen (2002). Cumulated gain-based evaluation of IR techniques.
    ACM TOIS 20(4).

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import ndcg
    >>> ndcg([[2, 0, 1]], csr_array([[3, 1, 0]]), k=3).round(3)
    array([0.693])
    >>> ndcg([[2, 0, 1]], csr_array([[3, 1, 0]]), k=3, gains="graded").round(3)
    array([0.659])
    """
    if gains not in ("binary", "graded"):
        raise ValueError(f"gains={gains!r} is unknown; it is 'binary' or 'graded'.")
    top = _top(ranked, relevant, k)
    discounts = _discounts(top.gains.shape[1])
    if gains == "binary":
        return _ratio(top.hits @ discounts, _ideal_binary(top.n_relevant, k), top)
    return _ratio(top.gains @ discounts, _ideal_graded(top, k), top)


def recall(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """Share of each user's relevant items that are among the first `k`.

    ``Recall@k = hits among the first k / number of relevant items``. Use it for lists
    from which a second model chooses. It cannot reach 1 for a user with more than `k`
    relevant items.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    References
    ----------
    C. Manning, P. Raghavan, H. Schutze (2008). Introduction to Information Retrieval,
    chapter 8.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import recall
    >>> recall([[2, 0, 1], [1, 2, -1]], csr_array([[1, 1, 0], [0, 0, 0]]), k=2)
    array([0.5, nan])
    """
    top = _top(ranked, relevant, k)
    return _ratio(_n_hits(top), top.n_relevant, top)


def precision(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """Share of relevant items among each user's first `k`.

    ``Precision@k = hits among the first k / k``. Empty ranks of a short list count as
    misses. It cannot reach 1 for a user with fewer than `k` relevant items.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    References
    ----------
    C. Manning, P. Raghavan, H. Schutze (2008). Introduction to Information Retrieval,
    chapter 8.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import precision
    >>> precision([[0, 1, 2], [1, -1, -1]], csr_array([[1, 0, 0], [0, 1, 1]]), k=2)
    array([0.5, 0.5])
    """
    top = _top(ranked, relevant, k)
    return _ratio(_n_hits(top), k, top)


def average_precision(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """Average precision of each user's first `k` items; its mean over users is MAP@k.

    With ``rel_r`` 1 where the item at rank r is relevant, else 0::

        AP@k = sum_{r=1..k} rel_r * Precision@r / min(k, number of relevant items)

    The divisor is the number of hits of a perfect list of length k, so the maximum is 1.
    Other libraries divide by the number of relevant items or by the number of hits.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    References
    ----------
    C. Manning, P. Raghavan, H. Schutze (2008). Introduction to Information Retrieval,
    chapter 8.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import average_precision
    >>> average_precision([[2, 0, 1]], csr_array([[1, 1, 0]]), k=3).round(3)
    array([0.583])
    """
    top = _top(ranked, relevant, k)
    hits = top.hits
    precision_at = np.cumsum(hits, axis=1) / _ranks(hits.shape[1])  # (n_queries, n_ranked)
    total = np.sum(precision_at, axis=1, where=hits)
    return _ratio(total, np.minimum(top.n_relevant, k), top)


def reciprocal_rank(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """One over the rank of the first relevant item; its mean over users is MRR@k.

    ``RR@k = 1 / rank of the first hit``, and 0 without a hit among the first k. Use it
    where users look for a single item.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    References
    ----------
    E. Voorhees (1999). The TREC-8 Question Answering Track Report.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import reciprocal_rank
    >>> reciprocal_rank([[2, 0, 1]], csr_array([[1, 1, 0]]), k=3)
    array([0.5])
    """
    top = _top(ranked, relevant, k)
    # The largest 1 / rank among the hits belongs to the first hit.
    first = np.max(top.hits / _ranks(top.gains.shape[1]), axis=1, initial=0.0)
    return _ratio(first, 1, top)


def hit_rate(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """Whether any relevant item is among each user's first `k`.

    ``HitRate@k = 1 if there is a hit among the first k, else 0``. With one relevant item
    a user (leave-one-out) it equals recall.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.
    k : int, default=10
        Length of the list.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        0 or 1; NaN for a user without a relevant item.

    References
    ----------
    M. Deshpande, G. Karypis (2004). Item-based top-N recommendation algorithms.
    ACM TOIS 22(1).

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import hit_rate
    >>> hit_rate([[2, 0, 1], [0, 2, 1]], csr_array([[1, 0, 0], [0, 1, 0]]), k=2)
    array([1., 0.])
    """
    top = _top(ranked, relevant, k)
    return _ratio(top.hits.any(axis=1), 1, top)


def r_precision(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None
) -> FloatArray:
    """Precision of each user's first R items, with R the user's number of relevant items.

    ``R-precision = hits among the first R / R``. The cut-off adapts to the user, so the
    maximum is 1 for every user. Precision and recall at R are the same number.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item. Ranks beyond the end of a
        ranking count as misses: rankings as long as the largest R are exact.

    References
    ----------
    C. Manning, P. Raghavan, H. Schutze (2008). Introduction to Information Retrieval,
    chapter 8.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import r_precision
    >>> r_precision([[2, 0, 1], [0, 2, 1]], csr_array([[1, 1, 0], [0, 1, 0]]))
    array([0.5, 0. ])
    """
    whole = _matched(ranked, relevant)
    n_relevant = whole.n_relevant
    within = _ranks(whole.gains.shape[1]) <= n_relevant[:, np.newaxis]
    return _ratio(np.count_nonzero(whole.hits & within, axis=1), n_relevant, whole)


def auc(ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None) -> FloatArray:
    """Area under the ROC curve of each user; its mean over users is a GAUC.

    The share of pairs of a relevant and another candidate that are ranked in the right
    order. The candidates of a user are the items of the ranking, so it has to be complete:
    rank the whole catalogue, except items that must not be recommended. With ``r_j`` the
    rank of the j-th of H ranked relevant items, N other ranked items and R relevant
    items::

        AUC = sum_{j=1..H} (N - (r_j - j)) / (R * N)

    A relevant item that is not ranked counts as the last one.

    Parameters
    ----------
    ranked, relevant : array-like and sparse matrix, or RankedRelevance
        As in :func:`ndcg`.

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item, or without another candidate.

    See Also
    --------
    sklearn.metrics.roc_auc_score : The area from scores. A tie counts one half; rankings
        have no ties.

    Notes
    -----
    All ranks weigh the same: an item that falls from rank 1 to rank 11 costs as much as an
    item that falls from 1001 to 1011. For the head of the list use :func:`ndcg`.

    References
    ----------
    H. Zhu et al. (2017). Optimized cost per click in Taobao display advertising. KDD.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import auc
    >>> auc([[2, 0, 1, 3]], csr_array([[1, 1, 0, 0]]))
    array([0.5])
    """
    whole = _matched(ranked, relevant)
    n_hits = _n_hits(whole)
    n_others = whole.n_ranked - n_hits
    ranks_of_hits = whole.hits @ _ranks(whole.gains.shape[1])
    in_order = n_hits * n_others - ranks_of_hits + n_hits * (n_hits + 1) // 2
    n_pairs = whole.n_relevant * n_others
    values = np.full(len(n_pairs), np.nan)
    np.divide(in_order, n_pairs, out=values, where=n_pairs > 0)
    return values


def _top(ranked: Any, relevant: Any, k: int) -> RankedRelevance:
    """The gains of the first `k` ranks, from either form of input."""
    check_positive_int("k", k)
    return _matched(ranked, relevant, k).top(k)


def _matched(ranked: Any, relevant: Any, k: int | None = None) -> RankedRelevance:
    """The gains of all ranks, from either form of input."""
    if isinstance(ranked, RankedRelevance):
        if relevant is not None:
            raise TypeError("relevant must be left out: the RankedRelevance has it.")
        return ranked
    if relevant is None:
        raise TypeError("relevant is missing: a sparse matrix (n_queries, n_items).")
    return match_relevance(ranked, relevant, k=k)


def _ratio(numerator: Any, denominator: Any, top: RankedRelevance) -> FloatArray:
    """Divide; NaN for the queries without a relevant item."""
    values = np.full(len(top.gains), np.nan)
    np.divide(numerator, denominator, out=values, where=top.n_relevant > 0)
    return values


def _n_hits(top: RankedRelevance) -> IntArray:
    return np.count_nonzero(top.gains, axis=1)


def _ranks(n: int) -> IntArray:
    return np.arange(1, n + 1)


def _discounts(n: int) -> FloatArray:
    return 1.0 / np.log2(_ranks(n) + 1.0)


def _ideal_binary(n_relevant: IntArray, k: int) -> FloatArray:
    """DCG of each query's ideal list when every gain is 1, (n_queries,)."""
    n_ideal = np.minimum(n_relevant, k)
    dcg_of_length = np.cumsum(_discounts(n_ideal.max(initial=0)))
    return np.concatenate([[0.0], dcg_of_length])[n_ideal]


def _ideal_graded(top: RankedRelevance, k: int) -> FloatArray:
    """DCG of each query's relevant items by falling gain, (n_queries,)."""
    n_relevant = top.n_relevant
    query_of_pair = np.repeat(np.arange(len(n_relevant)), n_relevant)
    order = np.lexsort((-top.relevant_gains, query_of_pair))  # queries stay in order
    rank = np.arange(len(order)) - np.repeat(top.indptr[:-1], n_relevant)  # from 0
    discounts = np.where(rank < k, 1.0 / np.log2(rank + 2.0), 0.0)
    terms = top.relevant_gains[order] * discounts
    ideal = np.bincount(query_of_pair, weights=terms, minlength=len(n_relevant))
    return ideal.astype(np.float64, copy=False)
