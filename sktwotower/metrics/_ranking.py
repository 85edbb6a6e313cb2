"""Ranking metrics, one number a user, on arrays.

Every metric reads the same two things:

- ``ranked``, an integer array of shape (n_queries, n_ranked): columns of items, best
  first, no item twice in a row, a short row padded at its end with -1;
- ``relevant``, a sparse matrix of shape (n_queries, n_items): an entry > 0 is a
  relevant item and its value is the item's gain.

The work that all share, to look up the gain of each ranked item, is done by
:func:`match_relevance`; what it returns can be handed to every per-user metric in place
of the two.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DEFAULT_K = 10


@dataclass(frozen=True)
class RankedRelevance:
    """Rankings with the gain of each ranked item, and the gains that could be had.

    Made by :func:`match_relevance`; every per-user metric accepts it in place of
    `ranked` and `relevant`.

    Attributes
    ----------
    gains : ndarray of shape (n_queries, n_ranked), dtype=float64
        The gain of the item at each rank; 0 for an item that is not relevant and for
        padding.
    relevant_gains : ndarray of shape (n_pairs,), dtype=float64
        The gains of the relevant items, ranked or not, query after query.
    indptr : ndarray of shape (n_queries + 1,), dtype=int64
        The relevant items of query q are ``relevant_gains[indptr[q]:indptr[q + 1]]``.
    """

    gains: FloatArray
    relevant_gains: FloatArray
    indptr: IntArray

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Where a relevant item is ranked, (n_queries, n_ranked)."""
        return self.gains > 0

    @property
    def n_relevant(self) -> IntArray:
        """The number of relevant items of each query, (n_queries,)."""
        return np.diff(self.indptr)

    def top(self, k: int) -> RankedRelevance:
        """Cut the rankings at `k`; the relevant items stay whole."""
        return replace(self, gains=self.gains[:, :k])


def match_relevance(
    ranked: npt.ArrayLike, relevant: Any, *, k: int | None = None
) -> RankedRelevance:
    """Look up the gain of each ranked item, once for several metrics.

    Nothing is densified: time and memory grow with the size of `ranked` plus the number
    of relevant pairs.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        Item columns, best first, padded at the end with -1.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items)
        Entries > 0 are relevant, the value is the gain; other entries are ignored,
        duplicate entries are summed. CSR is taken as it is.
    k : int, default=None
        Look only at the first `k` ranks, the largest k that a metric will be asked for:
        what is beyond is cut off for good. None: at all.

    Returns
    -------
    matched : RankedRelevance
        Takes the place of `ranked` and `relevant` in every per-user metric.

    Raises
    ------
    TypeError
        If `ranked` does not hold integers or `relevant` is not sparse.
    ValueError
        If the shapes do not fit, an item code is out of range, padding is followed by
        an item, a gain is not finite, or a relevant item is ranked twice in a row.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from sktwotower.metrics import match_relevance, ndcg, recall
    >>> ranked = np.array([[2, 0, 1], [3, 1, -1]])
    >>> relevant = csr_array([[1, 0, 0, 1], [0, 1, 0, 1]])
    >>> matched = match_relevance(ranked, relevant)
    >>> matched.gains
    array([[0., 1., 0.],
           [1., 1., 0.]])
    >>> recall(matched, k=2), ndcg(matched, k=1)
    (array([0.5, 1. ]), array([0., 1.]))
    """
    if k is not None:
        _check_positive_int("k", k)
    relevant = _check_relevant(relevant)
    n_queries, n_items = relevant.shape
    item_codes = _check_ranked(ranked, n_items)
    if len(item_codes) != n_queries:
        raise ValueError(
            f"ranked has {len(item_codes)} rows and relevant has {n_queries}; "
            "both need one row a query."
        )
    return _look_up(item_codes[:, :k], relevant)


def ndcg(
    ranked: npt.ArrayLike | RankedRelevance,
    relevant: Any = None,
    *,
    k: int = DEFAULT_K,
    gains: Literal["binary", "graded"] = "binary",
) -> FloatArray:
    """Normalised discounted cumulative gain of each user's first `k` items.

    With ``g_r`` the gain at rank r (from 1) and ``g*_r`` the same when all relevant
    items are ranked by falling gain::

        NDCG@k = sum_{r=1..k} g_r / log2(r + 1)  /  sum_{r=1..k} g*_r / log2(r + 1)

    The ideal list is cut at `k`, not at the length of the ranking: a ranking that is
    too short loses.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.
    gains : {"binary", "graded"}, default="binary"
        "binary": each relevant item has gain 1. "graded": its value in `relevant`
        (linear, not ``2**value - 1``).

    Returns
    -------
    values : ndarray of shape (n_queries,), dtype=float64
        In [0, 1]; NaN for a user without a relevant item.

    See Also
    --------
    sklearn.metrics.ndcg_score : The same on dense scores, averaged over ties.

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

    ``Recall@k = hits among the first k / number of relevant items``. It cannot reach 1
    for a user with more than `k` relevant items.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.

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
    """Share of the first `k` places that a relevant item takes.

    ``Precision@k = hits among the first k / k``. Places that a short list leaves empty
    count as misses.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.

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

    The divisor is the number of hits that a perfect list of length k has, so that 1 can
    be reached. Other libraries divide by the number of relevant items or by the hits.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.

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

    ``RR@k = 1 / rank of the first hit``, and 0 without a hit among the first k.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.

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
    # 1 / rank falls, so the largest one among the hits is the first hit's.
    first = np.max(top.hits / _ranks(top.gains.shape[1]), axis=1, initial=0.0)
    return _ratio(first, 1, top)


