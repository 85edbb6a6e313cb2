"""Tables whose rows are divided among ranks are trained like whole ones."""

import pytest
import torch
from torch import nn

from sktwotower._nn import lazy_tables
from sktwotower._nn.divided_tables import DividedTables
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import MOMENTS, make_optimizer
from sktwotower._nn.resize import remember, rows_stay
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from tests._nn.thread_ranks import on_ranks

N_USERS, N_ITEMS, N_STEPS = 11, 8, 6


def rows_of(n):
    """Rows of ids alone."""
    return EntityRows(
        torch.arange(n),
        n,
        torch.zeros(n, 1, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0),
        (),
    )


def make_towers(ranks=None, *, id_dropout=0.0):
    generator = torch.Generator().manual_seed(0)
    shards = [None if ranks is None else ranks.shard, None]
    user, item = (
        Tower(
            rows_of(n),
            embedding_dim=3,
            hidden_layer_sizes=None,
            activation="relu",
            batch_norm=False,
            dropout=0.0,
            normalize=False,
            id_dropout=id_dropout,
            generator=generator,
            shard=shard,
        )
        for n, shard in zip((N_USERS, N_ITEMS), shards, strict=True)
    )
    return TwoTowers(user, item, 1.0, learned=False)


def optimizer_of(towers, name, weight_decay):
    return make_optimizer(
        name,
        towers.embedding_tables(),
        towers.parameters(),
        learning_rate=0.1,
        weight_decay=weight_decay,
        epsilon=1e-8,
    )


def drawn(step, rank, size):
    """The users of a rank and any items, and what their vectors are multiplied by."""
    generator = torch.Generator().manual_seed(100 * step + rank)
    users = torch.randint(1, N_USERS, (4,), generator=generator)
    users = users[users % size == rank]
    items = torch.randint(1, N_ITEMS, (rank + step % 3,), generator=generator)
    factors = [torch.randn(len(codes), 3, generator=generator) for codes in (users, items)]
    return (users, items), factors


def loss_of(towers, inputs, factors):
    """Some loss; inputs may have looked-up vectors."""
    value = torch.zeros(())
    for tower, one, factor in zip(towers, inputs, factors, strict=True):
        value = value + (tower(one) * factor).square().sum()
    return value


def whole(name, weight_decay, size, stay=None, max_norm=None):
    """Trained by one process, whose loss is the sum of the ranks'."""
    towers = make_towers()
    sides = towers.user_tower, towers.item_tower
    optimizer = optimizer_of(towers, name, weight_decay)
    tables = lazy_tables.LazyTables((), optimizer, name, batch_size=1)
    frozen = {} if stay is None else {towers.item_tower.id_table: stay}
    with rows_stay(optimizer, tables, frozen):
        for step in range(N_STEPS):
            optimizer.zero_grad()
            for rank in range(size):
                codes, factors = drawn(step, rank, size)
                inputs = [rows_of(99).take(one) for one in codes]
                loss_of(sides, inputs, factors).backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(towers.parameters(), max_norm)
            optimizer.step()
    towers.user_tower.set_unknown_id()
    state = [optimizer.state[side.id_table] for side in sides]
    return [side.id_table for side in sides], state


