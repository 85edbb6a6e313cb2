"""Answers to queries, from a model state alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.candidate_forms import CandidateReader
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.interactions import read_later
from sktwotower._data.known_ids import warn_of_unknown
from sktwotower._data.queries import Query
from sktwotower._data.roles import OTHER, SideName
from sktwotower._search.candidate_sets import CandidateSet
from sktwotower._search.greedy import GreedyRule, choose_k
from sktwotower._search.searches import Sampling, Search
from sktwotower._search.top_k import DotScores, generator_of
from sktwotower._serving.answers import Answer, FrameNames, check_count, ranked_answer
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._serving.quotas import read_quotas
from sktwotower._serving.selection import (
    excluded_pairs,
    known_candidates,
    pairs_with_itself,
    with_groups,
)
from sktwotower._training.data import centred_logs
from sktwotower._training.state import ModelState
from sktwotower.utils._forms import check_bool, check_number
from sktwotower.utils._once import once

_LEAST_TEMPERATURE = 1e-6
_MOST_WEIGHT = 1e6


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
    diversify: float,
    max_per_group: Any,
    popularity_weight: float,
    sample: bool,
    temperature: float | None,
    random_state: int | np.random.RandomState | None,
    as_frame: bool,
) -> Answer:
    """The best items for each user; see ``TwoTowerRecommender.recommend``."""
    n_recommendations = check_count(n_recommendations)
    check_bool("exclude_seen", exclude_seen)
    check_bool("as_frame", as_frame)
    diversity = check_number("diversify", diversify, 0, 1)
    weight = check_number(
        "popularity_weight", popularity_weight, -_MOST_WEIGHT, _MOST_WEIGHT
    )
    sampling = _sampling(state, sample, temperature, random_state)
    if sampling is not None and diversity > 0:
        raise ValueError(
            f"diversify={diversify!r} re-ranks the best items, and sample=True draws items "
            "instead: choose one of them. A higher temperature draws more diverse items."
        )
    names = FrameNames.of(state.roles, "user", "item") if as_frame else None
    query, vectors, further, is_cold = _users(state, X, history, cold_start)
    chosen, features, scores = _candidate_scores(
        state, query, "user", "item", candidates, vectors
    )
    exclude = _excluded(state, query, chosen, "user", exclude_seen, exclude_interactions)
    if exclude_seen and further is not None:
        columns = chosen.columns(further.items)
        exclude = exclude + chosen.pairs(further.users, columns, len(query))
    items, rule = state.item.entities, None
    quotas = read_quotas(max_per_group, items, chosen.codes, features)
    if diversity > 0 or quotas:
        of, dim = scores.vectors_of, state.tower("item").dim  # popularity is no likeness
        rule = GreedyRule(diversity, lambda columns: of(columns)[..., :dim], quotas)
    if weight != 0:
        logs = centred_logs(_n_positives(state), items)[chosen.codes]
        scores = replace(scores, terms=np.float32(weight * state.temperature) * logs)
    k = n_recommendations
    search = _search(state, "item", scores, chosen, exclude, sampling)
    found, values = search.best(k) if rule is None else choose_k(search, k, rule)
    if cold_start == "popular" and is_cold.any():
        rows = np.flatnonzero(is_cold)
        found[rows], values[rows] = _most_popular(state, search.take(rows), k, chosen, rule)
    return ranked_answer(query, chosen, found, values, items.vocabulary, names=names)


def _users(
    state: ModelState, X: Any, history: Any, cold_start: str
) -> tuple[Query, np.ndarray, InteractionCodes | None, np.ndarray]:
    """Users who are asked for, their vectors, their further history, and who is cold.

    Cold users have no id, no features and no history.
    """
    _check_cold_start(cold_start)
    users = EntityEmbedder.of(state, "user")
    query = users.query(X, "X")
    is_cold = _are_cold(query.codes, query.features)
    further, windows = users.later_history(query, history, state.item.vocabulary)
    if further is not None and users.past is not None:
        is_cold &= np.bincount(further.users, minlength=len(query)) == 0
    vectors = users.vectors(query.codes, query.features, windows)
    if cold_start == "mean":
        vectors[is_cold] = state.mean_user
    return query, vectors, further, is_cold


def _sampling(
    state: ModelState,
    sample: bool,
    temperature: float | None,
    random_state: int | np.random.RandomState | None,
) -> Sampling | None:
    """How to draw; None: not at all."""
    check_bool("sample", sample)
    divisor = state.temperature
    if temperature is not None:
        divisor = check_number("temperature", temperature, _LEAST_TEMPERATURE)
        if not sample:
            raise ValueError(
                f"temperature={temperature!r} needs sample=True: the order of the best "
                "items does not depend on a temperature."
            )
    return Sampling(divisor, generator_of(random_state)) if sample else None


def predict(state: ModelState, X: Any, *, cold_start: str) -> np.ndarray:
    """Score of each row's pair; see ``TwoTowerRecommender.predict``."""
    _check_cold_start(cold_start)
    rows = read_later(X, None, None, known=state)
    users, items = StateEvaluation(state).pair_vectors(rows)
    is_cold = _are_cold(state.users.codes(rows.users), rows.user_features)
    if cold_start == "mean":
        users[is_cold] = state.mean_user
    scores: np.ndarray = np.einsum("nd,nd->n", users, items)
    if cold_start == "popular":
        scores[is_cold] = _n_positives(state)[state.items.codes(rows.items[is_cold])]
    return scores


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
    chosen, _, scores = _candidate_scores(state, query, "item", "user", candidates, vectors)
    exclude = _excluded(state, query, chosen, "item", exclude_seen, exclude_interactions)
    search = _search(state, "user", scores, chosen, exclude)
    found, values = search.best(n_recommendations)
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
    chosen, _, scores = _candidate_scores(state, query, side, side, candidates, vectors)
    tower = embedder.tower
    if not tower.normalize:
        scores = scores.cosines(tower.dim)
    vocabulary = embedder.state.vocabulary
    exclude = pairs_with_itself(query, chosen, vocabulary)
    search = _search(state, side, scores, chosen, exclude)
    found, values = search.best(n_recommendations)
    return ranked_answer(query, chosen, found, values, vocabulary, names=names)


