"""Approximate search with faiss, with exclusions inside the search."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from numbers import Integral
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp

from sktwotower._search.top_k import DotScores, top_k
from sktwotower.utils._extra import extra

SHORTHANDS = ("hnsw", "ivf", "flat")
# What the factory string says, by other libraries' names for it.
_IN_FACTORY_STRING = {"m": "'HNSW16' for M=16", "nlist": "'IVF1000,Flat' for nlist=1000"}


def import_faiss(caller: str) -> ModuleType:
    """Return the faiss module, or raise an ImportError that says what to install."""
    module: ModuleType = extra("faiss", name="faiss", caller=f"{caller} needs")
    return module


class FaissIndex:
    """Vectors in a faiss index by inner product.

    Parameters
    ----------
    index : str
        ``"hnsw"``, ``"ivf"``, ``"flat"``, or a factory string of faiss.
    vectors : ndarray of shape (n, dim)
        The candidates' vectors. The index keeps a copy.
    parameters : mapping of str to int, optional
        Parameters of the index by faiss' names, in place of the defaults.
    scale : ndarray of shape (dim,), optional
        Vectors are multiplied by it and queries divided. The inner products of queries
        and vectors stay the same, but a graph then joins other vectors.

    Attributes
    ----------
    factory : str
        The factory string.
    parameters : dict
        The parameters with their defaults.
    build_seconds : float
        Time to build the index.

    Raises
    ------
    ValueError
        If faiss does not know the factory string, cannot build the index over these
        vectors, or cannot exclude items in it; and for parameters that are not positive
        integers.
    TypeError
        For a parameter that the index does not have.
    """

    def __init__(
        self,
        index: str,
        vectors: np.ndarray,
        parameters: Mapping[str, int] | None = None,
        *,
        scale: np.ndarray | None = None,
    ) -> None:
        self._faiss = import_faiss("build_index")
        n, dim = vectors.shape
        self.factory = _factory_string(index, n)
        self._index = self._empty_index(index, dim)
        # What follows a transformation of the vectors, such as a PCA.
        self._core = self._index
        if isinstance(self._index, self._faiss.IndexPreTransform):
            self._core = self._faiss.downcast_index(self._index.index)
        defaults = self._default_parameters(index)
        check_parameters(index, parameters or {}, defaults)
        given = {name: int(value) for name, value in (parameters or {}).items()}
        self.parameters = defaults | given
        self._scale = np.ones(dim, np.float32) if scale is None else scale
        started = time.perf_counter()
        self._add(np.ascontiguousarray(vectors * self._scale, dtype=np.float32))
        self.build_seconds = time.perf_counter() - started

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def is_lossy(self) -> bool:
        """Whether the index holds compressed or transformed vectors."""
        faiss = self._faiss
        whole = (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat)
        return not isinstance(self._index, whole)

    def n_bytes(self) -> int:
        """Size of the index as faiss writes it, vectors included."""
        sizes: list[int] = []
        writer = self._faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part)))
        self._faiss.write_index(self._index, writer)
        return sum(sizes)

    def search(
        self, queries: np.ndarray, k: int, exclude: sp.csr_matrix | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores (n_queries, k) in the form of `top_k`, but approximate.

        A selector excludes candidates inside the search. A query may get fewer than k
        candidates although there are more.
        """
        n_queries = len(queries)
        queries = np.ascontiguousarray(queries / self._scale, dtype=np.float32)
        columns = np.full((n_queries, k), -1, dtype=np.int64)
        scores = np.full((n_queries, k), -np.inf, dtype=np.float32)
        width = min(k, len(self))
        for rows, hidden in _batches(n_queries, exclude):
            parameters = self._search_parameters(width, hidden)
            values, found = self._index.search(queries[rows], width, params=parameters)
            values[found < 0] = -np.inf
            columns[rows, :width], scores[rows, :width] = _sorted(found, values)
        return columns, scores

    def _empty_index(self, index: str, dim: int) -> Any:
        faiss = self._faiss
        try:
            return faiss.index_factory(dim, self.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ValueError(
                f"{_unknown_index(index)} faiss says: {_reason(error)}"
            ) from error

    def _default_parameters(self, index: str) -> dict[str, int]:
        faiss, core = self._faiss, self._core
        if isinstance(core, faiss.IndexHNSW):
            return {"efConstruction": 200, "efSearch": 128}
        if isinstance(core, faiss.IndexIVF):
            return {"nprobe": min(core.nlist, max(8, core.nlist // 16))}
        if isinstance(core, faiss.IndexFlat | faiss.IndexScalarQuantizer):
            return {}
        raise ValueError(
            f"index={index!r} cannot be used: faiss cannot exclude items while it searches "
            f"an {type(core).__name__}. Use a graph (HNSW), lists (IVF), Flat or a scalar "
            "quantizer (SQ8)."
        )

    def _add(self, vectors: np.ndarray) -> None:
        if isinstance(self._core, self._faiss.IndexHNSW):
            self._core.hnsw.efConstruction = self.parameters["efConstruction"]
        if isinstance(self._core, self._faiss.IndexIVF):
            self._core.cp.min_points_per_centroid = 1  # no warning on stderr
        try:
            self._index.train(vectors)
            self._index.add(vectors)
        except RuntimeError as error:
            raise ValueError(
                f"faiss cannot build index={self.factory!r} over {len(vectors)} vectors: "
                f"{_reason(error)}"
            ) from error

    def _search_parameters(self, k: int, hidden: np.ndarray) -> Any:
        faiss = self._faiss
        selector = None
        if len(hidden):
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(hidden))
        if isinstance(self._core, faiss.IndexHNSW):
            # Excluded items are mostly near the query and fill the queue, too.
            width = max(self.parameters["efSearch"], k) + len(hidden)
            return faiss.SearchParametersHNSW(sel=selector, efSearch=width)
        if isinstance(self._core, faiss.IndexIVF):
            return faiss.SearchParametersIVF(sel=selector, nprobe=self.parameters["nprobe"])
        return None if selector is None else faiss.SearchParameters(sel=selector)


def approximate_top_k(
    index: FaissIndex, scores: DotScores, k: int, exclude: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` by an index; queries that get too few candidates are answered exactly.

    The scores are exact, also for an index of compressed vectors.
    """
    columns, values = index.search(scores.queries, k, exclude)
    if index.is_lossy:
        rows, positions = np.nonzero(columns >= 0)
        values[rows, positions] = scores.pairs(rows, columns[rows, positions])
        columns, values = _sorted(columns, values)
    n_hidden = 0 if exclude is None else np.diff(exclude.indptr)
    n_expected = np.minimum(k, len(index) - n_hidden)
    short = np.flatnonzero((columns >= 0).sum(axis=1) < n_expected)
    if len(short):
        hidden = None if exclude is None else exclude[short]
        columns[short], values[short] = top_k(scores.take(short), k, exclude=hidden)
    return columns, values


def recall_of(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the columns of an exact answer that another one has; NaN without any."""
    n_expected = int((exact >= 0).sum())
    n_found = sum(
        len(np.intersect1d(one[one >= 0], other[other >= 0]))
        for one, other in zip(found, exact, strict=True)
    )
    return n_found / n_expected if n_expected else float("nan")


def check_parameters(
    index: str, parameters: Mapping[str, int], known: Mapping[str, int]
) -> None:
    """Raise TypeError for an unknown parameter, ValueError for a bad value."""
    for name, value in parameters.items():
        if name not in known:
            available = f"its parameters are {list(known)}" if known else "it has none"
            raise TypeError(
                f"build_index({index!r}) has no parameter {name!r}; {available}."
                + _where_it_is(name)
                + _did_you_mean(name, known)
            )
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def _factory_string(index: str, n: int) -> str:
    """The factory string of a shorthand for n vectors; a factory string as it is."""
    if not isinstance(index, str):
        raise ValueError(_unknown_index(index))
    if index == "hnsw":
        return "HNSW32"
    if index == "ivf":
        # k-means should have 39 vectors for each list.
        return f"IVF{max(1, min(round(4 * n**0.5), n // 39))},Flat"
    return "Flat" if index == "flat" else index


def _unknown_index(index: object) -> str:
    return (
        f"index={index!r} must be one of {list(SHORTHANDS)}, a factory string of faiss "
        "such as 'HNSW16' or 'IVF1000,SQ8', or None for no index."
        + _did_you_mean(str(index), SHORTHANDS)
    )


def _where_it_is(name: str) -> str:
    """What to write instead of a parameter that is part of the factory string."""
    example = _IN_FACTORY_STRING.get(name.lower())
    return f" Give it in the factory string: {example}." if example else ""


def _did_you_mean(name: str, known: Mapping[str, int] | tuple[str, ...]) -> str:
    by_lower = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def _reason(error: RuntimeError) -> str:
    """What faiss says, without the place in its source."""
    return str(error).rpartition(".cpp:")[2].partition(": ")[2] or str(error)


def _sorted(columns: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows by descending score, equal scores by ascending column."""
    order = np.lexsort((columns, -scores))  # along the rows
    sorted_columns = np.take_along_axis(columns, order, axis=1)
    return sorted_columns, np.take_along_axis(scores, order, axis=1)


def _batches(
    n_queries: int, exclude: sp.csr_matrix | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are searched together, and the columns that are excluded for them."""
    nothing = np.empty(0, dtype=np.int64)
    if exclude is None:
        exclude = sp.csr_matrix((n_queries, 0))
    n_hidden = np.diff(exclude.indptr)
    free = np.flatnonzero(n_hidden == 0)
    if len(free):
        yield free, nothing
    for row in np.flatnonzero(n_hidden):  # each has its own selector
        hidden = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
        yield np.array([row]), hidden.astype(np.int64)
