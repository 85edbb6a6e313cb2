"""Interactions of very many rows: what is mapped from files, and the order of epochs."""

import gc
import pickle
import tempfile
from copy import deepcopy
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest

from sktwotower._nn import batches
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from sktwotower.utils import _column_store as column_store
from tests import helpers
from tests.helpers import NAMES, is_mapped, same_embeddings

make_model = partial(helpers.make_model, **NAMES, batch_size=64)


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
    return make_model(**parameters).fit(X, y, sample_weight=sample_weight)


def interactions(model):
    """The rows that a model has kept; whether they lie in a file shows nowhere else."""
    return model._state.interactions


def assert_same_rows(one, other):
    for name in ("users", "items", "positive", "times"):
        assert np.array_equal(*(getattr(interactions(m), name) for m in (one, other)))
    assert (one._state.seen != other._state.seen).nnz == 0
    assert np.array_equal(one.user_ids_, other.user_ids_)
    assert np.array_equal(one.item_ids_, other.item_ids_)


def assert_same(one, other):
    assert_same_rows(one, other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert same_embeddings(one, other)


CASES = {
    "ids": {},
    "labels": {"y": "rating", "loss": "cross_entropy"},
    "explicit negatives": {"y": "rating", "sample_weight": "weight"},
    "pairs": {"y": "rating", "loss": "bpr"},
    "history": {
        "timestamp_column": "when",
        "history": PooledHistory(3),
        "early_stopping": True,
    },
    "history without times": {"history": PooledHistory(3), "y": "rating"},
    "features": {
        "user_features": ["city"],
        "timestamp_column": "when",
        "early_stopping": True,
        "sample_weight": "weight",
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_a_file_is_as_its_frame(path, large, monkeypatch, case):
    parameters = dict(CASES[case])
    y, weight = parameters.pop("y", None), parameters.pop("sample_weight", None)
    read = pd.read_parquet(path)
    given = [read, None if y is None else read[y], None if weight is None else read[weight]]
    model = fit(path, y, weight, **parameters)
    assert is_mapped(interactions(model).users) and is_mapped(model._state.seen.indices)
    assert_same(model, fit(*given, **parameters))
    monkeypatch.undo()
    few = fit(*given, **parameters)
    assert not is_mapped(interactions(few).users)
    assert_same_rows(model, few)
    # Another order, but for batches of whole users, which do not go by blocks of rows.
    by_users = few.history_ is not None and few.history_.dropout > 0
    assert (few.loss_curve_ == model.loss_curve_) == by_users


def test_it_is_seeded(path, large):
    one, other = fit(path), fit(path, random_state=1)
    assert_same(one, fit(path))
    assert one.loss_curve_ != other.loss_curve_


@pytest.mark.parametrize(
    "options", [{}, {"history": PooledHistory(2), "user_features": ["city"]}]
)
@pytest.mark.parametrize("first", [600, 100])  # many rows and more; few, and then many
@pytest.mark.slow
def test_partial_fit(path, large, first, options):
    ds = pytest.importorskip("pyarrow.dataset")
    rows = pd.read_parquet(path)
    table = ds.dataset(path).to_table()
    models = []
    for kind in ("frame", "file"):
        model = make_model(timestamp_column="when", **options)
        for part in (slice(0, first), slice(first, 800), slice(800, None)):
            if kind == "file":
                model.partial_fit(ds.dataset(table[part]), sample_weight="weight")
            else:
                model.partial_fit(rows[part], sample_weight=rows["weight"][part])
        models.append(model)
    assert is_mapped(interactions(models[0]).items)
    assert_same(*models)


def test_other_objectives_and_warm_start(path, large):
    for parameters in (
        {"negatives": "mixed", "mask_known_positives": False},
        {"negatives": "popular", "sampling_correction": "refined"},
    ):
        model = fit(path, "rating", warm_start=True, **parameters)
        assert np.isfinite(model.fit(path, "rating").loss_curve_).all()


@pytest.fixture(scope="module")
def planted():
    data = make_interactions(
        n_users=120, n_items=60, n_interactions=2400, n_factors=2, random_state=0
    )
    parameters = dict(
        negatives="in_batch",
        max_iter=10,
        batch_size=32,
        embedding_dim=8,
        learning_rate=0.05,
    )
    X = data.interactions
    return X, parameters, fit(X, **parameters).score(X)


@pytest.mark.slow
@pytest.mark.parametrize("column", ["item_id", "user_id"])
def test_a_sorted_file_is_learned_as_well(large, tmp_path, planted, column):
    pytest.importorskip("pyarrow")
    X, parameters, expected = planted
    file = tmp_path / "sorted.parquet"
    X.sort_values(column, ignore_index=True).to_parquet(file, row_group_size=100)
    assert expected > 0.4
    assert fit(file, **parameters).score(X) == pytest.approx(expected, rel=0.06)


def test_no_file_is_left(path, large, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    model = fit(path)
    assert is_mapped(interactions(model).users)
    with pytest.raises(ValueError, match="training has diverged"):
        fit(path, optimizer="sgd", normalize=False, learning_rate=1e30)
    del model
    gc.collect()
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_copies_of_a_model(path, large, tmp_path):
    model = fit(path, history=PooledHistory(2))
    file = tmp_path / "model.joblib"
    joblib.dump(model, file)
    for copy in (
        pickle.loads(pickle.dumps(model)),
        deepcopy(model),
        joblib.load(file, mmap_mode="r"),  # as joblib hands arrays to its processes
    ):
        assert_same(copy, model)
        assert_same(copy.partial_fit(path), deepcopy(model).partial_fit(path))


# --- arrays that NumPy has mapped ----------------------------------------------------


def mapped_rows(tmp_path, X):
    np.save(tmp_path / "rows.npy", X)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [("many", dtype) for dtype in ("i4", "u1", "i8", "f4", "f8", "U6", "datetime64[s]")]
    + [("few", dtype) for dtype in ("i8", "f4", "U6")],
)
@pytest.mark.slow
def test_mapped_arrays_are_as_others(tmp_path, frame, dtype, size, request):
    if size == "many":
        request.getfixturevalue("large")
    codes = [frame[name].factorize()[0] for name in ("user_id", "item_id", "when")]
    X = np.stack(codes, axis=1).astype("i4" if dtype[0] == "d" else "i8").astype(dtype)
    times = {} if dtype == "U6" else {"timestamp_column": 2}
    options = {
        "user_column": 0,
        "item_column": 1,
        "history": PooledHistory(2),
        "max_iter": 1,
    } | times
    y, weight = frame["rating"], frame["weight"]
    rows = mapped_rows(tmp_path, X)
    assert isinstance(rows, np.memmap)
    model = fit(rows, y, weight, **options)
    other = fit(X, y, weight, **options)
    assert_same(model, other)
    assert model.user_ids_.dtype == other.user_ids_.dtype
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
        (2, np.inf, r"X has 2 rows with an infinite timestamp in column 2 .*at row 250\)"),
        (2, np.nan, r"X has 2 rows with a missing timestamp in column 2 .*at row 250\)"),
    ],
)
def test_bad_mapped_arrays(tmp_path, large, column, value, message):
    X = np.random.default_rng(0).integers(20, size=(300, 3)).astype(float)
    X[[250, 270], column] = value
    options = {"user_column": 0, "item_column": 1, "timestamp_column": 2}
    with pytest.raises(ValueError, match=message):
        fit(mapped_rows(tmp_path, X), **options)
