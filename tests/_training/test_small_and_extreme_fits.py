"""Fits of very few rows, of batches larger than the data, and of very long vectors."""

import re

import numpy as np
import pandas as pd
import pytest

import sktwotower
from sktwotower import TwoTowerRecommender
from sktwotower._nn import lazy_tables
from sktwotower.history import PooledHistory
from tests.helpers import make_X, pairwise, same_embeddings

FEW = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [10, 20, 20, 30, 30]})
COLUMNS = {"user_column": "user", "item_column": "item"}
SMALL = {**COLUMNS, "embedding_dim": 3, "max_iter": 3, "random_state": 0}


# --- vectors longer than eight batches --------------------------------------------------


def table_of_vectors(ids, width, name="item"):
    rng = np.random.default_rng(0)
    vectors = list(rng.normal(size=(len(ids), width)))
    return pd.DataFrame({name: ids, "vector": vectors, "kind": [*"abab"][: len(ids)]})


@pytest.mark.parametrize(
    "options", [{}, {"hidden_layer_sizes": None}, {"optimizer": "sgd"}]
)
@pytest.mark.parametrize("name", ["user", "item"])
def test_a_long_vector_trains_as_a_whole_table(monkeypatch, name, options):
    """With and without lazy tables, which have no use for its table: every row changes."""
    table = table_of_vectors(sorted(FEW[name].unique()), 100, name)
    options = {**SMALL, **options, f"{name}_table": table, "batch_size": 4}
    model = TwoTowerRecommender(**options).fit(FEW).partial_fit(FEW)
    monkeypatch.setattr(lazy_tables, "ROWS_FOR_ONE_OF_A_BATCH", 10**9)
    assert same_embeddings(model, TwoTowerRecommender(**options).fit(FEW).partial_fit(FEW))
    before = TwoTowerRecommender(**{**options, "max_iter": 1, "learning_rate": 1e-9}).fit(
        FEW
    )
    assert not np.allclose(model.item_embeddings_, before.item_embeddings_)


def test_a_long_vector_beside_lazy_tables(monkeypatch):
    """Ids, and the columns of a category, are looked up; those of the vector are not."""
    X = make_X(n_rows=60, n_users=50, n_items=40)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"item": range(40), "vector": list(rng.normal(size=(40, 60)))})
    table["name"] = [f"name {i // 2}" for i in range(40)]
    options = {**SMALL, "item_table": table, "batch_size": 2, "history": PooledHistory(3)}
    model = TwoTowerRecommender(**options).fit(X)
    monkeypatch.setattr(lazy_tables, "ROWS_FOR_ONE_OF_A_BATCH", 10**9)
    whole = TwoTowerRecommender(**options).fit(X)
    assert not same_embeddings(model, whole)  # ids were updated lazily
    np.testing.assert_allclose(model.item_embeddings_, whole.item_embeddings_, atol=1e-4)
    np.testing.assert_allclose(model.user_embeddings_, whole.user_embeddings_, atol=1e-4)


# --- few rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_few_users_with_history_dropout_train(seed):
    """In a third of the epochs no row is drawn."""
    options = {**SMALL, "history": PooledHistory(3, dropout=0.2), "max_iter": 20}
    model = TwoTowerRecommender(**options | {"random_state": seed}).fit(FEW)
    assert model.n_iter_ == 20 and np.isfinite(model.loss_curve_).all()


TINY = {
    "one row": ([1], [1]),
    "one user": ([1, 1, 1], [1, 2, 3]),
    "one item": ([1, 2, 3], [1, 1, 1]),
    "users with everything": ([1, 1, 2, 2], [1, 2, 1, 2]),
    "repeats": ([1, 1, 1, 2], [1, 1, 1, 2]),
}
NEGATIVES = {
    "softmax": ["auto", "in_batch", "mixed", "full", "random", "popular"],
    "cross_entropy": ["auto", "random", "unconsumed", "popular"],
    "bpr": ["auto", "random", "unconsumed", "popular"],
    "max_margin": ["auto", "random", "unconsumed", "popular"],
}
OBJECTIVES = [(loss, word) for loss, words in NEGATIVES.items() for word in words]
OPTIONS = [
    {},
    {"history": PooledHistory(2)},
    {"popularity_prior": 1.0, "batch_norm": True, "hidden_layer_sizes": 4},
    {"sampling_correction": "refined"},
    {"ssl_pattern": "cfm", "item_table": True},
]
REASONS = "no negative|more than the|does not go with|nothing to learn from"


