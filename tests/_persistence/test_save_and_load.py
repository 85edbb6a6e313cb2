"""save and load: equal models, whole artefacts, and what is refused."""

import datetime as dt
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from functools import partial
from io import BytesIO
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.utils import check_random_state

from sktwotower import EntityTable, TwoTowerRecommender, load
from sktwotower.datasets import load_movielens_small
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder
from tests import helpers
from tests.helpers import NAMES, one_thread

safetensors = pytest.importorskip("safetensors.numpy")
skops_io = pytest.importorskip("skops.io")
pytest.importorskip("pyarrow")


class Doubler(TransformerMixin, BaseEstimator):
    """An encoder of neither scikit-learn nor this package."""

    def fit(self, X, y=None):
        self.factor_ = 2.0
        return self

    def transform(self, X):
        return np.asarray(X, dtype=float) * self.factor_


class Stubborn(Doubler):
    """An encoder with something that cannot be stored."""

    def fit(self, X, y=None):
        self.function_ = lambda value: value
        return super().fit(X)


make_model = partial(helpers.make_model, **NAMES, batch_size=64)


@pytest.fixture(scope="module")
def model(data):
    return make_model(
        user_table=data.user_table, item_table=data.item_table, history=PooledHistory(3)
    ).fit(data.interactions)


@pytest.fixture(scope="module")
def grown(data):
    """With times, and with frequencies of items in a stream."""
    X = data.interactions
    model = make_model(item_table=data.item_table, timestamp_column="timestamp", max_iter=1)
    return model.set_params(negatives="in_batch").fit(X).partial_fit(X[:20])


