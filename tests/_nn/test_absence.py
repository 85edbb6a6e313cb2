"""The probability to be in a batch: enumerated, in fractions, and against scipy."""

import math
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from sktwotower._nn.absence import (
    in_batch_log_absence,
    log_presence,
    user_batch_log_absence,
)


def exact_absence(n, n_rows, batch_size):
    """In integers, from the definition."""
    return Fraction(math.comb(n_rows - n, batch_size), math.comb(n_rows, batch_size))


def test_all_batches_enumerated():
    items = np.array([0, 0, 0, 1, 1, 2, 4])  # item 3 has no row
    for batch_size in range(1, 8):
        batches = list(combinations(items, batch_size))
        frequency = [np.mean([item in batch for batch in batches]) for item in range(5)]
        log_absence = in_batch_log_absence(torch.tensor([3, 2, 1, 0, 1]), batch_size)
        np.testing.assert_allclose(log_presence(log_absence).exp(), frequency, rtol=1e-6)


def test_all_batches_beside_a_row_enumerated():
    items = np.array([0, 0, 0, 1, 1, 2, 4])
    counts = torch.tensor([3, 2, 1, 0, 1])
    for batch_size in range(1, 8):
        log_absence = in_batch_log_absence(counts, batch_size, beside_a_row=True)
        q = log_presence(log_absence).exp()
        for row, own in enumerate(items):
            others = list(combinations(np.delete(items, row), batch_size - 1))
            for item in set(range(5)) - {own}:
                frequency = np.mean([item in batch for batch in others])
                assert q[item].item() == pytest.approx(frequency, rel=1e-6)


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=20).filter(lambda n: sum(n) > 1),
    st.booleans(),
    st.data(),
)
@settings(max_examples=120, deadline=None)
def test_against_scipy_and_binomials(counts, beside_a_row, data):
    n_rows = sum(counts)
    batch_size = data.draw(st.integers(1, n_rows))
    log_absence = in_batch_log_absence(
        torch.tensor(counts), batch_size, beside_a_row=beside_a_row
    )
    assert log_absence.dtype == torch.float64
    n_others, n_draws = n_rows - beside_a_row, batch_size - beside_a_row
    possible = [n for n in counts if n <= n_others]  # the row is of another item
    found = log_absence[[n <= n_others for n in counts]]
    exact = [exact_absence(n, n_others, n_draws) for n in possible]
    for log_p, p in zip(found.tolist(), exact, strict=True):
        assert math.exp(log_p) == pytest.approx(float(p), rel=1e-10, abs=1e-15)
        assert -math.expm1(log_p) == pytest.approx(float(1 - p), rel=1e-10)
    by_scipy = hypergeom.pmf(0, n_others, np.array(possible), n_draws)
    np.testing.assert_allclose(found.exp(), by_scipy, rtol=1e-8, atol=1e-12)
    log_q = log_presence(found)
    assert log_q.dtype == torch.float32
    np.testing.assert_allclose(log_q.exp(), [float(1 - p) for p in exact], rtol=1e-5)


def test_a_batch_of_all_rows_misses_nothing():
    misses = {
        n: in_batch_log_absence(torch.tensor([1, n - 1]), n).tolist() for n in range(2, 200)
    }
    assert {n: log_p for n, log_p in misses.items() if log_p != [-math.inf] * 2} == {}


def test_extremes():
    counts = torch.tensor([5, 0, 1, 4])
    whole = in_batch_log_absence(counts, 10)  # b = N: everything that has a row is there
    assert whole.tolist() == [-math.inf, 0.0, -math.inf, -math.inf]
    assert log_presence(whole).tolist() == [0.0, -math.inf, 0.0, 0.0]
    one = in_batch_log_absence(counts, 1)  # b = 1: the frequency
    np.testing.assert_allclose(log_presence(one).exp(), [0.5, 0.0, 0.1, 0.4], rtol=1e-6)
    # Six rows of others: a batch of seven cannot miss the item with four.
    assert in_batch_log_absence(counts, 7)[3] == -math.inf
    assert in_batch_log_absence(counts, 6)[3] > -math.inf
    assert log_presence(in_batch_log_absence(torch.tensor([1]), 1)).tolist() == [0.0]
    # Beside a row there is nothing in a batch of one, and one more in a batch of two.
    alone = in_batch_log_absence(counts, 1, beside_a_row=True)
    assert log_presence(alone).tolist() == [-math.inf] * 4
    two = log_presence(in_batch_log_absence(counts, 2, beside_a_row=True))
    np.testing.assert_allclose(two.exp(), [5 / 9, 0, 1 / 9, 4 / 9], rtol=1e-6)


def test_result_is_float32_and_monotone():
    counts = torch.arange(1, 200)
    log_q = log_presence(in_batch_log_absence(counts, 64))
    assert log_q.dtype == torch.float32
    assert (log_q.diff() > 0).all()
    assert (log_q <= 0).all()


