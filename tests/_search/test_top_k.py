"""Exact top-k equals a full stable argsort; draws follow the softmax."""

import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sktwotower._search import top_k as top_k_module
from sktwotower._search.top_k import (
    DotScores,
    RowScores,
    draw_k,
    generator_of,
    top_k,
)


class Matrix:
    """Scores of a given matrix, which are read in tiles."""

    whole_rows = False

    def __init__(self, scores):
        self.scores = np.asarray(scores)
        self.shape = self.scores.shape
        self.asked = []

    def block(self, rows, columns):
        self.asked.append((rows, columns))
        return self.scores[rows, columns].copy()

    def pairs(self, rows, columns):
        return self.scores[rows, columns]


def in_rows(scores):
    return RowScores(
        scores.shape,
        lambda rows: scores[rows].copy(),
        lambda rows, columns: scores[rows, columns],
    )


def brute_force(scores, k, excluded):
    """Plain Python: sort by score, then by position."""
    columns, values = [], []
    for row, hidden in zip(scores, excluded, strict=True):
        eligible = [(-row[j], j) for j in range(len(row)) if not hidden[j]]
        best = sorted(eligible)[:k]
        padding = k - len(best)
        columns.append([j for _, j in best] + [-1] * padding)
        values.append([-s for s, _ in best] + [-np.inf] * padding)
    return columns, values


@st.composite
def problems(draw):
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 24))
    # few distinct values, so that there are ties, also at the k-th place
    elements = draw(
        st.sampled_from([st.sampled_from([-1.0, 0.0, 0.5]), st.floats(-9, 9, width=32)])
    )
    scores = draw(hnp.arrays(np.float32, (n, m), elements=elements))
    if draw(st.booleans()):  # the worst case: later columns are better
        scores.sort(axis=1)
    excluded = draw(hnp.arrays(np.int8, (n, m), elements=st.integers(0, 2)))  # counts
    allowed = draw(hnp.arrays(np.bool_, (n, m)))
    return scores, draw(st.integers(1, m + 3)), excluded, allowed


@pytest.fixture
def sizes(monkeypatch):
    def set_sizes(block_bytes, tile):
        monkeypatch.setattr(top_k_module, "_BLOCK_BYTES", block_bytes)
        monkeypatch.setattr(top_k_module, "_TILE", tile)
        monkeypatch.setattr(top_k_module, "_WIDE_TILE", tile)
        monkeypatch.setattr(top_k_module, "_MIN_WIDTH", 1)

    return set_sizes