@pytest.fixture
def artefact(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


def folder_of(path):
    manifest = json.loads((path / "manifest.json").read_text())
    return path / manifest["folder"]


def files_of(path):
    """All files of the model; its card is for people."""
    return [file for file in folder_of(path).iterdir() if file.name != "MODEL_CARD.md"]


def rewrite_manifest(path, change):
    """Change the manifest and give it the checksum that belongs to it."""
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    del manifest["sha256"]
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["sha256"] = hashlib.sha256(text).hexdigest()
    file.write_text(json.dumps(manifest))


def replace_file(path, name, content):
    """Put another file in an artefact, with a manifest that knows it."""
    (folder_of(path) / name).write_bytes(content)

    def change(manifest):
        checksum = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = [len(content), checksum]

    rewrite_manifest(path, change)


def assert_same_state(one, other):
    """Equal to the last bit, in all that is remembered."""
    assert one.temperature_ == other.temperature_
    assert set(vars(one)) == set(vars(other))
    for name, value in vars(one).items():
        _assert_same(value, getattr(other, name), name)


def _assert_same(one, other, name):
    assert type(one) is type(other), name
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)
    elif isinstance(one, torch.nn.Module):
        assert str(one) == str(other), name
        assert one.training == other.training, name
        _assert_same(one.state_dict(), other.state_dict(), name)
        # The temperature of the start says nothing where it is learned.
        rest = {"_modules", "_parameters", "_buffers", "_temperature"}
        for module, twin in zip(one.modules(), other.modules(), strict=True):
            mine = {k: v for k, v in vars(module).items() if k not in rest}
            _assert_same(mine, {k: vars(twin)[k] for k in mine}, name)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, name
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact="equiv")
    elif hasattr(one, "indptr"):
        assert one.shape == other.shape, name
        for part in ("data", "indices", "indptr"):
            _assert_same(getattr(one, part), getattr(other, part), f"{name}.{part}")
    elif isinstance(one, dict):
        assert set(one) == set(other), name
        if "optimizer" not in name:  # tensors are found by name only
            assert list(one) == list(other), name
        for key, value in one.items():
            _assert_same(value, other[key], f"{name}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            _assert_same(mine, theirs, f"{name}[{place}]")
    elif isinstance(one, np.random.RandomState):
        _assert_same(one.get_state(), other.get_state(), name)
    elif isinstance(one, make_column_selector):
        _assert_same(vars(one), vars(other), name)
    elif callable(one) and not hasattr(one, "__dict__"):
        assert one is other, name
    elif hasattr(one, "__dict__") and not callable(one):
        _assert_same(vars(one), vars(other), name)
    else:
        assert one == other or one != one, name


def assert_same_answers(one, other, X):
    """Equal results of whatever a fitted model is asked."""
    users = [*one.user_ids_[:5], one.user_ids_[-1]]
    items = list(one.item_ids_[:5])
    stranger = [-1] if users[0] != str(users[0]) else ["nobody"]
    for query in (users, stranger):
        for cold_start in ("tower", "popular", "mean"):
            _assert_same(
                one.recommend(query, cold_start=cold_start),
                other.recommend(query, cold_start=cold_start),
                "recommend",
            )
    _assert_same(
        one.recommend(users, history=X[:3], exclude_seen=False),
        other.recommend(users, history=X[:3], exclude_seen=False),
        "history",
    )
    _assert_same(one.recommend(X[:7]), other.recommend(X[:7]), "rows")
    _assert_same(one.similar_items(items), other.similar_items(items), "similar_items")
    _assert_same(one.predict(X[:50]), other.predict(X[:50]), "predict")
    score = make_ranking_scorer("ndcg@10", exclude_seen=False)
    assert score(one, X[:200]) == score(other, X[:200])
    for tower in ("user_tower_", "item_tower_"):
        ids = users if tower == "user_tower_" else items
        _assert_same(
            getattr(one, tower).transform(ids), getattr(other, tower).transform(ids), tower
        )


def repr_of(thing):
    """Without addresses."""
    return re.sub(r"0x[0-9a-fA-F]+", "0x", repr(thing))


def saved_and_loaded(model, tmp_path, **options):
    model.save(tmp_path / "model")
    return load(tmp_path / "model", **options)


def text_table():
    films = load_movielens_small().item_table
    return (
        films[["item_id", "title", "genres", "year"]]
        .head(40)
        .assign(item_id=np.arange(40), year=np.arange(1960, 2000))
    )


CASES = {
    "ids": {},
    "tables": {"user_table": "user_table", "item_table": "item_table"},
    "deep": {
        "user_table": "user_table",
        "item_table": "item_table",
        "timestamp_column": "timestamp",
        "history": PooledHistory(4),
        "hidden_layer_sizes": [6, 5],
        "activation": "gelu",
        "batch_norm": True,
        "dropout": 0.1,
        "id_dropout": 0.2,
        "temperature": "learned",
        "early_stopping": True,
        "validation_fraction": 0.2,
    },
    "self-supervision": {"item_table": "item_table", "ssl_pattern": "cfm"},
    "without ids": {
        "user_table": "user_table",
        "item_table": "item_table",
        "item_id_embedding": False,
        "normalize": False,
        "temperature": 1.0,
        "optimizer": "adagrad",
        "average": False,
    },
    "sgd": {"optimizer": "sgd", "loss": "bpr", "random_state": np.random.RandomState(3)},
    "device": {"device": torch.device("cpu"), "hidden_layer_sizes": 3},
    "in batch": {"negatives": "in_batch", "n_negatives": 7, "max_grad_norm": 1.0},
    "tied": {"history": PooledHistory(3, tied=True), "popularity_prior": 1.5},
}


# With more rows after the fit there is more to store, so that a fit alone is seldom tried.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "has_gone_on"),
    [(case, True) for case in CASES if case != "device"]
    + [("deep", False), ("tables", False), ("device", False)],
)
def test_a_loaded_model_is_the_one_that_was_saved(data, tmp_path, case, has_gone_on):
    parameters = {
        name: data[value] if name.endswith("_table") else value
        for name, value in CASES[case].items()
    }
    X = data.interactions
    model = make_model(**parameters).fit(X[:800])
    if has_gone_on:
        model.partial_fit(X[800:850])
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_state(model, loaded)
    assert_same_answers(model, loaded, X)
    # And it goes on as if nothing had been.
    model.partial_fit(X[850:])
    loaded.partial_fit(X[850:])
    assert_same_state(model, loaded)
    assert repr_of(clone(loaded)) == repr_of(clone(model))
    if not isinstance(model.random_state, np.random.RandomState):
        again = clone(loaded).fit(X)
        np.testing.assert_array_equal(
            again.item_embeddings_, clone(model).fit(X).item_embeddings_
        )


def encoders():
    text = make_pipeline(TfidfVectorizer(max_features=30), TruncatedSVD(20, random_state=0))
    return {
        "columns": ColumnTransformer(
            [
                ("text", text, "title"),
                ("genres", MultiHotEncoder(), ["genres"]),
                ("year", StandardScaler(), make_column_selector("year")),
            ]
        ),
        "remainder": ColumnTransformer(
            [("genres", OneHotEncoder(handle_unknown="ignore"), [1])],
            remainder=make_pipeline(
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                SimpleImputer(),
            ),
        ),
        "bins": ColumnTransformer(
            [
                ("bins", KBinsDiscretizer(3, strategy="uniform"), [2]),
                ("log", FunctionTransformer(np.log1p), ["year"]),
            ]
        ),
        "own": FeatureEncoder(min_frequency=None, separator=None),
    }


