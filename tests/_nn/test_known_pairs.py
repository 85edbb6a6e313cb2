"""Known positives against sets of pairs, and explicit negatives by chi-square."""

from unittest import mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn import known_pairs
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from tests._nn.helpers import fits, seeded

seeds = st.integers(0, 2**31)


def pairs_of(users, items):
    return set(zip(users.tolist(), items.tolist(), strict=True))


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
