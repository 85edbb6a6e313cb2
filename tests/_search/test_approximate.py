"""An index gives the answers of the exact search, is never outdated and never short."""

import copy
import io
import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktwotower import TwoTowerRecommender
from sktwotower._search.faiss_index import FaissIndex, approximate_top_k
from sktwotower._search.top_k import DotScores, top_k
from sktwotower.baselines import PopularRecommender

N_USERS, N_ITEMS = 60, 200
INDEXES = {
    "flat": {},
    "HNSW16": {"efConstruction": 60, "efSearch": 40},
    "IVF5,Flat": {"nprobe": 3},
    "SQ8": {},
    "PCA6,IVF5,SQ8": {"nprobe": 3},
}
# Little effort finds little.
POOR = "HNSW2", {"efConstruction": 1, "efSearch": 1}


def interactions(seed=0):
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {"user": rng.randint(0, N_USERS, 1500), "item": rng.randint(0, N_ITEMS, 1500)}
    )


X = interactions()
# Users 0 to 2 have seen all items but 7, 90 and 150 to 153.
LEFT = [7, 90, 150, 151, 152, 153]
OFTEN = pd.DataFrame(
    [(user, item) for user in range(3) for item in range(N_ITEMS) if item not in LEFT],
    columns=["user", "item"],
)
X_FIT = pd.concat([X[X["user"] > 2], OFTEN], ignore_index=True)
ITEMS = pd.DataFrame({"item": range(N_ITEMS), "kind": np.arange(N_ITEMS) % 7})


def fitted(**parameters):
    defaults = dict(
        user_column="user", item_column="item", embedding_dim=8, max_iter=2, random_state=0
    )
    return TwoTowerRecommender(**defaults | parameters).fit(X_FIT)


@pytest.fixture(scope="module")
def exact():
    return fitted()


@pytest.fixture
def model(exact):
    return copy.deepcopy(exact)


@pytest.fixture
def with_faiss():
    return pytest.importorskip("faiss")


def assert_equal(found, expected):
    """Compare answers; items whose scores differ by rounding may be in any order."""
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    for row, other in zip(found[0], expected[0], strict=True):
        assert set(row) == set(other)


def share_found(found, expected):
    pairs = zip(found[0], expected[0], strict=True)
    return np.mean([len(set(row) & set(other)) / len(set(other)) for row, other in pairs])


def is_asked(monkeypatch):
    """Numbers of queries that indexes get, one for each search, as a growing list."""
    counts = []
    search = FaissIndex.search

    def counted(self, queries, *rest):
        counts.append(len(queries))
        return search(self, queries, *rest)

    monkeypatch.setattr(FaissIndex, "search", counted)
    return counts


# --- answers -------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.filterwarnings("ignore:1 of (61|201) .* are not known:UserWarning")
def test_a_flat_index_is_exact(with_faiss, normalize, monkeypatch):
    # A bag of nothing, as of the new user, has equal scores for items as popular.
    options = dict(history=None, popularity_prior=1.0)
    model = fitted(normalize=normalize, temperature=1.0, **options)
    calls = {
        "recommend": [*range(N_USERS), "new"],
        "similar_items": [*range(N_ITEMS), "new"],
        "similar_users": [*range(N_USERS), "new"],
        "recommend_users": [*range(N_ITEMS), "new"],
    }
    expected = {
        name: getattr(model, name)(ids, n_recommendations=9) for name, ids in calls.items()
    }
    assert model.build_index("flat").build_index("flat", side="user") is model
    counts = is_asked(monkeypatch)
    for name, ids in calls.items():
        assert_equal(getattr(model, name)(ids, n_recommendations=9), expected[name])
    # Similar ones are found by cosines, which the index knows of unit vectors alone.
    asked = [name for name in calls if normalize or "similar" not in name]
    assert counts == [len(calls[name]) for name in asked]