@pytest.mark.parametrize("name", encoders())
def test_encoders_of_scikit_learn_come_back(data, tmp_path, name):
    films = text_table()
    model = make_model(
        item_table=EntityTable(films, "item_id"), item_encoder=encoders()[name]
    ).fit(data.interactions)
    loaded = saved_and_loaded(model, tmp_path)
    cold = films.head(5).assign(item_id=1000 + np.arange(5))
    one = model.recommend([0, 1], candidates=cold, exclude_seen=False)
    other = loaded.recommend([0, 1], candidates=cold, exclude_seen=False)
    _assert_same(one, other, "candidates")
    assert repr(loaded.item_table) == repr(model.item_table)
    assert repr_of(loaded.get_params()["item_encoder"]) == repr_of(model.item_encoder)


def test_items_that_were_added_are_there(data, model, tmp_path):
    model = pickle.loads(pickle.dumps(model))
    new = data.item_table.head(3).assign(item_id=[100, 101, 102])
    with pytest.warns(UserWarning, match="not trained"):
        model.add_items(new)
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_state(model, loaded)
    assert_same_answers(model, loaded, data.interactions)
    more = data.item_table.head(2).assign(item_id=[200, 201])
    for one in (model, loaded):
        with pytest.warns(UserWarning, match="not trained"):
            one.add_items(more)
    assert_same_state(model, loaded)


def test_features_in_X_come_back(data, tmp_path):
    X = data.interactions.merge(data.user_table, on="user_id").merge(
        data.item_table, on="item_id"
    )
    model = make_model(
        user_features=make_column_selector("^user_cat"),
        item_features="item_tags_2",
        timestamp_column="timestamp",
    ).fit(X[:800])
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_state(model, loaded)
    query = X[["user_id", "user_cat_0"]].head()
    _assert_same(model.recommend(query), loaded.recommend(query), "recommend")
    _assert_same(
        model.partial_fit(X[800:]).item_embeddings_,
        loaded.partial_fit(X[800:]).item_embeddings_,
        "partial_fit",
    )


