"""Fits in several threads at once: each gives what it gives alone, and leaves nothing."""

import copy
import random
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from sktwotower import TwoTowerRecommender
from sktwotower._nn import step
from sktwotower.history import PooledHistory
from tests.helpers import make_X, same_embeddings

X = make_X(n_rows=300, n_users=40, n_items=30)
OPTIONS = [
    {"random_state": 0},
    {"random_state": 1, "loss": "bpr", "negatives": "popular", "dropout": 0.3},
    {
        "random_state": 2,
        "history": PooledHistory(3),
        "hidden_layer_sizes": (8,),
        "batch_norm": True,
    },
    {"random_state": 3, "early_stopping": True, "id_dropout": 0.2, "negatives": "mixed"},
]
SMALL = {
    "user_column": "user",
    "item_column": "item",
    "embedding_dim": 8,
    "max_iter": 4,
    "batch_size": 32,
}


pytestmark = pytest.mark.usefixtures("four_threads")


def model_of(options):
    return TwoTowerRecommender(**SMALL | options)


def threads_of_new_threads():
    """What a thread finds that uses torch for the first time."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def settings():
    return (
        torch.get_num_threads(),
        threads_of_new_threads(),
        torch.get_num_interop_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        np.geterr(),
    )


class Meet:
    """A callback that waits in each of the first epochs until all threads are there."""

    def __init__(self, barrier):
        self.barrier = barrier
        self.n_left = 2

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and self.n_left:
            self.n_left -= 1
            self.barrier.wait(60)

    def on_fit_task_end(self, estimator, context):
        pass


def run_all(calls):
    """Run calls in a thread each; raise the first error."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@pytest.mark.slow
def test_overlapping_fits_are_as_alone_and_leave_no_setting():
    alone = [model_of(options).fit(X) for options in OPTIONS]
    before = settings()
    barrier = threading.Barrier(len(OPTIONS))
    models = [model_of(options).set_callbacks(Meet(barrier)) for options in OPTIONS]
    run_all([lambda model=model: model.fit(X) for model in models])
    assert settings() == before
    for one, other in zip(alone, models, strict=True):
        assert one.loss_curve_ == other.loss_curve_
        assert same_embeddings(one, other)
    copies = [copy.deepcopy(model).set_callbacks() for model in alone]
    run_all([lambda model=model: model.partial_fit(X, n_epochs=2) for model in copies])
    for one, other in zip(alone, copies, strict=True):
        assert same_embeddings(one.partial_fit(X, n_epochs=2), other)
    assert settings() == before


def test_threads_that_begin_in_an_epoch_have_all_of_torch_s_threads():
    found = []
    original = step.Step.loss

    def loss(self, users, items, gathered):
        found.append((torch.get_num_threads(), threads_of_new_threads()))
        return original(self, users, items, gathered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.Step, "loss", loss)
        model_of({"random_state": 0, "history": None}).fit(X)  # two towers to share
    assert set(found) == {(2, 4)}
    assert (torch.get_num_threads(), threads_of_new_threads()) == (4, 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_fit_leaves_the_threads(error, monkeypatch):
    def loss(*_):
        raise error

    before = settings()
    monkeypatch.setattr(step.Step, "loss", loss)
    with pytest.raises(error):
        model_of({"random_state": 0}).fit(X)
    assert settings() == before


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_others_answer_from_the_model_that_was_there(method):
    """Answers are of the old model until the new one is there, and never a mixture."""
    model = model_of({"random_state": 0, "history": PooledHistory(3)}).fit(X)
    users = np.arange(40)

    def answers():
        ids, scores = model.recommend(users, n_recommendations=5)
        return ids.tobytes() + scores.tobytes()

    old = answers()
    new_rows = X.iloc[::-1].assign(item=X["item"].to_numpy())
    found, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            found.append(answers())

    def train():
        try:
            if method == "fit":
                model.set_params(max_iter=2).fit(new_rows)
            else:
                model.partial_fit(new_rows, n_epochs=2)
        finally:
            stop.set()

    run_all([ask, ask, train])
    new = answers()
    assert old != new
    assert set(found) <= {old, new} and found[0] == old


ITEMS = pd.DataFrame({"item": range(30), "colour": list("abc") * 10})
NEW = pd.DataFrame({"item": [77], "colour": ["a"]})


def add(model):
    with warnings.catch_warnings():  # the path without an id is not trained
        warnings.simplefilter("ignore")
        return model.add_items(NEW)


CHANGES = {
    "fit": lambda model: model.fit(X),
    "partial_fit": lambda model: model.partial_fit(X),
    "add_items": add,
    "build_index": lambda model: model.build_index("flat"),
}


def meanwhile(monkeypatch, outer, inner):
    """Make a change of a model while another one goes on from the state before."""
    model = model_of({"random_state": 0, "item_table": ITEMS, "max_iter": 1}).fit(X)
    original = TwoTowerRecommender._replace_state

    def late(self, before, now):
        monkeypatch.setattr(TwoTowerRecommender, "_replace_state", original)
        CHANGES[inner](model)
        model.changed = model._state
        original(self, before, now)

    monkeypatch.setattr(TwoTowerRecommender, "_replace_state", late)
    CHANGES[outer](model)
    return model


@pytest.mark.parametrize("outer", ["partial_fit", "add_items", "build_index"])
@pytest.mark.parametrize("inner", ["fit", "partial_fit", "add_items"])
def test_no_change_of_another_thread_is_lost(monkeypatch, outer, inner):
    if outer == "build_index":
        pytest.importorskip("faiss")
    with pytest.raises(RuntimeError, match="Another thread has changed the model"):
        meanwhile(monkeypatch, outer, inner)


@pytest.mark.parametrize("outer", ["partial_fit", "add_items"])
def test_an_index_is_no_change_of_the_model(monkeypatch, outer):
    pytest.importorskip("faiss")
    model = meanwhile(monkeypatch, outer, "build_index")
    assert model._state is not model.changed


def test_a_first_partial_fit_that_comes_second(monkeypatch):
    model = model_of({"random_state": 0})
    original = TwoTowerRecommender._replace_state

    def late(self, before, now):
        original(self, before, now)
        original(self, before, now)

    monkeypatch.setattr(TwoTowerRecommender, "_replace_state", late)
    with pytest.raises(RuntimeError, match="Another thread"):
        model.partial_fit(X)
