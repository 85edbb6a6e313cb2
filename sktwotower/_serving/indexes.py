"""Indexes for approximate search over the embeddings of a model state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.roles import OTHER, SIDES, SideName
from sktwotower._search.candidate_sets import CandidateSet, seen_pairs
from sktwotower._search.faiss_index import FaissIndex, approximate_top_k, recall_of
from sktwotower._search.top_k import generator_of, top_k
from sktwotower._serving.answers import check_count
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.recommend import choices
from sktwotower._training.state import ModelState


def with_index(
    state: ModelState, index: str | None, side: str, parameters: Mapping[str, int]
) -> ModelState:
    """The state with an index over one side; see ``TwoTowerRecommender.build_index``."""
    if side not in SIDES:
        raise ValueError(f"side={side!r} must be 'item' or 'user'.")
    name: SideName = "user" if side == "user" else "item"
    built = None
    if index is not None:
        embeddings = state.side(name).embeddings
        scale = None
        if name == "item" and state.user.entities.popularity is not None:
            # A graph joins items that are near each other. They must be near in the sense
            # of the users, who weigh popularity by one number.
            scale = np.ones(embeddings.shape[1], dtype=np.float32)
            scale[-1] = state.user.unknown[-1] or 1.0
        vectors = embeddings[choices(state, name) - 1]
        built = FaissIndex(index, vectors, parameters, scale=scale)
    changed = replace(state.side(name), index=built)
    if name == "user":
        return replace(state, user=changed)
    return replace(state, item=changed)


def index_report(
    state: ModelState,
    *,
    k: int,
    n_queries: int,
    random_state: int | np.random.RandomState | None,
) -> pd.DataFrame:
    """Recall, speed and size of the indexes; see ``TwoTowerRecommender.index_report``."""
    k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
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
    side: SideName,
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
    return {
        "side": side,
        "factory": index.factory,
        "n_vectors": len(index),
        "recall": recall_of(found, exact),
        "queries_per_second": size / (between - started),
        "exact_queries_per_second": size / (ended - between),
        "build_seconds": index.build_seconds,
        "bytes": index.n_bytes(),
        "parameters": index.parameters,
    }
