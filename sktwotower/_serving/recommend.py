"""Answers to queries, from a model state alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.candidate_forms import CandidateReader
from sktwotower._data.known_ids import warn_of_unknown
from sktwotower._data.queries import Query, read_history
from sktwotower._data.roles import OTHER, SideName
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.faiss_index import approximate_top_k
from sktwotower._search.top_k import DotScores, RowScores, draw_k, generator_of, top_k
from sktwotower._serving.answers import Answer, FrameNames, check_count, ranked_answer
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.selection import (
    excluded_pairs,
    known_candidates,
    pairs_with_itself,
    with_groups,
)
from sktwotower._training.data import n_positives
from sktwotower._training.state import ModelState
from sktwotower.utils._forms import check_bool, is_empty


@dataclass(frozen=True, eq=False)
class Sampling:
    """Draw answers instead of taking the best ones.

    Attributes
    ----------
    temperature : float
        Scores are divided by it.
    generator : numpy.random.Generator
        Draws.
    """

    temperature: float
    generator: np.random.Generator


def recommend(
    state: ModelState,
    X: Any,
    *,
    n_recommendations: int,
    candidates: Any,
    exclude_seen: bool,
    exclude_interactions: Any,
    history: Any,
    cold_start: str,
    sample: bool,
    random_state: int | np.random.RandomState | None,
    as_frame: bool,
) -> Answer:
    """The best items for each user; see ``TwoTowerRecommender.recommend``."""
    n_recommendations = check_count(n_recommendations)
    check_bool("exclude_seen", exclude_seen)
    check_bool("sample", sample)
    check_bool("as_frame", as_frame)
    names = FrameNames.of(state.roles, "user", "item") if as_frame else None
    if cold_start not in ("tower", "popular", "mean"):
        raise ValueError(f"cold_start={cold_start!r} must be 'tower', 'popular' or 'mean'.")
    users = EntityEmbedder.of(state, "user")
    query = users.query(X, "X")
    # Cold: without an id, without features, and without a history.
    is_cold = query.codes == 0
    if query.features is not None:
        is_cold = np.zeros(len(query), dtype=bool)
    further, windows = None, None
    if history is not None and not is_empty(history):
        further = read_history(
            history, query, roles=state.roles, items=state.item.vocabulary
        )
        if users.past is not None:
            windows = users.past.with_more(query.codes, further)
            is_cold &= np.bincount(further.users, minlength=len(query)) == 0
    vectors = users.vectors(query.codes, query.features, windows)
    if cold_start == "mean":
        vectors[is_cold] = state.user.embeddings.mean(axis=0)
    chosen, scores = _candidate_scores(state, query, "user", "item", candidates, vectors)
    exclude = _excluded(state, query, chosen, "user", exclude_seen, exclude_interactions)
    if exclude_seen and further is not None:
        columns = chosen.columns(further.items)
        exclude = exclude + chosen.pairs(further.users, columns, len(query))
    sampling = None
    if sample:
        sampling = Sampling(state.temperature, generator_of(random_state))
    k = n_recommendations
    found, values = _ranked(state, "item", scores, k, chosen, exclude, sampling)
    if cold_start == "popular" and is_cold.any():
        rows = np.flatnonzero(is_cold)
        found[rows], values[rows] = _most_popular(state, rows, k, chosen, exclude, sampling)
    items = state.item.vocabulary
    return ranked_answer(query, chosen, found, values, items, names=names)


def recommend_users(
    state: ModelState,
    item_ids: Any,
    *,
    n_recommendations: int,
    candidates: Any,
    exclude_seen: bool,
    exclude_interactions: Any,
    as_frame: bool,
) -> Answer:
    """The best users for each item; see ``TwoTowerRecommender.recommend_users``."""
    n_recommendations = check_count(n_recommendations)
    check_bool("exclude_seen", exclude_seen)
    check_bool("as_frame", as_frame)
    names = FrameNames.of(state.roles, "item", "user") if as_frame else None
    items = EntityEmbedder.of(state, "item")
    query = items.query(item_ids, "item_ids", unknown=_like_unknown("item"))
    vectors = items.vectors(query.codes, query.features)
    chosen, scores = _candidate_scores(state, query, "item", "user", candidates, vectors)
    exclude = _excluded(state, query, chosen, "item", exclude_seen, exclude_interactions)
    found, values = _ranked(state, "user", scores, n_recommendations, chosen, exclude)
    users = state.user.vocabulary
    return ranked_answer(query, chosen, found, values, users, names=names)


def similar(
    state: ModelState,
    side: SideName,
    ids: Any,
    *,
    n_recommendations: int,
    candidates: Any,
    as_frame: bool,
) -> Answer:
    """The nearest users or items; see ``TwoTowerRecommender.similar_items``."""
    n_recommendations = check_count(n_recommendations)
    check_bool("as_frame", as_frame)
    names = FrameNames.of(state.roles, side, side) if as_frame else None
    embedder = EntityEmbedder.of(state, side)
    query = embedder.query(ids, f"{side}_ids", unknown=_like_unknown(side))
    vectors = embedder.vectors(query.codes, query.features)
    if embedder.state.entities.popularity is not None:  # popularity is no likeness
        vectors[:, -1] = 0.0
    chosen, scores = _candidate_scores(state, query, side, side, candidates, vectors)
    vocabulary = embedder.state.vocabulary
    exclude = pairs_with_itself(query, chosen, vocabulary)
    found, values = _ranked(state, side, scores, n_recommendations, chosen, exclude)
    return ranked_answer(query, chosen, found, values, vocabulary, names=names)


def _like_unknown(side: SideName) -> str:
    """What a warning says of ids that have nothing to look for neighbours by."""
    return f"have no features, so that their vector is that of an unknown {side}"


def choices(state: ModelState, side: SideName) -> np.ndarray:
    """Codes that queries choose from unless they name candidates, ascending."""
    return state.catalogue if side == "item" else state.user.recommendable()


def _candidate_scores(
    state: ModelState,
    query: Query,
    asked: SideName,
    side: SideName,
    candidates: Any,
    vectors: np.ndarray,
) -> tuple[CandidateSet, DotScores]:
    """What queries choose from, users or items, and the scores of their vectors for it."""
    embedder = EntityEmbedder.of(state, side)
    vocabulary = embedder.state.vocabulary
    given = CandidateReader(
        query=query,
        side=side,
        asked=asked,
        vocabulary=vocabulary,
        roles=state.roles,
        columns=embedder.columns,
        asked_columns=EntityEmbedder.of(state, asked).columns,
    ).read(candidates)
    if given is None or given.features is None:
        catalogue = choices(state, side)
        chosen = known_candidates(given, side, vocabulary=vocabulary, catalogue=catalogue)
        return chosen, embedder.scores(vectors, chosen.codes)
    columns, ids = pd.factorize(given.ids)  # pairs have an id several times
    first = np.unique(columns, return_index=True)[1]
    features = given.features.iloc[first].reset_index(drop=True)
    codes = vocabulary.codes(ids)
    warn_of_unknown(ids, codes, vocabulary, side=side, subject="candidates")
    scores = DotScores(vectors, embedder.vectors(codes, features))
    return with_groups(CandidateSet(codes, ids), given, columns), scores


def _excluded(
    state: ModelState,
    query: Query,
    chosen: CandidateSet,
    side: SideName,
    exclude_seen: bool,
    exclude_interactions: Any,
) -> sp.csr_matrix | None:
    """Pairs of queries and candidates that are left out; None: nothing is."""
    return excluded_pairs(
        query,
        chosen,
        side,
        seen=state.seen if exclude_seen else None,
        exclude_interactions=exclude_interactions,
        roles=state.roles,
        vocabulary=state.side(OTHER[side]).vocabulary,
    )


def _ranked(
    state: ModelState,
    side: SideName,
    scores: DotScores,
    k: int,
    chosen: CandidateSet,
    exclude: sp.csr_matrix | None,
    sampling: Sampling | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of k candidates: the best, approximately the best, or drawn."""
    if sampling is not None:
        return draw_k(
            scores,
            k,
            sampling.temperature,
            sampling.generator,
            exclude=exclude,
            allowed=chosen.allowed,
        )
    index = state.side(side).index
    if index is not None and chosen.is_all_of(choices(state, side)):
        return approximate_top_k(index, scores, k, exclude)
    return top_k(scores, k, exclude=exclude, allowed=chosen.allowed)


def _most_popular(
    state: ModelState,
    rows: np.ndarray,
    k: int,
    chosen: CandidateSet,
    exclude: sp.csr_matrix | None,
    sampling: Sampling | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of some queries, by the number of positives of the candidates."""
    counts = n_positives(state.interactions, len(state.item.entities))[chosen.codes]
    hidden = None if exclude is None else exclude[rows]
    allowed = None if chosen.allowed is None else chosen.allowed[rows]
    if sampling is None:
        scores = RowScores.same(counts, len(rows))
        return top_k(scores, k, exclude=hidden, allowed=allowed)
    logs = RowScores.same(np.log1p(counts), len(rows))
    found, values = draw_k(
        logs, k, 1.0, sampling.generator, exclude=hidden, allowed=allowed
    )
    filled = found >= 0
    values[filled] = counts[found[filled]]
    return found, values
