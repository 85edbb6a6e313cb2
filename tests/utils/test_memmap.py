"""Arrays of very many rows."""

import gc
import math
import tempfile
from itertools import permutations

import numpy as np
import pytest
import torch

from sktwotower.utils import _memmap as memmap
from tests._nn.helpers import is_mapped


@pytest.fixture(params=["in memory", "mapped"])
def kind(request, monkeypatch):
    monkeypatch.setattr(memmap, "ROWS_AT_ONCE", 7)
    if request.param == "mapped":
        monkeypatch.setattr(memmap, "ROWS_IN_MEMORY", 10)
    return request.param


def test_empty(kind):
    for n in (0, 10, 11, 100):
        array = memmap.empty(n, np.int32)
        assert type(array) is np.ndarray
        assert array.shape == (n,) and array.dtype == np.int32 and array.flags.writeable
        assert is_mapped(array) == (kind == "mapped" and n > 10)
    assert memmap.full(20, True, bool).all()
    assert memmap.arange(20).tolist() == list(range(20))


def test_files_go_with_the_arrays(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = memmap.full(1000, 3.0, np.float64)
    assert array.sum() == 3000.0
    del array
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error(kind, monkeypatch):
    if kind == "mapped" and hasattr(memmap.os, "posix_fallocate"):
        with pytest.raises(OSError):
            memmap.empty(2**60, np.int8)


def test_blocks():
    assert list(memmap.blocks(0)) == []
    assert list(memmap.blocks(5)) == [slice(0, 5)]


def test_take_and_joined(kind):
    rng = np.random.default_rng(0)
    values = rng.integers(100, size=50).astype(np.int16)
    for rows in (rng.random(50) < 0.5, rng.integers(50, size=70), np.zeros(50, bool)):
        taken = memmap.take(values, rows)
        assert taken.dtype == values.dtype
        assert np.array_equal(taken, values[rows])
    parts = [values, np.arange(3, dtype=np.int64), values[:0]]
    together = memmap.joined(parts)
    assert together.dtype == np.int64
    assert np.array_equal(together, np.concatenate(parts))


@pytest.mark.parametrize("n", [1, 6, 7, 8, 300])
def test_distinct_pairs(kind, n):
    rng = np.random.default_rng(n)
    users = (rng.random(n) ** 3 * 40).astype(np.int32)  # some with more than a bucket
    items = rng.integers(9, size=n).astype(np.int32)
    keys, their_items, counts = memmap.distinct_pairs(users, items, 9)
    pairs = sorted(set(zip(users.tolist(), items.tolist(), strict=True)))
    assert keys.tolist() == [user * 9 + item for user, item in pairs]
    assert their_items.tolist() == [item for _, item in pairs]
    assert their_items.dtype == np.int32
    assert np.array_equal(counts, np.bincount([user for user, _ in pairs]))


def test_pairs_of_more_than_32_bits():
    users, items = np.array([2**20, 3], np.int32), np.array([2**20, 2], np.int32)
    keys = memmap.distinct_pairs(users, items, 2**20 + 1)[0]
    assert keys.tolist() == [3 * (2**20 + 1) + 2, 2**20 * (2**20 + 1) + 2**20]


def test_shuffled_columns_stay_together(kind):
    columns = [torch.arange(100), torch.arange(100, dtype=torch.int32), torch.ones(100)]
    one, other, ones = memmap.shuffled(columns, torch.Generator().manual_seed(0))
    assert one.dtype == torch.int64 and other.dtype == torch.int32
    assert torch.equal(one, other) and ones.all()
    assert sorted(one.tolist()) == list(range(100))
    again = memmap.shuffled(columns[:1], torch.Generator().manual_seed(0))[0]
    assert torch.equal(one, again)


def test_all_orders_are_equally_likely(monkeypatch):
    monkeypatch.setattr(memmap, "ROWS_AT_ONCE", 2)
    generator = torch.Generator().manual_seed(0)
    n_draws, counts = 4800, dict.fromkeys(permutations(range(4)), 0)
    for _ in range(n_draws):
        order = memmap.shuffled([torch.arange(4)], generator)[0]
        counts[tuple(order.tolist())] += 1
    expected = n_draws / math.factorial(4)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 49.7  # the 0.999 quantile at 23 degrees of freedom
