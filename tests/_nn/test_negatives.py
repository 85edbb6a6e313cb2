"""Who is drawn and how often: by brute force, by chi-square, and in exact numbers."""

import math
from fractions import Fraction
from itertools import combinations, product
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, hypergeom

from sktwotower._nn import known_pairs
from sktwotower._nn.absence import (
    in_batch_log_absence,
    log_presence,
    user_batch_log_absence,
)
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from sktwotower._nn.negatives import ItemSampler, UnconsumedSampler
from tests._nn.helpers import seeded

seeds = st.integers(0, 2**31)


def pairs_of(users, items):
    return set(zip(users.tolist(), items.tolist(), strict=True))


def fits(draws, probabilities):
    """Whether draws 0, 1, ... could be from these probabilities, p > 0.001."""
    probabilities = np.asarray(probabilities, dtype=float)
    counts = np.bincount(np.asarray(draws).ravel(), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    possible = probabilities > 0
    assert (counts[~possible] == 0).all()
    expected = counts.sum() * probabilities[possible]
    assert expected.min() > 20  # the test is approximate
    if len(expected) == 1:
        return True
    return chisquare(counts[possible], expected).pvalue > 0.001


# Known positives


@st.composite
def positives(draw, n_users=6, n_items=12):
    generator = seeded(draw(seeds))
    n_rows = draw(st.integers(1, 60))
    dtype = draw(st.sampled_from([torch.int32, torch.int64]))
    users = torch.randint(0, draw(st.integers(1, n_users)), (n_rows,), generator=generator)
    items = torch.randint(0, n_items, (n_rows,), generator=generator)
    return users.to(dtype), items.to(dtype)


@given(positives())
@settings(max_examples=80, deadline=None)
def test_contain(rows):
    """Items and users beyond the known ones, too."""
    users, items = torch.meshgrid(torch.arange(10), torch.arange(30), indexing="ij")
    found = KnownPositives(*rows).contain(users, items)
    known = pairs_of(*rows)
    expected = [[(user, item) in known for item in range(30)] for user in range(10)]
    assert found.tolist() == expected


def test_contain_broadcasts():
    known = KnownPositives(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 1]))
    users = torch.tensor([0, 1, 2])
    assert known.contain(users[:, None], torch.tensor([1, 3])).tolist() == [
        [True, True],
        [False, False],
        [True, False],
    ]
    assert known.contain(users, torch.tensor([3, 3, 3])).tolist() == [True, False, False]


@given(positives(), st.data())
@settings(max_examples=120, deadline=None)
def test_among(rows, data):
    """Lists of candidates longer and shorter than the histories, and any order of users.

    Pairs are looked up or lists are gone through, all at once or some at a time.
    """
    ways = {"ITEMS_FOR_A_PAIR": [0, 4, 100], "LISTED_AT_ONCE": [1, 5, 2**16]}
    drawn = {name: data.draw(st.sampled_from(values)) for name, values in ways.items()}
    with mock.patch.multiple(known_pairs, **drawn):
        check_among(rows, data)


def check_among(rows, data):
    n_users = int(rows[0].max()) + 1
    users = data.draw(st.lists(st.integers(0, n_users - 1), min_size=1, max_size=8))
    candidates = data.draw(
        st.lists(st.integers(0, int(rows[1].max())), min_size=1, max_size=20, unique=True)
    )
    found = KnownPositives(*rows).among(
        torch.tensor(users), torch.tensor(candidates, dtype=rows[1].dtype)
    )
    known = pairs_of(*rows)
    expected = [
        row * len(candidates) + column
        for row, user in enumerate(users)
        for column, item in enumerate(candidates)
        if (user, item) in known
    ]
    assert sorted(found.tolist()) == expected
    assert found.dtype == torch.int64


def test_users_without_a_positive_have_none():
    known = KnownPositives(torch.tensor([0, 3]), torch.tensor([1, 1]))
    users, candidates = torch.tensor([1, 2, 3]), torch.tensor([0, 1])
    assert known.among(users, candidates).tolist() == [2 * 2 + 1]
    assert known.among(users[:0], candidates).tolist() == []
    assert not known.contain(users[:2, None], candidates).any()


# Explicit negatives

REJECTED_BY = torch.tensor([3, 1, 3, 1, 1, 3, 3, 1])
REJECTED = torch.tensor([7, 0, 4, 2, 5, 7, 6, 9])


