"""A fitted model is what it was fitted to be: its answers come from its state alone."""

import copy
import inspect
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import OneHotEncoder

import sktwotower
from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory
from sktwotower.inspection import feature_importance
from sktwotower.metrics import make_ranking_scorer
from tests import helpers

RNG = np.random.default_rng(0)
N_USERS, N_ITEMS = 30, 20
USERS = pd.DataFrame({"user": range(N_USERS + 3), "team": ["a", "b", "c"] * 11})
ITEMS = pd.DataFrame({"item": range(N_ITEMS + 2), "colour": ["red", "blue"] * 11})
X = pd.DataFrame(
    {
        "user": RNG.integers(0, N_USERS, 300),
        "item": RNG.integers(0, N_ITEMS, 300),
        "when": np.arange(300),
        "device": RNG.choice(["phone", "desk"], 300),
    }
)
NEXT = X.assign(item=X["item"].to_numpy()[::-1], when=X["when"] + 300)[:60]
PARAMETERS = {
    "user_column": "user",
    "item_column": "item",
    "timestamp_column": "when",
    "user_features": ["device"],
    "user_table": USERS,
    "item_table": ITEMS,
    "id_dropout": 0.1,
    "history": PooledHistory(3),
    "embedding_dim": 4,
    "max_iter": 2,
    "random_state": 0,
}
# Another value of each parameter, valid or not: only the next fit reads it.
OTHERS = {
    "user_column": "device",
    "item_column": "nothing",
    "timestamp_column": None,
    "user_features": None,
    "item_features": ["device"],
    "user_table": None,
    "item_table": ITEMS.assign(colour="green"),
    "user_encoder": OneHotEncoder(),
    "item_encoder": OneHotEncoder(),
    "user_id_embedding": False,
    "item_id_embedding": False,
    "id_dropout": 0.0,
    "history": PooledHistory(7, dropout=0.5, tied=True),
    "popularity_prior": 2.0,
    "embedding_dim": 7,
    "hidden_layer_sizes": (5,),
    "activation": "tanh",
    "batch_norm": True,
    "dropout": 0.5,
    "normalize": False,
    "loss": "bpr",
    "negatives": "full",
    "n_negatives": 3,
    "temperature": "learned",
    "sampling_correction": None,
    "mask_known_positives": False,
    "margin": 9.0,
    "ssl_pattern": "rfm",
    "ssl_weight": 3.0,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "lr_schedule": "constant",
    "warmup_fraction": 0.5,
    "weight_decay": 0.0,
    "epsilon": 1.0,
    "max_grad_norm": 1.0,
    "batch_size": 1,
    "max_iter": 1,
    "average": False,
    "early_stopping": True,
    "validation_fraction": 0.5,
    "n_iter_no_change": 1,
    "refit": False,
    "tol": 1.0,
    "validation_metric": "recall@3",
    "warm_start": True,
    "device": "cuda",
    "random_state": 1,
    "verbose": 1,
}


def answers(model):
    """What a model says, through every public way."""
    found = {
        "predict": model.predict(X),
        "recommend": model.recommend([0, 1, 99], n_recommendations=N_ITEMS),
        "recommend rows": model.recommend(USERS[["user", "team"]]),
        "recommend with history": model.recommend([0, 99], history=X[:5].assign(user=99)),
        "recommend sampled": model.recommend([0, 1], sample=True, random_state=0),
        "recommend cold": model.recommend([99], cold_start="popular"),
        "recommend candidates": model.recommend([3], candidates=ITEMS[-4:]),
        "recommend excluding": model.recommend([3], exclude_interactions=X[:9]),
        "recommend_users": model.recommend_users([0, 21], n_recommendations=40),
        "similar_items": model.similar_items([0, 1]),
        "similar_users": model.similar_users([0, 1]),
        "score": model.score(X),
        "scorer": make_ranking_scorer(["recall@5", "diversity@5"])(model, X),
        "importance": feature_importance(model, X, n_repeats=1, random_state=0),
        "user_tower_": model.user_tower_.transform(USERS),
        "item_tower_": model.item_tower_.transform(["nothing", 1]),
        "tower names": model.item_tower_.get_feature_names_out(),
        "index_report": model.build_index("flat").index_report(k=3)["recall"].to_numpy(),
        "build_index": model.recommend([0], n_recommendations=3),
    }
    model.build_index(None)
    names = (
        "user_ids_ item_ids_ user_embeddings_ item_embeddings_ n_iter_ loss_curve_ "
        "validation_scores_ best_validation_score_ temperature_ n_features_in_ "
        "feature_names_in_"
    )
    return found | {name: getattr(model, name) for name in names.split()}


