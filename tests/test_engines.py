"""Recommendations and searches on Dask and Spark are those without them.

Spark and Ray train, too. Neither is in the test environment: install ``pyspark`` and
``ray[train]`` to run their tests.
"""

import os
import shutil
import subprocess
import sys
from copy import copy

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, load
from sktwotower.datasets import load_movielens_small
from sktwotower.metrics import make_ranking_scorer
from tests.helpers import EXAMPLES, NAMES, example, make_model, run_example

pytestmark = pytest.mark.slow
for package in ("pyarrow", "safetensors", "skops"):
    pytest.importorskip(package)

ID = {"int": int, "str": "user {}".format}


def ordered(frame):
    return frame.sort_values([frame.columns[0], "rank"], ignore_index=True)


def assert_same(found, expected):
    """Whatever the order of the users; scores of another batch differ by rounding."""
    pd.testing.assert_frame_equal(ordered(found), ordered(expected), atol=1e-6)


@pytest.fixture(scope="module", params=ID)
def fitted(request, data):
    """A model and all its users, with ids of two kinds."""
    change = ID[request.param]
    users = data.user_table.assign(user_id=data.user_table["user_id"].map(change))
    X = data.interactions
    X = X.assign(user_id=X["user_id"].map(change), item_id=X["item_id"].map(change))
    model = make_model(
        **NAMES,
        user_table=EntityTable(users, "user_id"),
        max_iter=1,
    )
    return model.fit(X), users


# Dask.


@pytest.fixture(scope="module")
def client():
    """A worker in another process, which is what models and frames are sent to."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, cluster.get_client() as client:
        yield client


def test_partitions_are_answered(client, fitted):
    dd = pytest.importorskip("dask.dataframe")
    model, users = fitted
    frame = example("recommend_dask").recommend_frame(
        client, model, dd.from_pandas(users, npartitions=3), n=5
    )
    expected = model.recommend(users, n_recommendations=5, as_frame=True)
    assert frame.npartitions == 3
    pd.testing.assert_series_equal(frame.dtypes, expected.dtypes)
    assert_same(frame.compute(), expected)


def test_partitions_without_users_keep_the_dtypes(client, fitted):
    dd = pytest.importorskip("dask.dataframe")
    model, users = fitted
    few = dd.from_pandas(users, npartitions=3)
    few = few[few["user_id"] == users["user_id"].iloc[-1]]
    found = example("recommend_dask").recommend_frame(client, model, few).compute()
    expected = model.recommend(users.tail(1), as_frame=True)
    assert_same(found, expected)
    pd.testing.assert_series_equal(found.dtypes, expected.dtypes)


def test_partitions_with_nothing_left_to_recommend(client, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    X = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": ["a", "b", "a", "b", "a"]})
    model = make_model().fit(X)
    users = dd.from_pandas(pd.DataFrame({"user": [1, 2, 3]}), npartitions=3)
    frame = example("recommend_dask").recommend_frame(client, model, users)
    frame.to_parquet(tmp_path / "out", write_index=False)
    expected = model.recommend([3], as_frame=True)
    for found in (frame.compute(), pd.read_parquet(tmp_path / "out")):
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected)


def test_the_model_is_not_in_the_tasks(client, fitted):
    cloudpickle = pytest.importorskip("cloudpickle")
    dd = pytest.importorskip("dask.dataframe")
    model, users = fitted
    large = copy(model)
    large.ballast = np.zeros(1_000_000)
    frame = example("recommend_dask").recommend_frame(
        client, large, dd.from_pandas(users, npartitions=12)
    )
    assert len(cloudpickle.dumps(frame.optimize().dask)) < large.ballast.nbytes
    expected = model.recommend(users, as_frame=True)
    assert_same(frame.compute(), expected)


@pytest.mark.parametrize("fitted", ["str"], indirect=True)
def test_the_dask_script_runs(client, fitted, tmp_path, monkeypatch):
    model, users = fitted
    model.save(tmp_path / "model")
    users.to_parquet(tmp_path / "users.parquet")
    paths = [tmp_path / name for name in ("model", "users.parquet", "out")]
    options = ["-n", "3", "--partitions", "4", "--scheduler", client.scheduler.address]
    run_example(monkeypatch, "recommend_dask", *paths, *options)
    expected = model.recommend(users, n_recommendations=3, as_frame=True)
    assert_same(pd.read_parquet(tmp_path / "out"), expected)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 4


def test_a_search_on_dask_finds_the_same(client, data):
    """A table that clones share goes to the workers, and none of the fits stays here."""
    ranking = make_ranking_scorer(["ndcg@10", "recall@10"])

    def score(model, X, y=None):
        return {**ranking(model, X), "pid": os.getpid()}

    model = make_model(
        **NAMES,
        user_table=EntityTable(data.user_table, "user_id"),
        max_iter=1,
    )
    grid = {"embedding_dim": [4, 8]}
    search = GridSearchCV(model, grid, scoring=score, cv=2, refit="ndcg@10")
    alone = clone(search).fit(data.interactions)
    with joblib.parallel_config(backend="dask"):
        search.fit(data.interactions)
    here, there = (pd.DataFrame(fitted.cv_results_) for fitted in (alone, search))
    pids = there.filter(regex="^split._test_pid").to_numpy()
    assert set(pids.ravel()) <= set(client.run(os.getpid).values())
    timed = "_time$|_pid$"
    pd.testing.assert_frame_equal(
        there.drop(columns=there.filter(regex=timed)),
        here.drop(columns=here.filter(regex=timed)),
    )
    assert search.best_params_ == alone.best_params_
    np.testing.assert_array_equal(
        search.best_estimator_.item_embeddings_, alone.best_estimator_.item_embeddings_
    )


# Spark.


def needs_spark():
    """Skip a test without Spark, or without the Java that it runs on."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")


