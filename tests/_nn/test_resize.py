"""Towers and optimizers that go on with more rows; frequencies of a stream."""

import math

import numpy as np
import pytest
import torch

from sktwotower._nn.absence import StreamingFrequencies, in_batch_log_absence
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.optim import make_optimizer
from sktwotower._nn.resize import RowSource, copy_weights, recall, remember, rows_stay
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from tests._nn.helpers import only_ids


def towers_of(n_users, n_items, seed=0, dim=3):
    generator = torch.Generator().manual_seed(seed)

    def tower(n):
        return Tower(
            only_ids(n),
            embedding_dim=dim,
            hidden_layer_sizes=(),
            activation="relu",
            batch_norm=False,
            dropout=0.0,
            normalize=False,
            generator=generator,
        )

    return TwoTowers(tower(n_users), tower(n_items), 1.0, learned=False)


def optimizer_of(towers, name="adamw", weight_decay=0.1):
    return make_optimizer(
        name,
        towers.embedding_tables(),
        towers.parameters(),
        learning_rate=0.1,
        weight_decay=weight_decay,
        epsilon=1e-8,
    )


def no_tables(optimizer):
    return LazyTables((), optimizer, "adamw", batch_size=1)


def step(towers, optimizer, rows):
    """One step of a loss that looks at some users alone."""
    optimizer.zero_grad()
    towers.user_tower.id_table[rows].square().sum().backward()
    optimizer.step()


def test_appended_rows_start_from_one_of_the_old():
    source = RowSource.append(2, 4, first=0)
    old = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert source.weights(old).tolist() == [[1, 2], [3, 4], [1, 2], [1, 2]]
    assert source.memory("exp_avg", old).tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]
    # The size of gradients is that of an average row, the unknown one left out.
    assert source.memory("exp_avg_sq", old).tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    empty = RowSource.append(2, 3, first=-1)
    assert empty.weights(old).tolist() == [[1, 2], [3, 4], [0, 0]]


def test_weights_and_optimizer_state_are_carried_over():
    small = towers_of(3, 2)
    optimizer = optimizer_of(small)
    for _ in range(3):
        step(small, optimizer, [1, 2])
    memory = remember(optimizer, small)
    large = towers_of(5, 2, seed=1)
    sources = {"user_tower.id_table": RowSource.append(3, 5, first=0)}
    copy_weights(large, small, sources)
    assert torch.equal(large.user_tower.id_table[:3], small.user_tower.id_table)
    assert torch.equal(large.user_tower.id_table[3], small.user_tower.id_table[0])
    assert torch.equal(large.item_tower.id_table, small.item_tower.id_table)
    again = optimizer_of(large)
    recall(again, large, memory, sources)
    state = again.state[large.user_tower.id_table]
    assert state["step"] == 3
    assert state["exp_avg"][3:].abs().sum() == 0
    # From here on, both are trained alike.
    step(small, optimizer, [1, 2])
    step(large, again, [1, 2])
    assert torch.equal(large.user_tower.id_table[:3], small.user_tower.id_table)


@pytest.mark.parametrize("name", ["adamw", "adam", "adagrad", "sgd"])
def test_state_of_every_optimizer_is_carried_over(name):
    towers = towers_of(3, 2)
    optimizer = optimizer_of(towers, name, weight_decay=0.0)
    step(towers, optimizer, [1])
    copied = towers_of(3, 2, seed=5)
    copy_weights(copied, towers, {})
    again = optimizer_of(copied, name, weight_decay=0.0)
    recall(again, copied, remember(optimizer, towers), {})
    step(towers, optimizer, [1, 2])
    step(copied, again, [1, 2])
    assert torch.equal(copied.user_tower.id_table, towers.user_tower.id_table)


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"cannot change their architecture.*\(3, 4\)"):
        copy_weights(towers_of(3, 2, dim=4), towers_of(3, 2), {})


def test_frozen_rows_are_bit_equal_and_others_are_trained_as_before():
    towers, free = towers_of(4, 2), towers_of(4, 2)
    optimizer, other = optimizer_of(towers), optimizer_of(free)
    step(towers, optimizer, [0, 1, 2, 3])  # momentum in every row
    step(free, other, [0, 1, 2, 3])
    table = towers.user_tower.id_table
    before = table.detach().clone()
    moment = optimizer.state[table]["exp_avg"].clone()
    stays = torch.tensor([False, True, False, True])
    with rows_stay(optimizer, no_tables(optimizer), {table: stays}):
        for _ in range(5):
            step(towers, optimizer, [0, 2, 3])  # row 3 has a gradient, and stays
            step(free, other, [0, 2, 3])
            assert torch.equal(table[stays], before[stays])
    assert torch.equal(table[stays], before[stays])
    assert torch.equal(optimizer.state[table]["exp_avg"][stays], moment[stays])
    assert torch.equal(table[~stays], free.user_tower.id_table[~stays])
    step(towers, optimizer, [1])
    assert not torch.equal(table[1], before[1])  # and later they go on


def test_streaming_frequencies_start_from_the_exact_ones():
    counts = torch.tensor([0, 1, 5, 14])
    log_absence = in_batch_log_absence(counts, 4)
    frequencies = StreamingFrequencies(log_absence)
    items = torch.arange(4)
    torch.testing.assert_close(frequencies.log_absence(items), log_absence)
    assert frequencies.gaps[0] == math.inf
    # Known ones stay, one that was never there starts now, and a new one is appended.
    frequencies.extend(torch.log1p(-torch.tensor([0.1, 0.5, 0.5, 0.5, 0.25]).double()))
    expected = [10.0, *(-1 / torch.expm1(log_absence[1:])).tolist(), 4.0]
    assert frequencies.gaps.tolist() == pytest.approx(expected)


def test_an_item_of_every_batch_has_probability_one():
    frequencies = StreamingFrequencies(torch.tensor([-math.inf, math.log(0.5)]).double())
    for _ in range(3):
        frequencies.observe(torch.tensor([0]))
    assert frequencies.gaps[0] == 1.0
    assert frequencies.gaps[1].item() == pytest.approx(
        2.0
    )  # not seen yet: nothing is known


def test_streaming_frequencies_by_hand():
    frequencies = StreamingFrequencies(torch.log1p(-torch.tensor([0.5]).double()), rate=0.1)
    for batch in ([], [], [0], [0], [], [0]):
        frequencies.observe(torch.tensor(batch, dtype=torch.int64))
    gap = 2.0
    for waited in (3, 1, 2):
        gap += 0.1 * (waited - gap)
    assert frequencies.gaps[0].item() == pytest.approx(gap)


def test_streaming_frequencies_follow_the_stream():
    """Wherever they start, they come to the probability that the batches have."""
    rng = np.random.RandomState(0)
    probabilities = np.array([0.9, 0.5, 0.2, 0.05])
    start = torch.log1p(-torch.tensor([0.05, 0.05, 0.9, 0.5]).double())
    frequencies = StreamingFrequencies(start)
    estimates = []
    for t in range(8000):
        seen = np.flatnonzero(rng.uniform(size=4) < probabilities)
        frequencies.observe(torch.from_numpy(seen))
        if t >= 2000:
            estimates.append(frequencies.gaps.numpy().copy())
    np.testing.assert_allclose(np.mean(estimates, axis=0), 1 / probabilities, rtol=0.1)
