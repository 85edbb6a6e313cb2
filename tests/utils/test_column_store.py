"""Columns in memory and in files, and records of them."""

import gc
import tempfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._column_store import Columns
from tests._nn.helpers import is_mapped


@pytest.fixture(params=["in memory", "mapped"])
def kind(request, monkeypatch):
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 7)
    if request.param == "mapped":
        monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 10)
    return request.param


def test_empty(kind):
    for n in (0, 10, 11, 100):
        array = column_store.empty(n, np.int32)
        assert type(array) is np.ndarray
        assert array.shape == (n,) and array.dtype == np.int32 and array.flags.writeable
        assert is_mapped(array) == (kind == "mapped" and n > 10)
    assert column_store.full(20, True, bool).all()
    assert column_store.arange(20).tolist() == list(range(20))


def test_files_go_with_the_arrays(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = column_store.full(1000, 3.0, np.float64)
    assert array.sum() == 3000.0
    del array
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error(kind, monkeypatch):
    if kind == "mapped" and hasattr(column_store.os, "posix_fallocate"):
        with pytest.raises(OSError):
            column_store.empty(2**60, np.int8)


def test_blocks():
    assert list(column_store.blocks(0)) == []
    assert list(column_store.blocks(5)) == [slice(0, 5)]


def test_take_and_joined(kind):
    rng = np.random.default_rng(0)
    values = rng.integers(100, size=50).astype(np.int16)
    for rows in (rng.random(50) < 0.5, rng.integers(50, size=70), np.zeros(50, bool)):
        taken = column_store.take(values, rows)
        assert taken.dtype == values.dtype
        assert np.array_equal(taken, values[rows])
    parts = [values, np.arange(3, dtype=np.int64), values[:0]]
    together = column_store.joined(parts)
    assert together.dtype == np.int64
    assert np.array_equal(together, np.concatenate(parts))


def test_a_column_of_objects_is_in_memory(kind):
    column = column_store.full(100, True, object)
    assert column.all() and not is_mapped(column)


def test_truncated(kind):
    column = column_store.truncated(column_store.arange(30), 4)
    assert column.tolist() == [0, 1, 2, 3]
    assert is_mapped(column) == (kind == "mapped")


class Squares:
    """A column of a kind of its own."""

    def __init__(self, roots):
        self.roots = roots

    def __len__(self):
        return len(self.roots)

    def take(self, rows):
        return Squares(column_store.take(self.roots, rows))


@dataclass(frozen=True, eq=False)
class Arrays(Columns):
    ids: np.ndarray | pd.Categorical
    frame: pd.DataFrame
    squares: Squares
    number: float
    times: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Pairs(Columns):
    first: np.ndarray | torch.Tensor
    second: np.ndarray | torch.Tensor | None = None


MASK = (np.arange(50) % 4 == 1) & (np.arange(50) < 30)
SELECTIONS = {"mask": MASK, "positions": np.flatnonzero(MASK), "slice": slice(1, 30, 4)}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("make", [np.asarray, pd.Categorical])
def test_take_of_a_record(kind, selection, make):
    ids = np.array(["a", "b", "c", "d", "e"] * 10)
    frame = pd.DataFrame({"x": range(50)})
    record = Arrays(make(ids), frame, Squares(np.arange(50)), number=3.0)
    taken = record.take(SELECTIONS[selection])
    assert type(taken) is Arrays and len(record) == 50 and len(taken) == 8
    assert type(taken.ids) is type(record.ids)
    assert np.asarray(taken.ids).tolist() == ids[MASK].tolist()
    assert taken.frame["x"].tolist() == np.flatnonzero(MASK).tolist()
    assert taken.frame.index.tolist() == list(range(8))
    assert taken.squares.roots.tolist() == np.flatnonzero(MASK).tolist()
    assert taken.number == 3.0 and taken.times is None


@pytest.mark.parametrize("selection", SELECTIONS)
def test_take_of_tensors(kind, selection):
    rows = SELECTIONS[selection]
    if isinstance(rows, np.ndarray):
        rows = torch.from_numpy(rows)
    taken = Pairs(torch.arange(50), torch.arange(50) / 2).take(rows)
    assert taken.first.tolist() == np.flatnonzero(MASK).tolist()
    assert torch.equal(taken.second, taken.first / 2)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_followed_by(kind, make):
    first = Pairs(make([1] * 8), make([2.0] * 8))
    second = Pairs(make([3] * 4), make([4.0] * 4))
    both = first.followed_by(second)
    assert type(both.first) is type(first.first)
    assert both.first.tolist() == [1] * 8 + [3] * 4
    assert both.second.tolist() == [2.0] * 8 + [4.0] * 4
    if make is np.array:
        assert is_mapped(both.first) == (kind == "mapped")
    assert first.followed_by(Pairs(make([3]))).second is None
    assert len(first.followed_by(second, second)) == 16


def test_blocks_of_a_record(kind):
    parts = list(Pairs(np.arange(20), np.arange(20)).blocks())
    assert [len(part) for part in parts] == [7, 7, 6]
    assert np.concatenate([part.second for part in parts]).tolist() == list(range(20))
