"""Which fields two views hide, and the contrast between them in plain Python."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import (
    SelfSupervision,
    correlated_masks,
    random_masks,
)
from sktwotower._nn.towers import Tower
from tests._nn.helpers import seeded

CPU = torch.device("cpu")
N_ITEMS = 12
ITEMS = torch.tensor([1, 2, 3, 5, 6, 8, 9, 11])  # those that are drawn


def drawn(draw_masks, n, seed=0):
    generator = seeded(seed)
    return [tuple(tuple(mask.tolist()) for mask in draw_masks(generator)) for _ in range(n)]


# Masks


@given(st.integers(2, 9), st.booleans(), st.integers(0, 2**31))
def test_half_of_the_fields_is_hidden(n_fields, complementary, seed):
    draw_masks = random_masks(n_fields, complementary=complementary)
    first, second = draw_masks(seeded(seed))
    assert first.dtype == second.dtype == torch.bool
    assert int(first.sum()) == n_fields // 2
    if complementary:
        assert torch.equal(second, ~first)
    else:
        assert int(second.sum()) == n_fields // 2


@pytest.mark.parametrize("complementary", [False, True])
def test_random_masks_are_uniform(complementary):
    masks = drawn(random_masks(4, complementary=complementary), 3000)
    halves = sorted({mask for pair in masks for mask in pair})
    assert len(halves) == 6  # of 4 fields choose 2
    pairs = [(halves.index(first), halves.index(second)) for first, second in masks]
    counts = [pairs.count((i, j)) for i in range(6) for j in range(6)]
    if complementary:
        counts = [count for count in counts if count]
        assert len(counts) == 6
    # independent of each other, too
    assert chisquare(counts).pvalue > 0.001


def test_correlated_masks_by_hand():
    dependence = torch.tensor(
        [
            [1.0, 0.2, 0.7, 0.1],  # of field 0 most in 2
            [0.2, 1.0, 0.3, 0.9],  # of field 1 most in 3
            [0.7, 0.3, 1.0, 0.4],  # of field 2 most in 0
            [0.1, 0.9, 0.4, 1.0],  # of field 3 most in 1
        ]
    )
    masks = drawn(correlated_masks(dependence), 2000)
    one, other = (True, False, True, False), (False, True, False, True)
    assert set(masks) == {(one, other), (other, one)}
    # seeds 0 and 2 give the first, 1 and 3 the second: even odds
    assert chisquare([masks.count((one, other)), masks.count((other, one))]).pvalue > 0.001
    assert dependence[0, 0] == 1  # it is not changed


def test_correlated_masks_of_a_chain():
    """Seeds with different groups, and an odd number of fields: 5 // 2 are hidden."""
    dependence = torch.tensor(
        [
            [1.0, 0.8, 0.1, 0.0, 0.0],
            [0.8, 1.0, 0.7, 0.1, 0.0],
            [0.1, 0.7, 1.0, 0.6, 0.2],
            [0.0, 0.1, 0.6, 1.0, 0.9],
            [0.0, 0.0, 0.2, 0.9, 1.0],
        ]
    )
    masks = drawn(correlated_masks(dependence), 2000)
    for first, second in masks:
        assert second == tuple(not hidden for hidden in first)
    hidden = [{field for field in range(5) if first[field]} for first, _ in masks]
    # seeds 0 and 1, seed 2, seeds 3 and 4
    counts = [hidden.count(group) for group in ({0, 1}, {1, 2}, {3, 4})]
    assert sum(counts) == 2000
    assert chisquare(counts, [800, 400, 800]).pvalue > 0.001


def test_the_seed_field_is_hidden_even_if_another_is_as_dependent():
    """Two equal fields, of which the first would win by its place."""
    masks = drawn(correlated_masks(torch.ones(3, 3)), 300)
    assert {first for first, _ in masks} == {
        (True, False, False),
        (False, True, False),
        (False, False, True),
    }


# The loss


def item_rows(*, with_id=True):
    """An id, a category and a number."""
    n = torch.arange(N_ITEMS)
    return EntityRows(
        id_codes=n if with_id else None,
        n_ids=N_ITEMS if with_id else 0,
        pointers=torch.stack([2 * n, 2 * n + 1, 2 * n + 2], dim=1),
        columns=torch.stack([n % 4, torch.full_like(n, 4)], dim=1).flatten(),
        values=torch.stack([torch.ones(N_ITEMS), n / 10 - 0.5], dim=1).flatten(),
        field_widths=(4, 1),
    )


def make_tower(rows, **options):
    defaults = dict(
        embedding_dim=4,
        hidden_layer_sizes=(6,),
        activation="tanh",
        batch_norm=False,
        dropout=0.0,
        normalize=True,
        generator=seeded(5),
    )
    return Tower(rows, **defaults | options)


def fixed_masks(generator):
    """The id and the number in one view, the category in the other."""
    return torch.tensor([True, False, True]), torch.tensor([False, True, False])


def self_supervision(rows, *, n_draws=6, draw_masks=fixed_masks, weight=0.3):
    return SelfSupervision(
        rows, ITEMS, n_draws=n_draws, draw_masks=draw_masks, weight=weight
    )


