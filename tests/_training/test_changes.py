"""Parameters that change when a training is continued: they count, or are refused."""

import copy
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._training.changes import _are_equal
from sktwotower.history import PooledHistory
from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import make_X, same_embeddings

ITEMS = pd.DataFrame({"item": range(9), "colour": list("abcabcabc"), "size": range(9)})
USERS = pd.DataFrame({"user": range(12), "team": ["a", "b"] * 6})
X = make_X().assign(device=["phone", "desk", "tv"] * 30)
NEXT = make_X(1, n_rows=30).assign(device=["phone", "desk", "tv"] * 10)
NEXT["time"] += 90
PARAMETERS = {
    "user_column": "user",
    "item_column": "item",
    "timestamp_column": "time",
    "user_features": ["device"],
    "user_table": USERS,
    "item_table": ITEMS,
    "history": PooledHistory(3),
    "embedding_dim": 4,
    "hidden_layer_sizes": (6,),
    "negatives": "mixed",
    "n_negatives": 4,
    "batch_size": 16,
    "max_iter": 2,
    "random_state": 0,
}
# Values of parameters that the fitted towers depend on, and how the message ends.
REFUSED = {
    "user_column": ("device", "it was 'user' and is 'device'."),
    "item_column": ("device", "it was 'item' and is 'device'."),
    "timestamp_column": (None, "it was 'time' and is None."),
    "user_features": (None, "it was ['device'] and is None."),
    "item_features": (["device"], "it was None and is ['device']."),
    "user_table": (None, "it was a table of ['team'] and is None."),
    "item_table": (
        ITEMS.drop(columns="size"),
        "it was a table of ['colour', 'size'] and is a table of ['colour'].",
    ),
    "user_encoder": (
        OneHotEncoder(),
        "it was FeatureEncoder() and is OneHotEncoder().",
    ),
    "item_encoder": (
        FeatureEncoder(min_frequency=3),
        "it was FeatureEncoder() and is FeatureEncoder(min_frequency=3).",
    ),
    "user_id_embedding": (False, "it was True and is False."),
    "item_id_embedding": (False, "it was True and is False."),
    "history": (None, "it was PooledHistory(size=3) and is None."),
    "history__tied": (
        True,
        "it was PooledHistory(size=3) and is PooledHistory(size=3, tied=True).",
    ),
    "embedding_dim": (7, "it was 4 and is 7."),
    "hidden_layer_sizes": (5, "it was (6,) and is (5,)."),
    "activation": ("tanh", "it was 'relu' and is 'tanh'."),
    "batch_norm": (True, "it was False and is True."),
    "normalize": (False, "it was True and is False."),
    "temperature": ("learned", "it was 0.1 and is 'learned'."),
}
# Values that count, and other parameters that they need to count.
EFFECTIVE = {
    "id_dropout": (0.3, {}),
    "popularity_prior": (2.0, {}),
    "dropout": (0.5, {}),
    "loss": ("bpr", {"negatives": "random"}),
    "negatives": ("in_batch", {}),
    "n_negatives": (2, {}),
    "sampling_correction": (None, {}),  # of "auto", that is "logq" here
    "mask_known_positives": (False, {}),
    "margin": (0.2, {"loss": "max_margin", "negatives": "random"}),
    "ssl_pattern": ("rfm", {}),
    "ssl_weight": (3.0, {"ssl_pattern": "rfm"}),
    "optimizer": ("sgd", {}),
    "learning_rate": (0.1, {}),
    "lr_schedule": ("constant", {}),
    "warmup_fraction": (0.5, {}),
    "weight_decay": (0.0, {}),
    "epsilon": (1.0, {}),
    "max_grad_norm": (1e-6, {}),
    "batch_size": (8, {}),
    "average": (False, {}),
    "random_state": (1, {}),
}
# Values that only a fit counts: partial_fit has no validation and its own n_epochs.
OF_FIT = {
    "max_iter": (1, {}),
    "early_stopping": (True, {}),
    "validation_fraction": (0.4, {"early_stopping": True}),
    "refit": (False, {"early_stopping": True}),
    "history__dropout": (
        0.5,
        {
            "negatives": "full",
            "timestamp_column": None,
            "user_features": None,
            "max_iter": 1,
            "weight_decay": 0.1,  # "auto" would be another one
        },
    ),
}
# Values that change no number here.
HARMLESS = {
    "n_iter_no_change": 1,
    "tol": 1.0,
    "validation_metric": "recall@3",
    "warm_start": True,
    "device": "cpu",
    "verbose": True,
}
OTHER_VALUES = {"history__size": 2, "temperature": 0.3, "popularity_prior": 0.5}