@pytest.mark.parametrize("index", INDEXES)
def test_no_answer_is_short(with_faiss, exact, model, index):
    """For users whose nearest items are all seen, and for answers of all items."""
    model.build_index(index, **INDEXES[index])
    for k in (1, 4, 6, 50, N_ITEMS + 10):
        found, scores = model.recommend(range(N_USERS), n_recommendations=k)
        expected, _ = exact.recommend(range(N_USERS), n_recommendations=k)
        for user, row, other in zip(range(N_USERS), found, expected, strict=True):
            items = [item for item in row if item is not None]
            assert len(items) == len(set(items)) == sum(i is not None for i in other)
            seen = set(X_FIT["item"][X_FIT["user"] == user])
            assert not seen & set(items)
        n_found = (scores > -np.inf).sum(axis=1)
        for row, n in zip(scores, n_found, strict=True):
            assert (np.diff(row[:n]) <= 0).all()
            assert (row[n:] == -np.inf).all()
    assert set(found[0]) - {None} == set(LEFT)


@pytest.mark.parametrize("index", INDEXES)
def test_scores_are_those_of_the_pairs(with_faiss, model, index):
    frame = model.build_index(index, **INDEXES[index]).recommend(
        range(N_USERS), as_frame=True
    )
    np.testing.assert_allclose(model.predict(frame), frame["score"], atol=1e-5)


@pytest.mark.parametrize(
    ("good", "poor"),
    [
        (("hnsw", {"efSearch": 400}), POOR),
        (("IVF5,Flat", {"nprobe": 5}), ("IVF5,Flat", {"nprobe": 1})),
    ],
)
def test_effort_buys_recall(with_faiss, exact, model, good, poor):
    expected = exact.recommend(range(N_USERS), exclude_seen=False)
    found = [
        model.build_index(index, **parameters).recommend(range(N_USERS), exclude_seen=False)
        for index, parameters in (good, poor)
    ]
    assert share_found(found[0], expected) > 0.99
    assert share_found(found[1], expected) < 0.99


def test_further_exclusions_and_histories(with_faiss, exact, model):
    model.build_index("flat")
    history = pd.DataFrame({"user": [5, "new"], "item": [3, 4]})
    pairs = pd.DataFrame({"user": [5, "new"], "item": [8, 9]})
    options = dict(n_recommendations=N_ITEMS, history=history, exclude_interactions=pairs)
    assert_equal(
        model.recommend([5, "new"], **options), exact.recommend([5, "new"], **options)
    )


def test_queries_that_are_answered_exactly(with_faiss, exact, model, monkeypatch):
    model.build_index(POOR[0], **POOR[1])
    counts = is_asked(monkeypatch)
    users = [0, 5, 9]
    for options in (
        {"candidates": [3, 4, 5, 6]},
        {"candidates": [[3, 4], [5], [6, 7]]},
        {"sample": True, "random_state": 0},
    ):
        found, expected = (m.recommend(users, **options) for m in (model, exact))
        assert found[0].tolist() == expected[0].tolist()
    assert not counts
    assert model.score(X_FIT) == exact.score(X_FIT)
    assert not counts
    # two users who get the most popular items, and one who does not
    found = model.recommend(["new", 5, "newer"], cold_start="popular")
    expected = exact.recommend(["new", 5, "newer"], cold_start="popular")
    for part, other in zip(found, expected, strict=True):
        assert part[[0, 2]].tolist() == other[[0, 2]].tolist()
    assert counts == [3]


@pytest.mark.parametrize("index", INDEXES)
def test_no_queries(with_faiss, model, index):
    model.build_index(index, **INDEXES[index])
    assert model.recommend([], n_recommendations=3)[0].shape == (0, 3)