def hit_rate(
    ranked: npt.ArrayLike | RankedRelevance, relevant: Any = None, *, k: int = DEFAULT_K
) -> FloatArray:
    """Whether any relevant item is among each user's first `k`.

    ``HitRate@k = 1 if there is a hit among the first k, else 0``. With one relevant
    item a user (leave-one-out) it equals recall.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked), or RankedRelevance
        Item columns, best first, no item twice, padded at the end with -1; or what
        :func:`match_relevance` made of both arguments.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items), default=None
        An entry > 0 is a relevant item. Left out with a RankedRelevance.
    k : int, default=10
        Length of the list; may exceed `n_ranked` and `n_items`.

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


def catalogue_coverage(ranked: npt.ArrayLike, n_items: int, *, k: int = DEFAULT_K) -> float:
    """Share of the catalogue that is among the first `k` items of any user.

    ``Coverage@k = number of distinct items in ranked[:, :k] / n_items``. One number for
    all users; it grows with the number of users, so compare it on the same ones.

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
    _check_positive_int("k", k)
    _check_positive_int("n_items", n_items)
    top = _check_ranked(ranked, n_items)[:, :k]
    recommended = np.zeros(n_items, dtype=bool)
    recommended[top[top >= 0]] = True
    return float(recommended.mean())


METRICS: dict[str, Callable[..., Any]] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
    "coverage": catalogue_coverage,
}
"""Public short name -> function; all but "coverage" are per user."""


def parse_metric(metric: str) -> tuple[str, int]:
    """Split a metric such as ``"ndcg@10"`` into its name and its k.

    Parameters
    ----------
    metric : str
        A name of ``METRICS``, alone or followed by "@" and a positive integer. The name
        alone means k = 10.

    Returns
    -------
    name : str
        A key of ``METRICS``.
    k : int
        Length of the list.

    Raises
    ------
    TypeError
        If `metric` is not a string.
    ValueError
        If the name is unknown or k is not a positive integer.

    Examples
    --------
    >>> from sktwotower.metrics import parse_metric
    >>> parse_metric("recall@20"), parse_metric("ndcg")
    (('recall', 20), ('ndcg', 10))
    """
    if not isinstance(metric, str):
        raise TypeError(f"metric={metric!r} is not a string such as 'ndcg@10'.")
    name, at, k = metric.partition("@")
    if name not in METRICS:
        raise ValueError(_unknown_metric(metric, name, at + k))
    if not at:
        return name, DEFAULT_K
    # int() alone would take ' 10', '1_0' and other scripts' digits.
    if not re.fullmatch("[1-9][0-9]*", k):
        raise ValueError(
            f"metric={metric!r}: k={k!r} is not a positive integer; "
            f"write {name + '@10'!r}, or {name!r} for k={DEFAULT_K}."
        )
    return name, int(k)


def _unknown_metric(metric: str, name: str, at_k: str) -> str:
    """Word the error for an unknown name, with the nearest known one."""
    spellings = {function.__name__: short for short, function in METRICS.items()}
    spellings |= {short: short for short in METRICS}
    near = difflib.get_close_matches(name.strip().lower(), spellings, n=1, cutoff=0.5)
    hint = f" did you mean {spellings[near[0]] + at_k!r}?" if near else ""
    return f"metric={metric!r} is unknown;{hint} The metrics are {', '.join(METRICS)}."


def _top(ranked: Any, relevant: Any, k: int) -> RankedRelevance:
    """Return the first `k` ranks with their gains, from either form of input."""
    _check_positive_int("k", k)
    if isinstance(ranked, RankedRelevance):
        if relevant is not None:
            raise TypeError("relevant must be left out: the RankedRelevance has it.")
        return ranked.top(k)
    if relevant is None:
        raise TypeError("relevant is missing: a sparse matrix (n_queries, n_items).")
    return match_relevance(ranked, relevant, k=k)