def assert_same_answers(found, expected):
    for name, values in expected.items():
        if isinstance(values, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], values)
        elif isinstance(values, tuple):
            for one, other in zip(found[name], values, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            np.testing.assert_equal(found[name], values, err_msg=name)


@pytest.fixture(scope="module")
def fitted():
    model = TwoTowerRecommender(**PARAMETERS).fit(X)
    return model, answers(model)


def test_a_value_for_every_parameter():
    assert OTHERS.keys() == TwoTowerRecommender().get_params(deep=False).keys()


def test_set_params_changes_the_next_fit_and_nothing_else(fitted):
    model, expected = fitted
    before = model.get_params(deep=False)
    try:
        assert_same_answers(answers(model.set_params(**OTHERS)), expected)
    finally:
        model.set_params(**before)


def test_add_items_asks_the_state():
    new = pd.DataFrame({"item": [77], "colour": ["red"]})
    model = TwoTowerRecommender(**PARAMETERS).fit(X)
    changed = copy.copy(model).set_params(id_dropout=0.0, item_table=None)
    expected = model.add_items(new).recommend([0], n_recommendations=99)
    np.testing.assert_equal(
        changed.add_items(new).recommend([0], n_recommendations=99), expected
    )
    assert 77 in expected[0]


class Interrupt:
    """A callback that raises at the end of an epoch."""

    def __init__(self, error, task="epoch"):
        self.error = error
        self.task = task

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == self.task:
            raise self.error


DIVERGES = {"learning_rate": 1e30, "weight_decay": 0.0, "normalize": False, "max_iter": 50}


def interrupted(model):
    model.set_callbacks(Interrupt(KeyboardInterrupt())).fit(X[::-1])


def interrupted_with_validation(model):
    model.set_callbacks(Interrupt(KeyboardInterrupt())).fit(X[::-1], X_val=X)


def interrupted_early_stopping(model):
    interrupted(model.set_params(early_stopping=True))


def interrupted_at_the_end(model):
    """When the model is complete, and other callbacks might see it."""
    callback = Interrupt(KeyboardInterrupt(), task="fit")
    model.set_callbacks(callback).fit(X[::-1], X_val=X)


def refused_validation(model):
    model.fit(X[::-1], X_val=X.assign(item=np.nan))


def validation_of_nothing(model):
    model.fit(X[::-1], X_val=X.assign(item=X["item"] + 1000))


def failing_callback(model):
    model.set_callbacks(Interrupt(OSError("disk"))).fit(X[::-1])


def diverging(model):
    model.set_params(**DIVERGES).fit(X[::-1])


def refused_rows(model):
    model.fit(
        X[["item", "user", "when", "device"]].astype({"user": float}).replace({3: np.nan})
    )


def refused_other_columns(model):
    model.set_params(user_features=None, timestamp_column=None, history=None)
    model.fit(X.rename(columns={"user": "a"}))


def refused_parameters(model):
    model.set_params(loss="bpr", negatives="full").fit(X[::-1])


def refused_encoder(model):
    model.set_params(user_encoder=OneHotEncoder(categories=[["x"]])).fit(X[::-1])


def interrupted_warm_start(model):
    model.set_params(warm_start=True)
    interrupted(model)


def diverging_partial_fit(model):
    model.set_params(**DIVERGES).partial_fit(NEXT, n_epochs=50)


def refused_partial_fit(model):
    model.partial_fit(NEXT.assign(user=np.nan))


def partial_fit_of_another_architecture(model):
    model.set_params(embedding_dim=5).partial_fit(NEXT)


FAILURES = [
    (interrupted, KeyboardInterrupt),
    (interrupted_with_validation, KeyboardInterrupt),
    (interrupted_early_stopping, KeyboardInterrupt),
    (interrupted_at_the_end, KeyboardInterrupt),
    (refused_validation, ValueError),
    (validation_of_nothing, ValueError),
    (failing_callback, OSError),
    (diverging, ValueError),
    (refused_rows, ValueError),
    (refused_other_columns, ValueError),
    (refused_parameters, ValueError),
    (refused_encoder, ValueError),
    (interrupted_warm_start, KeyboardInterrupt),
    (diverging_partial_fit, ValueError),
    (refused_partial_fit, ValueError),
    (partial_fit_of_another_architecture, ValueError),
]


@pytest.mark.parametrize(
    ("fail", "error"), FAILURES, ids=lambda f: getattr(f, "__name__", "")
)
def test_a_fit_that_fails_changes_nothing(fitted, fail, error):
    _, expected = fitted
    model = TwoTowerRecommender(**PARAMETERS).fit(X)
    state = model._state
    weights = copy.deepcopy(state.towers.state_dict())
    memory = copy.deepcopy(state.optimizer)
    with pytest.raises(error):
        fail(model)
    assert model._state is state
    assert_same_answers(answers(model), expected)
    for name, value in model._state.towers.state_dict().items():
        assert torch.equal(value, weights[name])
    for name, values in memory[1].items():
        for key, value in values.items():
            assert torch.equal(state.optimizer[1][name][key], value)


@pytest.mark.parametrize(
    ("fail", "error"), FAILURES[:12], ids=lambda f: getattr(f, "__name__", "")
)
def test_a_first_fit_that_fails_leaves_no_fit(fail, error):
    model = TwoTowerRecommender(**PARAMETERS)
    with pytest.raises(error):
        fail(model)
    assert not hasattr(model, "feature_names_in_") and not hasattr(model, "item_ids_")
    with pytest.raises(NotFittedError):
        model.recommend([1])


class RaiseAtCall:
    """Counts the calls of functions of this package, and is interrupted at one of them."""

    def __init__(self, at=None):
        self.at = at
        self.n = 0

    def __call__(self, frame, event, argument):
        code = frame.f_code
        # Python ignores errors where a generator is closed.
        is_generator = code.co_flags & inspect.CO_GENERATOR
        if event == "call" and "sktwotower" in code.co_filename and not is_generator:
            self.n += 1
            if self.n == self.at:
                raise KeyboardInterrupt

    def run(self, call):
        sys.setprofile(self)
        try:
            call()
        finally:
            sys.setprofile(None)


LATER = {
    "early stopping": lambda m: m.set_params(early_stopping=True).fit(X[::-1]),
    "X_val": lambda m: m.fit(X[::-1], X_val=NEXT),
    "warm start": lambda m: m.set_params(warm_start=True).fit(X[::-1], X_val=NEXT),
    "partial_fit": lambda m: m.partial_fit(NEXT, n_epochs=2),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* relevant pairs of X_val .* were seen")
@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
@pytest.mark.parametrize("name", LATER)
def test_an_interrupt_at_any_call_changes_nothing(name, is_first):
    """Bit by bit, and a fit afterwards is as if nothing had been."""
    train = LATER[name]

    def model():
        made = TwoTowerRecommender(**PARAMETERS)
        return made if is_first else made.fit(X)

    counter, expected = RaiseAtCall(), model()
    counter.run(lambda: train(expected))
    interrupted_model = model()
    before = {k: pickle.dumps(v) for k, v in vars(interrupted_model).items()}
    parameters = interrupted_model.get_params(deep=False)
    n_points = 5
    for at in np.unique(np.geomspace(30, counter.n, n_points // 2, dtype=int)).tolist() + (
        np.linspace(1, counter.n, n_points, dtype=int).tolist()
    ):
        with pytest.raises(KeyboardInterrupt):
            RaiseAtCall(at).run(lambda: train(interrupted_model))
        interrupted_model.set_params(**parameters)
        now = {k: pickle.dumps(v) for k, v in vars(interrupted_model).items()}
        assert now == before, at
    train(interrupted_model)
    for side in ("user", "item"):
        one, other = (m._state.side(side).embeddings for m in (interrupted_model, expected))
        np.testing.assert_array_equal(one, other)


class Failing(BaseEstimator):
    """An encoder that is interrupted in one of its calls."""

    def __init__(self, where="fit"):
        self.where = where

    def fit(self, X, y=None):
        if self.where == "fit":
            raise KeyboardInterrupt
        return self

    def transform(self, X):
        raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["fit", "transform"])
@pytest.mark.parametrize("side", ["user", "item"])
def test_an_interrupt_in_an_encoder_changes_nothing(fitted, where, side):
    _, expected = fitted
    model = TwoTowerRecommender(**PARAMETERS).fit(X)
    state = model._state
    model.set_params(**{f"{side}_encoder": Failing(where)})
    for call in (lambda: model.fit(X), lambda: model.fit(X, X_val=NEXT)):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert model._state is state


def test_a_failed_fit_can_be_followed_by_another(fitted):
    _, expected = fitted
    model = TwoTowerRecommender(**PARAMETERS)
    with pytest.raises(ValueError, match="loss became"):
        diverging(model)
    assert_same_answers(
        answers(model.set_params(**TwoTowerRecommender(**PARAMETERS).get_params()).fit(X)),
        expected,
    )


class KeepLast(Interrupt):
    """Keeps the model of each epoch, and interrupts after the second."""

    def __init__(self):
        super().__init__(None)
        self.models = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.models.append(fitted_estimator)
            if len(self.models) == 2:
                raise KeyboardInterrupt


@pytest.mark.parametrize("average", [True, False])
def test_a_callback_keeps_the_model_of_each_epoch(average):
    """It is a model of its own: what is trained afterwards does not change it."""
    keep = KeepLast()
    model = TwoTowerRecommender(**{**PARAMETERS, "max_iter": 9, "average": average})
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(keep).fit(X)
    first, second = keep.models
    one_epoch = pickle.loads(pickle.dumps(first))
    assert first.n_iter_ == 1 and second.n_iter_ == 2
    new = pd.DataFrame({"user": [999], "team": ["a"]})
    assert (first.recommend(new)[1] != second.recommend(new)[1]).any()
    np.testing.assert_array_equal(first.recommend(new)[1], one_epoch.recommend(new)[1])
    assert second.partial_fit(NEXT).n_iter_ == 3


def test_a_kept_model_knows_all_rows(tmp_path):
    """Its histories have the held-out rows of early stopping; saving changes nothing."""
    pytest.importorskip("skops")
    keep = KeepLast()
    model = TwoTowerRecommender(**PARAMETERS, early_stopping=True, validation_fraction=0.3)
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(keep).fit(X)
    kept = keep.models[-1].set_callbacks()
    kept.save(tmp_path)
    assert_same_answers(answers(sktwotower.load(tmp_path)), answers(kept))
    assert kept.validation_scores_ is not None and len(kept.validation_scores_) == 2


@pytest.mark.slow
def test_others_answer_and_save_while_one_thread_trains(tmp_path):
    """Each answer, and each saved model, is one of the two models; none is a mixture."""
    pytest.importorskip("skops")
    X = helpers.make_X()
    parts, users = (X, X.assign(item=X["item"] + 5)[:60]), [0, 1, 2]

    def make():
        return helpers.make_model(
            user_column="user",
            item_column="item",
            timestamp_column="time",
            history=PooledHistory(2),
        )

    def asked(model):
        return (
            model.recommend(users)[0].tolist(),
            model.recommend(users, as_frame=True).to_numpy().tolist(),
            model.predict(X[:5].assign(item=7)).tolist(),
            model.similar_items([6, 7])[0].tolist(),
        )

    def right(answers):
        return all(answers[n] in (known[0][n], known[1][n]) for n in range(len(answers)))

    def save():
        model.save(tmp_path / "model")
        return asked(sktwotower.load(tmp_path / "model"))

    known = [asked(make().fit(part)) for part in parts]
    assert all(one != other for one, other in zip(*known, strict=True))
    model, done = make().fit(parts[0]), threading.Event()

    def again_and_again(ask):
        answers = []
        while not done.is_set():
            answers.append(ask())
        return answers

    with ThreadPoolExecutor(3) as pool:
        asking = [
            pool.submit(again_and_again, f) for f in (save, *2 * [lambda: asked(model)])
        ]
        for n in range(20):
            model.fit(parts[n % 2])
        done.set()
        answers = [future.result() for future in asking]
    assert all(map(len, answers))
    assert all(right(answer) for some in answers for answer in some)
    assert all(answer in known for answer in answers[0])


def test_others_answer_while_one_thread_fits(fitted):
    model, _ = fitted
    model = copy.copy(model)
    expected = model.recommend([0, 1])[1]
    inside, go_on = threading.Event(), threading.Event()

    class Waits(Interrupt):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch":
                inside.set()
                go_on.wait(60)

    model.set_callbacks(Waits(None)).set_params(random_state=5)
    thread = threading.Thread(target=model.fit, args=(X,))
    thread.start()
    assert inside.wait(60)
    found = model.recommend([0, 1])[1]
    go_on.set()
    thread.join()
    np.testing.assert_array_equal(found, expected)
    assert (model.recommend([0, 1])[1] != expected).any()
