"""Who is drawn and how often: by brute force and by chi-square."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.known_pairs import ExplicitNegatives
from sktwotower._nn.negatives import ItemSampler, UnconsumedSampler
from tests._nn.helpers import fits, seeded

seeds = st.integers(0, 2**31)


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
        "explicit": ExplicitNegatives(users, items, None, 3),
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