@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf"])
def test_a_catalogue_of_two(with_faiss, index, capfd):
    rows = pd.DataFrame({"user": [1, 2, 3, 3], "item": ["one", "two", "two", "one"]})
    model = TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=0).fit(rows)
    model.build_index(index)
    ids, _ = model.recommend(["new", 1], n_recommendations=3)
    assert set(ids[0]) == {"one", "two", None}
    assert ids[1].tolist() == ["two", None, None]
    assert model.similar_items(["two"])[0][0, :2].tolist() == ["one", None]
    assert capfd.readouterr() == ("", "")  # faiss itself may warn


# --- an index belongs to the embeddings it was built from -------------------------------


def is_used(model, monkeypatch, users=(0, 1, 5)):
    with monkeypatch.context() as patch:
        counts = is_asked(patch)
        model.recommend(list(users))
    return bool(counts)


def test_other_embeddings_drop_the_index(with_faiss, monkeypatch):
    changes = {
        "fit": lambda m: m.fit(X_FIT),
        "partial_fit": lambda m: m.partial_fit(X[:50]),
        "add_items": lambda m: m.add_items(pd.DataFrame({"item": [900], "kind": [3]})),
    }
    for change in changes.values():
        model = fitted(item_table=ITEMS, id_dropout=0.2)
        without = copy.deepcopy(model)
        model.build_index("flat").build_index("flat", side="user")
        assert is_used(model, monkeypatch)
        change(model)
        change(without)
        assert not is_used(model, monkeypatch)
        assert_equal(
            model.recommend([0, 5], n_recommendations=999),
            without.recommend([0, 5], n_recommendations=999),
        )
        assert model._state.item.index is None  # its memory is freed
        model.build_index("flat")
        assert is_used(model, monkeypatch)
        assert_equal(
            model.recommend([0, 5], n_recommendations=999),
            without.recommend([0, 5], n_recommendations=999),
        )


def test_a_refused_chunk_leaves_the_index(with_faiss, model, monkeypatch):
    model.build_index("flat")
    with pytest.raises(ValueError, match="missing item id"):
        model.partial_fit(pd.DataFrame({"user": [1], "item": [None]}))
    assert is_used(model, monkeypatch)


def dumped(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "copied",
    [lambda m: pickle.loads(pickle.dumps(m)), dumped, copy.deepcopy],
    ids=["pickle", "joblib", "deepcopy"],
)
def test_copies_have_no_index(with_faiss, exact, model, copied, monkeypatch):
    model.build_index("hnsw")
    again = copied(model)
    assert not is_used(again, monkeypatch)
    assert is_used(model, monkeypatch)
    found, expected = again.recommend(range(9)), exact.recommend(range(9))
    assert found[0].tolist() == expected[0].tolist()
    assert again._state.item.index is None
    again.build_index("flat")
    assert is_used(again, monkeypatch)
    assert not is_used(clone(model).fit(X_FIT), monkeypatch)


def test_none_drops_the_index(with_faiss, model, monkeypatch):
    model.build_index("flat").build_index("flat", side="user")
    assert model.build_index(None) is model
    assert not is_used(model, monkeypatch)
    assert model.index_report(k=5)["side"].tolist() == ["user"]


# --- the report ----------------------------------------------------------------------


def test_the_report_by_hand(with_faiss, exact, model):
    parameters = {"efConstruction": 10, "efSearch": 6}
    model.build_index("HNSW4", **parameters)
    report = model.index_report(k=10, n_queries=999, random_state=0)
    assert len(report) == 1
    row = report.iloc[0]
    assert (row["side"], row["factory"], row["n_vectors"]) == ("item", "HNSW4", N_ITEMS)
    users = exact.user_ids_
    found, expected = (m.recommend(users, n_recommendations=10) for m in (model, exact))
    sets = [
        (set(a) - {None}, set(b) - {None})
        for a, b in zip(found[0], expected[0], strict=True)
    ]
    by_hand = sum(len(a & b) for a, b in sets) / sum(len(b) for _, b in sets)
    assert row["recall"] == pytest.approx(by_hand)
    assert 0.3 < by_hand < 1
    assert row["queries_per_second"] > 0 and row["exact_queries_per_second"] > 0
    assert row["build_seconds"] > 0
    vectors = model.item_embeddings_.nbytes
    assert vectors < row["bytes"] < 3 * vectors
    assert row["parameters"] == parameters


