"""export_onnx: the graphs give the answers of the model."""

import decimal
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError

from sktwotower import TwoTowerRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.history import PooledHistory

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve_onnx.py"
NOTHING = np.empty(0, dtype=np.int64)


def make_model(**parameters):
    defaults = {
        "user_column": "user_id",
        "item_column": "item_id",
        "embedding_dim": 4,
        "max_iter": 2,
        "batch_size": 64,
        "random_state": 0,
    }
    return TwoTowerRecommender(**(defaults | parameters))


@pytest.fixture(scope="module")
def films():
    """A model of the bundled data with features, history and times."""
    films = load_movielens_small()
    model = make_model(
        timestamp_column="timestamp",
        item_table=films.item_table[["item_id", "genres", "year"]],
        history=PooledHistory(10),
        embedding_dim=32,
        batch_size=512,
        max_iter=1,
    ).fit(films.interactions)
    return model


@pytest.fixture(scope="module")
def films_directory(films, tmp_path_factory):
    directory = tmp_path_factory.mktemp("films")
    films.export_onnx(directory)
    return directory


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("serve_onnx", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(directory, name, **feed):
    session = onnxruntime.InferenceSession(directory / f"{name}.onnx")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))


def features_of(matrix):
    triplets = sp.coo_matrix(matrix)
    return {
        "feature_row": triplets.row.astype(np.int64),
        "feature_column": triplets.col.astype(np.int64),
        "feature_value": triplets.data.astype(np.float32),
    }


@pytest.mark.slow
def test_graphs_recommend_as_the_model_does(films, films_directory, example):
    """Ids and order, for every user of the bundled data."""
    server = example.Server(films_directory)
    users = films.user_ids_
    ids, scores = films.recommend(users, n_recommendations=100)
    found = server.recommend(users.tolist())
    found_scores = np.array([[score for _, score in row] for row in found])
    np.testing.assert_allclose(found_scores, scores, atol=1e-6)
    found_ids = np.array([[item for item, _ in row] for row in found])
    differ = found_ids != ids
    # Items whose scores differ only by rounding may be in any order.
    np.testing.assert_allclose(found_scores[differ], scores[differ], atol=1e-6)
    assert differ.mean() < 1e-3


def test_a_later_history_is_used(films, films_directory, example):
    server = example.Server(films_directory)
    users = [*films.user_ids_[:4].tolist(), -1]  # the last one is a stranger
    later = [films.item_ids_[:3].tolist(), [], [films.item_ids_[7].item(), -5], [], [1, 1]]
    history = pd.DataFrame(
        [(u, i) for u, items in zip(users, later, strict=True) for i in items],
        columns=["user_id", "item_id"],
    )
    with pytest.warns(UserWarning, match="1 of 7 item ids of history"):
        ids, scores = films.recommend(users, history=history, n_recommendations=20)
    found = server.recommend(users, later)
    np.testing.assert_allclose(
        [[s for _, s in row[:20]] for row in found], scores, atol=1e-6
    )
    assert [[item for item, _ in row[:20]] for row in found] == ids.tolist()


@pytest.mark.parametrize("column", [int, float])
def test_the_example_does_not_tell_17_from_17_point_0(tmp_path, example, column):
    rows = pd.DataFrame({"user_id": [17, 17, 5, 5], "item_id": [20, 30, 20, 40]})
    make_model().fit(rows.astype(column)).export_onnx(tmp_path / "model")
    server = example.Server(tmp_path / "model")
    for user, item in ((17, 40), (17.0, 40.0)):
        assert [found for found, _ in server.recommend([user])[0]] == [40]
        assert server.recommend([user], [[item]]) == [[]]


