"""Choices one after the other against plain Python, and draws against the definition."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._search import greedy
from sktwotower._search.greedy import GreedyRule, Quota, choose_k
from sktwotower._search.searches import Sampling, Search
from sktwotower._search.top_k import DotScores, top_k


def cosine(one, other):
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / lengths if lengths else 0.0


def brute_force(scores, vectors, k, diversity, quotas, eligible, size):
    """Plain Python for one query: columns in the order in which they are chosen."""
    order = sorted(eligible, key=lambda j: (-scores[j], j))
    pool, chosen = order[:size], []
    low, high = min(scores[pool], default=0), max(scores[pool], default=0)

    def is_open(j):
        return j not in chosen and all(
            groups[j] < 0 or sum(groups[i] == groups[j] for i in chosen) < limit
            for groups, limit in quotas
        )

    def merit(j):
        if diversity == 0:
            return -order.index(j)
        relevance = (scores[j] - low) / (high - low) if high > low else 0.0
        nearest = max((cosine(vectors[i], vectors[j]) for i in chosen), default=0.0)
        return (1 - diversity) * relevance - diversity * nearest

    while len(chosen) < k:
        left = [j for j in pool if is_open(j)]
        if left:
            chosen.append(max(left, key=merit))  # the first of equal ones
            continue
        pool = [j for j in order if is_open(j)][:size]
        if not pool:
            break
    return chosen


@pytest.mark.parametrize("size", [3, 100])
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 9),
    diversity=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    n_quotas=st.integers(0, 2),
    has_lists=st.booleans(),
)
def test_choices_by_brute_force(size, seed, k, diversity, n_quotas, has_lists):
    rng = np.random.default_rng(seed)
    n, m, dim = 5, int(rng.integers(1, 30)), 4
    vectors = rng.normal(size=(m, dim)).astype(np.float32)
    vectors[0] = 0.0  # has no direction
    queries = rng.normal(size=(n, dim)).astype(np.float32)
    scores = DotScores(queries, vectors)
    if diversity == 0:  # ties are exact
        scores = DotScores(np.round(queries), np.round(vectors))
    hidden, allowed = rng.random((2, n, m)) < [[[0.2]], [[0.7]]]
    quotas = tuple(
        Quota(rng.integers(-1, 3, m), int(rng.integers(1, 4))) for _ in range(n_quotas)
    )
    search = Search(
        scores,
        sp.csr_matrix(hidden.astype(np.float32)),
        sp.csr_matrix(allowed.astype(np.float32)) if has_lists else None,
    )
    rule = GreedyRule(diversity, lambda columns: vectors[columns], quotas)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greedy, "_pool_size", lambda k: size)
        patch.setattr(greedy, "_BLOCK_BYTES", 4 * size * 20 * 2)  # two queries in a block
        columns, values = choose_k(search, k, rule)
    exact = scores.block(slice(0, n), slice(0, m)).astype(float)
    for row in range(n):
        eligible = np.flatnonzero(~hidden[row] & (allowed[row] | (not has_lists)))
        expected = brute_force(
            exact[row],
            vectors.astype(float),
            k,
            diversity,
            [(quota.groups, quota.limit) for quota in quotas],
            eligible.tolist(),
            size,
        )
        assert columns[row].tolist() == expected + [-1] * (k - len(expected))
        np.testing.assert_allclose(
            values[row, : len(expected)], exact[row, expected], rtol=1e-5, atol=1e-6
        )
        assert (values[row, len(expected) :] == -np.inf).all()
    assert values.dtype == np.float32


def test_a_quota_of_many_is_the_best():
    rng = np.random.default_rng(0)
    scores = DotScores(
        rng.normal(size=(7, 3)).astype(np.float32),
        rng.normal(size=(400, 3)).astype(np.float32),
    )
    rule = GreedyRule(0.0, scores.vectors_of, (Quota(np.arange(400) % 3, 400),))
    expected = top_k(scores, 30)
    for found, best in zip(choose_k(Search(scores), 30, rule), expected, strict=True):
        np.testing.assert_array_equal(found, best)


def test_a_group_that_fills_many_pools():
    """One group has the 5,000 best; each later pool is of what is open."""
    n = 5050
    scores = DotScores(
        np.ones((2, 1), np.float32), -np.arange(n, dtype=np.float32)[:, None]
    )
    groups = np.where(np.arange(n) < 5000, 7, -1)
    rule = GreedyRule(0.0, scores.vectors_of, (Quota(groups, 2),))
    columns, _ = choose_k(Search(scores), 60, rule)
    assert columns[0].tolist() == [0, 1, *range(5000, 5050), *[-1] * 8]
    assert (columns[0] == columns[1]).all()


def test_far_more_than_there_are():
    scores = DotScores(
        np.ones((1, 1), np.float32), -np.arange(3, dtype=np.float32)[:, None]
    )
    rule = GreedyRule(0.5, scores.vectors_of, (Quota(np.array([0, 0, -1]), 1),))
    columns, values = choose_k(Search(scores), 10**6, rule)
    assert columns[0, :3].tolist() == [0, 2, -1]
    assert columns.shape == values.shape == (1, 10**6)


def sequential_draws(weights, groups, limit, k):
    """Probability of each ordered draw, by the definition."""
    found = {}
    for ranking in itertools.permutations(range(len(weights)), k):
        probability = 1.0
        for place, item in enumerate(ranking):
            before = ranking[:place]
            is_open = [
                j not in before
                and (groups[j] < 0 or sum(groups[i] == groups[j] for i in before) < limit)
                for j in range(len(weights))
            ]
            probability *= is_open[item] * weights[item] / weights[is_open].sum()
        found[ranking] = probability
    return found


@pytest.mark.parametrize("size", [1, 2, 100])  # a draw goes on where a pool ends
def test_draws_with_quotas(monkeypatch, size):
    monkeypatch.setattr(greedy, "_pool_size", lambda k: size)
    logits = np.array([0.9, 0.8, 0.5, -0.4, -0.9], np.float32)
    groups, n, temperature = np.array([0, 0, 0, 1, -1]), 10_000, 0.7
    scores = DotScores(np.ones((n, 1), np.float32), logits[:, None])
    search = Search(scores, sampling=Sampling(temperature, np.random.default_rng(0)))
    rule = GreedyRule(0.0, scores.vectors_of, (Quota(groups, 1),))
    columns, values = choose_k(search, 2, rule)
    np.testing.assert_array_equal(values, logits[columns])
    drawn = {tuple(row): 0 for row in columns.tolist()}
    for row in columns.tolist():
        drawn[tuple(row)] += 1
    weights = np.exp(logits.astype(float) / temperature)
    expected = sequential_draws(weights, groups, 1, 2)
    assert sum(expected.values()) == pytest.approx(1)
    for ranking, probability in expected.items():
        error = (probability * (1 - probability) / n) ** 0.5
        assert abs(drawn.get(ranking, 0) / n - probability) <= 4.5 * error