@pytest.mark.parametrize("beside_a_row", [False, True])
@pytest.mark.parametrize("batch_size", [2, 64, 8192, 1_000_000])
@pytest.mark.parametrize("n_rows", [10_000_000, 100_000_000])
def test_accurate_for_many_rows(n_rows, batch_size, beside_a_row):
    """A small q keeps its digits: of order 1e-8, where lgamma(N) is of order 1e9."""
    some = [1, 2, 3, 10, 1000]
    rest = torch.full((100,), (n_rows - sum(some)) // 100)  # of many others
    rest[0] += n_rows - sum(some) - int(rest.sum())
    counts = torch.cat([torch.tensor(some), rest])
    log_absence = in_batch_log_absence(counts, batch_size, beside_a_row=beside_a_row)
    n_others, n_draws = n_rows - beside_a_row, batch_size - beside_a_row
    log_q = log_presence(log_absence)
    for place, n in enumerate(some):
        absence = Fraction(1)
        for k in range(n):
            absence *= 1 - Fraction(n_draws, n_others - k)
        q = -math.expm1(log_absence[place].item())
        assert q == pytest.approx(float(1 - absence), rel=1e-9)
        assert log_q[place].item() == pytest.approx(math.log(1 - absence), abs=2e-6)
    if batch_size <= 8192:  # 1 - (1 - p)^b where b << N
        approximation = n_draws * torch.log1p(-counts.double() / n_rows)
        torch.testing.assert_close(log_absence, approximation, rtol=1e-3, atol=1e-12)


# The probability to be a positive of a batch of users


def exact_user_absence(n, n_users, size, share):
    """In fractions, from the definition."""
    share = Fraction(share)
    terms = (
        math.comb(n, k) * math.comb(n_users - n, size - k) * (1 - share) ** k
        for k in range(size + 1)
    )
    return sum(terms) / math.comb(n_users, size)


def test_all_batches_of_users_enumerated():
    """And all ways in which the users of an item have it in the history or not."""
    counts, n_users, share = [0, 1, 3, 5], 5, 0.3
    for size in range(1, 6):
        q = log_presence(user_batch_log_absence(torch.tensor(counts), n_users, size, share))
        for count, found in zip(counts, q.exp().tolist(), strict=True):
            expected = 0.0
            for positive in product([False, True], repeat=count):
                likelihood = math.prod(share if one else 1 - share for one in positive)
                batches = list(combinations(range(n_users), size))
                n_with = sum(any(positive[u] for u in b if u < count) for b in batches)
                expected += likelihood * n_with / len(batches)
            assert found == pytest.approx(expected, rel=1e-6)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=10),
    st.integers(1, 40),
    st.floats(0.01, 0.99),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_user_batches_in_fractions(counts, size, share, beside_a_user):
    """Beside a user without the item, the batch is one of the other users."""
    log_absence = user_batch_log_absence(
        torch.tensor(counts), 40, size, share, beside_a_user=beside_a_user
    )
    assert log_absence.dtype == torch.float64
    for n, log_p in zip(counts, log_absence.tolist(), strict=True):
        if n <= 40 - beside_a_user:
            p = exact_user_absence(n, 40 - beside_a_user, size - beside_a_user, share)
            assert -math.expm1(log_p) == pytest.approx(float(1 - p), rel=1e-10)


def test_extremes_of_user_batches():
    counts = torch.tensor([0, 1, 4, 9, 10])
    # A batch of all users: each has the item as a positive with probability r.
    everyone = user_batch_log_absence(counts, 10, 10, 0.25)
    torch.testing.assert_close(everyone, counts.double() * math.log(0.75))
    alone = user_batch_log_absence(counts, 10, 1, 0.25)
    torch.testing.assert_close(-torch.expm1(alone), counts.double() / 40)
    # Next to nothing is in a history: an item is absent if all of its users are.
    by_scipy = hypergeom.pmf(0, 10, counts.numpy(), 3)
    found = user_batch_log_absence(counts, 10, 3, 1 - 1e-12).exp()
    np.testing.assert_allclose(found, by_scipy, atol=1e-9)
    only = user_batch_log_absence(torch.tensor([0, 1]), 1, 1, 0.5, beside_a_user=True)
    assert only.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n_users", [10_000, 10_000_000])
def test_user_batches_of_many_users(n_users):
    """A small q keeps its digits, and is 1 - (1 - r B / N)^n for B << N."""
    counts, size = torch.tensor([1, 2, 3, 10, 2000]), 100
    q = -torch.expm1(user_batch_log_absence(counts, n_users, size, 0.5))
    for n, found in zip(counts.tolist(), q.tolist(), strict=True):
        expected = 1 - exact_user_absence(n, n_users, size, 0.5)
        assert found == pytest.approx(float(expected), rel=1e-6)
    binomial = -torch.expm1(counts.double() * math.log1p(-0.5 * size / n_users))
    torch.testing.assert_close(q, binomial, rtol=5e-3, atol=0)


def test_presence_after_two_ways_of_coming_in():
    """Absences multiply: in a batch, or among m draws."""
    in_batch, drawn, m = 0.3, 0.01, 7
    log_absence = torch.tensor(
        [math.log(1 - in_batch) + m * math.log1p(-drawn)], dtype=torch.float64
    )
    expected = 1 - (1 - in_batch) * (1 - drawn) ** m
    assert log_presence(log_absence).exp().item() == pytest.approx(expected, rel=1e-6)


def test_counts_are_not_changed():
    counts = torch.tensor([3, 2, 1])
    in_batch_log_absence(counts, 2, beside_a_row=True)
    assert counts.tolist() == [3, 2, 1]
