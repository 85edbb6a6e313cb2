"""That no step of an epoch waits for the device.

The device is torch's "meta", which has shapes and no values: an operator that needs a value
of it on the CPU raises an error. A copy between the two raises none, so each is looked at.
"""

import traceback

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sktwotower import TwoTowerRecommender
from sktwotower._nn import trainer
from sktwotower._nn.optim import make_optimizer
from sktwotower._nn.resize import recall, remember
from sktwotower._nn.runtime import Generators
from sktwotower.history import TransformerHistory
from tests._nn.test_resize import towers_of

NAMES = dict(user_column="user_id", item_column="item_id")
# More users than 8 times the rows of a batch: their table is lazy.
MANY_USERS = pd.DataFrame({"user_id": np.arange(400) % 200, "item_id": np.arange(400) % 7})


class BlockingCopies(TorchDispatchMode):
    """Finds the places in the package that copy between devices and wait for it."""

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs, result)) if torch.is_tensor(x)]
        crosses = len({x.device for x in tensors if x.dim()}) > 1
        if crosses and not (kwargs or {}).get("non_blocking"):
            frames = traceback.extract_stack()
            self.places.add(next(f.line for f in frames[::-1] if "_nn" in f.filename))
        return result


@pytest.fixture
def loop(monkeypatch):
    """Numbers of steps, and places of blocking copies, of the loops of this test."""
    copies, n_steps = BlockingCopies(), []

    class Watched(trainer.Prefetched):
        def __iter__(self):
            n_steps.append(0)
            with copies:
                for value in super().__iter__():
                    yield value
                    n_steps[-1] += 1

    def seeded(seed, device, ranks):  # there is no generator of this device
        host = torch.Generator().manual_seed(seed)
        return Generators(host, host, None, None)

    original = torch.optim.AdamW  # nor are there fused operators for it
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, fused, **k: original(*a, **k))
    monkeypatch.setattr(trainer, "Prefetched", Watched)
    monkeypatch.setattr(Generators, "seeded", seeded)
    return copies, n_steps


def check(call, loop, n_batches):
    copies, n_steps = loop
    with pytest.raises(RuntimeError, match="meta tensors") as error:
        call()
    # The first value that is read is the loss of the epoch.
    last = [str(one.statement) for one in error.traceback if "_nn" in str(one.path)][-1]
    assert last.strip().startswith("yield float(total)")
    assert n_steps == [n_batches] and copies.places == set()


CASES = {
    "bags": dict(),
    "sequences": dict(timestamp_column="timestamp", history=TransformerHistory()),
    "in batch": dict(history=None, negatives="in_batch", optimizer="adagrad"),
    "layers": dict(
        timestamp_column="timestamp",
        negatives="mixed",
        temperature="learned",
        max_grad_norm=1.0,
        hidden_layer_sizes=(8,),
        batch_norm=True,
        dropout=0.1,
        id_dropout=0.1,
    ),
    "pairs": dict(loss="cross_entropy", negatives="random", optimizer="sgd"),
    "views": dict(ssl_pattern="cfm"),
}


@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device(case, loop, data):
    tables = {"user_table": data.user_table, "item_table": data.item_table}
    model = TwoTowerRecommender(
        **NAMES,
        **tables,
        **CASES[case],
        batch_size=450,
        max_iter=1,
        device="meta",
        random_state=0,
    )
    check(lambda: model.fit(data.interactions), loop, 2)


@pytest.mark.parametrize("batch_size", [20, 400])  # with a lazy table, and without
def test_rows_that_stay_do_not_wait_for_the_device(loop, batch_size):
    model = TwoTowerRecommender(
        **NAMES,
        history=None,
        batch_size=batch_size,
        max_iter=1,
        weight_decay=0.0,
        random_state=0,
    ).fit(MANY_USERS)
    loop[1].clear()
    model.set_params(device="meta")
    check(lambda: model.partial_fit(MANY_USERS[:4]), loop, 40 // batch_size or 1)


def test_a_fused_optimizer_finds_its_steps_on_the_device():
    towers = towers_of(3, 2)

    def optimizer_of(towers, name):
        return make_optimizer(
            name,
            towers.embedding_tables(),
            towers.parameters(),
            learning_rate=0.1,
            weight_decay=0.0,
            epsilon=1e-8,
        )

    for name, where in (("adamw", "meta"), ("adagrad", "cpu")):
        before = optimizer_of(towers, name)
        sum(p.sum() for p in towers.parameters()).backward()
        before.step()
        memory = remember(before, towers)
        after = optimizer_of(towers, name)  # fused operators exist for the CPU
        moved = towers_of(3, 2).to("meta")
        recall(after, moved, memory, {})
        (step,) = {after.state[p]["step"].device.type for p in moved.parameters()}
        assert step == where
