"""Approximate search in place of the exact one, and how good it is."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.faiss_index import FaissIndex, approximate_top_k, recall_of
from sktwotower._search.top_k import DotScores, generator_of, top_k
from sktwotower._serving.queries import QueriesMixin
from sktwotower.base import OTHER, check_count


class ApproximateSearchMixin(QueriesMixin):
    """``build_index`` and ``index_report``."""

    # The index of each side with the codes and embeddings that it was built from. It is
    # derived data: copies do not have it, and other embeddings make it useless.
    _indexes: dict[str, tuple[FaissIndex, np.ndarray, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_indexes"}

    def build_index(
        self, index: str | None = "hnsw", *, side: str = "item", **parameters: int
    ) -> Self:
        """Answer queries approximately from now on, with a faiss index.

        Use it for catalogues of a hundred thousand items and more; below that the exact
        search is fast enough. The index searches by inner product, which is the cosine
        when the embeddings are normalised. It needs faiss:
        ``pip install 'sktwotower[faiss]'``. Start with the default and look at
        :meth:`index_report`.

        Seen items are excluded inside the search, by a selector of faiss. A query that
        gets fewer items than are eligible is answered again, exactly. Queries with
        ``candidates`` or ``sample``, users who get the most popular items, and ``score``
        are always answered exactly.

        Pickles, copies and saved models do not contain the index. ``fit``, ``partial_fit``
        and ``add_items`` change the embeddings and drop it; queries are exact until you
        build it again.

        Parameters
        ----------
        index : str or None, default="hnsw"
            - ``"hnsw"``: a graph of neighbours [1]_, the fastest for its recall and slow
              to build; short for ``"HNSW32"``;
            - ``"ivf"``: lists of vectors around centres, of which the nearest are
              searched; quick to build; short for ``"IVFn,Flat"`` with n = 4 times the
              square root of the number of vectors;
            - ``"flat"``: all vectors are searched, which is exact; short for ``"Flat"``;
            - any other factory string of faiss [2]_ for a graph, for lists, for ``Flat``
              or for a scalar quantizer, such as ``"HNSW16"`` or ``"IVF1000,SQ8"``.
              Compressed vectors only choose the items; the scores are exact;
            - None: drop the index.
        side : {"item", "user"}, default="item"
            What is searched: items, for `recommend` and `similar_items`, or users, for
            `recommend_users` and `similar_users`.
        **parameters : int
            Parameters of the index, by faiss' names. A graph has ``efConstruction=200``
            and ``efSearch=128``, the lengths of the queue while it is built and searched.
            Lists have ``nprobe``, the number of lists that are searched; the default is a
            16th of them and at least 8. Larger values raise recall and take longer.

        Returns
        -------
        self : TwoTowerRecommender
            With the index.

        Raises
        ------
        ImportError
            If faiss is not installed.
        ValueError
            If faiss does not know the index or cannot build it.
        TypeError
            If the index does not have such a parameter.

        See Also
        --------
        index_report : Recall and speed of the index.

        References
        ----------
        .. [1] Malkov & Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search
           Using Hierarchical Navigable Small World Graphs", IEEE TPAMI 42(4), 2020.
        .. [2] https://github.com/facebookresearch/faiss/wiki/The-index-factory

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "rum"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> model = model.build_index("hnsw", efSearch=64)
        >>> model.recommend(["bob"], n_recommendations=1)[0].tolist()
        [['rum']]
        """
        check_is_fitted(self)
        if side not in OTHER:
            raise ValueError(f"side={side!r} must be 'item' or 'user'.")
        others = {name: built for name, built in self._indexes.items() if name != side}
        if index is None:
            self._indexes = others
            return self
        codes, embeddings = self._choice(side), self._side(side).embeddings
        scale = None
        if side == "item" and self._side("user").entities.popularity is not None:
            # A graph joins items that are near each other. They must be near in the sense
            # of the users, who weigh popularity by one number.
            scale = np.ones(embeddings.shape[1], dtype=np.float32)
            scale[-1] = self._side("user").embeddings[0, -1] or 1.0
        built = FaissIndex(index, embeddings[codes - 1], parameters, scale=scale)
        self._indexes = {**others, side: (built, codes, embeddings)}
        return self

    def index_report(
        self,
        *,
        k: int = 100,
        n_queries: int = 1000,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Recall of the indexes against exact search, their speed and their size.

        The queries are those of `recommend` (or `recommend_users`) for a random sample of
        known users (items), with seen pairs excluded.

        Parameters
        ----------
        k : int, default=100
            Length of the answers that are compared.
        n_queries : int, default=1000
            Largest size of the sample.
        random_state : int, RandomState instance or None, default=None
            Draws the sample.

        Returns
        -------
        DataFrame
            One row for each index, with the columns

            - ``side``; ``factory``, the factory string of faiss; ``n_vectors``;
            - ``recall``, the share of the exact k best that the index finds;
            - ``queries_per_second`` and ``exact_queries_per_second``, with the sample as
              one batch;
            - ``build_seconds``; ``bytes``, as faiss writes the index, vectors included;
            - ``parameters``, a dict.

        Raises
        ------
        ValueError
            If there is no index.

        See Also
        --------
        build_index : Builds one.
        """
        check_is_fitted(self)
        check_count(k, "k")
        check_count(n_queries, "n_queries")
        generator = generator_of(random_state)
        rows = []
        for side in OTHER:
            candidates = CandidateSet(self._choice(side))
            index = self._index_of(side, candidates)
            if index is not None:
                rows.append(
                    {"side": side}
                    | self._report_of(index, side, candidates, k, n_queries, generator)
                )
        if not rows:
            raise ValueError(
                "There is no index to report on: call build_index first, and again after "
                "fit, partial_fit or add_items."
            )
        return pd.DataFrame(rows)

    def _report_of(
        self,
        index: FaissIndex,
        side: str,
        candidates: CandidateSet,
        k: int,
        n_queries: int,
        generator: np.random.Generator,
    ) -> dict[str, object]:
        """One index against the exact search, for a sample of queries."""
        known = self._choice(OTHER[side])
        size = min(n_queries, len(known))
        codes = generator.choice(known, size, replace=False, shuffle=False)
        vectors = self._side(OTHER[side]).vectors(codes)
        scores = self._side(side).scores(vectors, candidates.codes)
        exclude = self._seen_among(codes, candidates, OTHER[side])
        started = time.perf_counter()
        found, _ = approximate_top_k(index, scores, k, exclude)
        between = time.perf_counter()
        exact, _ = top_k(scores, k, exclude=exclude)
        ended = time.perf_counter()
        return {
            "factory": index.factory,
            "n_vectors": len(index),
            "recall": recall_of(found, exact),
            "queries_per_second": size / (between - started),
            "exact_queries_per_second": size / (ended - between),
            "build_seconds": index.build_seconds,
            "bytes": index.n_bytes(),
            "parameters": index.parameters,
        }

    def _index_of(self, side: str, candidates: CandidateSet) -> FaissIndex | None:
        """The index over exactly these candidates; an outdated one is dropped."""
        if side not in self._indexes:
            return None
        index, codes, embeddings = self._indexes[side]
        if embeddings is not self._side(side).embeddings:
            self.build_index(None, side=side)
            return None
        if codes is candidates.codes or np.array_equal(codes, candidates.codes):
            return index
        return None

    def _search(
        self,
        side: str,
        scores: DotScores,
        k: int,
        candidates: CandidateSet,
        exclude: sp.csr_matrix | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores of the k best, by an index over the candidates if any."""
        index = None
        if candidates.ids is None and candidates.allowed is None:
            index = self._index_of(side, candidates)
        if index is None:
            return top_k(scores, k, exclude=exclude, allowed=candidates.allowed)
        return approximate_top_k(index, scores, k, exclude)