def explicit_negatives(weights=None, n_users=6):
    return ExplicitNegatives(REJECTED_BY, REJECTED, weights, n_users)


def test_explicit_negatives_are_the_users_own():
    users = torch.tensor([0, 1, 2, 3, 4, 5] * 200)
    items, totals, counts = explicit_negatives().draw(users, seeded())
    assert counts.tolist() == [0, 4, 0, 4, 0, 0] * 200
    assert totals.tolist() == [0, 4, 0, 4, 0, 0] * 200
    assert totals.dtype == torch.float32
    drawn = pairs_of(users, items)
    assert {pair for pair in drawn if pair[0] in (1, 3)} == pairs_of(REJECTED_BY, REJECTED)
    assert items.shape == users.shape


def test_explicit_negatives_are_uniform_over_rows():
    for user, probabilities in (
        (1, {0: 1 / 4, 2: 1 / 4, 5: 1 / 4, 9: 1 / 4}),
        (3, {7: 1 / 2, 4: 1 / 4, 6: 1 / 4}),  # item 7 has two rows
    ):
        items, _, _ = explicit_negatives().draw(torch.full((8000,), user), seeded(1))
        assert fits(items, [probabilities.get(item, 0) for item in range(10)])


def test_explicit_negatives_in_proportion_to_weights():
    weights = torch.tensor([1.0, 5.0, 2.0, 1.0, 3.0, 0.5, 4.5, 1.0])
    for user, total, probabilities in (
        (1, 10, {0: 5 / 10, 2: 1 / 10, 5: 3 / 10, 9: 1 / 10}),
        (3, 8, {7: 1.5 / 8, 4: 2 / 8, 6: 4.5 / 8}),
    ):
        negatives = explicit_negatives(weights)
        items, totals, counts = negatives.draw(torch.full((8000,), user), seeded(2))
        assert fits(items, [probabilities.get(item, 0) for item in range(10)])
        assert totals.unique().tolist() == [total]
        assert counts.unique().tolist() == [4]  # rows, whatever they weigh


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_explicit_negatives_at_random(seed):
    """Weights of very different size: rounding leads to nobody else's row."""
    generator = seeded(seed)
    n_rows, n_users = 40, 8
    users = torch.randint(0, n_users, (n_rows,), generator=generator, dtype=torch.int32)
    items = torch.randint(0, 20, (n_rows,), generator=generator, dtype=torch.int32)
    weights = 10 ** (12 * torch.rand(n_rows, generator=generator) - 6)
    negatives = ExplicitNegatives(users, items, weights, n_users)
    queries = torch.randint(0, n_users, (300,), generator=generator, dtype=torch.int32)
    drawn, totals, counts = negatives.draw(queries, generator)
    assert torch.equal(counts, torch.bincount(users, minlength=n_users)[queries])
    by_user = torch.bincount(users, weights.double(), minlength=n_users)[queries]
    torch.testing.assert_close(totals.double(), by_user, rtol=1e-5, atol=1e-8)
    some = counts > 0
    assert pairs_of(queries[some], drawn[some]) <= pairs_of(users, items)


# Samplers


def test_uniform_sampler():
    items = torch.tensor([2, 3, 7, 11])
    sampler = ItemSampler(items)
    draws = sampler.draw(torch.zeros(2000, dtype=torch.int64), 4, seeded())
    assert draws.shape == (2000, 4)
    probabilities = [0, 0, 1 / 4, 1 / 4, 0, 0, 0, 1 / 4, 0, 0, 0, 1 / 4]
    assert sampler.probabilities.tolist() == probabilities
    assert fits(draws, probabilities)


def test_popular_sampler():
    counts = np.array([0, 1, 0, 16, 81, 256])
    item_rows = torch.arange(6).repeat_interleave(torch.from_numpy(counts))
    item_rows = item_rows[torch.randperm(len(item_rows), generator=seeded(3))]
    sampler = ItemSampler.popular(*item_rows.unique(return_counts=True))
    # powers of 3/4 by hand
    by_hand = np.array([0, 1, 0, 8, 27, 64]) / 100
    np.testing.assert_allclose(sampler.probabilities, by_hand, rtol=1e-12)
    assert sampler.items.tolist() == [1, 3, 4, 5]
    assert fits(sampler.draw(torch.zeros(5000), 4, seeded(4)), by_hand)