IDS = {
    "numbers": [1, 2, 3, 4],
    "unsigned": np.array([1, 2, 3, 2**63], dtype=np.uint64),
    "floats": [0.5, 1.5, -2.0, 1e15],
    "strings": ["ann", "bob", "", "ünï"],
    "mixed": [1, "a", 2.5, ("a", 1)],
    "booleans": [True, "a", "b", "c"],
    "datetimes": pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01"]),
    "zoned": pd.date_range("2020", periods=4, tz="Europe/Berlin"),
    "dates": [dt.date(2020, 1, day) for day in (1, 2, 3, 4)],
    "uuids": [uuid.UUID(int=number) for number in range(4)],
    "categories": pd.Categorical(["a", "b", "c", "d"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_all_kinds_come_back(tmp_path, kind):
    ids = pd.Series(IDS[kind]) if kind != "mixed" else pd.Series(IDS[kind], dtype=object)
    X = pd.DataFrame(
        {"user_id": ids[[0, 1, 2, 3, 0]].array, "item_id": ids[[1, 2, 3, 0, 2]].array}
    )
    model = make_model().fit(X)
    loaded = saved_and_loaded(model, tmp_path)
    assert_same_state(model, loaded)
    query = list(ids[[0, 3]])
    _assert_same(
        model.recommend(query, n_recommendations=2),
        loaded.recommend(query, n_recommendations=2),
        "recommend",
    )


def test_arrays_without_names_come_back(tmp_path):
    X = np.array([["ann", 1, "x"], ["bob", 2, "x"], ["bob", 3, "y"]], dtype=object)
    model = TwoTowerRecommender(item_features=[2], embedding_dim=2, random_state=0).fit(X)
    loaded = saved_and_loaded(model, tmp_path)
    assert not hasattr(loaded, "feature_names_in_")
    assert_same_state(model, loaded)
    _assert_same(model.recommend(X), loaded.recommend(X), "recommend")


def test_odd_features_come_back(tmp_path):
    table = pd.DataFrame(
        {
            "item_id": [1, 2, 3],
            "list": [["a", "b"], ["a"], None],
            "vector": [np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.array([0.0, 1.0])],
            "codes": [[1, 2], [2], [1]],
            "mixed": ["a", 1, "a"],
            "category": pd.Categorical(["x", "y", "x"], categories=["y", "x"]),
            "bins": pd.cut([1.0, 2.0, 3.0], 2).astype(str),
            "when": pd.to_datetime(["2020", "2021", None]),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
        }
    )
    X = pd.DataFrame({"user_id": ["a", "b", "a"], "item_id": [1, 2, 3]})
    model = make_model(item_table=table, id_dropout=0.1).fit(X)
    loaded = saved_and_loaded(model, tmp_path)
    pd.testing.assert_frame_equal(loaded.item_table, table)
    assert_same_state(model, loaded)
    frame = table[["item_id", "list"]].assign(item_id=[7, 8, 9])
    _assert_same(
        model.recommend(["a"], candidates=frame),
        loaded.recommend(["a"], candidates=frame),
        "recommend",
    )


@pytest.mark.parametrize("keys", [[None], ["", "a|b", "ünï", "\ud800", "a\0"]])
def test_any_keys_of_an_encoder_come_back(keys):
    table = pd.DataFrame({"c": pd.Series(2 * keys, dtype=object)})
    encoder = FeatureEncoder(min_frequency=1, separator=None).fit(table)
    stored = skops_io.dumps(encoder)
    trusted = skops_io.get_untrusted_types(data=stored)
    for twin in (
        skops_io.loads(stored, trusted=trusted),
        pickle.loads(pickle.dumps(encoder)),
    ):
        names = twin.get_feature_names_out().tolist()
        assert names == encoder.get_feature_names_out().tolist()
        assert (twin.transform(table) != encoder.transform(table)).nnz == 0


def test_a_table_of_polars_comes_back_as_pandas(data, tmp_path):
    polars = pytest.importorskip("polars")
    table = EntityTable(polars.from_pandas(data.item_table), "item_id")
    loaded = saved_and_loaded(make_model(item_table=table).fit(data.interactions), tmp_path)
    assert isinstance(loaded.item_table.frame, pd.DataFrame)


INDEXES = {
    "a name": lambda table: table.rename_axis("row"),
    "no name": lambda table: table.sample(frac=1, random_state=0),
    "the ids": lambda table: table.set_index("item_id"),
    "ids and more": lambda table: table.assign(row=1).set_index(["row", "item_id"]),
    "names of no ids": lambda table: table.assign(a=1, b="x").set_index(["a", "b"]),
    "a column's name": lambda table: table.set_index("item_id", drop=False),
    "one name twice": lambda table: table.set_index([table.index] * 2).rename_axis(
        ["a"] * 2
    ),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_of_a_table_is_no_feature_afterwards(data, tmp_path, name):
    X, table = data.interactions, INDEXES[name](data.item_table)
    model = make_model(max_iter=1, item_table=table).fit(X)
    loaded = saved_and_loaded(model, tmp_path)
    assert list(loaded.item_table.columns) == list(table.columns)
    fits = clone(model).fit(X), clone(loaded).fit(X)
    further = model.partial_fit(X[:50]), loaded.partial_fit(X[:50])
    for one, other in (fits, further):
        _assert_same(one._state, other._state, "state")


@pytest.mark.slow
def test_another_process_in_another_directory_recommends_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys, numpy, sktwotower\n"
        "model = sktwotower.load(sys.argv[1])\n"
        "ids, scores = model.recommend(model.user_ids_)\n"
        "numpy.savez('out.npz', ids=ids.astype(str), scores=scores)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "model")]
    subprocess.run(command, cwd=elsewhere, check=True, env=one_thread())
    ids, scores = model.recommend(model.user_ids_)
    with np.load(elsewhere / "out.npz") as out:
        np.testing.assert_array_equal(out["ids"], ids.astype(str))
        np.testing.assert_array_equal(out["scores"], scores)


def test_pickle_and_joblib_work_too(data, model, tmp_path):
    assert_same_state(model, pickle.loads(pickle.dumps(model)))
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    assert_same_answers(model, loaded, data.interactions)


# Another value of every parameter.
SET = {
    "user_column": "a",
    "item_column": 3,
    "timestamp_column": "when",
    "user_features": ["age"],
    "item_features": slice(1, 3),
    "user_table": None,
    "item_table": EntityTable(pd.DataFrame({"id": ["a"], "x": [[1, 2]]}), "id", "x"),
    "user_encoder": OneHotEncoder(),
    "item_encoder": FeatureEncoder(separator=None),
    "user_id_embedding": False,
    "item_id_embedding": False,
    "id_dropout": 0.5,
    "history": PooledHistory(7, dropout=0.5, tied=True),
    "popularity_prior": 2.0,
    "embedding_dim": 9,
    "hidden_layer_sizes": np.array([3, 4]),
    "activation": "tanh",
    "batch_norm": True,
    "dropout": 0.25,
    "normalize": False,
    "loss": "bpr",
    "negatives": "popular",
    "n_negatives": 3,
    "temperature": "learned",
    "sampling_correction": None,
    "mask_known_positives": False,
    "margin": 0.5,
    "ssl_pattern": "rfm",
    "ssl_weight": 0.3,
    "optimizer": "sgd",
    "learning_rate": np.float32(0.1),
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 0.01,
    "epsilon": 1e-6,
    "max_grad_norm": float("inf"),
    "batch_size": 8,
    "max_iter": 1,
    "average": False,
    "early_stopping": True,
    "validation_fraction": 0.3,
    "refit": False,
    "n_iter_no_change": 1,
    "tol": 0.1,
    "validation_metric": "mrr@3",
    "warm_start": True,
    "device": torch.device("cpu"),
    "random_state": np.random.RandomState(1),
    "verbose": 1,
}


def test_parameters_that_were_set_after_fit_and_the_fitted_state_come_back(
    data, model, tmp_path
):
    X = data.interactions
    fitted = pickle.loads(pickle.dumps(model))
    assert set(SET) == set(fitted.get_params(deep=False))
    fitted.set_params(**SET)
    loaded = saved_and_loaded(fitted, tmp_path)
    assert_same_state(fitted, loaded)
    assert_same_answers(model, loaded, X)
    assert repr_of(clone(loaded)) == repr_of(clone(fitted))
    # With the parameters of the fit, it continues as if nothing had been.
    loaded.set_params(**model.get_params(deep=False))
    twin = pickle.loads(pickle.dumps(model))
    assert_same_state(twin.partial_fit(X[:50]), loaded.partial_fit(X[:50]))


def test_a_callable_that_selects_columns_and_a_mask_come_back(model, tmp_path):
    fitted = pickle.loads(pickle.dumps(model))
    fitted.set_params(
        user_features=make_column_selector("^user"),
        item_features=np.array([False, True, True]),
        user_table=EntityTable(pd.DataFrame({"y": [1], "id": [2], "x": [3]}), "id", ["x"]),
    )
    loaded = saved_and_loaded(fitted, tmp_path)
    assert loaded.user_features.pattern == "^user"
    np.testing.assert_array_equal(loaded.item_features, fitted.item_features)
    assert list(loaded.user_table.frame) == ["id", "x"]
    fitted.set_params(user_features=lambda X: ["a"])
    with pytest.raises(TypeError, match="user_features=<function.* without pickle"):
        fitted.save(tmp_path / "model")
    _assert_same(loaded.recommend([0]), load(tmp_path / "model").recommend([0]), "old")


def test_the_optimizer_can_be_left_out(data, model, tmp_path):
    X = data.interactions[:50]
    model.save(tmp_path / "whole")
    model.save(tmp_path / "small", optimizer=False)
    whole, small = load(tmp_path / "whole"), load(tmp_path / "small")
    assert not (folder_of(tmp_path / "small") / "optimizer.safetensors").exists()
    _assert_same(whole.recommend([0]), small.recommend([0]), "recommend")
    whole.partial_fit(X)
    small.partial_fit(X)
    assert not np.array_equal(whole.item_embeddings_, small.item_embeddings_)


def test_files_are_no_pickles_and_the_manifest_is_readable(artefact, model):
    manifest = json.loads((artefact / "manifest.json").read_text())
    assert manifest["format_version"] == 5
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["parts"]["roles"]["user_column"] == "user_id"
    assert manifest["parts"]["parameters"]["embedding_dim"] == 4
    files = {file.name for file in files_of(artefact)}
    assert files == set(manifest["files"])
    assert {file.rpartition(".")[2] for file in files} == {
        "safetensors",
        "parquet",
        "skops",
        "json",
    }
    for file in files_of(artefact):
        content = file.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        assert manifest["files"][file.name] == [len(content), checksum]
    frame = pd.read_parquet(folder_of(artefact) / "item.vocabulary.parquet")
    assert frame["id"].tolist() == model.item_ids_.tolist()


# What is in the parts of an artefact. Other names are another format: give it a new number.
FORMAT = {
    "roles": "arrow_times item_column item_features names owner times timestamp_column "
    "user_column user_features",
    "side": "data dense embeddings encoder fields id_codes id_columns indices indptr "
    "n_columns name popularity raw_features raw_positions trains_cold_path unknown "
    "varying vocabulary",
    "interactions": "items positive times users",
    "settings": "batch_size embedding_dim hidden_layer_sizes history learning_rate "
    "max_iter n_negatives negatives popularity_prior sampling_correction temperature "
    "user_id_embedding weight_decay",
    "frequencies": "_last gaps rate step",
    "log": "loss_curve validation_metric validation_scores",
}
FORMAT["user"] = FORMAT["item"] = FORMAT.pop("side")


def test_the_names_in_an_artefact_belong_to_its_format(model, grown, tmp_path):
    for fitted, left_out in ((grown, set()), (model, {"frequencies"})):
        fitted.save(tmp_path / "model")
        manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
        assert manifest["format_version"] == 5
        parts = {name: " ".join(sorted(part)) for name, part in manifest["parts"].items()}
        assert set(parts) == {*FORMAT, "parameters", "towers", "optimizer"}
        for name in set(FORMAT) - left_out:
            assert parts[name] == FORMAT[name], name


def test_save_and_load_leave_the_global_generators_alone(model, tmp_path):
    of_numpy = check_random_state(None)  # the global one
    numpy_state, torch_state = of_numpy.get_state(), torch.get_rng_state()
    saved_and_loaded(model, tmp_path)
    _assert_same(numpy_state, of_numpy.get_state(), "numpy")
    _assert_same(torch_state, torch.get_rng_state(), "torch")


# What is refused.


def test_a_newer_format_is_refused(artefact):
    rewrite_manifest(artefact, lambda manifest: manifest.update(format_version=6))
    with pytest.raises(ValueError, match="has format 6, which is newer than 5"):
        load(artefact)


def test_the_format_of_development_versions_is_refused(artefact):
    rewrite_manifest(artefact, lambda manifest: manifest.update(format_version=1))
    with pytest.raises(ValueError, match="has format 1, which a development version"):
        load(artefact)


def test_a_flipped_byte_anywhere_is_refused(artefact):
    files = [artefact / "manifest.json", *files_of(artefact)]
    generator = np.random.RandomState(0)
    for file in files:
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[generator.randint(len(content))] ^= 0b100
        file.write_bytes(bytes(damaged))
        with pytest.raises(
            ValueError, match="not what was saved|damaged|not an artefact|newer|development"
        ):
            load(artefact)
        file.write_bytes(content)
    load(artefact)


def test_every_byte_of_a_manifest_counts(artefact, model):
    """Or is white space: a flipped one is refused, or changes nothing."""
    file = artefact / "manifest.json"
    content = file.read_bytes()
    for place in np.random.RandomState(0).permutation(len(content))[:150]:
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(bytes(damaged))
        try:
            loaded = load(artefact)
        except ValueError:
            continue
        assert content[place : place + 1].isspace()
        assert repr(loaded) == repr(model)


def test_a_missing_file_is_refused(artefact):
    for name in [file.name for file in files_of(artefact)]:
        content = (folder_of(artefact) / name).read_bytes()
        (folder_of(artefact) / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            load(artefact)
        (folder_of(artefact) / name).write_bytes(content)


TENSORS = [
    ("item.safetensors", "embeddings", r"shape \(5, 40\)"),
    ("user.safetensors", "unknown", r"shape \(1, 5\)"),
    ("towers.safetensors", "user_tower.id_table", "size mismatch for user_tower.id_table"),
    ("interactions.safetensors", "users", r"shape \(1, 900\)"),
    ("item.safetensors", "id_codes", r"shape \(1, 41\)"),
]


@pytest.mark.parametrize("file, name, message", TENSORS)
def test_a_swapped_shape_is_refused(artefact, file, name, message):
    arrays = safetensors.load_file(folder_of(artefact) / file)
    arrays[name] = np.ascontiguousarray(np.atleast_2d(arrays[name]).T.T)
    if arrays[name].shape[0] > 1:
        arrays[name] = arrays[name].T.copy()
    replace_file(artefact, file, safetensors.save(arrays))
    with pytest.raises(ValueError, match=message):
        load(artefact)


MISFITS = [
    ("interactions", {"items": lambda a: a + 1}, "not between 1 and 40"),
    ("interactions", {"times": lambda a: a[:-1]}, r"'times' of shape \(919,\)"),
    ("interactions", {"positive": lambda a: a.astype(float)}, "'positive' .* float64"),
    ("interactions", {"users": None}, "has no array 'users'"),
    ("user", {"id_codes": lambda a: -a}, "not between 0 and 60"),
    ("item", {"raw_positions": lambda a: a + 1}, "not between -1 and 39"),
    ("item", {"indices": lambda a: a + 99}, "item.safetensors of .* cannot be read"),
    (
        "item",
        {"embeddings": lambda a: a[:, :3], "unknown": lambda a: a[:3]},
        r"embeddings of shape \(40, 3\)",
    ),
    ("towers", {"item_tower.id_table": None}, "has no array 'item_tower.id_table'"),
    ("optimizer", {"item_tower.id_table/step": None}, "has no array 'item_tower.id_table"),
    ("frequencies", {"_last": lambda a: a[:-1]}, "'_last' of shape"),
]


@pytest.mark.parametrize(("part", "changes", "message"), MISFITS)
def test_arrays_that_do_not_fit_are_refused(grown, tmp_path, part, changes, message):
    grown.save(tmp_path / "model")
    file = f"{part}.safetensors"
    arrays = safetensors.load_file(folder_of(tmp_path / "model") / file)
    for name, change in changes.items():
        array = arrays.pop(name)
        if change is not None:
            arrays[name] = np.ascontiguousarray(change(array))
    replace_file(tmp_path / "model", file, safetensors.save(arrays))
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "model")


def test_repeated_ids_are_refused(artefact):
    parquet = pytest.importorskip("pyarrow.parquet")
    file = folder_of(artefact) / "item.vocabulary.parquet"
    table = parquet.read_table(file)
    column = table["id"].combine_chunks().take([0, 0, *range(2, 40)])
    parquet.write_table(table.set_column(0, "id", column), file)
    replace_file(artefact, file.name, file.read_bytes())
    with pytest.raises(ValueError, match="has repeated ids"):
        load(artefact)


class Explosive:
    """What a pickle can do."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["EXPLOSION"],))


@pytest.fixture
def explosion(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLOSION", str(tmp_path / "explosion"))
    return tmp_path / "explosion"


def test_a_planted_pickle_is_refused(artefact, explosion):
    payload = pickle.dumps(Explosive())
    planted = folder_of(artefact) / "extra.pkl"
    planted.write_bytes(payload)
    with pytest.raises(ValueError, match=r"not in the manifest: \['extra.pkl'\]"):
        load(artefact)
    planted.unlink()
    for file in {file.name for file in files_of(artefact)} - {"mark.json"}:
        content = (folder_of(artefact) / file).read_bytes()
        replace_file(artefact, file, payload)
        with pytest.raises(ValueError, match=f"{file} of the artefact cannot be read"):
            load(artefact)
        replace_file(artefact, file, content)
    load(artefact)
    assert not explosion.exists()


def test_a_pickle_inside_an_array_of_skops_is_refused(artefact, explosion):
    file = "encoders.skops"
    changed, n_arrays = BytesIO(), 0
    with (
        zipfile.ZipFile(folder_of(artefact) / file) as old,
        zipfile.ZipFile(changed, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".npy"):
                buffer = BytesIO()
                np.save(buffer, np.array([Explosive()], dtype=object), allow_pickle=True)
                content, n_arrays = buffer.getvalue(), n_arrays + 1
            new.writestr(name, content)
    assert n_arrays
    replace_file(artefact, file, changed.getvalue())
    with pytest.raises(ValueError, match="cannot be read"):
        load(artefact)
    assert not explosion.exists()


def test_a_type_that_runs_code_is_refused_by_name(artefact, explosion):
    harmful = skops_io.dumps(FunctionTransformer(os.mkdir))
    replace_file(artefact, "encoders.skops", harmful)
    with pytest.raises(ValueError, match="posix.mkdir|nt.mkdir"):
        load(artefact)


def test_a_folder_outside_is_refused(artefact):
    rewrite_manifest(artefact, lambda manifest: manifest.update(folder="../other"))
    with pytest.raises(ValueError, match="names the folder '../other'"):
        load(artefact)


def test_unknown_types_are_refused_by_name_until_they_are_trusted(data, tmp_path):
    model = make_model(
        user_table=data.user_table[["user_id", "user_num_1"]], user_encoder=Doubler()
    ).fit(data.interactions)
    model.save(tmp_path / "model")
    name = f"{Doubler.__module__}.Doubler"
    with pytest.raises(ValueError, match=rf"not trusted: \['{name}'\].*trusted=\['{name}'"):
        load(tmp_path / "model")
    for trusted in ([name], [Doubler], (Doubler,)):
        loaded = load(tmp_path / "model", trusted=trusted)
        assert type(loaded.user_encoder_) is Doubler
        _assert_same(model.recommend([0, 1]), loaded.recommend([0, 1]), "recommend")
    with pytest.raises(TypeError, match="trusted must be a list"):
        load(tmp_path / "model", trusted=name)
    with pytest.raises(TypeError, match="trusted must hold types"):
        load(tmp_path / "model", trusted=[3])


def test_a_refused_save_leaves_the_old_artefact(data, model, artefact, tmp_path):
    table = data.user_table[["user_id", "user_num_1"]]
    other = make_model(user_table=table, user_encoder=Stubborn()).fit(data.interactions)
    for path in (artefact, tmp_path / "new"):
        with pytest.raises(TypeError, match="user_encoder_=Stubborn.* without pickle"):
            other.save(path)
    assert not (tmp_path / "new").exists()
    assert len(list(artefact.iterdir())) == 2
    assert_same_state(model, load(artefact))


def test_ids_that_cannot_be_stored_are_refused(tmp_path):
    class Name(str):
        pass

    X = pd.DataFrame({"user_id": [Name("a"), Name("b"), 1, 1], "item_id": [1, 2, 1, 2]})
    model = make_model().fit(X)
    with pytest.raises(TypeError, match=r"Column 'id' holds a value of type .*Name"):
        model.save(tmp_path / "model")


def test_a_subclass_is_refused(data, tmp_path):
    class Special(TwoTowerRecommender):
        pass

    model = Special(embedding_dim=2, max_iter=1).fit([["a", "b"], ["b", "c"], ["a", "c"]])
    with pytest.raises(TypeError, match="not a subclass"):
        model.save(tmp_path / "model")


def test_an_unfitted_model_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        TwoTowerRecommender().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_path_with_something_else_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file; save writes a directory"):
        model.save(tmp_path / "file")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="is not an artefact of sktwotower"):
        model.save(tmp_path / "directory")
    assert (tmp_path / "directory" / "manifest.json").read_text() == "{}"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    with pytest.raises(ValueError, match="other things in it"):
        model.save(tmp_path / "notes")


def test_paths_without_an_artefact_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="not an artefact.*has no manifest.json"):
        load(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="not an artefact.*is no directory"):
        load(tmp_path / "file")
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match="is the manifest of something else"):
        load(tmp_path)


@pytest.mark.parametrize("package", ["safetensors", "skops", "pyarrow"])
def test_a_lacking_package_names_the_extra(model, artefact, tmp_path, monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for call in (lambda: model.save(tmp_path / "new"), lambda: load(artefact)):
        with pytest.raises(ImportError, match=r"need .*pip install 'sktwotower\[save\]'"):
            call()


# A save replaces the one before at once.


def test_a_second_save_leaves_one_version(data, model, artefact):
    first = folder_of(artefact)
    other = make_model(random_state=1).fit(data.interactions)
    other.save(artefact)
    assert not first.exists()
    assert sorted(artefact.iterdir()) == sorted(
        [artefact / "manifest.json", folder_of(artefact)]
    )
    assert_same_state(other, load(artefact))


def test_old_folders_of_killed_saves_are_removed(model, artefact):
    young = artefact / f"version-{'0' * 32}"
    old = artefact / f"version-{'1' * 32}"
    notes = artefact / "README.md"
    notes.write_text("Somebody's own.")
    for folder in (young, old):
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(b"half")
        mark = json.loads((folder_of(artefact) / "mark.json").read_text())
        (folder / "mark.json").write_text(json.dumps(mark | {"folder": folder.name}))
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    model.save(artefact)
    assert young.exists()  # it may be a save under way
    assert not old.exists()
    assert notes.exists()
    load(artefact)


def test_a_first_save_that_was_killed_does_not_bar_the_next(model, tmp_path):
    (tmp_path / f"version-{'0' * 32}").mkdir()
    with pytest.raises(ValueError, match="not an artefact"):
        load(tmp_path)
    model.save(tmp_path)
    load(tmp_path)


def test_a_damaged_artefact_can_be_replaced(model, artefact):
    (artefact / "manifest.json").write_text("{")
    model.save(artefact)
    load(artefact)


def test_a_load_during_a_save_gets_the_new_one(model, artefact, monkeypatch):
    folder, calls = folder_of(artefact), []

    def watched(file, *args, open=os.open, **kwargs):
        if not calls and isinstance(file, Path) and file.parent == folder:
            calls.append(file)
            model.save(artefact)  # the version that is being read is gone
        return open(file, *args, **kwargs)

    monkeypatch.setattr("os.open", watched)
    assert_same_state(model, load(artefact))
    assert calls and not folder.exists()


# Imports take seconds: one process does them, and is forked for each save. What Python is
# about to do with files it tells an audit hook first.
SAVE_AND_DIE = """
import os, signal, sys, sktwotower
path, model = sys.argv[1], sktwotower.load(sys.argv[2])

def save(event, number):
    def watch(name, args):
        nonlocal number
        if name == "open" and not (isinstance(args[2], int) and args[2] & os.O_CREAT):
            return  # nothing new
        number -= name == event
        if number == 0:
            number = -1
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    model.save(path)

for line in sys.stdin:
    event, number = line.split()
    pid = os.fork()
    if pid == 0:
        save(event, int(number))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
# At which event, for which time, and whether the new model is the one that loads.
KILLS = [
    ("os.mkdir", 1, False),  # before there is anything
    ("open", 1, False),  # between files: arrays are there, encoders are not
    ("open", 2, False),  # before the manifest
    ("os.rename", 1, False),  # before the manifest takes the place of the old one
    ("shutil.rmtree", 1, True),  # after it
    ("os.remove", 2, True),  # while the old version is removed
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has neither fork nor kill -9")
def test_a_save_that_is_killed_leaves_an_artefact_that_loads(tmp_path):
    X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"]]
    old, new = (
        TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=seed).fit(X)
        for seed in (0, 1)
    )
    paths = [str(tmp_path / name) for name in ("model", "new")]
    new.save(paths[1])
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_AND_DIE, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=one_thread(),
    ) as process:

        def exit_code(event, number):
            process.stdin.write(f"{event} {number}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        for event, number, is_new in KILLS:
            old.save(paths[0])
            assert exit_code(event, number) == -signal.SIGKILL, event
            expected = new if is_new else old
            assert_same_state(load(paths[0]), expected)
        n_entries = len(list(Path(paths[0]).iterdir()))
        assert n_entries > 2  # folders that were not finished: kills came half-way
        assert exit_code("nothing", 1) == 0
        assert_same_state(load(paths[0]), new)
        process.stdin.close()
