"""Epochs of very many rows: windows of blocks of a shuffled copy."""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch

from sktwotower._nn import batches as module
from sktwotower._nn.batches import REPLAYED, Batches, TrainingRows, batch_sizes
from sktwotower.utils import _column_store as column_store
from tests._nn.helpers import PassThrough


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 50)
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 24)
    monkeypatch.setattr(module, "BLOCKS_OF_A_WINDOW", 4)


def rows_of(n):
    users = torch.arange(n, dtype=torch.int32)
    return TrainingRows(users, users % 7, users % 2 == 0, users / 2, n, 7, users + 1)


def epochs(n, batch_size=10, n_epochs=3, seed=0):
    n_batches, sizes = batch_sizes(n, batch_size)
    batches = Batches(rows_of(n), PassThrough(), n_batches)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_epochs):
        epoch = list(batches.epoch(generator))
        assert len(epoch) == n_batches
        assert {len(batch) for batch in epoch} == sizes
        yield epoch


@pytest.mark.parametrize("n", [51, 96, 200])
@pytest.mark.parametrize("batch_size", [1, 10, 40, 1000])
def test_every_row_once_an_epoch(n, batch_size):
    orders = []
    for epoch in epochs(n, batch_size):
        orders.append(torch.cat([batch.user_rows for batch in epoch]).tolist())
        assert sorted(orders[-1]) == list(range(n))
        for batch in epoch:
            users = batch.user_rows
            assert torch.equal(batch.item_rows, users % 7)
            assert torch.equal(batch.positive, users % 2 == 0)
            assert torch.equal(batch.weights, users / 2)
            assert torch.equal(batch.inputs, users + 1)
    assert len(set(map(tuple, orders))) == 3


def test_orders_are_seeded():
    def orders(seed):
        found = epochs(200, seed=seed)
        return [torch.cat([rows.user_rows for rows in epoch]).tolist() for epoch in found]

    assert orders(0) == orders(0) != orders(1)


@pytest.mark.slow
def test_batches_of_each_epoch_are_random(monkeypatch):
    """All orders are equally likely, also in later epochs."""
    monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 3)
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(module, "BLOCKS_OF_A_WINDOW", 2)
    generator = torch.Generator().manual_seed(0)
    counts = [Counter(), Counter()]
    for _ in range(600):
        batches = Batches(rows_of(4), PassThrough(), 2)
        for count in counts:
            order = torch.cat([rows.user_rows for rows in batches.epoch(generator)])
            count[tuple(order.tolist())] += 1
    for count in counts:
        expected = 600 / math.factorial(4)
        chi_square = sum(
            (count[order] - expected) ** 2 / expected for order in permutations(range(4))
        )
        assert chi_square < 49.7  # the 0.999 quantile at 23 degrees of freedom


@pytest.mark.parametrize("n_new", [60, 8])
def test_rows_from_before(n_new):
    """All of them, or as many as are replayed, drawn anew for each epoch."""
    n, replayed = 120, set()
    size = n_new + min(REPLAYED * n_new, n - n_new)
    batches = Batches(rows_of(n), PassThrough(), 10, n_new=n_new)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        epoch = list(batches.epoch(generator))
        users = torch.cat([batch.user_rows for batch in epoch]).tolist()
        assert len(users) == len(set(users)) == size == batches.n_rows
        assert set(range(n_new)) <= set(users)
        replayed.add(frozenset(users))
        for batch in epoch:
            assert torch.equal(batch.weights, batch.user_rows / 2)
    assert len(replayed) == (1 if size == n else 3)


def test_a_mask_of_many_rows():
    rows = rows_of(120)
    some = rows.take(rows.positive)
    assert torch.equal(some.user_rows, rows.user_rows[rows.positive])
    assert torch.equal(some.weights, rows.weights[rows.positive])