def _look_up(item_codes: IntArray, relevant: Any) -> RankedRelevance:
    """Find each (query, item) pair of the rankings among the relevant pairs."""
    n_queries, n_items = relevant.shape
    query_of_pair = np.repeat(np.arange(n_queries), np.diff(relevant.indptr))
    # Sorted, because the CSR is canonical: one binary search answers a ranked item.
    pair_keys = query_of_pair * n_items + relevant.indices  # (n_pairs,)
    pair_gains = relevant.data.astype(np.float64)
    indptr = relevant.indptr.astype(np.int64)
    gains = np.zeros(item_codes.shape)
    if len(pair_keys):
        keys = np.arange(n_queries)[:, np.newaxis] * n_items + item_codes
        pairs = np.minimum(np.searchsorted(pair_keys, keys), len(pair_keys) - 1)
        # Padding has the key of another query's item.
        found = (pair_keys[pairs] == keys) & (item_codes >= 0)
        _check_no_repeats(pairs, found, query_of_pair, relevant.indices)
        gains[found] = pair_gains[pairs[found]]
    return RankedRelevance(gains, pair_gains, indptr)


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
    """Return the DCG of each query's ideal list when every gain is 1, (n_queries,)."""
    n_ideal = np.minimum(n_relevant, k)
    dcg_of_length = np.cumsum(_discounts(n_ideal.max(initial=0)))
    return np.concatenate([[0.0], dcg_of_length])[n_ideal]


def _ideal_graded(top: RankedRelevance, k: int) -> FloatArray:
    """Return the DCG of each query's relevant items by falling gain, (n_queries,)."""
    n_relevant = top.n_relevant
    query_of_pair = np.repeat(np.arange(len(n_relevant)), n_relevant)
    order = np.lexsort((-top.relevant_gains, query_of_pair))  # each query stays in place
    place = np.arange(len(order)) - np.repeat(top.indptr[:-1], n_relevant)  # from 0
    discounts = np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0)
    terms = top.relevant_gains[order] * discounts
    ideal = np.bincount(query_of_pair, weights=terms, minlength=len(n_relevant))
    return ideal.astype(np.float64, copy=False)


def _check_positive_int(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer.")
    if value < 1:
        raise ValueError(f"{name}={value!r} must be at least 1.")


def _check_ranked(ranked: npt.ArrayLike, n_items: int) -> IntArray:
    """Return `ranked` as int64 after checking type, shape, range and padding."""
    item_codes = np.asarray(ranked)
    if item_codes.dtype.kind not in "iu":
        raise TypeError(
            f"ranked has dtype {item_codes.dtype}; it must hold integers, the columns "
            "of the items, best first (not scores)."
        )
    if item_codes.ndim != 2:
        raise ValueError(
            f"ranked has shape {item_codes.shape}; it must be (n_queries, n_ranked)."
        )
    # Before the cast, which would wrap a large unsigned code.
    lowest, highest = _range(item_codes)
    if lowest < -1 or highest >= n_items:
        raise ValueError(
            f"ranked has item codes from {lowest} to {highest}; with {n_items} items "
            f"they must be in 0..{n_items - 1}, or -1 for padding."
        )
    item_codes = item_codes.astype(np.int64, copy=False)
    _check_padding(item_codes)
    return item_codes


def _range(codes: npt.NDArray[Any]) -> tuple[int, int]:
    return (int(codes.min()), int(codes.max())) if codes.size else (-1, -1)


def _check_padding(item_codes: IntArray) -> None:
    padding = item_codes < 0
    followed = padding[:, :-1] & ~padding[:, 1:]
    if followed.any():
        row = int(np.flatnonzero(followed.any(axis=1))[0])
        raise ValueError(
            f"ranked has an item after padding (first in row {row}); -1 may only stand "
            "at the end of a row."
        )


def _check_relevant(relevant: Any) -> Any:
    """Return a canonical CSR of the positive entries; never change the caller's."""
    if not sparse.issparse(relevant) or relevant.ndim != 2:
        raise TypeError(
            f"relevant is a {type(relevant).__name__}; it must be a scipy.sparse "
            "matrix (n_queries, n_items), best as CSR."
        )
    csr = relevant.tocsr()
    if not np.isfinite(csr.data).all():
        raise ValueError("relevant has gains that are NaN or infinite.")
    if not csr.has_canonical_format:
        csr = csr.astype(np.float64, copy=True)  # the sums may not fit in an int8
        csr.sum_duplicates()
    if (csr.data <= 0).any():
        csr = csr.copy()
        csr.data[csr.data < 0] = 0
        csr.eliminate_zeros()
    return csr


def _check_no_repeats(
    pairs: IntArray, found: npt.NDArray[np.bool_], query_of_pair: IntArray, items: Any
) -> None:
    """Refuse a relevant item that is ranked twice: it would count twice."""
    times = np.bincount(pairs[found])
    if times.max(initial=0) > 1:
        pair = int(np.argmax(times > 1))
        raise ValueError(
            f"ranked has item {items[pair]} more than once in row "
            f"{query_of_pair[pair]}; an item may stand in a row once."
        )
