"""Interactions that are read from files, block by block."""

import datetime
import decimal
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.metrics import make_scorer

import sktwotower
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._data import stored_interactions as module
from sktwotower._data.interactions import read_interactions
from sktwotower._data.roles import ColumnRoles
from sktwotower._data.stored_interactions import StoredInteractions
from sktwotower.baselines import PopularRecommender
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import needs_sklearn_1_9

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

SMALL = {"embedding_dim": 4, "max_iter": 2, "batch_size": 64, "random_state": 0}
NAMES = {"user_column": "user", "item_column": "item"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_SIZE", 100)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 700
    users, items = rng.integers(40, size=n), rng.integers(30, size=n)
    frame = pd.DataFrame(
        {
            "page": rng.choice(["a", "b", None], n),
            "user": [f"user {i}" for i in users],
            "item": items,
            "when": pd.to_datetime(rng.integers(0, 10**6, n), unit="h"),
            "city": pd.Categorical(rng.choice(["rome", "oslo", "bern"], n)),
            "age": (users % 7).astype(float),
            "price": rng.normal(size=n).round(1),
            "tags": [["x", "y", "z"][: i % 4] for i in items],
            "rating": rng.integers(0, 6, n),
            "weight": rng.integers(0, 3, n) / 2,
        }
    )
    frame.loc[[3, 650], ["age", "price"]] = np.nan
    frame.loc[5, "city"] = None
    return frame


@pytest.fixture
def path(frame, tmp_path):
    file = tmp_path / "rows.parquet"
    frame.to_parquet(file, row_group_size=64)
    return file


def write(tmp_path, **columns):
    """A file of some rows in two row groups."""
    columns = {"user": [1, 1, 2, 3], "item": ["a", "b", "a", "b"]} | columns
    file = tmp_path / "some.parquet"
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file


def assert_same(one, other):
    for name in ("user_ids_", "item_ids_", "user_embeddings_", "item_embeddings_"):
        mine, others = getattr(one, name), getattr(other, name)
        assert mine.dtype == others.dtype
        assert np.array_equal(mine, others)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    one, other = one._state, other._state
    assert (one.seen != other.seen).nnz == 0
    for name in ("users", "items", "positive", "times"):
        mine, others = getattr(one.interactions, name), getattr(other.interactions, name)
        assert type(mine) is type(others)
        assert np.array_equal(mine, others)
    for side in ("user", "item"):
        mine, others = (getattr(s, side).entities.raw_features for s in (one, other))
        assert type(mine) is type(others)
        if mine is not None:
            pd.testing.assert_frame_equal(pd.DataFrame(mine), pd.DataFrame(others))


CASES = {
    "ids": {},
    "positions": {"user_column": 1, "item_column": 2, "timestamp_column": 3},
    "labels": {"y": "rating", "loss": "cross_entropy"},
    "weights": {"y": "rating", "sample_weight": "weight"},
    "time": {"timestamp_column": "when", "early_stopping": True},
    "random hold-out": {"early_stopping": True, "y": "rating"},
    "history": {
        "timestamp_column": "when",
        "history": PooledHistory(3),
        "early_stopping": True,
    },
    "features": {"user_features": ["age", "city"], "item_features": ["price", "tags"]},
    "features of the time": {
        "user_features": ["city", "price"],
        "item_features": make_column_selector(dtype_include="number"),
        "timestamp_column": "when",
        "early_stopping": True,
        "sample_weight": "weight",
    },
    "one feature": {"user_features": "city", "item_features": 6},
    "table": {
        "user_table": EntityTable(
            pd.DataFrame({"user": ["user 3", "nobody"], "size": [1.0, 2.0]}), "user"
        ),
        "user_features": ["city"],
    },
}


def fit(X, y=None, sample_weight=None, **parameters):
    model = TwoTowerRecommender(**SMALL | NAMES | parameters)
    return model.fit(X, y, sample_weight=sample_weight)


@pytest.mark.filterwarnings("ignore:user_table lacks")
@pytest.mark.parametrize(
    ("kind", "case"),
    [("path", case) for case in CASES]
    + [(kind, "features of the time") for kind in ("string", "dataset")],
)
@pytest.mark.slow
def test_a_file_is_as_its_frame(path, case, kind):
    parameters = dict(CASES[case])
    y, weight = parameters.pop("y", None), parameters.pop("sample_weight", None)
    read = pd.read_parquet(path)
    expected = fit(
        read,
        None if y is None else read[y],
        None if weight is None else read[weight],
        **parameters,
    )
    X = {"path": path, "string": str(path), "dataset": ds.dataset(path)}[kind]
    assert_same(fit(X, y, weight, **parameters), expected)


def stored(path, **roles):
    return StoredInteractions(path, owner="it").read(None, None, roles=ColumnRoles(**roles))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, None, 1, 3], pa.int8()).drop_null(),
        pa.array([2**63 + 2, 2**63 + 1, 2**63 + 2], pa.uint64()),
        pa.array([0.0, -0.0, 1.5]),
        pa.array(np.array([0.5, 0.25, 0.5], np.float16)),
        pa.array([True, False, True]),
        pa.array(["c", "a", "c"], pa.large_string()),
        pa.array([b"c", b"a", b"c"], pa.binary(1)),
        pa.array([datetime.date(2020, 1, d) for d in (3, 1, 3)]),
        pa.array([datetime.datetime(2020, 1, d) for d in (3, 1, 3)], pa.timestamp("us")),
        pa.array([datetime.datetime(2020, 1, 2)] * 3, pa.timestamp("ns", "UTC")),
        pa.array([decimal.Decimal("2.5"), decimal.Decimal("1.5"), decimal.Decimal("2.5")]),
        pa.array(["c", "a", "c"]).dictionary_encode(),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_of_all_types(tmp_path, monkeypatch, ids):
    monkeypatch.setattr(module, "_BLOCK_SIZE", 2)
    file = write(tmp_path, user=ids, item=["a", "b", "a"])
    expected = read_interactions(pd.read_parquet(file), roles=ColumnRoles())
    found = stored(file)
    assert isinstance(found.users, pd.Categorical)
    expanded = found.expanded().users
    assert expanded.dtype == expected.users.dtype
    assert expanded.tolist() == expected.users.tolist()