def loss_of(loss, tower, temperature, generators):
    return loss(tower, loss.draw(generators.host), temperature, generators.items)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_in_plain_python(temperature, seed):
    rows = item_rows()
    tower = make_tower(rows)
    loss = loss_of(self_supervision(rows), tower, temperature, Generators.seeded(seed, CPU))
    positions = torch.randint(len(ITEMS), (6,), generator=seeded(seed))
    items = ITEMS[sorted(set(positions.tolist()))]

    # the views as inputs without what they hide
    n = len(items)
    categories, numbers = tower.column_table[items % 4], tower.column_table[4:5]
    nothing, unknown = torch.zeros(n, 4), tower.id_table[0].expand(n, -1)
    first = torch.cat([unknown, categories, nothing], dim=1)
    values = (items / 10 - 0.5)[:, None]
    second = torch.cat([tower.id_table[items], nothing, values * numbers], dim=1)
    z, other = (
        torch.nn.functional.normalize(tower.mlp(view), dim=1).tolist()
        for view in (first, second)
    )
    expected = 0.0
    for i in range(n):
        similar = [
            math.exp(sum(a * b for a, b in zip(z[i], vector, strict=True)) / temperature)
            for vector in other
        ]
        expected -= math.log(similar[i] / sum(similar)) / n
    assert loss.shape == ()
    assert loss.item() == pytest.approx(0.3 * expected, rel=1e-5)


def test_weight_scales_the_loss():
    rows = item_rows()
    tower = make_tower(rows)
    one, two, none = (
        loss_of(
            self_supervision(rows, weight=weight), tower, 0.2, Generators.seeded(0, CPU)
        )
        for weight in (1.0, 2.0, 0.0)
    )
    assert two.item() == pytest.approx(2 * one.item())
    assert one.item() > 0
    assert none.item() == 0


def test_the_unknown_id_is_trained():
    """Where the id is hidden; the drawn items' own where it is not, and nobody else's."""
    rows = item_rows()
    tower = make_tower(rows)
    loss_of(self_supervision(rows), tower, 0.2, Generators.seeded(0, CPU)).backward()
    positions = torch.randint(len(ITEMS), (6,), generator=seeded(0))
    touched = {0, *ITEMS[positions].tolist()}
    nonzero = tower.id_table.grad.abs().sum(1) > 0
    assert set(nonzero.nonzero()[:, 0].tolist()) == touched


def test_a_temperature_has_a_gradient():
    rows = item_rows()
    temperature = torch.tensor(0.2, requires_grad=True)
    loss = loss_of(
        self_supervision(rows), make_tower(rows), temperature, Generators.seeded(0, CPU)
    )
    loss.backward()
    assert temperature.grad.item() != 0


def test_without_ids():
    rows = item_rows(with_id=False)

    def masks(generator):
        return torch.tensor([True, False]), torch.tensor([False, True])

    loss = loss_of(
        self_supervision(rows, draw_masks=masks),
        make_tower(rows),
        0.2,
        Generators.seeded(0, CPU),
    )
    assert torch.isfinite(loss)


def test_views_with_equal_masks_are_equal():
    """Then an item is next to itself: with a low temperature there is no loss left."""
    rows = item_rows()

    def nothing(generator):
        return torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)

    loss = loss_of(
        self_supervision(rows, draw_masks=nothing),
        make_tower(rows),
        1e-4,
        Generators.seeded(0, CPU),
    )
    assert loss.item() == pytest.approx(0, abs=0.01)


def test_items_are_drawn_from_the_catalogue():
    seen = []

    class Watched(EntityRows):
        def take(self, rows):
            seen.append(rows.tolist())
            return super().take(rows)

    rows = item_rows()
    watched = Watched(**vars(rows))
    tower, loss = make_tower(rows), self_supervision(watched, n_draws=5)
    generators = Generators.seeded(0, CPU)
    for _ in range(300):
        loss_of(loss, tower, 0.2, generators)
    assert all(row == sorted(set(row)) and len(row) <= 5 for row in seen)
    counts = [sum(item in row for row in seen) for item in ITEMS.tolist()]
    assert sum(counts) == sum(map(len, seen))  # nobody else
    # an item is among 5 draws of 8 with probability 1 - (7/8)^5
    q = 1 - (7 / 8) ** 5
    deviation = math.sqrt(300 * q * (1 - q))
    assert all(abs(count - 300 * q) < 4.5 * deviation for count in counts)


def test_the_generator_decides():
    rows = item_rows()
    tower = make_tower(rows, dropout=0.3)
    loss = self_supervision(rows, draw_masks=random_masks(3, complementary=False))

    def run(seed):
        generators = Generators.seeded(seed, CPU)
        return [loss_of(loss, tower, 0.2, generators).item() for _ in range(3)]

    before = torch.get_rng_state()
    assert run(0) == run(0)
    assert run(0) != run(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_makes_the_views_alike():
    """Number and category say the same: one tells which item the other belongs to."""
    n = torch.arange(8)
    rows = EntityRows(
        id_codes=None,
        n_ids=0,
        pointers=torch.stack([2 * n, 2 * n + 1, 2 * n + 2], dim=1),
        columns=torch.stack([n, 8 + n], dim=1).flatten(),
        values=torch.ones(16),
        field_widths=(8, 8),
    )
    tower = make_tower(rows, embedding_dim=8, hidden_layer_sizes=())
    loss = SelfSupervision(
        rows,
        n,
        n_draws=20,
        draw_masks=random_masks(2, complementary=True),
        weight=1.0,
    )
    optimizer = torch.optim.Adam(tower.parameters(), lr=0.05)
    generators = Generators.seeded(0, CPU)
    for _ in range(100):
        optimizer.zero_grad()
        loss_of(loss, tower, 0.2, generators).backward()
        optimizer.step()
    with torch.no_grad():
        batch = rows.take(n)
        first, second = (
            tower(batch, mask=torch.tensor(mask)) for mask in ([True, False], [False, True])
        )
    assert (first @ second.T).argmax(1).tolist() == n.tolist()