@pytest.mark.parametrize("block_bytes", [1, 100])
@pytest.mark.parametrize("tile", [1, 3, 10**6])
@given(problem=problems())
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_against_a_full_sort(block_bytes, tile, problem):
    scores, k, excluded, allowed = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k_module, "_BLOCK_BYTES", block_bytes)
        patch.setattr(top_k_module, "_TILE", tile)
        patch.setattr(top_k_module, "_WIDE_TILE", tile)
        patch.setattr(top_k_module, "_MIN_WIDTH", 1)  # tiles as narrow as k
        for form in (Matrix, in_rows):
            columns, values = top_k(form(scores), k, exclude=sp.csr_matrix(excluded))
            free, _ = top_k(form(scores), k)
            listed, listed_values = top_k(form(scores), k, allowed=sp.csr_matrix(allowed))
            both, _ = top_k(
                form(scores),
                k,
                exclude=sp.csr_matrix(excluded),
                allowed=sp.csr_matrix(allowed),
            )
            expected_columns, expected_values = brute_force(scores, k, excluded)
            assert columns.tolist() == expected_columns
            assert values.tolist() == expected_values
            assert free.tolist() == brute_force(scores, k, np.zeros_like(excluded))[0]
            expected_columns, expected_values = brute_force(scores, k, ~allowed)
            assert listed.tolist() == expected_columns
            assert listed_values.tolist() == expected_values
            neither = (excluded > 0) | ~allowed
            assert both.tolist() == brute_force(scores, k, neither)[0]
            assert columns.dtype == listed.dtype == np.int64
            assert values.dtype == listed_values.dtype == np.float32


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
@pytest.mark.parametrize("k", [1, 20, 900])
def test_against_numpy_on_a_larger_problem(sizes, order, k):
    sizes(2**16, 100)
    rng = np.random.RandomState(0)
    scores = rng.randint(0, 300, (50, 1000)).astype(np.float32)
    if order != "random":
        scores.sort(axis=1)
    if order == "falling":
        scores = scores[:, ::-1].copy()
    if order == "equal":
        scores[:] = 3
    columns, values = top_k(Matrix(scores), k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert (columns == expected).all()
    assert (values == np.take_along_axis(scores, expected, axis=1)).all()


@pytest.mark.slow
def test_default_sizes():
    """Several tiles and several blocks of queries, with the constants as they are."""
    rng = np.random.default_rng(0)
    n_queries, n = 300, 3 * top_k_module._TILE + 17
    vectors = rng.integers(-3, 4, (n, 4)).astype(np.float32)  # ties
    queries = rng.integers(-3, 4, (n_queries, 4)).astype(np.float32)
    hidden = sp.random(n_queries, n, 0.01, format="csr", random_state=0)
    scores = queries @ vectors.T
    scores[hidden.nonzero()] = -np.inf
    columns, _ = top_k(DotScores(queries, vectors), 50, exclude=hidden)
    assert (columns == np.argsort(-scores, axis=1, kind="stable")[:, :50]).all()
    alone, _ = top_k(DotScores(queries[:1], vectors), 50, exclude=hidden[:1])
    assert (alone == columns[:1]).all()


def test_dot_products_of_some_rows():
    rng = np.random.default_rng(0)
    queries, vectors = rng.random((7, 3), np.float32), rng.random((20, 3), np.float32)
    chosen = np.array([2, 3, 5, 11, 19])
    scores = DotScores(queries, vectors, chosen)
    assert scores.shape == (7, 5)
    expected = queries @ vectors[chosen].T
    np.testing.assert_allclose(scores.block(slice(1, 4), slice(2, 5)), expected[1:4, 2:5])
    rows, columns = np.array([0, 6, 6]), np.array([4, 0, 2])
    np.testing.assert_allclose(scores.pairs(rows, columns), expected[rows, columns])
    np.testing.assert_allclose(
        scores.take(np.array([3, 0])).block(slice(0, 2), slice(0, 5)), expected[[3, 0]]
    )


def test_more_than_there_are():
    columns, scores = top_k(Matrix(np.array([[1, 3, 2]], np.float32)), 5)
    assert columns.tolist() == [[1, 2, 0, -1, -1]]
    assert scores.tolist() == [[3, 2, 1, -np.inf, -np.inf]]


def test_without_candidates_or_queries():
    nothing = Matrix(np.empty((2, 0), np.float32))
    columns, scores = top_k(nothing, 3)
    assert columns.tolist() == [[-1] * 3] * 2
    assert (scores == -np.inf).all()
    no_queries = Matrix(np.empty((0, 5), np.float32))
    for pairs in (None, sp.csr_matrix((0, 5))):
        columns, scores = top_k(no_queries, 3, exclude=pairs, allowed=pairs)
        assert columns.shape == scores.shape == (0, 3)
    assert not nothing.asked and not no_queries.asked
    columns, scores = top_k(
        Matrix(np.ones((2, 4), np.float32)), 2, allowed=sp.csr_matrix((2, 4))
    )
    assert (columns == -1).all()


def test_everything_excluded():
    everything = sp.csr_matrix(np.ones((2, 4)))
    columns, scores = top_k(Matrix(np.ones((2, 4), np.float32)), 2, exclude=everything)
    assert (columns == -1).all()
    assert (scores == -np.inf).all()


def test_each_cell_is_asked_for_once(sizes):
    sizes(4 * 5 * 3, 5)  # three queries, five candidates a block
    scores = Matrix(np.zeros((8, 12), np.float32))
    top_k(scores, 2)
    count = np.zeros((8, 12))
    for rows, columns in scores.asked:
        count[rows, columns] += 1
    assert (count == 1).all()
    assert len(scores.asked) == 9


def test_only_allowed_pairs_are_scored():
    allowed = sp.csr_matrix(np.eye(4, 9))
    scored = []

    def pairs(rows, columns):
        scored.extend(zip(rows.tolist(), columns.tolist(), strict=True))
        return np.ones(len(rows), np.float32)

    scores = RowScores((4, 9), lambda rows: pytest.fail("whole rows"), pairs)
    columns, _ = top_k(scores, 2, allowed=allowed)
    assert scored == [(i, i) for i in range(4)]
    assert columns.tolist() == [[i, -1] for i in range(4)]


def test_scores_of_double_precision_decide_in_double_precision():
    scores = np.array([[1.0, 1.0 + 1e-12, 0.5]])
    assert top_k(Matrix(scores), 1)[0].tolist() == [[1]]
    assert top_k(Matrix(scores), 1, allowed=sp.csr_matrix(np.ones((1, 3))))[0] == [[1]]


class Formula:
    """Scores that are computed on demand and take no memory."""

    whole_rows = False

    def __init__(self, shape, of_columns):
        self.shape = shape
        self.of_columns = of_columns

    def block(self, rows, columns):
        values = self.of_columns[columns]
        return np.tile(values, (rows.stop - rows.start, 1))

    def pairs(self, rows, columns):
        return self.of_columns[columns]


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
@pytest.mark.parametrize(
    ("n_queries", "n", "k"),
    [
        (20_000, 500, 10),
        (1000, 100_000, 100),
        (200, 300_000, 5000),
        (1, 2_000_000, 10),
        (300, 8000, 6000),
    ],
)
@pytest.mark.slow
def test_the_memory_bound(order, n_queries, n, k):
    values = np.random.default_rng(0).random(n, np.float32)
    if order == "equal":
        values[:] = 1
    elif order != "random":
        values = np.sort(values)[:: 1 if order == "rising" else -1].copy()
    n_queries = min(
        n_queries, 6 * top_k_module._BLOCK_BYTES // (4 * min(n, top_k_module._TILE))
    )
    tracemalloc.start()
    try:
        answer = top_k(Formula((n_queries, n), values), k)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - sum(part.nbytes for part in answer) < 8 * top_k_module._BLOCK_BYTES


# --- drawing -------------------------------------------------------------------------


def plackett_luce(logits, k):
    """Probability of each ordered draw, by the definition."""
    weights = np.exp(logits)
    probabilities = {}
    for ranking in itertools.permutations(range(len(logits)), k):
        left, probability = weights.sum(), 1.0
        for item in ranking:
            probability *= weights[item] / left
            left -= weights[item]
        probabilities[ranking] = probability
    return probabilities


def test_draws_follow_the_softmax_without_replacement(sizes):
    sizes(4 * 100, 2)  # the noise is made tile by tile
    row = np.array([0.9, 0.1, 0.5, -0.4], np.float32)
    n, temperature = 40_000, 0.5
    columns, values = draw_k(
        DotScores(np.ones((n, 1), np.float32), row[:, None]),
        2,
        temperature,
        np.random.default_rng(0),
    )
    expected = plackett_luce(row / temperature, 2)
    assert sum(expected.values()) == pytest.approx(1)
    for ranking, probability in expected.items():
        share = (columns == ranking).all(axis=1).mean()
        error = (probability * (1 - probability) / n) ** 0.5
        assert abs(share - probability) < 4.5 * error
    assert (values == row[columns]).all()


def test_what_is_excluded_is_not_drawn():
    rng = np.random.default_rng(0)
    scores = rng.random((200, 6), np.float32)
    hidden = sp.csr_matrix(rng.random((200, 6)) < 0.4)
    allowed = sp.csr_matrix(rng.random((200, 6)) < 0.7)
    for options in (
        {"exclude": hidden},
        {"allowed": allowed},
        {"exclude": hidden, "allowed": allowed},
    ):
        columns, values = draw_k(Matrix(scores), 6, 0.2, rng, **options)
        eligible = np.ones((200, 6), bool)
        if "exclude" in options:
            eligible &= ~hidden.toarray()
        if "allowed" in options:
            eligible &= allowed.toarray()
        for row, row_values, row_scores, free in zip(
            columns, values, scores, eligible, strict=True
        ):
            drawn = row[row >= 0]
            assert sorted(drawn) == np.flatnonzero(free).tolist()
            assert row_values[: len(drawn)].tolist() == row_scores[drawn].tolist()
            assert (row_values[len(drawn) :] == -np.inf).all()


def test_a_cold_draw_is_the_ranking():
    scores = np.random.default_rng(0).random((20, 50), np.float32)
    drawn, _ = draw_k(Matrix(scores), 5, 1e-6, np.random.default_rng(1))
    assert (drawn == top_k(Matrix(scores), 5)[0]).all()


def test_generators():
    state = np.random.RandomState(3)
    one, other = generator_of(state).random(), generator_of(state).random()
    assert one != other  # an instance keeps its state
    assert generator_of(3).random() == generator_of(3).random() == one
    assert generator_of(None).random() != generator_of(None).random()
    with pytest.raises(ValueError, match="cannot be used to seed"):
        generator_of("seed")