@pytest.mark.parametrize(
    "times",
    [
        pa.array([3, 1, 2, 2], pa.int32()),
        pa.array([3.5, 1, 2, 2]),
        pa.array([datetime.date(2020, 1, d) for d in (3, 1, 2, 2)]),
        pa.array([3, 1, 2, 2], pa.timestamp("s")),
        pa.array([3, 1, 2, 2], pa.timestamp("ns", "Europe/Rome")),
        pa.array([3, 1, 2, 2], pa.duration("ms")),
    ],
    ids=lambda times: str(times.type),
)
def test_times_are_those_of_a_frame(tmp_path, monkeypatch, times):
    monkeypatch.setattr(module, "_BLOCK_SIZE", 2)
    file = write(tmp_path, when=times)
    roles = {"timestamp_column": "when"}
    expected = read_interactions(pd.read_parquet(file), roles=ColumnRoles(**roles)).times
    found = stored(file, **roles).times
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()


def test_directories_of_files(frame, tmp_path):
    folder = tmp_path / "parts"
    for number, start in enumerate(range(0, len(frame), 300)):
        part = folder / f"year={2020 + number}"
        part.mkdir(parents=True)
        frame[start : start + 300].to_parquet(part / "rows.parquet")
        (part / "_SUCCESS").touch()
    read = pd.read_parquet(folder)
    options = {"user_features": ["year", "city"], "timestamp_column": "when"}
    assert_same(fit(folder, **options), fit(read, **options))


def test_an_index_is_not_a_column(frame, tmp_path):
    file = tmp_path / "rows.parquet"
    frame.set_index("page").to_parquet(file)
    positions = {"user_column": 0, "item_column": 1}
    model = fit(file, **positions)
    assert model.feature_names_in_.tolist() == list(frame.columns[1:])
    assert_same(model, fit(pd.read_parquet(file), **positions))


def test_names_that_are_numbers(tmp_path):
    frame = pd.DataFrame({0: np.arange(50) % 7, 1: np.arange(50) % 5, 2: np.arange(50.0)})
    file = tmp_path / "rows.parquet"
    frame.to_parquet(file)  # as strings, which pandas converts back to numbers
    options = {"user_column": 0, "item_column": 1, "user_features": [2]}
    model = fit(file, **options)
    assert_same(model, fit(pd.read_parquet(file), **options))
    assert_same(model.partial_fit(file), fit(frame, **options).partial_fit(frame))


def test_any_arrow_dataset(frame):
    table = pa.Table.from_pandas(frame)
    rows = ds.dataset(table).filter(ds.field("item") < 20)
    kept = frame[frame["item"] < 20]
    assert_same(fit(rows, "rating"), fit(kept, kept["rating"]))