def run_in_a_shell(name, *arguments):
    """All that a script of ``examples`` prints, whose workers have this Python."""
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
        check=True,
        timeout=300,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where Spark prints what its tasks print
        text=True,
    )
    return ran.stdout


def test_frames_of_a_partition_are_answered_one_by_one(fitted):
    pytest.importorskip("pyspark")
    model, users = fitted
    batches = [users.iloc[:20], users.iloc[20:50], users.iloc[50:]]
    found = example("recommend_spark").recommend_batches(iter(batches), model, 5)
    expected = model.recommend(users, n_recommendations=5, as_frame=True)
    assert_same(pd.concat(found), expected)


@pytest.mark.parametrize("fitted", ["str"], indirect=True)
def test_the_spark_script_runs_from_a_shell(fitted, tmp_path):
    needs_spark()
    model, users = fitted
    model.save(tmp_path / "model")
    users.to_parquet(tmp_path / "users.parquet")
    paths = [tmp_path / name for name in ("model", "users.parquet", "out")]
    run_in_a_shell("recommend_spark", *paths, "-n", "3", "--partitions", "2")
    expected = model.recommend(users, n_recommendations=3, as_frame=True)
    assert_same(pd.read_parquet(tmp_path / "out"), expected)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2


# Training with two processes.


def assert_trains_with_two(name, folder):
    """The model is saved by one process, and the driver recommends with it."""
    printed = run_in_a_shell(name, folder)
    assert "trained by 2 processes" in printed
    model = load(folder / "model")
    first, *_, last = model.loss_curve_
    assert last < first
    films = load_movielens_small().item_table.set_index("item_id")["title"]
    for film in model.recommend([1], n_recommendations=3, as_frame=True)["item_id"]:
        assert films[film] in printed


def test_spark_trains(tmp_path):
    needs_spark()
    assert_trains_with_two("train_spark", tmp_path / "new")


def test_ray_trains(tmp_path):
    pytest.importorskip("ray.train", reason="needs ray[train]")
    assert_trains_with_two("train_ray", tmp_path / "new")