@pytest.fixture(scope="module")
def fitted():
    """Models by what they have beside PARAMETERS; each call gets a copy."""
    models = {}

    def model_with(others):
        key = repr(others)
        if key not in models:
            models[key] = TwoTowerRecommender(**PARAMETERS | others).fit(X)
        return copy.deepcopy(models[key])

    return model_with


def continued(model, how, **parameters):
    if how == "partial_fit":
        return model.set_params(**parameters).partial_fit(NEXT, n_epochs=2)
    return model.set_params(**{"warm_start": True} | parameters).fit(X)


@pytest.fixture(scope="module")
def unchanged(fitted):
    """Models of ``fitted`` that were continued as they are; no test changes them."""
    models = {}

    def model_with(others, how):
        key = repr(others), how
        if key not in models:
            models[key] = continued(fitted(others), how)
        return models[key]

    return model_with


HOW = {
    "partial_fit": "between fit and partial_fit",
    "fit": "between two fits with warm_start=True",
}


def test_every_parameter_is_here():
    cases = {*REFUSED, *EFFECTIVE, *OF_FIT, *HARMLESS, *OTHER_VALUES}
    model = TwoTowerRecommender(history=PooledHistory())
    assert cases == set(model.get_params())


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, "partial_fit") for name in REFUSED]
    # Another fit reads other columns of X.
    + [(name, "fit") for name in REFUSED if not name.endswith("_column")],
)
def test_a_change_is_refused_by_name_and_changes_nothing(fitted, name, how):
    value, end = REFUSED[name]
    model = fitted({})
    state, before = model._state, pickle.dumps(model._state)
    with pytest.raises(ValueError) as caught:
        continued(model, how, **{name: value})
    assert str(caught.value) == f"{name.partition('__')[0]} cannot change {HOW[how]}; {end}"
    assert model._state is state
    assert pickle.dumps(state) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", EFFECTIVE)
def test_a_change_that_is_taken_counts(fitted, unchanged, how, name):
    value, others = EFFECTIVE[name]
    same = unchanged(others, how)
    other = continued(fitted(others), how, **{name: value})
    assert np.isfinite(other.loss_curve_).all()
    assert not same_embeddings(same, other)


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_other_numbers_count(fitted, unchanged, name):
    others = {"popularity_prior": 1.0} if name == "popularity_prior" else {}
    same = unchanged(others, "partial_fit")
    other = continued(fitted(others), "partial_fit", **{name: OTHER_VALUES[name]})
    assert not same_embeddings(same, other)


@pytest.mark.parametrize("name", OF_FIT)
def test_a_change_that_only_fit_knows(fitted, unchanged, name):
    value, others = OF_FIT[name]
    other = continued(fitted(others), "partial_fit", **{name: value})
    assert same_embeddings(unchanged(others, "partial_fit"), other)
    same, other = (
        unchanged(others, "fit"),
        continued(fitted(others), "fit", **{name: value}),
    )
    # A refit on all rows may come to the same model by other rows to validate on.
    is_same = same_embeddings(same, other) and same.n_iter_ == other.n_iter_
    assert not is_same or same.validation_scores_ != other.validation_scores_


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", HARMLESS)
def test_a_change_that_changes_no_number(fitted, unchanged, how, name, capsys):
    same = unchanged({}, how)
    other = continued(fitted({}), how, **{name: HARMLESS[name]})
    assert same_embeddings(same, other)


def test_a_temperature_that_was_learned(fitted):
    model = fitted({"temperature": "learned"})
    with pytest.raises(ValueError, match=r"temperature cannot .* was 'learned' and is 0.2"):
        continued(model, "partial_fit", temperature=0.2)


def test_layers_have_no_activation_without_hidden_ones(fitted, unchanged):
    others = {"hidden_layer_sizes": ()}
    same = unchanged(others, "partial_fit")
    other = continued(fitted(others), "partial_fit", activation="tanh", batch_norm=True)
    assert same_embeddings(same, other)


def test_dropout_leaves_the_memory_of_the_optimizer(fitted):
    """Layers keep their names, and so their moments."""
    model = fitted({})
    name = "user_tower.mlp.output.weight"
    step = model._state.optimizer[1][name]["step"]
    continued(model, "partial_fit", dropout=0.5)
    assert model._state.optimizer[1][name]["step"] > step + 1


@pytest.mark.parametrize("how", HOW)
def test_the_order_of_columns_does_not_matter(fitted, unchanged, how):
    same = unchanged({}, how)
    table = ITEMS[["size", "item", "colour"]]
    assert same_embeddings(same, continued(fitted({}), how, item_table=table))


