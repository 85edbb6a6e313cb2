"""The estimate of the memory that training takes."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sktwotower import TwoTowerRecommender
from sktwotower._training import memory, training
from sktwotower._training.data import encode, read_training_rows, rows_that_train
from sktwotower._training.settings import PooledSettings
from sktwotower.history import PooledHistory
from sktwotower.utils import _column_store as column_store
from tests._nn.helpers import only_ids

CPU = torch.device("cpu")


def test_bytes_by_hand():
    users = replace(only_ids(100), field_widths=(7,), appended=torch.zeros(100, 1))
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
        assert found["tables"] == 4 * 8 * tables
        assert found["embeddings"] == 4 * (8 * embeddings + 100)
        total = sum(found.values())
        assert total == 4 * (8 * (tables * copies + embeddings) + 100 + matrix)
        penalised = memory.training_bytes(
            users,
            items,
            50,
            optimizer=optimizer,
            average=average,
            **options | {"has_penalty": True},
        )
        assert sum(penalised.values()) - total == penalised["gradient"] == 4 * 8 * tables


@pytest.mark.parametrize("with_id", [True, False])
def test_bytes_do_not_need_the_entities(with_id):
    rows = replace(only_ids(50), field_widths=(7, 200), dense=(torch.zeros(50, 3),))
    rows = replace(rows, pointers=torch.zeros(50, 3))
    if not with_id:
        rows = replace(rows, id_codes=None, n_ids=0)
    options = dict(embedding_dim=8, optimizer="adam", average=True, has_penalty=True)
    found = memory.training_bytes(rows, memory.of_size(rows, 50), 0, **options)
    assert found == memory.training_bytes(rows, rows, 0, **options)
    many = memory.of_size(rows, 10**10)
    found = memory.training_bytes(rows, many, 0, **options)
    assert found["embeddings"] == 4 * 8 * (10**10 + 50)


def arrays_of(root):
    """Bytes of all arrays and tensors that some records hold, each memory once."""
    found, stack, visited = {}, [root], {}
    while stack:
        one = stack.pop()
        if id(one) in visited:
            continue
        visited[id(one)] = one  # so that no other gets its id
        if isinstance(one, torch.Tensor):
            one = one.detach().numpy()
        if isinstance(one, np.ndarray):
            if 0 not in one.strides:  # else one value stands for all
                found[one.ctypes.data] = max(found.get(one.ctypes.data, 0), one.nbytes)
        elif isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list | tuple):
            stack += one
        elif sp.issparse(one):
            stack += [one.data, one.indices]  # the ends are of users
        elif type(one).__module__.startswith("sktwotower") and hasattr(one, "__dict__"):
            stack += vars(one).values()
    return sum(found.values())


# Each user has all items, so that the number of rows is all that differs.
ALL_PAIRS = np.stack([np.arange(2000) // 40, np.arange(2000) % 40], axis=1)


def bytes_while_training(n_rows, parameters):
    """Of the rows, of all entities and of the batches, between two epochs."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.permutation(ALL_PAIRS)[:n_rows], np.arange(n_rows)])
    model = TwoTowerRecommender(embedding_dim=4, batch_size=64, **parameters)
    configuration = model._configuration()
    roles, interactions = read_training_rows(X, None, None, configuration)
    train_rows = rows_that_train(interactions, configuration.objective)
    data = encode(interactions, train_rows, roles, configuration, None)
    del interactions
    started = training.Training(configuration, data, None, seed=0)
    run = started.start(train_rows)
    next(run.epochs)
    kept = run.epochs.gi_frame.f_locals
    return arrays_of([started, run.past, kept["batches"], kept["user_rows"]])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("parameters", "history"),
    [
        ({"history": None}, None),
        ({"history": None, "timestamp_column": 2}, None),
        ({"history": None, "mask_known_positives": False}, None),
        ({"history": PooledHistory(size=3)}, PooledSettings(3)),
        (
            {"history": PooledHistory(), "timestamp_column": 2},
            PooledSettings(),
        ),
        ({}, PooledSettings(None, 0.5, tied=True)),
    ],
)
def test_bytes_of_rows_are_those_of_arrays(monkeypatch, parameters, history, many):
    if many:
        monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 500)
        monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 1000)
    small, large = (bytes_while_training(n, parameters) for n in (1000, 2000))
    said = [
        memory.row_bytes(
            n,
            50,
            has_times="timestamp_column" in parameters,
            history=history,
            masks=parameters.get("mask_known_positives", True),
        )
        for n in (1000, 2000)
    ]
    in_memory, on_disk = np.subtract(said[1], said[0])
    if many:
        assert large - small == on_disk
    else:
        order = 8 * 1000  # which only an epoch has
        assert large - small == in_memory - order
        assert on_disk == 0


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


def test_a_tied_history_has_no_table_of_its_own(monkeypatch):
    announced = []
    monkeypatch.setattr(training, "warn_if_too_large", lambda n, _: announced.append(n))
    for tied in (True, False):
        history = PooledHistory(size=None, dropout=0.5, tied=tied)
        model = TwoTowerRecommender(
            history=history, embedding_dim=8, max_iter=1, optimizer="sgd", average=False
        )
        model.fit([[1, 1], [2, 2], [3, 3], [1, 2]])
    assert announced[1] - announced[0] == 4 * 8 * 4  # three items, and the unknown one


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
