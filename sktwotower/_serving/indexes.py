"""Indexes for approximate search over the embeddings of a model state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.queries import OTHER
from sktwotower._search.approximate import approximate_top_k
from sktwotower._search.candidate_sets import CandidateSet, seen_pairs
from sktwotower._search.faiss_index import FaissIndex, check_kind
from sktwotower._search.top_k import generator_of, top_k
from sktwotower._serving.answers import check_count
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.recommend import choices
from sktwotower._training.state import ModelState


def with_index(
    state: ModelState, kind: str | None, side: str, options: Mapping[str, Any]
) -> ModelState:
    """The state with an index over one side; see ``TwoTowerRecommender.build_index``."""
    if side not in OTHER:
        raise ValueError(f"side={side!r} must be 'item' or 'user'.")
    index = None
    if kind is not None:
        check_kind(kind, options)
        embeddings = state.side(side).embeddings
        scale = None
        if side == "item" and state.user.entities.popularity is not None:
            # A graph joins near items: near in the way a user weighs popularity.
            scale = np.ones(embeddings.shape[1], dtype=np.float32)
            scale[-1] = state.user.embeddings[0, -1] or 1.0
        vectors = embeddings[choices(state, side) - 1]
        index = FaissIndex(kind, vectors, options, scale=scale)
    changed = replace(state.side(side), index=index)
    if side == "user":
        return replace(state, user=changed)
    return replace(state, item=changed)


def index_report(
    state: ModelState, *, k: int, n_queries: int, random_state: Any
) -> pd.DataFrame:
    """Recall, speed and size of the indexes; see ``TwoTowerRecommender.index_report``."""
    check_count(k, "k")
    check_count(n_queries, "n_queries")
    generator = generator_of(random_state)
    rows = []
    for side in OTHER:
        index = state.side(side).index
        if index is not None:
            rows.append(_report(state, side, index, k, n_queries, generator))
    if not rows:
        raise ValueError(
            "There is no index to report on: call build_index first, and again after "
            "fit, partial_fit or add_items."
        )
    return pd.DataFrame(rows)


def _report(
    state: ModelState,
    side: str,
    index: FaissIndex,
    k: int,
    n_queries: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """One row: an index against exact search, for a random sample of queries."""
    candidates = CandidateSet(choices(state, side))
    asking = choices(state, OTHER[side])
    size = min(n_queries, len(asking))
    codes = generator.choice(asking, size, replace=False, shuffle=False)
    vectors = EntityEmbedder.of(state, OTHER[side]).vectors(codes)
    scores = EntityEmbedder.of(state, side).scores(vectors, candidates.codes)
    seen = state.seen if side == "item" else state.seen.T
    exclude = seen_pairs(seen, codes, candidates)
    started = time.perf_counter()
    found, _ = approximate_top_k(index, scores, k, exclude)
    between = time.perf_counter()
    exact, _ = top_k(scores, k, exclude=exclude)
    ended = time.perf_counter()
    n_wanted = int((exact >= 0).sum())
    n_found = sum(
        len(np.intersect1d(one[one >= 0], other[other >= 0]))
        for one, other in zip(found, exact, strict=True)
    )
    return {
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