def test_the_example_needs_neither_torch_nor_scikit_learn(films, films_directory):
    users = films.user_ids_[:3].tolist()
    code = (
        "import sys, runpy\n"
        "banned = ('torch', 'sklearn', 'scipy', 'pandas', 'sktwotower')\n"
        "sys.modules.update(dict.fromkeys(banned))\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, EXAMPLE, films_directory, *map(str, users)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    lines = done.stdout.splitlines()
    ids, _ = films.recommend(users, n_recommendations=10)
    assert len(lines) == len(users)
    for line, user, items in zip(lines, users, ids, strict=True):
        assert line.startswith(f"{user} [({items[0]}, ")


TOWERS = {
    "ids": {},
    "tables": {"user_table": "user_table", "item_table": "item_table"},
    "no user id": {
        "user_table": "user_table",
        "user_id_embedding": False,
        "normalize": False,
        "temperature": 1.0,
    },
    "relu": {"hidden_layer_sizes": [6, 5], "batch_norm": True, "dropout": 0.2},
    "gelu": {"hidden_layer_sizes": [6], "activation": "gelu", "history": PooledHistory(3)},
    "silu": {"hidden_layer_sizes": [6], "activation": "silu", "batch_norm": True},
    "tanh": {"hidden_layer_sizes": [6], "activation": "tanh", "id_dropout": 0.2},
    "history alone": {"user_id_embedding": False, "history": PooledHistory(5)},
    "vectors": {"item_table": "vectors"},
}


@pytest.mark.parametrize("case", TOWERS)
def test_towers_embed_as_the_model_does(data, tmp_path, case):
    generator = np.random.RandomState(0)
    vectors = pd.DataFrame(
        {
            "item_id": data.item_table["item_id"],
            "kind": data.item_table["item_cat_0"],
            "vector": list(generator.randn(len(data.item_table), 20)),
            "number": generator.randn(len(data.item_table)),
        }
    )
    tables = {
        "vectors": vectors,
        "user_table": data.user_table,
        "item_table": data.item_table,
    }
    parameters = {
        name: tables[value] if name.endswith("_table") else value
        for name, value in TOWERS[case].items()
    }
    model = make_model(**parameters).fit(data.interactions)
    model.export_onnx(tmp_path)
    contract = json.loads((tmp_path / "contract.json").read_text())
    for side in ("user", "item"):
        onnx.checker.check_model(tmp_path / f"{side}_tower.onnx", full_check=True)
        ids = getattr(model, f"{side}_ids_")
        feed = {"code": np.arange(len(ids) + 1)}
        table = getattr(model, f"{side}_table")
        encoder = getattr(model, f"{side}_encoder_")
        if encoder is not None:
            frame = table.set_index(f"{side}_id").loc[ids, contract[side]["takes"]]
            encoded = encoder.transform(frame)
            assert encoded.shape[1] == contract[side]["n_columns"]
            # Code 0 has no features: an empty first row.
            empty = sp.csr_matrix((1, encoded.shape[1]), dtype=np.float32)
            feed |= features_of(sp.vstack([empty, encoded]))
        if side == "user" and model.history_ is not None:
            histories = model._state.past.histories
            starts, ends = histories.now(model.history_.size)
            feed["history_row"] = np.repeat(np.arange(len(ids) + 1), ends - starts)
            items = [histories.items[a:b] for a, b in zip(starts, ends, strict=True)]
            feed["history_item"] = np.concatenate(items).astype(np.int64)
        found = run(tmp_path, f"{side}_tower", **feed)["vector"]
        expected = getattr(model, f"{side}_embeddings_")
        np.testing.assert_allclose(found[1:], expected, atol=1e-5)
        unknown = getattr(model, f"{side}_tower_").transform([-1])[0]
        np.testing.assert_allclose(found[0], unknown, atol=1e-5)


def test_features_are_encoded_as_the_contract_says(data, tmp_path):
    """For a user with other features than in training."""
    model = make_model(user_table=data.user_table, history=None).fit(data.interactions)
    model.export_onnx(tmp_path)
    contract = json.loads((tmp_path / "contract.json").read_text())["user"]
    query = pd.DataFrame({"user_cat_0": ["c1"], "user_num_1": [0.5], "user_cat_2": ["c3"]})
    encoded = model.user_encoder_.transform(query[contract["takes"]])
    feed = {"code": np.zeros(1, dtype=np.int64)} | features_of(encoded)
    found = run(tmp_path, "user_tower", **feed)["vector"]
    np.testing.assert_allclose(found, model.user_tower_.transform(query), atol=1e-6)
    names = contract["column_names"]
    assert len(names) == contract["n_columns"] == encoded.shape[1]
    assert "user_cat_0_c1" in names
    start, stop = contract["fields"]["user_num_1"]
    assert names[start:stop] == ["user_num_1"]


def test_known_features_and_seen_pairs_are_in_the_directory(data, tmp_path):
    model = make_model(item_table=data.item_table).fit(data.interactions)
    model.export_onnx(tmp_path)
    with np.load(tmp_path / "items.npz") as arrays:
        ends = arrays["feature_ends"]
        rows = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        feed = {
            "code": np.arange(len(ends)),
            "feature_row": rows,
            "feature_column": arrays["feature_columns"],
            "feature_value": arrays["feature_values"],
        }
    found = run(tmp_path, "item_tower", **feed)["vector"]
    np.testing.assert_allclose(found[1:], model.item_embeddings_, atol=1e-6)
    with np.load(tmp_path / "users.npz") as arrays:
        code = 7
        start, end = arrays["seen_ends"][[code - 1, code]]
        seen = model.item_ids_[arrays["seen_items"][start:end] - 1]
    X = data.interactions
    expected = X.loc[X["user_id"] == model.user_ids_[code - 1], "item_id"]
    assert set(seen) == set(expected)


def test_top_k_excludes_pairs_and_pads(data, tmp_path):
    model = make_model(embedding_dim=2).fit(data.interactions)
    n = len(model.item_ids_)
    model.export_onnx(tmp_path, k=1000)  # more than there are
    vectors = model.user_embeddings_[:2]
    feed = {"vector": vectors, "exclude_row": NOTHING, "exclude_item": NOTHING}
    everything = run(tmp_path, "top_k", **feed)
    assert everything["item"].shape == (2, n)
    assert sorted(everything["item"][0]) == list(range(1, n + 1))
    assert json.loads((tmp_path / "contract.json").read_text())["k"] == n
    # All but two items for the second row, one of them twice; code 0 is unknown.
    out = np.array([0, *range(3, n + 1), 3])
    feed |= {"exclude_row": np.ones_like(out), "exclude_item": out}
    found = run(tmp_path, "top_k", **feed)
    np.testing.assert_array_equal(found["item"][0], everything["item"][0])
    assert set(found["item"][1, :2]) == {1, 2}
    assert not found["item"][1, 2:].any()
    assert (found["score"][1, 2:] == -np.inf).all()


def test_equal_scores_are_in_the_order_of_the_catalogue(data, tmp_path):
    model = make_model().fit(data.interactions)
    embeddings = np.tile(model.item_embeddings_[:2], (20, 1))
    items = replace(model._state.item, embeddings=embeddings)
    model._state = replace(model._state, item=items)
    model.export_onnx(tmp_path, k=40)
    user = model.user_ids_[:1]
    found = run(
        tmp_path,
        "top_k",
        vector=model.user_embeddings_[:1],
        exclude_row=NOTHING,
        exclude_item=NOTHING,
    )
    ids, _ = model.recommend(user, n_recommendations=40, exclude_seen=False)
    np.testing.assert_array_equal(model.item_ids_[found["item"][0] - 1], ids[0])


def test_items_outside_the_catalogue_are_not_returned(data, tmp_path):
    few = data.interactions[data.interactions["item_id"] < 20]
    model = make_model(item_table=data.item_table).fit(few)
    assert len(model.item_ids_) > len(model._state.catalogue)
    model.export_onnx(tmp_path)
    inside = np.unique(few["item_id"])
    found = run(
        tmp_path,
        "top_k",
        vector=model.user_embeddings_,
        exclude_row=np.array([0]),
        exclude_item=np.array([len(model.item_ids_)]),  # not in the catalogue anyway
    )
    assert set(model.item_ids_[found["item"].ravel() - 1]) == set(inside)


def test_large_weights_are_in_a_separate_file(data, tmp_path, monkeypatch):
    model = make_model(embedding_dim=64).fit(data.interactions)
    model.export_onnx(tmp_path / "one")
    monkeypatch.setattr("sktwotower._onnx.export._EMBEDDED_BYTES", 1000)
    model.export_onnx(tmp_path / "two")
    assert (tmp_path / "two" / "top_k.onnx.data").exists()
    feed = {
        "vector": model.user_embeddings_,
        "exclude_row": NOTHING,
        "exclude_item": NOTHING,
    }
    one, two = (run(tmp_path / name, "top_k", **feed) for name in ("one", "two"))
    np.testing.assert_array_equal(one["item"], two["item"])


@pytest.mark.parametrize(
    "ids", [["a", "b", "c"], pd.to_datetime(["2020", "2021", "2022"]), [1.5, 2.5, 3.5]]
)
def test_ids_are_in_the_order_of_the_codes(tmp_path, ids):
    from sktwotower.utils._json_values import decode

    X = pd.DataFrame({"user_id": [1, 2, 1, 2], "item_id": [*ids, ids[0]]})
    model = make_model().fit(X)
    model.export_onnx(tmp_path)
    stored = json.loads((tmp_path / "ids.json").read_text())
    assert stored["users"] == [1, 2]
    assert [decode(value) for value in stored["items"]] == list(pd.Series(ids))


ODD_IDS = {
    "datetime": pd.to_datetime(["2020", "2021", "2022"]),
    "zone": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
    "uuid": [uuid.UUID(int=number) for number in range(3)],
    "bytes": [b"a", b"\xff", b""],
    "decimal": [decimal.Decimal("1.50"), decimal.Decimal(3), decimal.Decimal(2)],
    "tuple": [("a", 1), ("b", 2), ("c", None)],
    "bool": [True, False, True],
    "uint64": np.array([1, 2**63 + 1, 2**64 - 1], dtype="u8"),
}


@pytest.mark.parametrize("kind", ODD_IDS)
def test_the_example_takes_the_ids_that_it_answers(tmp_path, example, kind):
    from sktwotower.utils._json_values import decode, encode

    ids = pd.Series(ODD_IDS[kind])
    users, items = (ids.iloc[rows].array for rows in ([0, 1, 2, 0], [1, 2, 0, 0]))
    model = make_model().fit(pd.DataFrame({"user_id": users, "item_id": items}))
    model.export_onnx(tmp_path)
    users = [encode(value) for value in ids]
    server = example.Server(tmp_path)
    found = server.recommend(users)
    expected, _ = model.recommend(ids, n_recommendations=3)
    for row, items in zip(found, pd.DataFrame(expected).to_numpy(object), strict=True):
        answered = [decode(item) for item, _ in row]
        assert answered == [item for item in items if item not in (None, pd.NaT)]
        history = [[item for item, _ in row]] * len(users)
        assert len(server.recommend(users, history)) == len(users)


@pytest.mark.parametrize("step", ["_user_arrays", "_write_graph", "_contract", "README"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(data, tmp_path, monkeypatch, step, error):
    model, calls = make_model().fit(data.interactions), []
    module = "sktwotower._onnx.export"
    original = getattr(importlib.import_module(module), step)

    def fails(*args, **_):
        calls.append(args)
        if step == "_write_graph" and len(calls) == 1:
            return original(*args)  # half of them are written
        raise error

    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "new" / "model"):
        calls.clear()
        with monkeypatch.context() as patch:
            if step == "README":
                patch.setattr(Path, "write_text", fails)
            else:
                patch.setattr(f"{module}.{step}", fails)
            with pytest.raises(type(error)):
                model.export_onnx(path)
        assert calls
        assert list(tmp_path.rglob("*")) == [empty]


def test_the_home_directory_and_links(data, tmp_path, monkeypatch):
    model = make_model().fit(data.interactions)
    monkeypatch.setenv("HOME", str(tmp_path))
    model.export_onnx("~/graphs", k=np.uint8(5))
    assert (tmp_path / "graphs" / "top_k.onnx").exists()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match="link is a link to nowhere, which does not exist"):
        model.export_onnx(tmp_path / "link")


def test_an_id_that_json_cannot_hold_is_refused_by_name(tmp_path):
    X = pd.DataFrame(
        {"user_id": [1, 2, 1, 2], "item_id": [frozenset([str]), "a", "b", "b"]}
    )
    model = make_model().fit(X)
    with pytest.raises(TypeError, match="The item ids hold a value of type builtins.type"):
        model.export_onnx(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# What is refused.


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "10"])
def test_a_bad_k_is_refused(data, tmp_path, k):
    model = make_model().fit(data.interactions)
    with pytest.raises(ValueError, match=f"k must be an integer of at least 1; got {k!r}"):
        model.export_onnx(tmp_path / "new", k=k)
    assert not (tmp_path / "new").exists()


def test_a_path_that_is_taken_is_refused(data, tmp_path):
    model = make_model().fit(data.interactions)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file; export_onnx writes a new"):
        model.export_onnx(tmp_path / "file")
    with pytest.raises(ValueError, match="is a directory with things in it"):
        model.export_onnx(tmp_path)


def test_an_unfitted_model_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        TwoTowerRecommender().export_onnx(tmp_path)


def test_a_missing_package_names_the_extra(data, tmp_path, monkeypatch):
    model = make_model().fit(data.interactions)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"export_onnx needs onnx; .*sktwotower\[onnx\]"):
        model.export_onnx(tmp_path / "new")
    assert not (tmp_path / "new").exists()