def divided(ranks, name, weight_decay, *, is_lazy, stay=None, max_norm=None):
    """Trained by a rank; the whole tables."""
    towers = make_towers(ranks)
    sides = towers.user_tower, towers.item_tower
    optimizer = optimizer_of(towers, name, weight_decay)
    tables = DividedTables(
        towers,
        N_USERS,
        optimizer,
        name,
        batch_size=0 if is_lazy else 1,
        ranks=ranks,
        has_private_items=True,
        is_spread=False,
    )
    by_side = [tables.by_table[side.id_table] for side in sides]
    assert [one.is_exchanged for one in by_side] == [False, True]
    frozen = {} if stay is None else {towers.item_tower.id_table: stay}
    with rows_stay(optimizer, tables, frozen):
        for step in range(N_STEPS):
            optimizer.zero_grad()
            codes, factors = drawn(step, ranks.rank, ranks.size)
            inputs = {
                side: [rows_of(99).take(one)]
                for side, one in zip(sides, codes, strict=True)
            }
            found = [inputs[0] for inputs in tables.look_up(inputs).values()]
            # Gradients are averaged.
            (ranks.size * loss_of(sides, found, factors)).backward()
            tables.send_gradients()
            tables.receive_gradients()
            if max_norm is not None:
                tables.clip_gradients(towers.parameters(), max_norm)
            optimizer.step()
            tables.step()
        tables.settle()
    n_own = [len(range(ranks.rank, n, ranks.size)) for n in (N_USERS, N_ITEMS)]
    n_own[0] += ranks.rank > 0  # the unknown user comes first
    assert [len(side.id_table) for side in sides] == n_own
    memory = tables.complete(remember(optimizer, towers))
    tables.gather(towers)
    state = [memory.get(f"{side}_tower.id_table") for side in ("user", "item")]
    return [side.id_table for side in sides], state


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "name, weight_decay", [("adamw", 0.2), ("adam", 0.0), ("adagrad", 0.0), ("sgd", 0.1)]
)
def test_tables_and_moments_are_those_of_one_process(name, weight_decay, size, is_lazy):
    tables, state = whole(name, weight_decay, size)
    results = on_ranks(size, lambda one: divided(one, name, weight_decay, is_lazy=is_lazy))
    for found, found_state in results:
        for side in (0, 1):
            # Lazily, epsilon shrinks with the moments.
            torch.testing.assert_close(found[side], tables[side], rtol=1e-3, atol=1e-4)
            for moment in MOMENTS[name]:
                torch.testing.assert_close(
                    found_state[side][moment], state[side][moment], rtol=1e-4, atol=1e-6
                )


def test_an_l2_penalty():
    tables, _ = whole("adam", 0.3, 2)
    for found, _ in on_ranks(2, lambda one: divided(one, "adam", 0.3, is_lazy=True)):
        for side in (0, 1):
            torch.testing.assert_close(found[side], tables[side], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_clipping_takes_the_norm_over_all_ranks(is_lazy):
    tables, _ = whole("sgd", 0.0, 2, max_norm=0.3)
    results = on_ranks(2, lambda o: divided(o, "sgd", 0.0, is_lazy=is_lazy, max_norm=0.3))
    for found, _ in results:
        for side in (0, 1):
            torch.testing.assert_close(found[side], tables[side], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_frozen_rows_stay(is_lazy):
    stay = torch.arange(N_ITEMS) % 3 == 0
    tables, state = whole("adamw", 0.2, 2, stay=stay)
    before = make_towers().item_tower.id_table
    results = on_ranks(2, lambda o: divided(o, "adamw", 0.2, is_lazy=is_lazy, stay=stay))
    for found, found_state in results:
        assert torch.equal(found[1][stay], before[stay])
        torch.testing.assert_close(found[1], tables[1], rtol=1e-3, atol=1e-4)
        for moment in MOMENTS["adamw"]:
            torch.testing.assert_close(
                found_state[1][moment][~stay], state[1][moment][~stay], rtol=1e-4, atol=1e-6
            )


def test_rows_of_others_are_looked_up_where_ids_are_dropped():
    """The unknown id, row 0, is then trained by all ranks."""

    def call(ranks):
        towers = make_towers(ranks, id_dropout=0.5)
        tables = DividedTables(
            towers,
            N_USERS,
            optimizer_of(towers, "sgd", 0.0),
            "sgd",
            batch_size=1,
            ranks=ranks,
            has_private_items=False,
            is_spread=False,
        )
        return [divided.is_exchanged for divided in tables.by_table.values()]

    assert on_ranks(2, call) == [[True, True]] * 2