def test_columns_without_a_role_are_not_read(path, monkeypatch):
    asked = []
    blocks = module._blocks

    def spy(dataset, names):
        asked.append(names)
        return blocks(dataset, names)

    monkeypatch.setattr(module, "_blocks", spy)
    fit(path, "rating", user_features=["city"], timestamp_column="when")
    assert asked == [["user", "item", "when", "rating", "city"]]


def test_no_array_of_ids_is_as_long_as_the_rows(path, monkeypatch):
    """Ids are Python objects; only distinct ones become an array."""
    lengths = []
    to_numpy = pd.Categorical.__array__

    def spy(self, *args, **kwargs):
        lengths.append(len(self))
        return to_numpy(self, *args, **kwargs)

    monkeypatch.setattr(pd.Categorical, "__array__", spy)
    fit(path, "rating", timestamp_column="when", history=PooledHistory(2))
    assert lengths == []
    np.asarray(pd.Categorical(["it is looked at"]))
    assert lengths == [1]


def test_features_are_kept_once(path):
    roles = fit(path, user_features=["city"], item_features=["tags"])._state.roles
    rows = StoredInteractions(path, owner="it").read(None, None, roles=roles)
    assert len(rows.user_features.frame) == 4  # three cities and a missing one
    assert len(rows.item_features.frame) == 4
    expanded = rows.expanded()
    read = pd.read_parquet(path)
    pd.testing.assert_frame_equal(expanded.user_features, read[["city"]])
    assert list(map(list, expanded.item_features["tags"])) == list(map(list, read["tags"]))


@pytest.mark.filterwarnings("ignore:.* relevant pairs of X_val .* were seen")
def test_validation_rows_in_a_file(frame, path):
    parts = frame[:500], frame[500:]
    expected = TwoTowerRecommender(**SMALL, **NAMES, user_features=["city"])
    expected.fit(*parts[:1], X_val=parts[1], y_val=parts[1]["rating"])
    found = clone(expected)
    table = pa.Table.from_pandas(frame)
    found.fit(ds.dataset(table[:500]), X_val=ds.dataset(table[500:]), y_val="rating")
    assert found.validation_scores_ == expected.validation_scores_


@pytest.mark.parametrize("first", ["file", "frame"])
@pytest.mark.parametrize(
    "options", [{}, {"user_features": ["city"], "history": PooledHistory(2)}]
)
def test_partial_fit(path, first, options):
    read = pd.read_parquet(path)
    table = pq.read_table(path)
    models = []
    for kinds in (("frame", "frame"), (first, "frame" if first == "file" else "file")):
        model = TwoTowerRecommender(**SMALL, **NAMES, timestamp_column="when", **options)
        for kind, rows in zip(kinds, (slice(0, 400), slice(400, None)), strict=True):
            X = ds.dataset(table[rows]) if kind == "file" else read[rows]
            model.partial_fit(X, "rating" if kind == "file" else X["rating"])
        models.append(model)
    assert_same(*models)


def test_what_a_model_from_a_file_can_do(path, frame, tmp_path):
    model = fit(path, timestamp_column="when", history=PooledHistory(3))
    users = frame["user"].unique()[:5]
    expected = model.recommend(users)
    copies = [pickle.loads(pickle.dumps(model)), clone(model).fit(path)]
    if pytest.importorskip("safetensors") and pytest.importorskip("skops"):
        model.save(tmp_path / "model")
        copies.append(sktwotower.load(tmp_path / "model"))
    for copy in copies:
        assert_same(copy, model)
        for mine, others in zip(copy.recommend(users), expected, strict=True):
            assert np.array_equal(mine, others)


def test_warm_start(path, frame):
    model = fit(path, warm_start=True)
    read = pd.read_parquet(path)
    assert_same(model.fit(path), fit(read, warm_start=True).fit(read))


@needs_sklearn_1_9
def test_callbacks_are_told_the_path(path):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring=make_scorer(lambda y, y_pred: 0.0))
    model = TwoTowerRecommender(**SMALL, **NAMES).set_callbacks(monitor)
    assert model.fit(path).n_iter_ == 2


