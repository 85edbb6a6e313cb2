"""Approximate search with faiss: kinds of index, exclusions, what they weigh."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp

from sktwotower.utils._extra import extra

# Options of each kind and their defaults.
KINDS: dict[str, dict[str, int | str]] = {
    "flat": {},
    "hnsw": {"m": 32, "ef_construction": 200, "ef_search": 128},
    "ivf": {"nlist": "auto", "nprobe": "auto"},
}

# From this many vectors on a graph is kept in an order in which neighbours are near each
# other in memory, too: at a million it answers 1.4 times as many queries a second.
_MANY = 50_000


def check_kind(kind: Any, options: Mapping[str, Any]) -> None:
    """Raise ValueError for a kind, TypeError for an option that is not known."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"kind={kind!r} must be one of {list(KINDS)}, or None for no index."
            + _did_you_mean(kind, KINDS)
        )
    known = KINDS[kind]
    for name, value in options.items():
        if name not in known:
            there = f"its options are {list(known)}" if known else "it has none"
            raise TypeError(
                f"build_index({kind!r}) has no option {name!r}; {there}."
                + _did_you_mean(name, known)
            )
        smallest = 2 if name == "m" else 1
        is_auto = value == "auto" and known[name] == "auto"
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_auto and not (is_integer and value >= smallest):
            auto = " or 'auto'" if known[name] == "auto" else ""
            raise ValueError(
                f"{name} must be an integer of at least {smallest}{auto}; got {value!r}."
            )


def _did_you_mean(name: Any, known: Mapping[str, Any]) -> str:
    close = get_close_matches(str(name).lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def import_faiss(caller: str) -> Any:
    """The module; ImportError says what to install."""
    return extra("faiss", name="faiss", caller=f"{caller} needs")


class FaissIndex:
    """Vectors in a faiss index by inner product.

    Parameters
    ----------
    kind : {"flat", "hnsw", "ivf"}
        What is built.
    vectors : ndarray of shape (n, dim)
        Of the candidates; the index keeps a copy.
    options : dict
        As `check_kind` has let them through.
    scale : ndarray of shape (dim,), optional
        Times the vectors, and over the queries: inner products of the two are the same,
        those of vectors with each other are not.

    Attributes
    ----------
    build_seconds : float
        How long it took.
    options : dict
        With defaults and without ``"auto"``.
    """

    def __init__(
        self,
        kind: str,
        vectors: np.ndarray,
        options: Mapping[str, int | str],
        *,
        scale: np.ndarray | None = None,
    ) -> None:
        self._faiss = import_faiss("build_index")
        self.kind = kind
        self.options: dict[str, Any] = {**KINDS[kind], **options}
        started = time.perf_counter()
        self._scale = np.ones(vectors.shape[1], np.float32) if scale is None else scale
        vectors = np.ascontiguousarray(vectors * self._scale, dtype=np.float32)
        self._index = self._built(vectors)
        self._order: np.ndarray | None = None  # columns of the entries; None: the same
        if kind == "hnsw" and len(vectors) >= _MANY:
            self._order = self._near_together(vectors)
            self._place = np.argsort(self._order)  # entries of the columns
            self._index.permute_entries(self._order)
        self.build_seconds = time.perf_counter() - started

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def _built(self, vectors: np.ndarray) -> Any:
        faiss, (n, dim) = self._faiss, vectors.shape
        if self.kind == "flat":
            index = faiss.IndexFlatIP(dim)
        elif self.kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, self.options["m"], faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = self.options["ef_construction"]
        else:
            if self.options["nlist"] == "auto":
                self.options["nlist"] = round(4 * n**0.5)
            # k-means wants some 39 vectors a list.
            nlist = self.options["nlist"] = max(1, min(self.options["nlist"], n // 39))
            if self.options["nprobe"] == "auto":
                self.options["nprobe"] = max(8, nlist // 16)
            self.options["nprobe"] = min(self.options["nprobe"], nlist)
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(dim), dim, nlist, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.min_points_per_centroid = 1  # or it warns of few
            index.train(vectors)
        index.add(vectors)
        return index

    def _near_together(self, vectors: np.ndarray) -> np.ndarray:
        """Rows by the nearest of a thousand centres."""
        centres = self._faiss.Kmeans(vectors.shape[1], 1000, niter=5, spherical=True)
        centres.train(vectors[:: len(vectors) // _MANY][:_MANY])
        return np.argsort(centres.assign(vectors)[1], kind="stable")

    def n_bytes(self) -> int:
        """Size of what is in the index, the vectors among it, as faiss writes it."""
        sizes: list[int] = []
        writer = self._faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part)))
        self._faiss.write_index(self._index, writer)
        return sum(sizes)

    def search(
        self, queries: np.ndarray, k: int, exclude: sp.csr_matrix | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores (n_queries, k) as `top_k` has them, but approximately.

        What a query must not get is hidden by a selector inside the search. A query may
        get fewer than k although there are more.
        """
        n_queries = len(queries)
        queries = np.ascontiguousarray(queries / self._scale, dtype=np.float32)
        columns = np.full((n_queries, k), -1, dtype=np.int64)
        scores = np.full((n_queries, k), -np.inf, dtype=np.float32)
        width = min(k, len(self))
        for rows, hidden in _batches(n_queries, exclude):
            parameters = self._parameters(width, hidden)
            values, found = self._index.search(queries[rows], width, params=parameters)
            values[found < 0] = -np.inf
            if self._order is not None:
                found = np.where(found < 0, -1, self._order[found])
            order = np.lexsort((found, -values))  # along the rows
            columns[rows, :width] = np.take_along_axis(found, order, axis=1)
            scores[rows, :width] = np.take_along_axis(values, order, axis=1)
        return columns, scores

    def _parameters(self, k: int, hidden: np.ndarray) -> Any:
        faiss = self._faiss
        selector = None
        if len(hidden):
            if self._order is not None:
                hidden = self._place[hidden]
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(hidden))
        if self.kind == "flat":
            return None if selector is None else faiss.SearchParameters(sel=selector)
        if self.kind == "hnsw":
            # Hidden ones, which are mostly near the query, have places in the queue, too.
            width = max(self.options["ef_search"], k) + len(hidden)
            return faiss.SearchParametersHNSW(sel=selector, efSearch=width)
        return faiss.SearchParametersIVF(sel=selector, nprobe=self.options["nprobe"])


def _batches(
    n_queries: int, exclude: sp.csr_matrix | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are searched together, and what is hidden from them."""
    nothing = np.empty(0, dtype=np.int64)
    if exclude is None:
        exclude = sp.csr_matrix((n_queries, 0))
    n_hidden = np.diff(exclude.indptr)
    free = np.flatnonzero(n_hidden == 0)
    if len(free):
        yield free, nothing
    for row in np.flatnonzero(n_hidden):  # each has a selector of its own
        hidden = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
        yield np.array([row]), hidden.astype(np.int64)
