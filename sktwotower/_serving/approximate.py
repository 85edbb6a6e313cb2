"""An index for approximate search behind the same queries, and how good it is."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.faiss_index import FaissIndex, check_kind
from sktwotower._search.top_k import DotScores, generator_of, top_k
from sktwotower._serving.queries import QueriesMixin
from sktwotower.base import OTHER, check_count


class ApproximateSearchMixin(QueriesMixin):
    """``build_index`` and ``index_report``."""

    # By side, with the codes and embeddings that each was built from. Derived data: in no
    # copy, and of no use once there are other embeddings.
    _indexes: dict[str, tuple[FaissIndex, np.ndarray, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_indexes"}

    def build_index(
        self, kind: str | None = "hnsw", *, side: str = "item", **options: Any
    ) -> Self:
        """Answer queries approximately from here on, by a faiss index.

        For catalogues of a hundred thousand items and more; below that the exact search
        is fast enough. The index is over the inner product of the embeddings, which is a
        cosine when they are normalised. Needs faiss: ``pip install 'sktwotower[faiss]'``.

        What a user must not get is hidden inside the search, by a selector of faiss. A
        query that is left with fewer items than there are eligible ones is answered once
        more, exactly. Queries with ``candidates`` or ``sample``, and users who get what is
        popular, are always answered exactly, and so is ``score``.

        The index is in no pickle, no copy and no saved model, and it is dropped as soon as
        there are other embeddings: after ``fit``, ``partial_fit`` and ``add_items``.
        Queries are exact then; build it anew.

        Parameters
        ----------
        kind : {"hnsw", "ivf", "flat"} or None, default="hnsw"
            - ``"hnsw"``: a graph of neighbours [1]_, the fastest for its recall, slow to
              build;
            - ``"ivf"``: lists of vectors around centres, of which the nearest are gone
              through; quick to build;
            - ``"flat"``: every vector, exact;
            - None: no index, drop it.
        side : {"item", "user"}, default="item"
            What is searched: items, for `recommend` and `similar_items`, or users, for
            `recommend_users` and `similar_users`.
        **options : int
            Of ``"hnsw"``: ``m=32`` neighbours a vector, ``ef_construction=200`` and
            ``ef_search=128``, the lengths of the queue while building and searching. Of
            ``"ivf"``: ``nlist="auto"`` lists, 4 times the root of the number of vectors,
            and ``nprobe="auto"`` of them that are gone through, a 16th and at least 8.
            More of them raise recall and take longer.

        Returns
        -------
        self : TwoTowerRecommender
            With the index.

        Raises
        ------
        ImportError
            If faiss is not installed.

        See Also
        --------
        index_report : Recall and speed of the index.

        References
        ----------
        .. [1] Malkov & Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search
           Using Hierarchical Navigable Small World Graphs", IEEE TPAMI 42(4), 2020.

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "rum"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> model = model.build_index("hnsw", ef_search=64)
        >>> model.recommend(["bob"], n_recommendations=1)[0].tolist()
        [['rum']]
        """
        check_is_fitted(self)
        if side not in OTHER:
            raise ValueError(f"side={side!r} must be 'item' or 'user'.")
        others = {name: built for name, built in self._indexes.items() if name != side}
        if kind is None:
            self._indexes = others
            return self
        check_kind(kind, options)
        codes, embeddings = self._choice(side), self._side(side).embeddings
        scale = None
        if side == "item" and self._side("user").entities.popularity is not None:
            # A graph joins items that are near each other: as a user weighs popularity.
            scale = np.ones(embeddings.shape[1], dtype=np.float32)
            scale[-1] = self._side("user").embeddings[0, -1] or 1.0
        index = FaissIndex(kind, embeddings[codes - 1], options, scale=scale)
        self._indexes = {**others, side: (index, codes, embeddings)}
        return self

    def index_report(
        self, *, k: int = 100, n_queries: int = 1000, random_state: Any = None
    ) -> pd.DataFrame:
        """Recall of the indexes against exact search, their speed and their size.

        What is searched is what `recommend` (or `recommend_users`) would search for a
        random sample of known users (items), with seen pairs left out.

        Parameters
        ----------
        k : int, default=100
            Length of the answers that are compared.
        n_queries : int, default=1000
            Size of the sample, at most.
        random_state : int, RandomState instance or None, default=None
            Draws it.

        Returns
        -------
        DataFrame
            One row an index: ``side``, ``kind``, ``n_vectors``; ``recall``, the share of
            the exact k best that it finds; ``queries_per_second`` of it and
            ``exact_queries_per_second`` for the sample as one batch; ``build_seconds``;
            ``bytes``, as faiss writes it, vectors included; ``options``.

        Raises
        ------
        ValueError
            If there is no index.

        See Also
        --------
        build_index : Makes one.
        """
        check_is_fitted(self)
        check_count(k, "k")
        check_count(n_queries, "n_queries")
        generator = generator_of(random_state)
        rows = []
        for side in OTHER:
            offered = CandidateSet(self._choice(side))
            index = self._index_of(side, offered)
            if index is None:
                continue
            asking = self._choice(OTHER[side])
            size = min(n_queries, len(asking))
            codes = generator.choice(asking, size, replace=False, shuffle=False)
            scores = self._side(side).scores(
                self._side(OTHER[side]).vectors(codes), offered.codes
            )
            exclude = self._seen_among(codes, offered, OTHER[side])
            started = time.perf_counter()
            found, _ = _approximate_top_k(index, scores, k, exclude)
            between = time.perf_counter()
            exact, _ = top_k(scores, k, exclude=exclude)
            ended = time.perf_counter()
            n_wanted = int((exact >= 0).sum())
            n_found = sum(
                len(np.intersect1d(one[one >= 0], other[other >= 0]))
                for one, other in zip(found, exact, strict=True)
            )
            rows.append(
                {
                    "side": side,
                    "kind": index.kind,
                    "n_vectors": len(index),
                    "recall": n_found / n_wanted if n_wanted else np.nan,
                    "queries_per_second": size / (between - started),
                    "exact_queries_per_second": size / (ended - between),
                    "build_seconds": index.build_seconds,
                    "bytes": index.n_bytes(),
                    "options": index.options,
                }
            )
        if not rows:
            raise ValueError(
                "There is no index to report on: call build_index first, and again after "
                "fit, partial_fit or add_items."
            )
        return pd.DataFrame(rows)

    def _index_of(self, side: str, offered: CandidateSet) -> FaissIndex | None:
        """The index over just what is offered; one of other embeddings is dropped."""
        if side not in self._indexes:
            return None
        index, codes, embeddings = self._indexes[side]
        if embeddings is not self._side(side).embeddings:
            self.build_index(None, side=side)
            return None
        is_all = codes is offered.codes or np.array_equal(codes, offered.codes)
        return index if is_all else None

    def _search(
        self,
        side: str,
        scores: DotScores,
        k: int,
        offered: CandidateSet,
        exclude: sp.csr_matrix | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores of the k best: approximately, if there is an index for it."""
        index = None
        if offered.ids is None and offered.allowed is None:
            index = self._index_of(side, offered)
        if index is None:
            return top_k(scores, k, exclude=exclude, allowed=offered.allowed)
        return _approximate_top_k(index, scores, k, exclude)


def _approximate_top_k(
    index: FaissIndex, scores: DotScores, k: int, exclude: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """What an index finds, and the exact answer of queries that got too few."""
    columns, values = index.search(scores.queries, k, exclude)
    n_hidden = 0 if exclude is None else np.diff(exclude.indptr)
    wanted = np.minimum(k, len(index) - n_hidden)
    short = np.flatnonzero((columns >= 0).sum(axis=1) < wanted)
    if len(short):
        hidden = None if exclude is None else exclude[short]
        columns[short], values[short] = top_k(scores.take(short), k, exclude=hidden)
    return columns, values