LABELS = {
    "none": lambda n: None,
    "one positive": lambda n: np.arange(n) == 0,
    "one negative": lambda n: np.arange(n) != 0,
}
COMBINATIONS = pairwise(
    {
        "data": list(TINY),
        "objective": OBJECTIVES,
        "options": OPTIONS,
        "labels": list(LABELS),
        "batch_size": [1, 2, 512],
    }
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model cannot be better than the most popular")
@pytest.mark.parametrize("data", TINY)
def test_tiny_data_trains_or_says_why_not(data):
    users, items = TINY[data]
    X = pd.DataFrame({"user": users, "item": items})
    table = pd.DataFrame({"item": [1, 2, 3], "kind": ["a", "b", "a"]})
    for case in [case for case in COMBINATIONS if case["data"] == data]:
        options = dict(case["options"], batch_size=case["batch_size"])
        if "item_table" in options:
            options["item_table"] = table
        loss, negatives = case["objective"]
        model = TwoTowerRecommender(
            **SMALL | {"max_iter": 2}, **options, loss=loss, negatives=negatives
        )
        y = LABELS[case["labels"]](len(X))
        try:
            model.fit(X, y).partial_fit(X, y)
        except ValueError as error:
            assert re.search(REASONS, str(error)), (case, error)
            continue
        assert len(model.loss_curve_) == 3
        assert np.isfinite(model.loss_curve_).all()
        assert np.isfinite(model.item_embeddings_).all()


@pytest.mark.parametrize("loss", NEGATIVES)
@pytest.mark.parametrize("light", [1e-60, 1e-200, 5e-324])
def test_a_batch_of_rows_that_weigh_next_to_nothing(loss, light):
    """They are as good as absent, but a batch of them has a loss."""
    X = make_X(n_rows=40)
    heavy = np.arange(40) < 8
    weights = np.where(heavy, 1.0, light)
    options = {**SMALL, "loss": loss, "batch_size": 4}
    model = TwoTowerRecommender(**options).fit(X, sample_weight=weights)
    assert np.isfinite(model.loss_curve_).all()
    model.partial_fit(X, sample_weight=weights)
    labels = TwoTowerRecommender(**options).fit(X, ~heavy, sample_weight=weights)
    assert np.isfinite(labels.loss_curve_).all()


def test_weights_whose_sum_is_infinite():
    X = make_X(n_rows=40)
    some = np.repeat([1.0, 2.0], 20)
    models = (
        TwoTowerRecommender(**SMALL).fit(X, sample_weight=some * scale)
        for scale in (1.0, 2.0**1022)
    )
    assert same_embeddings(*models)


# --- numbers of NumPy ---------------------------------------------------------------------

PLAIN = {
    **COLUMNS,
    "embedding_dim": 8,
    "batch_size": 200,
    "max_iter": 3,
    "negatives": "mixed",
    "n_negatives": 150,
    "history": PooledHistory(100),
    "hidden_layer_sizes": (100,),
    "id_dropout": 0.25,
    "popularity_prior": 0.5,
    "dropout": 0.25,
    "temperature": 0.125,
    "margin": 1.5,
    "ssl_weight": 0.5,
    "learning_rate": 2.0**-7,
    "warmup_fraction": 0.125,
    "weight_decay": 0.25,
    "epsilon": 2.0**-24,
    "max_grad_norm": 0.5,
    "early_stopping": True,
    "validation_fraction": 0.25,
    "n_iter_no_change": 2,
    "tol": 0.0,
    "random_state": 7,
    "normalize": True,
    "verbose": 0,
}


@pytest.mark.parametrize("integer", [np.uint8, np.int8, np.int64])
def test_numbers_of_numpy_are_numbers(tmp_path, integer):
    """Small types overflow in products, so Python's numbers are computed with."""
    X = make_X(n_rows=900, n_users=60, n_items=200)
    plain = PLAIN
    if integer is np.int8:
        plain = PLAIN | {"batch_size": 120, "n_negatives": 110}

    def typed(value):
        if isinstance(value, bool):
            return np.bool_(value)
        if isinstance(value, tuple):
            return np.array(value, dtype=integer)
        kinds = {int: integer, float: np.float16}
        return kinds.get(type(value), lambda same: same)(value)

    one = TwoTowerRecommender(**plain).fit(X)
    other = TwoTowerRecommender(**{k: typed(v) for k, v in plain.items()}).fit(X)
    assert same_embeddings(one, other) and one.loss_curve_ == other.loss_curve_
    one.partial_fit(X, n_epochs=2)
    assert same_embeddings(one, other.partial_fit(X, n_epochs=integer(2)))
    pytest.importorskip("skops")
    other.save(tmp_path / "model")
    assert same_embeddings(one, sktwotower.load(tmp_path / "model"))


def test_the_largest_of_a_small_type():
    most = np.uint8(255)
    model = TwoTowerRecommender(**SMALL | {"max_iter": most}).fit(FEW)
    assert model.n_iter_ == 255
    assert model.partial_fit(FEW, n_epochs=most).n_iter_ == 510