def test_sampler_with_weights():
    weights = torch.tensor([1.0, 0.0, 3.0])  # the second is never drawn
    sampler = ItemSampler(torch.tensor([0, 1, 4]), weights)
    assert sampler.probabilities.tolist() == [0.25, 0, 0, 0, 0.75]
    assert fits(sampler.draw(torch.zeros(3000), 2, seeded()), sampler.probabilities)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one(item_rows):
    rows = torch.tensor(item_rows)
    for sampler in (
        ItemSampler.popular(*rows.unique(return_counts=True)),
        ItemSampler(rows.unique()),
    ):
        assert sampler.probabilities.dtype == torch.float64
        assert sampler.probabilities.sum().item() == pytest.approx(1, abs=1e-12)
        assert sampler.probabilities.nonzero()[:, 0].tolist() == sorted(set(item_rows))
        draws = sampler.draw(torch.zeros(5), 3, seeded())
        assert set(draws.flatten().tolist()) <= set(item_rows)


@given(seeds, st.integers(1, 12), st.integers(0, 80))
@settings(max_examples=120, deadline=None)
def test_unconsumed_is_never_a_known_positive(seed, n_items, n_rows):
    """While there is another item; some users have nothing, some have everything."""
    generator = seeded(seed)
    n_users = 7
    items = torch.randperm(40, generator=generator)[:n_items].sort().values.int()
    users = torch.randint(0, n_users - 1, (n_rows,), generator=generator, dtype=torch.int32)
    consumed = items[torch.randint(0, n_items, (n_rows,), generator=generator)]
    sampler = UnconsumedSampler(items, users, consumed, n_users)
    queries = torch.arange(n_users, dtype=torch.int32).repeat(3)
    draws = sampler.draw(queries, 50, generator)
    assert draws.shape == (len(queries), 50)
    everything = set(items.tolist())
    for user, row in zip(queries.tolist(), draws, strict=True):
        has = set(consumed[users == user].tolist())
        assert set(row.tolist()) <= (everything - has or everything)


def test_unconsumed_is_uniform_over_the_rest():
    items = torch.tensor([1, 2, 4, 5, 6, 8, 9])
    consumed = {0: [1], 1: [9, 4, 5, 9], 2: [], 3: [2, 4, 5, 6, 8, 9], 4: items.tolist()}
    users = torch.tensor([user for user, has in consumed.items() for _ in has])
    rows = torch.tensor([item for has in consumed.values() for item in has])
    sampler = UnconsumedSampler(items, users, rows, 5)
    for user, has in consumed.items():
        left = set(items.tolist()) - set(has) or set(items.tolist())
        probabilities = [(item in left) / len(left) for item in range(10)]
        draws = sampler.draw(torch.full((2500,), user), 4, seeded(user))
        assert fits(draws, probabilities), user


def test_unconsumed_of_a_large_catalogue():
    """A thousand items of a million: ranks and not positions are drawn."""
    n_items = 1_000_000
    consumed = torch.arange(0, n_items, 1000)
    sampler = UnconsumedSampler(
        torch.arange(n_items), torch.zeros(1000, dtype=torch.int64), consumed, 1
    )
    draws = sampler.draw(torch.zeros(500, dtype=torch.int64), 100, seeded())
    assert not torch.isin(draws, consumed).any()
    assert fits(draws * 20 // n_items, np.full(20, 1 / 20))


def samplers():
    users, items = torch.tensor([0, 0, 1]), torch.tensor([1, 3, 3])
    return {
        "uniform": ItemSampler(torch.arange(1, 9)),
        "popular": ItemSampler.popular(
            *torch.tensor([1, 1, 2, 3, 3, 3, 3]).unique(return_counts=True)
        ),
        "unconsumed": UnconsumedSampler(torch.arange(1, 9), users, items, 3),
        "explicit": explicit_negatives(),
    }


@pytest.mark.parametrize("name", samplers())
def test_the_generator_decides(name):
    sampler = samplers()[name]
    users = torch.tensor([0, 1, 2, 1] * 10)

    def draw(generator):
        if name == "explicit":
            return sampler.draw(users, generator)[0].tolist()
        return sampler.draw(users, 3, generator).tolist()

    before = torch.get_rng_state()
    generator = seeded()
    first, second = draw(generator), draw(generator)
    assert draw(seeded()) == first
    assert first != second
    assert draw(seeded(1)) != first
    assert torch.equal(torch.get_rng_state(), before)


# The probability to be in a batch


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
