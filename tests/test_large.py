"""Interactions of very many rows: what is mapped from files, and the order of epochs."""

import gc
import pickle
import tempfile
import tracemalloc
from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed

from sktwotower import TwoTowerRecommender
from sktwotower._data import stored_interactions as _dataset
from sktwotower._nn import batches
from sktwotower.datasets import make_interactions
from sktwotower.utils import _column_store as column_store
from tests._nn.helpers import is_mapped

NAMES = {"user_column": "user_id", "item_column": "item_id"}
SMALL = {"embedding_dim": 4, "max_iter": 2, "batch_size": 64, "random_state": 0}


@pytest.fixture
def large(monkeypatch):
    """What is true of many rows is true of a few hundred."""
    monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 150)
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(batches, "BLOCKS_OF_A_WINDOW", 5)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 900
    users, items = rng.integers(40, size=n), rng.integers(30, size=n)
    return pd.DataFrame(
        {
            "user_id": [f"user {i}" for i in users],
            "item_id": items,
            "when": pd.to_datetime(rng.integers(0, 10**6, n), unit="h"),
            "city": rng.choice(["rome", "oslo", "bern"], n),
            "rating": rng.integers(0, 6, n),
            "weight": rng.integers(0, 3, n) / 2,
        }
    )


@pytest.fixture
def path(frame, tmp_path):
    pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    frame.to_parquet(file, row_group_size=64)
    return file


def fit(X, y=None, sample_weight=None, **parameters):
    model = TwoTowerRecommender(**NAMES | SMALL | parameters)
    return model.fit(X, y, sample_weight=sample_weight)


def assert_same_rows(one, other):
    for name in ("users", "items", "positive", "times"):
        assert np.array_equal(getattr(one._events, name), getattr(other._events, name))
    assert (one._seen != other._seen).nnz == 0
    assert np.array_equal(one.user_ids_, other.user_ids_)
    assert np.array_equal(one.item_ids_, other.item_ids_)