def _check_cold_start(cold_start: str) -> None:
    if cold_start not in ("tower", "popular", "mean"):
        raise ValueError(f"cold_start={cold_start!r} must be 'tower', 'popular' or 'mean'.")


def _are_cold(codes: np.ndarray, features: Any) -> np.ndarray:
    """Which users have neither a known id nor features, (n,)."""
    return codes == 0 if features is None else np.zeros(len(codes), dtype=bool)


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
) -> tuple[CandidateSet, pd.DataFrame | None, DotScores]:
    """What queries choose from, users or items, its features, and its scores.

    The features are those that replace those of training.
    """
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
        return chosen, None, embedder.scores(vectors, chosen.codes)
    columns, ids = pd.factorize(given.ids)  # pairs have an id several times
    first = np.unique(columns, return_index=True)[1]
    features = given.features.iloc[first].reset_index(drop=True)
    codes = vocabulary.codes(ids)
    warn_of_unknown(ids, codes, vocabulary, side=side, subject="candidates")
    scores = DotScores(vectors, embedder.vectors(codes, features))
    return with_groups(CandidateSet(codes, ids), given, columns), features, scores


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


def _search(
    state: ModelState,
    side: SideName,
    scores: DotScores,
    chosen: CandidateSet,
    exclude: sp.csr_matrix | None,
    sampling: Sampling | None = None,
) -> Search:
    """The search over candidates, by the index of their side if it has one for them."""
    index = state.side(side).index
    if sampling is not None or not scores.are_plain:
        index = None
    if index is not None and not chosen.is_all_of(choices(state, side)):
        index = None
    return Search(scores, exclude, chosen.allowed, sampling, index)


@once
def _n_positives(state: ModelState) -> np.ndarray:
    """Number of positives of each item code, (n_items + 1,) float32."""
    return state.n_positives


def _most_popular(
    state: ModelState, search: Search, k: int, chosen: CandidateSet, rule: GreedyRule | None
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of queries, by the number of positives of the candidates."""
    counts = _n_positives(state)[chosen.codes]
    values = counts
    sampling = search.sampling
    if sampling is not None:
        values, sampling = np.log1p(counts), replace(sampling, temperature=1.0)
    ones = np.ones((len(search.scores.queries), 1), dtype=np.float32)
    scores = DotScores(ones, values[:, None])
    search = replace(search, scores=scores, sampling=sampling, index=None)
    found, values = search.best(k) if rule is None else choose_k(search, k, rule)
    if sampling is not None:
        filled = found >= 0
        values[filled] = counts[found[filled]]
    return found, values