def test_memory_mapped_arrays(frame, tmp_path):
    codes = pd.DataFrame({"user": frame["user"].factorize()[0], "item": frame["item"]})
    np.save(tmp_path / "rows.npy", codes.to_numpy())
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    positions = {"user_column": 0, "item_column": 1}
    model = fit(mapped, **positions)
    assert isinstance(mapped, np.memmap)
    assert_same(model, fit(codes.to_numpy(), **positions))
    assert_same(pickle.loads(pickle.dumps(model)), model)


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize("role", ["item", "city"])
@pytest.mark.parametrize("kind", ["uuid", "json", "bool8", "period", "interval"])
def test_extension_types(tmp_path, kind, role):
    numbers = np.r_[np.arange(250), np.arange(50)] % 7
    values = {
        "uuid": lambda: pa.uuid().wrap_array(
            pa.array([bytes([n] * 16) for n in numbers], pa.binary(16))
        ),
        "json": lambda: pa.json_(pa.string()).wrap_array(
            pa.array([f'"{n}"' for n in numbers])
        ),
        "bool8": lambda: pa.bool8().wrap_array(pa.array(numbers % 2, pa.int8())),
        "period": lambda: pa.array(pd.Series(pd.period_range("2020", periods=7)[numbers])),
        "interval": lambda: pa.array(pd.Series(pd.interval_range(0, 7)[numbers])),
    }
    if kind in ("uuid", "json", "bool8") and not hasattr(pa, kind.replace("json", "json_")):
        pytest.skip("this pyarrow has no such type")
    columns = {"user": np.arange(300) % 11, "item": numbers, role: values[kind]()}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    options = {"item_features": ["city"]} if role == "city" else {}
    options |= {"item_encoder": FeatureEncoder(min_frequency=1)} if options else {}
    expected = fit(pd.read_parquet(path), **NAMES, **options)
    found = fit(path, **NAMES, **options)
    assert found.item_ids_.tolist() == expected.item_ids_.tolist()
    np.testing.assert_array_equal(found.item_embeddings_, expected.item_embeddings_)
    backed = pd.read_parquet(path, dtype_backend="pyarrow")
    if role == "item":
        assert fit(backed, **NAMES).item_ids_.tolist() == expected.item_ids_.tolist()
        known = expected.item_ids_[:1].tolist()
        answer = expected.similar_items(backed["item"][:1])
        assert answer[0].tolist() == expected.similar_items(known)[0].tolist()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"user": [1, None, 3, None]},
            {},
            r"Column 'user' of X has 2 rows with a missing user id .*\(first at row 1\)",
        ),
        (
            {"item": pa.nulls(4)},
            {},
            r"4 rows with a missing item id .*\(first at row 0\)",
        ),
        (
            {"user": [1.0, 2.0, float("inf"), float("-inf")]},
            {},
            r"Column 'user' of X has 2 rows with an infinite user id .*\(first at row 2\)",
        ),
        (
            {"when": pa.array([0, 1, 2, None], pa.timestamp("us"))},
            {"timestamp_column": "when"},
            r"X has 1 row with a missing timestamp in column 'when' .*\(first at row 3\)",
        ),
        (
            {"when": [None, 1, 2, None]},
            {"timestamp_column": 2},
            r"X has 2 rows with a missing timestamp in column 2 .*\(first at row 0\)",
        ),
        (
            {"when": [1.0, 2.0, float("inf"), float("-inf")]},
            {"timestamp_column": "when"},
            r"X has 2 rows with an infinite timestamp in column 'when'.*\(first at row 2\)",
        ),
        (
            {"when": ["a", "b", "c", "d"]},
            {"timestamp_column": "when"},
            "Column 'when' of X holds values of type str, which have no order",
        ),
        (
            {"size": [1.0, 2.0, 3.0, float("inf")]},
            {"user_features": ["size"]},
            r"Column 'size' of X has 1 row with an infinite value \(first at row 3\)",
        ),
        (
            {"r": [1.0, 0.0, None, float("nan")]},
            {"y": "r"},
            r"Input y contains NaN: 2 rows \(first at row 2\)",
        ),
        (
            {"r": [1.0, 0.0, 1.0, float("inf")]},
            {"y": "r"},
            r"Input y contains infinity: 1 row \(first at row 3\)",
        ),
        (
            {"r": ["a", "b", "c", "d"]},
            {"y": "r"},
            "Unknown label type: y must hold numbers",
        ),
        ({"r": [0, 0, -1, 0]}, {"y": "r"}, "There is nothing to learn from"),
        (
            {"w": [1.0, 1.0, 1.0, None]},
            {"sample_weight": "w"},
            "sample_weight contains NaN",
        ),
        ({"w": [1, 1, 1, -1]}, {"sample_weight": "w"}, "Negative values"),
        ({"w": [0, 0, 0, 0]}, {"sample_weight": "w"}, "at least one non-zero number"),
        (
            {"w": ["a", "b", "c", "d"]},
            {"sample_weight": "w"},
            "The column of sample_weight must hold numbers",
        ),
        (
            {},
            {"user_column": "usr"},
            r"user_column='usr' is not a column of X; the columns are \['user', 'item'\]",
        ),
        ({}, {"item_column": 7}, "item_column=7 is not a column of X; it has 2 feature"),
        ({}, {"item_column": "user"}, "are the same column of X, 'user'"),
        ({}, {"item_features": ["size"]}, r"item_features=\['size'\] are not columns of X"),
        (
            {},
            {"y": "rating"},
            r"y='rating' is not a column of X; the columns are \['user', 'item'\]",
        ),
        ({}, {"sample_weight": "w"}, "sample_weight='w' is not a column of X"),
        (
            {},
            {"y": [1, 1, 0, 1]},
            "y must be the name of a column where X is a path or a Dataset; got list",
        ),
        (
            {},
            {"sample_weight": np.ones(4)},
            "sample_weight must be the name of a column .*; got ndarray",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_bad_rows(tmp_path, monkeypatch, columns, options, message):
    monkeypatch.setattr(module, "_BLOCK_SIZE", 2)
    file = write(tmp_path, **columns)
    with pytest.raises(ValueError, match=message):
        fit(file, **options)


def test_ids_that_cannot_be_hashed(tmp_path):
    for values in ([[1], [2], [1], [2]], [{"a": 1}, {"a": 2}, {"a": 1}, None]):
        file = write(tmp_path, item=values)
        with pytest.raises((TypeError, ValueError), match="Column 'item' of X has"):
            fit(file)


def test_paths_without_parquet(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the path '.*x.parquet', which does not"):
        fit(tmp_path / "x.parquet")
    with pytest.raises(FileNotFoundError, match="the path 'userid', which does not exist"):
        fit("userid")
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ValueError, match="a directory without a Parquet file"):
        fit(folder)
    (folder / "notes.csv").write_text("user,item\n1,2\n")
    for X in (folder, folder / "notes.csv"):
        with pytest.raises(ValueError, match="which cannot be read as Parquet"):
            fit(X)


def test_no_rows(tmp_path):
    file = write(tmp_path, user=pa.array([], pa.int64()), item=pa.array([], pa.int64()))
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 2\)\) while a min"):
        fit(file)


