"""Shuffles and sorts of many rows, bucket by bucket."""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
import torch

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._bucket_sort import distinct_pairs, shuffled
from sktwotower.utils._column_store import Columns


@pytest.fixture(params=["in memory", "mapped"])
def kind(request, monkeypatch):
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 7)
    if request.param == "mapped":
        monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 10)
    return request.param


@dataclass(frozen=True, eq=False)
class Rows(Columns):
    numbers: torch.Tensor
    small: torch.Tensor | None = None
    ones: torch.Tensor | None = None


@pytest.mark.parametrize("n", [1, 6, 7, 8, 300])
def test_distinct_pairs(kind, n):
    rng = np.random.default_rng(n)
    users = (rng.random(n) ** 3 * 40).astype(np.int32)  # some with more than a bucket
    items = rng.integers(9, size=n).astype(np.int32)
    keys, their_items, counts = distinct_pairs(users, items, 9)
    pairs = sorted(set(zip(users.tolist(), items.tolist(), strict=True)))
    assert keys.tolist() == [user * 9 + item for user, item in pairs]
    assert their_items.tolist() == [item for _, item in pairs]
    assert their_items.dtype == np.int32
    assert np.array_equal(counts, np.bincount([user for user, _ in pairs]))


def test_pairs_of_more_than_32_bits():
    users, items = np.array([2**20, 3], np.int32), np.array([2**20, 2], np.int32)
    keys = distinct_pairs(users, items, 2**20 + 1)[0]
    assert keys.tolist() == [3 * (2**20 + 1) + 2, 2**20 * (2**20 + 1) + 2**20]


def test_shuffled_columns_stay_together(kind):
    rows = Rows(torch.arange(100), torch.arange(100, dtype=torch.int32), torch.ones(100))
    result = shuffled(rows, torch.Generator().manual_seed(0))
    assert result.numbers.dtype == torch.int64 and result.small.dtype == torch.int32
    assert torch.equal(result.numbers, result.small) and result.ones.all()
    assert sorted(result.numbers.tolist()) == list(range(100))
    again = shuffled(Rows(torch.arange(100)), torch.Generator().manual_seed(0))
    assert torch.equal(result.numbers, again.numbers)


def test_all_orders_are_equally_likely(monkeypatch):
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 2)
    generator = torch.Generator().manual_seed(0)
    n_draws, counts = 4800, dict.fromkeys(permutations(range(4)), 0)
    for _ in range(n_draws):
        order = shuffled(Rows(torch.arange(4)), generator).numbers
        counts[tuple(order.tolist())] += 1
    expected = n_draws / math.factorial(4)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 49.7  # the 0.999 quantile at 23 degrees of freedom
