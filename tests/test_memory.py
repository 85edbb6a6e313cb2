"""Memory: what training says that it takes, and what it does take."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from sktwotower import TwoTowerRecommender, _memory
from tests._nn.helpers import only_ids

CPU = torch.device("cpu")


def test_bytes_by_hand():
    users = replace(only_ids(100), field_widths=(7,))
    items = replace(only_ids(50), dense=(torch.zeros(50, 3),))
    options = dict(embedding_dim=8)
    tables, embeddings = 100 + 7 + 50 + 3 + 50, 150
    for optimizer, average, copies in (
        ("adamw", True, 4),
        ("adamw", False, 3),
        ("adagrad", False, 2),
        ("sgd", False, 1),
    ):
        found = _memory.training_bytes(
            users, items, 50, optimizer=optimizer, average=average, **options
        )
        assert found == 4 * 8 * (tables * copies + embeddings)


def test_what_is_free():
    free = _memory.free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50
    assert _memory.free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("free", [2**30, None])
def test_a_training_that_fits_says_nothing(monkeypatch, free):
    monkeypatch.setattr(_memory, "free_bytes", lambda device: free)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"]])


def test_a_training_that_does_not_fit_is_announced(monkeypatch):
    monkeypatch.setattr(_memory, "free_bytes", lambda device: 1000)
    message = r"about .* GiB for the embedding tables.*9.31e-07 GiB are free on cpu"
    with pytest.warns(RuntimeWarning, match=message) as record:
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"]])
    assert record[0].filename == __file__


SCRIPT = r"""
import re, sys
from pathlib import Path
import numpy as np
from sktwotower import TwoTowerRecommender
rng = np.random.RandomState(0)
n = int(sys.argv[1])
X = np.stack([rng.permutation(n), rng.permutation(n)], axis=1)
small = TwoTowerRecommender(max_iter=1, batch_size=512, embedding_dim=64)
small.fit(X[:600])

def peak():  # getrusage would say the parent's where that is larger
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])

before = peak()
small.fit(X)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_training_takes_what_is_announced():
    """Large tables: no gradient of a whole table is ever made."""
    n = 40_000
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n)], capture_output=True, check=True, text=True
    )
    needed = _memory.training_bytes(
        only_ids(n), only_ids(n), 0, embedding_dim=64, optimizer="adamw", average=True
    )
    assert 0.6 * needed < int(run.stdout) < 1.6 * needed, np.array(needed)