def test_a_single_column(tmp_path):
    pq.write_table(pa.table({"user": [1, 2]}), tmp_path / "one.parquet")
    with pytest.raises(ValueError, match="X has 1 feature"):
        fit(tmp_path / "one.parquet", user_column=0)


def test_columns_of_one_name():
    table = pa.table([[1], [2], [3]], names=["user", "item", "item"])
    with pytest.raises(ValueError, match="several columns named 'item'"):
        fit(ds.dataset(table))


def test_partial_fit_lacks_columns(frame, tmp_path):
    model = fit(frame, user_features=["city"])
    file = write(tmp_path)
    with pytest.raises(ValueError, match=r"X lacks the feature columns \['city'\]"):
        model.partial_fit(file)
    model = fit(frame)
    pq.write_table(pa.table({"user": ["a"], "thing": [2]}), file)
    with pytest.raises(ValueError, match="X lacks the column 'item'"):
        model.partial_fit(file)


def test_a_name_for_y_needs_a_file(frame):
    with pytest.raises(ValueError, match="y='rating' can name a column only where X is a"):
        fit(frame, "rating")


def test_others_take_what_has_been_read(path, frame):
    model = fit(path)
    calls = [
        model.predict,
        model.score,
        PopularRecommender(**NAMES).fit,
        lambda X: make_ranking_scorer("ndcg@10")(model, X),
        lambda X: model.recommend(["user 1"], exclude_interactions=X),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"is the path .*Read it first"):
            call(str(path))
    with pytest.raises(TypeError, match="X is a FileSystemDataset, which is read by fit"):
        model.predict(ds.dataset(path))
    for X in (path, str(path), ds.dataset(path)):
        with pytest.raises(ValueError, match="Read a file first, with pandas.read_parquet"):
            model.recommend(X)


def test_a_uri(path):
    assert_same(fit(path.as_uri()), fit(path))
    with pytest.raises(FileNotFoundError, match="the path 'file:.*', which does not exist"):
        fit(path.with_name("nothing.parquet").as_uri())


def test_without_pyarrow(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", None)
    message = r"fit from files needs pyarrow; .* pip install 'sktwotower\[parquet\]'"
    with pytest.raises(ImportError, match=message):
        fit(path)
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "rows.csv").write_text("user,item\n1,2\n")
    for X in (folder, folder / "rows.csv"):
        with pytest.raises(ValueError, match="cannot be read as Parquet .*pandas.read_csv"):
            fit(X)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        fit(folder / "row.csv")
