"""Similar items and users, audiences of items and draws, against brute force."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from sktwotower import TwoTowerRecommender
from sktwotower.pipeline import make_pipeline

N_USERS, N_ITEMS = 12, 9


def interactions():
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in rng.randint(0, N_USERS, 70)],
            "item": [f"i{i}" for i in rng.randint(0, N_ITEMS, 70)],
        }
    )


X = interactions()
# User "grump" and item "never" have no positives; "z" and "w" are only in the tables.
X_FIT = pd.concat(
    [X, pd.DataFrame({"user": ["u0", "grump"], "item": ["never", "i0"]})], ignore_index=True
)
Y_FIT = np.r_[np.ones(len(X)), 0, 0]
USERS = pd.DataFrame(
    {"user": [f"u{i}" for i in range(N_USERS)] + ["z"], "city": list("abcabcabcabca")}
)
ITEMS = pd.DataFrame(
    {"item": [f"i{i}" for i in range(N_ITEMS)] + ["w"], "kind": list("xyxyxyxyxy")}
)
DIM = 5
PARAMETERS = dict(
    user_column="user", item_column="item", embedding_dim=DIM, max_iter=2, random_state=0
)
AUDIENCE = list(dict.fromkeys(X["user"]))
CATALOGUE = list(dict.fromkeys(X["item"]))


@pytest.fixture(scope="module")
def model():
    return TwoTowerRecommender(**PARAMETERS).fit(X_FIT, Y_FIT)


@pytest.fixture(scope="module")
def described():
    """With features and a trained cold path."""
    return TwoTowerRecommender(
        **PARAMETERS, user_table=USERS, item_table=ITEMS, id_dropout=0.3
    ).fit(X)


def vectors_of(model, name):
    ids, vectors = getattr(model, f"{name}_ids_"), getattr(model, f"{name}_embeddings_")
    return dict(zip(ids.tolist(), vectors.astype(float), strict=True))


def tastes_of(model, name):
    """Without the last entry, of popularity, which is no likeness."""
    return {one: vector[:DIM] for one, vector in vectors_of(model, name).items()}


def nearest(vector, others, eligible, k):
    """Plain Python: ids and scores of the k best, padded."""
    scores = {one: float(sum(vector * others[one])) for one in eligible}
    best = sorted(eligible, key=lambda one: -scores[one])[:k]
    short = k - len(best)
    return best + [None] * short, [scores[one] for one in best] + [-np.inf] * short


def assert_answers(found, expected):
    ids, scores = found
    assert ids.tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(scores, [row for _, row in expected], rtol=1e-4, atol=1e-6)
    assert scores.dtype == np.float32


# --- the audience of an item ---------------------------------------------------------


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommend_users_by_brute_force(model, exclude_seen):
    queries = [*model.item_ids_, "unheard", "i0"]
    with pytest.warns(UserWarning, match="1 of 12 item ids of item_ids are not known"):
        found = model.recommend_users(
            queries, n_recommendations=7, exclude_seen=exclude_seen
        )
    items, users = vectors_of(model, "item"), vectors_of(model, "user")
    items["unheard"] = model.item_tower_.transform(["unheard"])[0].astype(float)
    expected = []
    for item in queries:
        hidden = set(X_FIT["user"][X_FIT["item"] == item]) if exclude_seen else set()
        eligible = [user for user in AUDIENCE if user not in hidden]
        expected.append(nearest(items[item], users, eligible, 7))
    assert_answers(found, expected)
    assert "grump" not in found[0]


def test_recommend_users_is_the_transpose_of_recommend(model):
    by_users = model.recommend(AUDIENCE, n_recommendations=N_ITEMS, as_frame=True)
    by_items = model.recommend_users(CATALOGUE, n_recommendations=N_USERS, as_frame=True)
    assert by_items.columns.tolist() == ["item", "user", "score", "rank"]
    both = by_users.merge(by_items, on=["user", "item"], how="outer")
    assert not both.isna().any().any()
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-6)


def test_audience_of_an_item_by_its_features(described):
    items = pd.DataFrame({"item": ["brand new", "i3"], "kind": ["x", "y"]})
    found = described.recommend_users(items, n_recommendations=N_USERS + 1)
    users = vectors_of(described, "user")
    assert "z" in users
    vectors = described.item_tower_.transform(items).astype(float)
    everyone = described.user_ids_.tolist()
    had = set(X["user"][X["item"] == "i3"])
    expected = [
        nearest(vectors[0], users, everyone, N_USERS + 1),
        nearest(vectors[1], users, [u for u in everyone if u not in had], N_USERS + 1),
    ]
    assert_answers(found, expected)
    nameless = items[["kind"]].set_axis(["one", "two"])
    frame = described.recommend_users(nameless, n_recommendations=2, as_frame=True)
    assert frame["item"].tolist() == ["one", "one", "two", "two"]


def test_users_of_the_table_are_found_when_the_cold_path_is_trained(described):
    untrained = TwoTowerRecommender(
        **PARAMETERS, user_table=USERS, user_id_embedding=True
    ).fit(X)
    for model, is_there in ((described, True), (untrained, False)):
        ids, _ = model.recommend_users(["i0"], n_recommendations=99)
        assert ("z" in ids[0].tolist()) == is_there
        ids, _ = model.recommend_users(["i0"], candidates=["z"], n_recommendations=1)
        assert ids.tolist() == [["z"]]


def test_candidates_of_an_audience(model, described):
    lists = [["u1", "u2"], ["u3", "u1", "u4"]]
    options = {"n_recommendations": 3, "exclude_seen": False}
    ids, _ = model.recommend_users(["i0", "i1"], candidates=lists, **options)
    assert [set(row) - {None} for row in ids] == [set(row) for row in lists]
    shared, _ = model.recommend_users(["i0", "i1"], candidates=["u3", "u1"], **options)
    assert all(set(row) == {"u1", "u3", None} for row in shared)
    with pytest.warns(UserWarning, match="1 of 2 candidates are not known users") as caught:
        model.recommend_users(["i0"], candidates=["u1", "new"])
    assert caught[0].filename == __file__
    strangers = pd.DataFrame({"user": ["s", "t", "u5"], "city": ["a", "b", "c"]})
    found = described.recommend_users(["i0"], candidates=strangers, **options)
    item = vectors_of(described, "item")["i0"]
    vectors = described.user_tower_.transform(strangers).astype(float)
    others = dict(zip(strangers["user"], vectors, strict=True))
    assert_answers(found, [nearest(item, others, list(others), 3)])
    with pytest.raises(ValueError, match="no column with user ids .'user'.*'name'"):
        described.recommend_users(["i0"], candidates=pd.DataFrame({"name": ["s"]}))


@pytest.mark.filterwarnings("ignore:1 of 3 item ids of item_ids are not known")
@pytest.mark.filterwarnings("ignore:.*user ids of exclude_interactions are not known")
def test_exclusions_of_an_audience(model, described):
    pairs = pd.DataFrame(
        [("u1", "i0"), ("u2", "i0"), ("u3", "i1"), ("new", "i0"), ("u4", "unheard")],
        columns=["user", "item"],
    )
    ids, _ = model.recommend_users(
        ["i0", "unheard", "i0"],
        n_recommendations=99,
        exclude_seen=False,
        exclude_interactions=pairs,
    )
    left = [set(AUDIENCE) - {"u1", "u2"}, set(AUDIENCE) - {"u4"}]
    assert [set(row) - {None} for row in ids] == [left[0], left[1], left[0]]
    # of users that only the frame of candidates has
    strangers = pd.DataFrame({"user": ["new", "newer"], "city": ["a", "b"]})
    ids, _ = described.recommend_users(
        ["i0"], candidates=strangers, exclude_interactions=pairs, n_recommendations=2
    )
    assert ids.tolist() == [["newer", None]]


def test_exclusions_of_items_that_only_candidates_have(described):
    candidates = pd.DataFrame({"item": ["n1", "i2", "n2"], "kind": ["x", "x", "y"]})
    pairs = pd.DataFrame({"user": ["u1", "u1"], "item": ["n2", "i2"]})
    ids, _ = described.recommend(
        ["u1", "u2"],
        candidates=candidates,
        exclude_interactions=pairs,
        exclude_seen=False,
        n_recommendations=3,
    )
    assert ids[0].tolist() == ["n1", None, None]
    assert set(ids[1]) == {"n1", "i2", "n2"}


# --- similar users and items ---------------------------------------------------------


def test_similar_users_by_brute_force(model):
    queries = [*model.user_ids_, "stranger", "u0"]
    with pytest.warns(UserWarning, match="1 of 15 user ids of user_ids are not known"):
        found = model.similar_users(queries, n_recommendations=N_USERS)
    users = tastes_of(model, "user")
    stranger = model.user_tower_.transform(["stranger"])[0, :DIM].astype(float)
    expected = [
        nearest(
            users.get(query, stranger),
            users,
            [user for user in AUDIENCE if user != query],
            N_USERS,
        )
        for query in queries
    ]
    assert_answers(found, expected)


def test_similar_users_as_frame(model):
    frame = model.similar_users(["u1", "u0"], n_recommendations=2, as_frame=True)
    assert frame.columns.tolist() == ["query", "user", "score", "rank"]
    assert frame["query"].tolist() == ["u1", "u1", "u0", "u0"]
    assert frame["rank"].tolist() == [1, 2, 1, 2]
    ids, scores = model.similar_users(["u1", "u0"], n_recommendations=2)
    assert frame["user"].tolist() == ids.ravel().tolist()
    assert frame["score"].tolist() == scores.ravel().tolist()


def test_rows_of_features(described):
    for name, table in (("user", USERS), ("item", ITEMS)):
        similar = getattr(described, f"similar_{name}s")
        tower = getattr(described, f"{name}_tower_")
        vectors = tastes_of(described, name)
        feature = table.columns[1]
        rows = pd.DataFrame({name: ["new", table[name][0]], feature: table[feature][1]})
        queries = tower.transform(rows)[:, :DIM].astype(float)
        known = getattr(described, f"{name}_ids_").tolist()
        expected = [
            nearest(queries[0], vectors, known, 5),
            nearest(queries[1], vectors, [i for i in known if i != table[name][0]], 5),
        ]
        assert_answers(similar(rows, n_recommendations=5), expected)
        # Rows without ids exclude no users or items.
        nameless = rows[[feature]].set_axis([known[0], known[1]])
        with pytest.raises(ValueError, match=f"has ids of known {name}s.*drop=True"):
            similar(nameless)
        ids, _ = similar(nameless.reset_index(drop=True), n_recommendations=99)
        assert set(ids[0]) - {None} == set(known)


def test_candidates_of_similar_items(model, described):
    ids, _ = model.similar_items(
        ["i0", "i1"], candidates=["i0", "i1", "i2"], n_recommendations=3
    )
    assert [set(row) for row in ids] == [{"i1", "i2", None}, {"i0", "i2", None}]
    ids, _ = model.similar_items(
        ["i0", "i1"], candidates=[["i0", "i3"], ["i1"]], n_recommendations=1
    )
    assert ids.tolist() == [["i3"], [None]]
    # rows of new items, the query included
    rows = pd.DataFrame({"item": ["n1", "n2"], "kind": ["x", "y"]})
    ids, _ = described.similar_items(rows, candidates=rows, n_recommendations=2)
    assert ids.tolist() == [["n2", None], ["n1", None]]


def test_arrays_laid_out_like_X():
    data = X.assign(kind=X["item"].map(ITEMS.set_index("item")["kind"]))
    options = dict(embedding_dim=3, max_iter=1, random_state=0, id_dropout=0.2)
    array = data.to_numpy(dtype=object)
    model = TwoTowerRecommender(item_features=[2], **options).fit(array)
    named = TwoTowerRecommender(item_features=["kind"], **options).fit(data)
    rows = array[:4].copy()
    rows[:, 2] = "y"
    frame = data[:4].assign(kind="y")[["item", "kind"]]
    for method in ("similar_items", "recommend_users"):
        found = getattr(model, method)(rows, n_recommendations=3)
        expected = getattr(named, method)(frame, n_recommendations=3)
        assert found[0].tolist() == expected[0].tolist()
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


METHODS = {
    "similar_items": ("item", ["i0", "i1"]),
    "similar_users": ("user", ["u0", "u1"]),
    "recommend_users": ("item", ["i0", "i1"]),
}


@pytest.mark.parametrize("method", METHODS)
def test_bad_queries(model, method):
    name, ids = METHODS[method]
    ask = getattr(model, method)
    for bad in (0, -1, 2.0, True, "3", None):
        with pytest.raises(ValueError, match="n_recommendations must be an integer of at"):
            ask(ids, n_recommendations=bad)
    with pytest.raises(ValueError, match=f"{name}_ids must be {name} ids in one dim"):
        ask(ids[0])
    with pytest.raises(ValueError, match=f"{name}_ids has 1 row with a missing {name} id"):
        ask([ids[0], None])
    with pytest.raises(ValueError, match=f"lacks the column '{name}'"):
        ask(pd.DataFrame({"nothing": [1]}))
    with pytest.raises(NotFittedError):
        getattr(TwoTowerRecommender(), method)(ids)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_of_answers(model, method):
    ids = METHODS[method][1]
    ask = getattr(model, method)
    found, scores = ask(ids, n_recommendations=50)  # more than there are
    assert found.shape == scores.shape == (2, 50)
    assert (scores[:, -1] == -np.inf).all() and found[0, -1] is None
    found, scores = ask([], n_recommendations=2)
    assert found.shape == scores.shape == (0, 2)
    assert len(ask([], as_frame=True)) == 0
    found, _ = ask(ids, candidates=[], n_recommendations=2)
    assert found.tolist() == [[None, None]] * 2


@pytest.mark.parametrize("method", METHODS)
def test_pipelines_forward_queries(method):
    pipeline = make_pipeline(TwoTowerRecommender(**PARAMETERS)).fit(X)
    ids = METHODS[method][1]
    found, _ = getattr(pipeline, method)(ids, n_recommendations=3)
    expected, _ = getattr(pipeline[-1], method)(ids, n_recommendations=3)
    assert found.tolist() == expected.tolist()


# --- draws ---------------------------------------------------------------------------


def test_draws_follow_the_softmax_of_the_model(model):
    n = 6000
    ids, scores = model.recommend(
        ["u1"] * n, n_recommendations=1, sample=True, random_state=0, exclude_seen=False
    )
    every, exact = model.recommend(["u1"], n_recommendations=N_ITEMS, exclude_seen=False)
    weights = np.exp(exact[0].astype(float) / model.temperature_)
    for item, score, probability in zip(
        every[0], exact[0], weights / weights.sum(), strict=True
    ):
        drawn = ids[:, 0] == item
        error = (probability * (1 - probability) / n) ** 0.5
        assert abs(drawn.mean() - probability) < 4.5 * error
        np.testing.assert_allclose(scores[drawn, 0], score, atol=1e-6)


def test_draws_are_seeded(model):
    def draw(random_state):
        return model.recommend(AUDIENCE, sample=True, random_state=random_state)[0].tolist()

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(np.random.RandomState(0)) == draw(np.random.RandomState(0))
    state = np.random.RandomState(0)
    assert draw(state) != draw(state)  # an instance keeps its state
    before = check_random_state(None).get_state()[1].copy()
    assert draw(None) != draw(None)
    assert (check_random_state(None).get_state()[1] == before).all()


def test_draws_are_without_replacement_and_without_seen_items(model):
    found, scores = model.recommend(
        AUDIENCE, n_recommendations=N_ITEMS, sample=True, random_state=0
    )
    exact, _ = model.recommend(AUDIENCE, n_recommendations=N_ITEMS)
    assert [sorted(set(row) - {None}) for row in found] == [
        sorted(set(row) - {None}) for row in exact
    ]
    for user, row, row_scores in zip(AUDIENCE, found, scores, strict=True):
        drawn = [item for item in row if item is not None]
        assert len(drawn) == len(set(drawn))
        pairs = pd.DataFrame({"user": user, "item": drawn})
        np.testing.assert_allclose(
            row_scores[: len(drawn)], model.predict(pairs), atol=1e-6
        )
    listed, _ = model.recommend(
        ["u0", "u1"],
        candidates=[["i1", "i2"], ["i3"]],
        n_recommendations=2,
        sample=True,
        random_state=0,
        exclude_seen=False,
    )
    assert [set(row) for row in listed] == [{"i1", "i2"}, {"i3", None}]


def test_draws_of_popular_items(model):
    n = 6000
    counts = X["item"].value_counts()
    ids, scores = model.recommend(
        [f"new {i}" for i in range(n)] + ["u0"],
        n_recommendations=2,
        cold_start="popular",
        sample=True,
        random_state=0,
    )
    weights = (1.0 + counts) / (1.0 + counts).sum()
    for item, probability in weights.items():
        error = (probability * (1 - probability) / n) ** 0.5
        assert abs((ids[:n, 0] == item).mean() - probability) < 4.5 * error
    assert (scores[:n] == counts[ids[:n].ravel()].to_numpy().reshape(n, 2)).all()
    assert (np.abs(scores[n]) <= 1 + 1e-6).all()  # a known user has cosines


def test_popular_with_lists_and_exclusions(model):
    pairs = pd.DataFrame({"user": ["new"], "item": ["i1"]})
    lists = [["i1", "i2", "i3"], ["i4", "i5"]]
    ids, scores = model.recommend(
        ["new", "u0"],
        candidates=lists,
        cold_start="popular",
        n_recommendations=3,
        exclude_interactions=pairs,
        exclude_seen=False,
    )
    counts = X["item"].value_counts()
    assert set(ids[0]) == {"i2", "i3", None}
    assert scores[0, :2].tolist() == sorted(counts[["i2", "i3"]], reverse=True)
    exact, _ = model.recommend(
        ["u0"], candidates=lists[1], n_recommendations=3, exclude_seen=False
    )
    assert ids[1].tolist() == exact[0].tolist()


def test_arguments_are_left_unchanged_without_warnings(model):
    queries = pd.DataFrame({"item": ["i0", "i1"]})
    lists = [["u1", None], ["u2", "u3"]]
    before = queries.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.recommend_users(queries, candidates=lists)
        model.similar_items(queries)
        model.similar_users(["u0"])
    pd.testing.assert_frame_equal(queries, before)
    assert lists == [["u1", None], ["u2", "u3"]]