def test_the_report_of_both_sides(with_faiss, model):
    model.build_index("flat", side="user").build_index("IVF4,Flat", nprobe=4)
    report = model.index_report(k=7, n_queries=20, random_state=0)
    assert report["side"].tolist() == ["user", "item"]
    assert report["factory"].tolist() == ["Flat", "IVF4,Flat"]
    assert report["recall"].tolist() == [1.0, 1.0]
    again = model.index_report(k=7, n_queries=20, random_state=0)
    assert again["recall"].tolist() == report["recall"].tolist()


def test_bytes_are_those_of_faiss(with_faiss, model):
    model.build_index("hnsw")
    index = model._state.item.index
    assert index.n_bytes() == with_faiss.serialize_index(index._index).nbytes


def test_shorthands_and_defaults(with_faiss):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((4000, 8), np.float32)
    ivf = FaissIndex("ivf", vectors)
    assert (ivf.factory, ivf.parameters) == ("IVF102,Flat", {"nprobe": 8})  # 39 a list
    few = FaissIndex("ivf", vectors[:50])
    assert (few.factory, few.parameters) == ("IVF1,Flat", {"nprobe": 1})
    hnsw = FaissIndex("hnsw", vectors, {"efSearch": 30})
    assert hnsw.factory == "HNSW32"
    assert hnsw.parameters == {"efConstruction": 200, "efSearch": 30}
    assert hnsw._index.hnsw.efConstruction == 200
    flat = FaissIndex("flat", vectors)
    assert (flat.factory, flat.parameters) == ("Flat", {})


@pytest.mark.parametrize(
    ("index", "parameters"),
    [
        ("flat", {}),
        ("hnsw", {"efConstruction": 40, "efSearch": 300}),
        ("IVF4,Flat", {"nprobe": 4}),
        ("SQ8", {}),
        ("PCA6,IVF4,Flat", {"nprobe": 4}),
    ],
)
def test_search_by_hand(with_faiss, index, parameters):
    """Some queries with exclusions, some without, in one batch."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((10_000, 6), np.float32)
    queries = rng.standard_normal((20, 6), np.float32)
    hidden = rng.random((20, 10_000)) < 0.002
    nearest = np.argsort(-queries @ vectors.T, axis=1)[:, :10:2]
    np.put_along_axis(hidden, nearest, True, axis=1)
    hidden[::3] = False
    built = FaissIndex(index, vectors, parameters)
    scores = np.where(hidden, -np.inf, queries @ vectors.T)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :12]
    columns, values = approximate_top_k(
        built, DotScores(queries, vectors), 12, sp.csr_matrix(hidden)
    )
    assert np.mean(columns == expected) > (0.9 if built.is_lossy else 0.99)
    np.testing.assert_allclose(
        values, np.take_along_axis(scores, columns, axis=1), rtol=1e-4, atol=1e-5
    )


def test_compressed_vectors_only_choose(with_faiss):
    """The scores are exact and in order, though the index itself has others."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 16), np.float32)
    scores = DotScores(rng.standard_normal((9, 16), np.float32), vectors)
    index = FaissIndex("PCA8,IVF9,SQ4", vectors, {"nprobe": 9})
    columns, values = approximate_top_k(index, scores, 50, None)
    _, exact = top_k(scores, 50)
    assert (values <= exact + 1e-4).all() and (values < exact - 0.1).any()
    assert (np.diff(values, axis=1) <= 0).all()
    expected = np.take_along_axis(scores.queries @ vectors.T, columns, axis=1)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert np.abs(index.search(scores.queries, 50)[1] - values).max() > 0.1