def assert_same(one, other):
    assert_same_rows(one, other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert np.array_equal(one.user_embeddings_, other.user_embeddings_)
    assert np.array_equal(one.item_embeddings_, other.item_embeddings_)


CASES = {
    "ids": {},
    "labels": {"y": "rating", "loss": "cross_entropy"},
    "explicit negatives": {"y": "rating", "sample_weight": "weight"},
    "pairs": {"y": "rating", "loss": "bpr"},
    "history": {"timestamp_column": "when", "history_size": 3, "early_stopping": True},
    "history without times": {"history_size": 3, "y": "rating"},
    "features": {
        "user_features": ["city"],
        "timestamp_column": "when",
        "early_stopping": True,
        "sample_weight": "weight",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_as_its_frame(path, large, monkeypatch, case):
    parameters = dict(CASES[case])
    y, weight = parameters.pop("y", None), parameters.pop("sample_weight", None)
    read = pd.read_parquet(path)
    given = [read, None if y is None else read[y], None if weight is None else read[weight]]
    model = fit(path, y, weight, **parameters)
    assert is_mapped(model._events.users) and is_mapped(model._seen.indices)
    assert_same(model, fit(*given, **parameters))
    monkeypatch.undo()
    few = fit(*given, **parameters)
    assert not is_mapped(few._events.users)
    assert_same_rows(model, few)
    assert few.loss_curve_ != model.loss_curve_  # another order


def test_it_is_seeded(path, large):
    one, other = fit(path), fit(path, random_state=1)
    assert_same(one, fit(path))
    assert one.loss_curve_ != other.loss_curve_


@pytest.mark.parametrize("options", [{}, {"history_size": 2, "user_features": ["city"]}])
@pytest.mark.parametrize("first", [600, 100])  # many rows and more; few, and then many
def test_partial_fit(path, large, first, options):
    ds = pytest.importorskip("pyarrow.dataset")
    rows = pd.read_parquet(path)
    table = ds.dataset(path).to_table()
    models = []
    for kind in ("frame", "file"):
        model = TwoTowerRecommender(**NAMES, **SMALL, timestamp_column="when", **options)
        for part in (slice(0, first), slice(first, 800), slice(800, None)):
            if kind == "file":
                model.partial_fit(ds.dataset(table[part]), sample_weight="weight")
            else:
                model.partial_fit(rows[part], sample_weight=rows["weight"][part])
        models.append(model)
    assert is_mapped(models[0]._events.items)
    assert_same(*models)


def test_other_objectives_and_warm_start(path, large):
    for parameters in (
        {"negatives": "mixed", "mask_known_positives": False},
        {"negatives": "popular", "sampling_correction": "refined"},
    ):
        model = fit(path, "rating", warm_start=True, **parameters)
        assert np.isfinite(model.fit(path, "rating").loss_curve_).all()


@pytest.mark.parametrize("column", ["item_id", "user_id"])
def test_a_sorted_file_is_learned_as_well(large, tmp_path, monkeypatch, column):
    pytest.importorskip("pyarrow")
    data = make_interactions(
        n_users=120, n_items=60, n_interactions=2400, n_factors=2, random_state=0
    )
    rows = data.interactions.sort_values(column, ignore_index=True)
    rows.to_parquet(tmp_path / "sorted.parquet", row_group_size=100)
    parameters = dict(
        negatives="in_batch",
        max_iter=10,
        batch_size=32,
        embedding_dim=8,
        learning_rate=0.05,
    )
    found = fit(tmp_path / "sorted.parquet", **parameters).score(rows)
    monkeypatch.undo()
    expected = fit(rows, **parameters).score(rows)
    assert expected > 0.4
    assert found == pytest.approx(expected, rel=0.05)


def test_no_file_is_left(path, large, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    model = fit(path)
    assert is_mapped(model._events.users)
    with pytest.raises(ValueError, match="training has diverged"):
        fit(path, optimizer="sgd", normalize=False, learning_rate=1e30)
    del model
    gc.collect()
    assert not list(folder.iterdir())


def test_copies_of_a_model(path, large):
    model = fit(path, history_size=2)
    for copy in (
        pickle.loads(pickle.dumps(model)),
        deepcopy(model),
        *Parallel(n_jobs=2, max_nbytes=100)([delayed(_itself)(model)]),
    ):
        assert_same(copy, model)
        assert_same(copy.partial_fit(path), deepcopy(model).partial_fit(path))


def _itself(model):
    return model


# --- arrays that NumPy has mapped ----------------------------------------------------


def mapped_rows(tmp_path, X):
    np.save(tmp_path / "rows.npy", X)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", ["i4", "u1", "i8", "f4", "f8", "U6", "datetime64[s]"])
@pytest.mark.parametrize("size", ["few", "many"])
def test_mapped_arrays_are_as_others(tmp_path, frame, dtype, size, request):
    if size == "many":
        request.getfixturevalue("large")
    codes = [frame[name].factorize()[0] for name in ("user_id", "item_id", "when")]
    X = np.stack(codes, axis=1).astype("i4" if dtype[0] == "d" else "i8").astype(dtype)
    times = {} if dtype == "U6" else {"timestamp_column": 2}
    options = {"user_column": 0, "item_column": 1, "history_size": 2} | times
    y, weight = frame["rating"], frame["weight"]
    rows = mapped_rows(tmp_path, X)
    assert isinstance(rows, np.memmap)
    model = fit(rows, y, weight, **options)
    assert_same(model, fit(X, y, weight, **options))
    assert model.user_ids_.dtype == fit(X, **options).user_ids_.dtype
    assert_same(fit(rows[:400, :3], **options), fit(X[:400], **options))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            0,
            np.nan,
            r"Column 0 of X has 2 rows with a missing user id .*at row 250\)",
        ),
        (1, np.inf, r"Column 1 of X has 2 rows with an infinite item id .*at row 250\)"),
        (2, np.nan, r"X has 2 rows with a missing timestamp in column 2 .*at row 250\)"),
    ],
)
def test_bad_mapped_arrays(tmp_path, large, column, value, message):
    X = np.random.default_rng(0).integers(20, size=(300, 3)).astype(float)
    X[[250, 270], column] = value
    options = {"user_column": 0, "item_column": 1, "timestamp_column": 2}
    with pytest.raises(ValueError, match=message):
        fit(mapped_rows(tmp_path, X), **options)


# --- memory --------------------------------------------------------------------------


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(column_store, "ROWS_IN_MEMORY", 2**16)
    monkeypatch.setattr(column_store, "ROWS_AT_ONCE", 2**14)


def traced_peak(call):
    """Bytes of arrays and objects; what is mapped is not among them."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_mapped_array_is_not_copied(tmp_path, many):
    n = 500_000
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(1000, size=n), rng.integers(100, size=n)], axis=1)
    rows = mapped_rows(tmp_path, X)
    model = TwoTowerRecommender(embedding_dim=4, max_iter=1, batch_size=2**15)
    model.fit(X[:100])  # imports
    assert traced_peak(lambda: model.fit(rows)) < 8 * n  # a file of 16 bytes a row


def test_bytes_of_a_row(tmp_path, many, monkeypatch):
    monkeypatch.setattr(_dataset, "_BLOCK_SIZE", 2**14)
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 500_000
    rng = np.random.default_rng(0)
    columns = {
        "user_id": rng.integers(1000, size=n),
        "item_id": rng.integers(100, size=n),
        "rating": rng.integers(-1, 5, n),
        "weight": rng.random(n),
    }
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), file, row_group_size=2**14)
    model = TwoTowerRecommender(**NAMES, embedding_dim=4, max_iter=1, batch_size=2**15)
    model.fit(pd.DataFrame(columns)[:100])
    # Rows with labels, weights and times are 51 bytes each while they are read.
    call = partial(model.fit, file, "rating", sample_weight="weight")
    assert traced_peak(call) < 16 * n
