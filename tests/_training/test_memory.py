"""Memory: what training says that it takes, and what it does take."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch

from sktwotower import TwoTowerRecommender
from sktwotower._training import memory, training
from sktwotower.utils import _column_store as column_store
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


def test_bytes_of_rows_by_hand(monkeypatch):
    def found(n, is_part=False, masks=False, has_history=False):
        return memory.bytes_of_rows(
            n, is_part=is_part, masks=masks, has_history=has_history
        )

    assert found(100) == 8 * 100  # where each row is in an epoch
    assert found(100, masks=True) == (8 + 8 + 4) * 100  # a sorted key and an item
    codes = 4 + 4 + 1 + 4  # of a user, an item, a sign, and a row of the user's input
    assert found(100, is_part=True) == (8 + codes) * 100
    past = (8 + 8 + 4) + 3 * 8 + (4 + 4)  # by user, windows, rows of the history table
    assert found(100, has_history=True) == (8 + past) * 100
    monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 99)
    assert found(100, is_part=True, masks=True) == 0
    assert found(100, has_history=True) == 16 * 100


def test_what_is_free():
    free = memory.free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50
    assert memory.free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("free", [2**30, None])
def test_a_training_that_fits_says_nothing(monkeypatch, free):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"]])


def test_a_training_that_does_not_fit_is_announced(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    message = (
        r"about .* GiB for the embedding tables.*, and 3.73e-08 GiB for the rows; "
        r"9.31e-07 GiB are free on cpu"
    )
    with pytest.warns(RuntimeWarning, match=message) as record:  # of 2 * 20 bytes
        TwoTowerRecommender(max_iter=1).fit([["a", "x"], ["b", "y"]])
    assert record[0].filename == __file__


def test_rows_are_not_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    memory.warn_if_too_large(900, 200, torch.device("meta"), stacklevel=1)
    with pytest.warns(RuntimeWarning, match="will take"):
        memory.warn_if_too_large(900, 200, CPU, stacklevel=1)


def announced(monkeypatch, **parameters):
    figures = []
    monkeypatch.setattr(
        training,
        "warn_if_too_large",
        lambda needed, of_rows, *_, **__: figures.append((needed, of_rows)),
    )
    X = pd.DataFrame({"user": [1, 2, 3, 1, 2, 3], "item": [1, 2, 3, 2, 3, 1]})
    names = {"user_column": "user", "item_column": "item"}
    model = TwoTowerRecommender(**names, max_iter=1, **parameters)
    model.fit(X[:4]).partial_fit(X[4:])
    return figures


def test_what_is_announced_follows_the_parameters(monkeypatch):
    (needed, rows), (_, rows_later) = announced(monkeypatch, optimizer="adam")
    assert rows == 20 * 4
    assert rows_later == 33 * 6  # those from before are replayed
    assert announced(monkeypatch, mask_known_positives=False)[0][1] == 8 * 4
    assert announced(monkeypatch, history_size=2)[0][1] == 72 * 4
    for optimizer in ("adam", "adamw"):
        same, _ = announced(monkeypatch, optimizer=optimizer, weight_decay=0.0)
        assert same[0] == needed
        decayed, _ = announced(monkeypatch, optimizer=optimizer, weight_decay=0.1)
        assert (decayed[0] > needed) == (optimizer == "adam")


SCRIPT = r"""
import re, sys
from pathlib import Path
import numpy as np
import torch
from sktwotower import TwoTowerRecommender
from sktwotower._training import training
from sktwotower.utils import _column_store as column_store

torch.set_num_threads(1)
column_store.ROWS_AT_ONCE = 2**14  # what is made of some rows at a time is small
rng = np.random.RandomState(0)
n, n_users, n_items = map(int, sys.argv[1:4])
users, items = np.arange(n) % n_users, np.arange(n) % n_items
X = np.stack([rng.permutation(users), rng.permutation(items)], axis=1)
model = TwoTowerRecommender(max_iter=1, batch_size=512, **eval(sys.argv[4]))
model.fit(X[:600])

def status(name):  # getrusage would say the parent's where that is larger
    found = re.search(name + r":\s*(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1])

def note(needed, of_rows, *_, **__):
    global before
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    print(needed + of_rows)

training.warn_if_too_large = note
model.fit(X)
print(status("VmHWM") - before)
"""
TABLES = (40_000, 40_000, 40_000)  # one row an id
ROWS = (400_000, 4000, 500)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        (TABLES, {"embedding_dim": 64}),  # no gradient of a whole table is ever made
        (TABLES, {"embedding_dim": 64, "optimizer": "adam", "weight_decay": 1e-6}),
        (ROWS, {"embedding_dim": 4, "history_size": 3}),
    ],
)
def test_training_takes_what_is_announced(sizes, parameters):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, sizes), repr(parameters)],
        # What is freed goes back to the system at once.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        check=True,
        text=True,
    )
    needed, taken = map(int, run.stdout.split())
    assert 0.8 * needed < taken < 1.3 * needed
