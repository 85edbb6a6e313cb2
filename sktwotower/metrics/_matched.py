"""Rankings and relevant items, checked and matched once for all metrics.

- ``ranked`` is an integer array of shape (n_queries, n_ranked): columns of items, best
  first, no item twice in a row, short rows padded at the end with -1.
- ``relevant`` is a sparse matrix of shape (n_queries, n_items): an entry > 0 is a relevant
  item, and its value is the gain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DEFAULT_K = 10


@dataclass(frozen=True)
class RankedRelevance:
    """Rankings with the gain of each ranked item and of each relevant item.

    :func:`match_relevance` makes it. Every metric with a value a user accepts it in place
    of `ranked` and `relevant`.

    Attributes
    ----------
    gains : ndarray of shape (n_queries, n_ranked), dtype=float64
        The gain of the item at each rank; 0 for items that are not relevant and for
        padding.
    relevant_gains : ndarray of shape (n_pairs,), dtype=float64
        The gains of all relevant items, ranked or not, query after query.
    indptr : ndarray of shape (n_queries + 1,), dtype=int64
        The gains of query q are ``relevant_gains[indptr[q]:indptr[q + 1]]``.
    n_ranked : ndarray of shape (n_queries,), dtype=int64
        Number of items in each ranking, without padding.
    """

    gains: FloatArray
    relevant_gains: FloatArray
    indptr: IntArray
    n_ranked: IntArray

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Where a relevant item is ranked, (n_queries, n_ranked)."""
        return self.gains > 0

    @property
    def n_relevant(self) -> IntArray:
        """Number of relevant items of each query, (n_queries,)."""
        return np.diff(self.indptr)

    def top(self, k: int) -> RankedRelevance:
        """Cut the rankings at `k`; all relevant items stay."""
        return replace(self, gains=self.gains[:, :k], n_ranked=np.minimum(self.n_ranked, k))


def match_relevance(
    ranked: npt.ArrayLike, relevant: Any, *, k: int | None = None
) -> RankedRelevance:
    """Look up the gain of each ranked item, once for several metrics.

    Use it to compute several metrics of the same rankings. Nothing is made dense: time and
    memory grow with the size of `ranked` plus the number of relevant pairs.

    Parameters
    ----------
    ranked : array-like of int, shape (n_queries, n_ranked)
        Item columns, best first, no item twice in a row, padded at the end with -1.
    relevant : scipy.sparse matrix or array of shape (n_queries, n_items)
        An entry > 0 is a relevant item, and its value is the gain. Other entries are
        ignored, duplicate entries are summed. CSR is the fastest format.
    k : int, default=None
        Keep only the first `k` ranks; metrics then need a cut-off of at most `k`. None:
        keep all ranks.

    Returns
    -------
    matched : RankedRelevance
        Accepted by every metric with a value a user, in place of `ranked` and `relevant`.

    Raises
    ------
    TypeError
        If `ranked` does not hold integers or `relevant` is not sparse.
    ValueError
        If the shapes do not match, an item code is out of range, padding is followed by
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
        check_positive_int("k", k)
    relevant = _check_relevant(relevant)
    n_queries, n_items = relevant.shape
    item_codes = check_ranked(ranked, n_items)
    if len(item_codes) != n_queries:
        raise ValueError(
            f"ranked has {len(item_codes)} rows and relevant has {n_queries}; "
            "both need one row a query."
        )
    return _look_up(item_codes[:, :k], relevant)


def _look_up(item_codes: IntArray, relevant: Any) -> RankedRelevance:
    """Find each (query, item) pair of the rankings among the relevant pairs."""
    n_queries, n_items = relevant.shape
    query_of_pair = np.repeat(np.arange(n_queries), np.diff(relevant.indptr))
    # Sorted, because the CSR is canonical: a binary search finds a ranked item.
    pair_keys = query_of_pair * n_items + relevant.indices  # (n_pairs,)
    pair_gains = relevant.data.astype(np.float64)
    indptr = relevant.indptr.astype(np.int64)
    gains = np.zeros(item_codes.shape)
    if len(pair_keys):
        keys = np.arange(n_queries)[:, np.newaxis] * n_items + item_codes
        pairs = np.minimum(np.searchsorted(pair_keys, keys), len(pair_keys) - 1)
        # The key of padding is the key of another query's item.
        found = (pair_keys[pairs] == keys) & (item_codes >= 0)
        _check_no_repeats(pairs, found, query_of_pair, relevant.indices)
        gains[found] = pair_gains[pairs[found]]
    n_ranked = np.count_nonzero(item_codes >= 0, axis=1)
    return RankedRelevance(gains, pair_gains, indptr, n_ranked)


def check_positive_int(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer.")
    if value < 1:
        raise ValueError(f"{name}={value!r} must be at least 1.")


def check_ranked(ranked: npt.ArrayLike, n_items: int) -> IntArray:
    """`ranked` as int64, after checks of type, shape, range and padding."""
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
    # Before the cast, which would wrap large unsigned codes.
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
    """A canonical CSR of the positive entries; the caller's matrix stays as it is."""
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
    """Raise ValueError if a relevant item is ranked twice, since it would count twice."""
    n_times = np.bincount(pairs[found])
    if n_times.max(initial=0) > 1:
        pair = int(np.argmax(n_times > 1))
        raise ValueError(
            f"ranked has item {items[pair]} more than once in row "
            f"{query_of_pair[pair]}; an item may stand in a row once."
        )