def test_the_same_features_by_position_name_and_callable(fitted, unchanged):
    same = unchanged({}, "partial_fit")
    text = make_column_selector(pattern="dev")
    for features in ([3], slice(3, 4), np.array([False, False, False, True]), text):
        other = continued(fitted({}), "partial_fit", user_features=features)
        assert same_embeddings(same, other)


def test_a_callable_that_finds_more(fitted):
    with pytest.raises(ValueError, match=r"user_features cannot .* and is \['time', 'dev"):
        continued(
            fitted({}),
            "partial_fit",
            user_features=make_column_selector(pattern="time|dev"),
        )


def test_a_column_that_the_first_rows_did_not_have(fitted):
    model = fitted({}).set_params(user_features=["device", "city"])
    with pytest.raises(ValueError, match=r"cannot change .* and is \['device', 'city'\]"):
        model.partial_fit(NEXT.assign(city="rome"))


def test_what_else_is_wrong_is_not_a_change_of_features(fitted):
    features = make_column_selector(pattern="device")
    model = fitted({"user_features": features})
    with pytest.raises(ValueError, match="X lacks the column 'user'"):
        model.partial_fit(NEXT.drop(columns="user"))
    with pytest.raises(ValueError, match="item_features cannot .* was None and is 'city'"):
        model.set_params(item_features="city").partial_fit(NEXT.assign(city="rome"))


def test_features_of_X_do_not_become_those_of_a_table(fitted):
    model = fitted({"user_table": None})
    devices = X.drop_duplicates("user")[["user", "device"]]
    with pytest.raises(ValueError, match=r"user_table cannot .*None .*of \['device'\]"):
        model.set_params(user_table=devices).partial_fit(NEXT)


def test_a_table_may_come_later_only_with_features(fitted):
    """A side without features in X keeps those it had if its table is gone."""
    model = fitted({"user_features": None, "user_table": None})
    model.set_params(item_table=None).partial_fit(NEXT)
    assert model._state.item.entities.columns == ["colour", "size"]
    with pytest.raises(ValueError, match=r"was None and is a table of \['team'\]"):
        model.set_params(user_table=USERS).partial_fit(NEXT)
    with pytest.raises(ValueError, match="and is a table without features"):
        model.set_params(
            user_table=None, item_table=EntityTable(ITEMS, "item", features=[])
        ).partial_fit(NEXT)


def test_arrays_have_positions(fitted):
    model = TwoTowerRecommender(user_features=[3], embedding_dim=2, max_iter=1)
    rows = X[["user", "item", "time", "device"]].to_numpy()
    model.fit(rows).partial_fit(rows)
    with pytest.raises(ValueError, match=r"it was \['x3'\] and is \['x2', 'x3'\]"):
        model.set_params(user_features=[2, 3]).partial_fit(rows)


def shift(values, by=0):
    return values + by


ENCODERS = [
    FeatureEncoder(),
    OneHotEncoder(categories=[np.array(["a", "b"])], sparse_output=False),
    OneHotEncoder(categories=[["a", "b"]]),
    OneHotEncoder(dtype=np.float32),
    StandardScaler(),
    FunctionTransformer(np.log1p),
    FunctionTransformer(np.sqrt),
    FunctionTransformer(shift),
    FunctionTransformer(partial(shift, by=1)),
    FunctionTransformer(partial(shift, by=2)),
    make_column_transformer((OneHotEncoder(), ["a"]), (StandardScaler(), ["b"])),
    make_column_transformer((OneHotEncoder(), ["a"]), (StandardScaler(), ["c"])),
    make_column_transformer((OneHotEncoder(), make_column_selector("a"))),
    make_column_transformer((OneHotEncoder(), make_column_selector("b"))),
]


@pytest.mark.parametrize("number", range(len(ENCODERS)))
def test_encoders_are_equal_by_their_parameters(number):
    """A clone is; no two of these are."""
    one = ENCODERS[number]
    assert _are_equal(one, copy.deepcopy(one))
    assert [_are_equal(one, other) for other in ENCODERS].count(True) == 1


def test_objects_without_values_are_no_reason_to_refuse():
    for value in (np.random.RandomState(0), np.nan, pd.DataFrame({"a": [1, 2]})):
        one, other = (
            FunctionTransformer(kw_args={"a": v}) for v in (value, copy.copy(value))
        )
        assert _are_equal(one, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "hinge"),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("dropout", 1.5),
        ("id_dropout", -0.1),
        ("sampling_correction", "log"),
        ("mask_known_positives", "no"),
        ("optimizer", None),
    ],
)
def test_what_no_fit_takes_is_refused(fitted, name, value):
    model = fitted({}).set_params(**{name: value})
    with pytest.raises(ValueError, match=f"The '{name}' parameter of TwoTowerRecommender"):
        model.partial_fit(X)
    assert same_embeddings(model, fitted({}))
