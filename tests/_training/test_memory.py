"""The estimate of the memory that training takes."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from sktwotower import TwoTowerRecommender
from sktwotower._training import memory, training
from tests._nn.helpers import only_ids

CPU = torch.device("cpu")


def test_bytes_by_hand():
    users = replace(only_ids(100), field_widths=(7,))
    items = replace(only_ids(50), dense=(torch.zeros(50, 3),))
    options = dict(embedding_dim=8, has_penalty=False)
    tables, embeddings = 100 + 7 + 50 + 3 + 50, 150
    for optimizer, average, copies in (
        ("adamw", True, 4),
        ("adamw", False, 3),
        ("adagrad", False, 2),
        ("sgd", False, 1),
    ):
        found = memory.training_bytes(
            users, items, 50, optimizer=optimizer, average=average, **options
        )
        matrix = 100 * 7  # few columns of the users
        assert found == 4 * (8 * (tables * copies + embeddings) + matrix)
        penalised = memory.training_bytes(
            users,
            items,
            50,
            optimizer=optimizer,
            average=average,
            **options | {"has_penalty": True},
        )
        assert penalised - found == 4 * 8 * tables


def test_what_is_free():
    free = memory.free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50
    assert memory.free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("free", [2**30, None])
def test_a_training_that_fits_says_nothing(monkeypatch, free):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"], ["a", "y"]])


def test_a_training_that_does_not_fit_is_announced(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    message = (
        r"about .* GiB for the embedding tables.*, and the embeddings; "
        r"9.31e-07 GiB are free on cpu"
    )
    with pytest.warns(RuntimeWarning, match=message) as record:
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"], ["a", "y"]])
    assert record[0].filename == __file__


@pytest.mark.parametrize("place", ["make_optimizer", "train"])  # before, and in an epoch
def test_an_accelerator_without_memory_says_what_to_set(monkeypatch, place):
    def fail(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        yield

    def fail_at_once(*args, **kwargs):
        next(fail())

    monkeypatch.setattr(training, place, fail if place == "train" else fail_at_once)
    message = r"Lower embedding_dim.*batch_size.*device='cpu'.*Tried to allocate 2 GiB"
    with pytest.raises(MemoryError, match=message):
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"], ["a", "y"]])


def test_what_is_announced_follows_the_parameters(monkeypatch):
    announced = []
    monkeypatch.setattr(training, "warn_if_too_large", lambda n, _: announced.append(n))
    for optimizer in ("adam", "adamw"):
        announced.clear()
        for parameters in ({}, {"weight_decay": 0.0}, {"weight_decay": 0.1}):
            model = TwoTowerRecommender(optimizer=optimizer, max_iter=1, **parameters)
            model.fit([[1, 1], [2, 2], [3, 3], [1, 2]])
        by_default, without, decayed = announced
        assert without == by_default
        assert (decayed > by_default) == (optimizer == "adam")


SCRIPT = r"""
import re
from pathlib import Path
import numpy as np
import torch
from sktwotower import TwoTowerRecommender
from sktwotower._training import training

torch.set_num_threads(1)
rng = np.random.RandomState(0)
X = np.stack([rng.permutation(40_000), rng.permutation(40_000)], axis=1)
model = TwoTowerRecommender(max_iter=1, embedding_dim=64)
model.fit(X[:600])

def status(name):  # getrusage would give the parent's peak where it is larger
    found = re.search(name + r":\s*(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1])

def note(needed, device):
    global before
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    print(needed)

training.warn_if_too_large = note
model.fit(X)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_training_takes_what_is_announced():
    # Batches look up few rows, so that no gradient of a whole table is made.
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        # Freed memory goes back to the system at once.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        check=True,
        text=True,
    )
    announced, taken = map(int, run.stdout.split())
    assert 0.8 * announced < taken < 1.3 * announced
