"""Metrics beyond accuracy against plain loops and numbers worked by hand."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sktwotower.metrics import (
    average_popularity,
    gini,
    intra_list_diversity,
    novelty,
    precision,
    serendipity,
)


@st.composite
def cases(draw):
    """Padded rankings, relevance, popularity with zeros and ties, vectors with zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_queries = draw(st.integers(0, 6))
    n_items = draw(st.integers(1, 9))
    n_ranked = draw(st.integers(0, 12))
    ranked = np.full((n_queries, n_ranked), -1)
    for row in ranked:
        length = rng.integers(0, min(n_items, n_ranked) + 1)
        row[:length] = rng.permutation(n_items)[:length]
    dense = rng.integers(-1, 2, size=(n_queries, n_items))
    popularity = rng.integers(0, 5, size=n_items) * 1.5
    popularity[0] += 1
    vectors = rng.normal(size=(n_items, 3))
    vectors[rng.random(n_items) < 0.2] = 0
    k = draw(st.integers(1, 15) | st.sampled_from([100, 10**12]))
    return ranked, dense, popularity, vectors, k


def lists(ranked, k):
    return [[item for item in row[:k] if item >= 0] for row in ranked.tolist()]


def mean(values):
    return sum(values) / len(values) if values else math.nan


@settings(max_examples=50)
@given(case=cases())
def test_gini_equals_mean_absolute_difference(case):
    ranked, _, popularity, _, k = case
    shown = Counter(item for items in lists(ranked, k) for item in items)
    counts = [shown[item] for item in range(len(popularity))]
    value = gini(ranked, len(counts), k=k)
    if not shown:
        assert math.isnan(value)
        return
    differences = sum(abs(a - b) for a in counts for b in counts)
    assert value == pytest.approx(differences / (2 * len(counts) * sum(counts)))


@settings(max_examples=50)
@given(case=cases())
def test_average_popularity_equals_a_loop(case):
    ranked, _, popularity, _, k = case
    expected = [mean([popularity[item] for item in items]) for items in lists(ranked, k)]
    np.testing.assert_allclose(average_popularity(ranked, popularity, k=k), expected)


@settings(max_examples=50)
@given(case=cases(), scale=st.sampled_from([1, 0.01, 1000]))
def test_novelty_equals_a_loop(case, scale):
    ranked, _, popularity, _, k = case
    floor = min(count for count in popularity if count > 0)
    bits = [-math.log2(max(count, floor) / sum(popularity)) for count in popularity]
    expected = [mean([bits[item] for item in items]) for items in lists(ranked, k)]
    np.testing.assert_allclose(
        novelty(ranked, popularity * scale, k=k), expected, atol=1e-12
    )


def cosine(a, b):
    norms = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


@settings(max_examples=50)
@given(case=cases())
def test_diversity_equals_a_loop_over_pairs(case):
    ranked, _, _, vectors, k = case
    before = vectors.copy()
    expected = [
        1 - mean([cosine(vectors[a], vectors[b]) for a, b in permutations(items, 2)])
        for items in lists(ranked, k)
    ]
    values = intra_list_diversity(ranked, vectors, k=k)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    np.testing.assert_array_equal(vectors, before)


@settings(max_examples=50)
@given(case=cases())
def test_serendipity_equals_a_loop(case):
    ranked, dense, popularity, _, k = case
    order = sorted(range(len(popularity)), key=lambda item: -popularity[item])
    popular = set(order[:k])
    expected = [
        sum(row[item] > 0 and item not in popular for item in items) / k
        if (row > 0).any()
        else math.nan
        for items, row in zip(lists(ranked, k), dense, strict=True)
    ]
    relevant = sparse.csr_array(dense)
    values = serendipity(ranked, relevant, popularity, k=k)
    np.testing.assert_allclose(values, expected)
    found = ~np.isnan(values)
    assert (values[found] <= precision(ranked, relevant, k=k)[found]).all()
    if k >= len(popularity):  # all items are among the most popular ones
        assert not values[found].any()


@settings(max_examples=50)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_ids_and_order_do_not_matter(case, seed):
    ranked, dense, popularity, vectors, k = case
    popularity = popularity + np.arange(len(popularity)) / 100  # no ties
    rng = np.random.default_rng(seed)
    new_code = rng.permutation(len(popularity))
    users = rng.permutation(len(ranked))
    again = np.where(ranked >= 0, new_code[ranked], -1)[users]

    def moved(values):
        out = np.empty_like(values)
        out[new_code] = values
        return out

    np.testing.assert_allclose(
        average_popularity(again, moved(popularity), k=k),
        average_popularity(ranked, popularity, k=k)[users],
    )
    np.testing.assert_allclose(
        novelty(again, moved(popularity), k=k), novelty(ranked, popularity, k=k)[users]
    )
    np.testing.assert_allclose(
        intra_list_diversity(again, moved(vectors), k=k),
        intra_list_diversity(ranked, vectors, k=k)[users],
        atol=1e-9,
    )
    np.testing.assert_allclose(
        serendipity(
            again, sparse.csr_array(moved(dense.T).T[users]), moved(popularity), k=k
        ),
        serendipity(ranked, sparse.csr_array(dense), popularity, k=k)[users],
    )
    assert gini(again, len(popularity), k=k) == pytest.approx(
        gini(ranked, len(popularity), k=k), nan_ok=True
    )


def test_by_hand():
    assert gini([[0], [0], [1]], 3, k=1) == pytest.approx(4 / 9)  # counts 0, 1, 2
    assert isinstance(gini([[0]], 1), float)
    assert average_popularity([[0, 2, -1]], [1, 5, 4], k=3) == [2.5]
    np.testing.assert_allclose(novelty([[0, 1]], [1, 3], k=2), [(2 + math.log2(4 / 3)) / 2])
    vectors = [[1, 0], [0, 1], [-1, 0]]
    np.testing.assert_allclose(intra_list_diversity([[0, 1, 2]], vectors, k=3), [4 / 3])
    assert serendipity([[0, 1, 2]], sparse.csr_array([[1, 0, 1]]), [3, 2, 1], k=3) == [0]
    np.testing.assert_allclose(
        serendipity([[0, 2, 1]], sparse.csr_array([[1, 0, 1]]), [3, 2, 1], k=2), [1 / 2]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gini([[0]], 1, k=0), "k=0 must be at least 1"),
        (lambda: gini([[0]], 0), "n_items=0 must be at least 1"),
        (lambda: average_popularity([[0]], [1], k=0), "k=0 must be at least 1"),
        (lambda: average_popularity([[3]], [1, 2]), "codes from 3 to 3; with 2 items"),
        (lambda: average_popularity([[0]], [-1.0]), "finite and not negative"),
        (lambda: average_popularity([[0]], [[1.0]]), r"shape \(1, 1\); it must be"),
        (lambda: novelty([[0]], [0.0]), "popularity is 0 for every item"),
        (lambda: novelty([[0]], [np.nan]), "finite and not negative"),
        (lambda: intra_list_diversity([[0]], [1.0]), "must be .n_items, n_dimensions"),
        (lambda: intra_list_diversity([[0]], [[np.inf]]), "all of it finite"),
        (
            lambda: serendipity([[0]], sparse.csr_array([[1]]), [1], k=0),
            "k=0 must be at least 1",
        ),
        (
            lambda: serendipity([[0], [0]], sparse.csr_array([[1]]), [1]),
            "ranked has 2 rows and relevant has 1",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