# --- bad input -----------------------------------------------------------------------


def test_without_faiss(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    message = r"build_index needs faiss; install it with pip install 'sktwotower\[faiss\]'"
    with pytest.raises(ImportError, match=message):
        model.build_index("hnsw")
    assert model.recommend([5])[0].shape == (1, 10)
    assert model.build_index(None) is model  # needs none


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("hsnw", "index='hsnw' must be one of .*'hnsw'.*Did you mean 'hnsw'"),
        ("FLAT", "Did you mean 'flat'"),
        ("annoy", "index='annoy' must be one of .*could not parse index string annoy"),
        (3, "index=3 must be one of"),
        (["flat"], "index=.'flat'. must be one of"),
        ("LSH", "index='LSH' must be one of"),
        ("NSG32", "cannot exclude items while it searches an IndexNSGFlat. Use a graph"),
        ("PQ3", "cannot exclude items while it searches an IndexPQ"),
        ("IVF999,Flat", r"cannot build index='IVF999,Flat' over \d+ vectors: .*clusters"),
    ],
)
def test_indexes_that_are_refused(with_faiss, model, index, message):
    with pytest.raises(ValueError, match=message):
        model.build_index(index)
    assert model._state.item.index is None


@pytest.mark.parametrize(
    ("index", "parameters", "error", "message"),
    [
        ("hnsw", {"M": 8}, TypeError, "no parameter 'M'; its parameters are .'efCons"),
        ("hnsw", {"M": 8}, TypeError, "Give it in the factory string: 'HNSW16' for M=16.$"),
        ("ivf", {"nlist": 8}, TypeError, "factory string: 'IVF1000,Flat' for nlist=1000"),
        ("hnsw", {"ef_serach": 8}, TypeError, "Did you mean 'efSearch'"),
        ("hnsw", {"nprobe": 8}, TypeError, "'hnsw'. has no parameter 'nprobe'"),
        ("flat", {"nprobe": 8}, TypeError, "has no parameter 'nprobe'; it has none"),
        ("hnsw", {"efSearch": 0}, ValueError, "efSearch must be an integer of at least 1"),
        ("hnsw", {"efSearch": 1.5}, ValueError, "got 1.5"),
        ("ivf", {"nprobe": True}, ValueError, "nprobe must be an integer .* got True"),
        ("ivf", {"nprobe": "all"}, ValueError, "at least 1; got 'all'"),
    ],
)
def test_parameters_that_are_refused(with_faiss, model, index, parameters, error, message):
    with pytest.raises(error, match=message):
        model.build_index(index, **parameters)


def test_other_bad_input(model):
    with pytest.raises(ValueError, match="side='users' must be 'item' or 'user'"):
        model.build_index("flat", side="users")
    with pytest.raises(ValueError, match="no index to report on: call build_index first"):
        model.index_report()
    with pytest.raises(ValueError, match="^k must be an integer of at least 1; got 0"):
        model.index_report(k=0)
    with pytest.raises(ValueError, match="n_queries must be an integer of at least 1"):
        model.index_report(n_queries=0)
    for call in ("build_index", "index_report"):
        with pytest.raises(NotFittedError):
            getattr(TwoTowerRecommender(), call)()
    assert not hasattr(PopularRecommender(), "build_index")


@pytest.mark.parametrize(
    ("index", "parameters"),
    [("hnsw", {"efSearch": np.uint8(200)}), ("ivf", {"nprobe": np.int16(3)})],
)
def test_integers_of_numpy(with_faiss, model, index, parameters):
    """faiss takes those of Python only."""
    model.build_index(index, **parameters)
    for k in (np.uint8(9), np.int64(9)):
        found = model.recommend([1, 2], n_recommendations=k)
        np.testing.assert_array_equal(found, model.recommend([1, 2], n_recommendations=9))
