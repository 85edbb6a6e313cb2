"""Exact top-k is a full stable argsort, only cheaper."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sktwotower import _index
from sktwotower._index import top_k


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
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    # few distinct values: ties everywhere, at the cut too
    elements = draw(
        st.sampled_from([st.sampled_from([-1.0, 0.0, 0.5]), st.floats(-9, 9, width=32)])
    )
    scores = draw(hnp.arrays(np.float32, (n, m), elements=elements))
    excluded = draw(hnp.arrays(np.bool_, (n, m)))
    return scores, draw(st.integers(1, m + 3)), excluded


@pytest.mark.parametrize("block_bytes", [1, 100, 2**25])
@given(problem=problems())
@settings(max_examples=150, deadline=None)
def test_against_a_full_sort(block_bytes, problem):
    scores, k, excluded = problem
    before = _index._BLOCK_BYTES
    _index._BLOCK_BYTES = block_bytes
    try:
        columns, values = top_k(
            lambda block: scores[block].copy(), *scores.shape, k, sp.csr_matrix(excluded)
        )
        free, _ = top_k(lambda block: scores[block].copy(), *scores.shape, k)
    finally:
        _index._BLOCK_BYTES = before
    expected_columns, expected_values = brute_force(scores, k, excluded)
    assert columns.tolist() == expected_columns
    assert values.tolist() == expected_values
    assert free.tolist() == brute_force(scores, k, np.zeros_like(excluded))[0]
    assert columns.dtype == np.int64
    assert values.dtype == np.float32


def test_all_equal_scores_are_in_order():
    columns, _ = top_k(lambda block: np.zeros((3, 100), np.float32)[block], 3, 100, 7)
    assert columns.tolist() == [list(range(7))] * 3


def test_more_than_there_are():
    columns, scores = top_k(lambda block: np.array([[1, 3, 2]], np.float32), 1, 3, 5)
    assert columns.tolist() == [[1, 2, 0, -1, -1]]
    assert scores.tolist() == [[3, 2, 1, -np.inf, -np.inf]]


def test_no_candidates_and_no_queries():
    def never(block):
        raise AssertionError("there is nothing to score")

    columns, scores = top_k(never, 2, 0, 3)
    assert columns.tolist() == [[-1] * 3] * 2
    assert (scores == -np.inf).all()
    columns, scores = top_k(never, 0, 5, 3)
    assert columns.shape == scores.shape == (0, 3)


def test_everything_excluded():
    columns, scores = top_k(
        lambda block: np.ones((2, 4), np.float32)[block],
        2,
        4,
        2,
        sp.csr_matrix(np.ones((2, 4))),
    )
    assert (columns == -1).all()
    assert (scores == -np.inf).all()


def test_all_blocks_are_asked_for_once(monkeypatch):
    monkeypatch.setattr(_index, "_BLOCK_BYTES", 4 * 5 * 3)  # three queries a block
    asked = []

    def score(block):
        asked.append((block.start, block.stop))
        return np.zeros((block.stop - block.start, 5), np.float32)

    top_k(score, 8, 5, 2)
    assert asked == [(0, 3), (3, 6), (6, 8)]


def test_negative_scores_with_exclusions_at_the_cut():
    """Fewer eligible candidates than k, next to many ties."""
    scores = np.array([[-5, -5, -5, -5, -5, -1]], np.float32)
    hidden = sp.csr_matrix(np.array([[1, 0, 1, 1, 0, 0]]))
    columns, values = top_k(lambda block: scores[block].copy(), 1, 6, 4, hidden)
    assert columns.tolist() == [[5, 1, 4, -1]]
    assert values.tolist() == [[-1, -5, -5, -np.inf]]


def test_against_numpy_on_a_larger_problem():
    rng = np.random.RandomState(0)
    scores = rng.randint(0, 300, (50, 1000)).astype(np.float32)
    columns, values = top_k(lambda block: scores[block].copy(), 50, 1000, 20)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    assert (columns == expected).all()
    assert (values == np.take_along_axis(scores, expected, axis=1)).all()


def test_scores_of_double_precision_decide_in_double_precision():
    scores = np.array([[1.0, 1.0 + 1e-12, 0.5]])
    columns, _ = top_k(lambda block: scores[block].copy(), 1, 3, 1)
    assert columns.tolist() == [[1]]
