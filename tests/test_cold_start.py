"""Users and items that training has not seen, placed by their features."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.preprocessing import OneHotEncoder

from sktwotower import TwoTowerRecommender
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory
from tests import helpers
from tests.helpers import NAMES

# --- planted data: features carry nine tenths of the taste ---------------------------

DATA = make_interactions(
    n_users=400,
    n_items=300,
    n_interactions=12000,
    feature_share=0.9,
    popularity_skew=0.5,
    n_item_features=6,
    n_user_features=6,
    random_state=0,
)
RNG = np.random.RandomState(0)
IS_HELD_OUT = RNG.random_sample(len(DATA.interactions)) < 0.2
TRAIN, HELD_OUT = DATA.interactions[~IS_HELD_OUT], DATA.interactions[IS_HELD_OUT]
COLD_ITEMS = RNG.choice(300, 30, replace=False)
COLD_USERS = RNG.choice(400, 40, replace=False)
OF_COLD_ITEMS = TRAIN["item_id"].isin(COLD_ITEMS)
OF_COLD_USERS = TRAIN["user_id"].isin(COLD_USERS)


def planted(rows, **parameters):
    defaults = dict(
        **NAMES,
        user_table=DATA.user_table,
        item_table=DATA.item_table,
        history=None,
        embedding_dim=16,
        max_iter=8,
        batch_size=256,
        random_state=0,
    )
    return TwoTowerRecommender(**defaults | parameters).fit(rows)


def queries(rows):
    """Users of held-out rows, and what each of them took."""
    taken = rows.groupby("user_id")["item_id"].agg(set)
    return taken.index.to_numpy(), taken.to_list()


def ndcg_at_10(found, taken):
    values = []
    for row, relevant in zip(found, taken, strict=True):
        gains = [1 / np.log2(rank + 2) for rank in range(10)]
        ideal = sum(gains[: len(relevant)])
        dcg = sum(
            gain for gain, item in zip(gains, row[:10], strict=False) if item in relevant
        )
        values.append(dcg / ideal)
    return np.mean(values)


@pytest.fixture(scope="module")
def warm():
    return planted(TRAIN, id_dropout=0.3)


@pytest.fixture(scope="module")
def without_cold_items():
    return planted(TRAIN[~OF_COLD_ITEMS], id_dropout=0.3)


@pytest.fixture(scope="module")
def without_cold_users():
    return planted(TRAIN[~OF_COLD_USERS], id_dropout=0.3)


@pytest.mark.slow
def test_cold_items_among_themselves(warm, without_cold_items):
    users, taken = queries(HELD_OUT[HELD_OUT["item_id"].isin(COLD_ITEMS)])
    options = dict(candidates=COLD_ITEMS, n_recommendations=10)
    when_warm = ndcg_at_10(warm.recommend(users, **options)[0], taken)
    # What was removed is excluded alike.
    found, _ = without_cold_items.recommend(users, history=TRAIN[OF_COLD_ITEMS], **options)
    when_cold = ndcg_at_10(found, taken)
    by_chance = ndcg_at_10([RNG.permutation(COLD_ITEMS) for _ in users], taken)
    assert when_warm > 2 * by_chance
    assert when_cold >= 0.7 * when_warm


@pytest.mark.slow
def test_cold_users(warm, without_cold_users):
    users, taken = queries(HELD_OUT[HELD_OUT["user_id"].isin(COLD_USERS)])
    assert len(users) == len(COLD_USERS)
    removed = TRAIN[OF_COLD_USERS]
    when_warm = ndcg_at_10(warm.recommend(users)[0], taken)
    found, _ = without_cold_users.recommend(users, history=removed)
    when_cold = ndcg_at_10(found, taken)
    assert when_cold >= 0.7 * when_warm
    # The mean of all users is the same for everyone; they have no features here.
    nobody = planted(TRAIN[~OF_COLD_USERS], user_table=None)
    found, _ = nobody.recommend(users, history=removed, cold_start="mean")
    assert ndcg_at_10(found, taken) < 0.6 * when_cold


@pytest.mark.slow
def test_cold_items_are_recommended_about_as_often_as_they_are_taken(without_cold_items):
    users = HELD_OUT["user_id"].unique()
    found, _ = without_cold_items.recommend(users, history=TRAIN[OF_COLD_ITEMS])
    share = np.isin(found.astype(int), COLD_ITEMS).mean()
    of_the_truth = HELD_OUT["item_id"].isin(COLD_ITEMS).mean()
    assert of_the_truth / 2 < share < 2 * of_the_truth


def test_without_id_dropout_cold_items_are_not_in_the_catalogue():
    model = planted(TRAIN[~OF_COLD_ITEMS], max_iter=1)
    found, _ = model.recommend(range(400), n_recommendations=300, exclude_seen=False)
    assert not np.isin(found[:, :270].astype(int), COLD_ITEMS).any()
    assert (found[:, 270:] == None).all()  # noqa: E711
    found, scores = model.recommend([0], candidates=COLD_ITEMS, n_recommendations=30)
    assert set(found[0]) == set(COLD_ITEMS) and np.isfinite(scores).all()


# --- a small model for the rest ------------------------------------------------------

N_USERS, N_ITEMS, N_ROWS = 20, 12, 200


def make_X(seed=0):
    rng = np.random.RandomState(seed)
    weights = 1 / np.arange(1, N_ITEMS + 1)
    return pd.DataFrame(
        {
            "user": rng.randint(0, N_USERS, N_ROWS),
            "item": rng.choice(N_ITEMS, N_ROWS, p=weights / weights.sum()),
        }
    )


X = make_X()
USERS = pd.DataFrame(
    {
        "user": range(N_USERS),
        "age": 20.0 + np.arange(N_USERS) * 7 % 31,
        "city": np.array(["rome", "oslo", "bern", "kiel"])[np.arange(N_USERS) % 4],
    }
)
ITEMS = pd.DataFrame(
    {
        "item": range(N_ITEMS),
        "genre": list("aabbccddaabe"),  # e is rare
        "price": np.arange(N_ITEMS) * 5.0 % 7,
        "tags": ["x|y", "y", "", "z|x", "z", "x", "y|z", "x|y|z", "y", "x", "z", "x"],
    }
)
NEW = pd.DataFrame(
    {"item": [90, 91, 92], "genre": ["a", "b", "d"], "price": [1.0, 6.0, 3.0]}
).assign(tags=["x", "y|z", "z"])


make_model = partial(helpers.make_model, user_table=USERS, item_table=ITEMS)


def bare(**parameters):
    """Ids alone, so that a new one has nothing to be told by."""
    return make_model(user_table=None, item_table=None, **parameters)


def messages_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


# --- the unknown one -----------------------------------------------------------------


@pytest.mark.slow
def test_id_dropout_trains_the_unknown_id():
    options = dict(
        history=None, normalize=False, temperature=1.0, weight_decay=0.0, max_iter=10
    )
    for side in ("user", "item"):
        distances = {}
        for id_dropout in (0.0, 0.5):
            model = bare(id_dropout=id_dropout, **options).fit(X)
            unknown = getattr(model, f"{side}_tower_").transform([-1])[0]
            mean = getattr(model, f"{side}_embeddings_").mean(axis=0)
            distances[id_dropout] = np.abs(unknown - mean).max()
        assert distances[0.0] < 1e-5
        assert distances[0.5] > 1e-2


@pytest.mark.slow
def test_the_unknown_user_ranks_items_by_popularity():
    """Trained on all rows, it takes items as often as they are taken."""
    model = bare(id_dropout=0.5, normalize=False, temperature=1.0, max_iter=30).fit(X)
    frame = model.recommend([-1], n_recommendations=N_ITEMS, as_frame=True)
    counts = X["item"].value_counts()[frame["item"]]
    assert spearmanr(frame["score"], counts).statistic > 0.9


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (8,)])
def test_without_an_id_embedding_a_side_is_inductive(side, hidden_layer_sizes):
    table = {"user": USERS, "item": ITEMS}[side]
    model = make_model(
        **{f"{side}_id_embedding": False},
        history=None,
        hidden_layer_sizes=hidden_layer_sizes,
    ).fit(X)
    tower = getattr(model, f"{side}_tower_")
    ids = getattr(model, f"{side}_ids_")
    known = table.set_index(side).loc[ids].reset_index()
    strangers = known.assign(**{side: [1000 + i for i in ids]})
    np.testing.assert_array_equal(tower.transform(strangers), tower.transform(known))
    np.testing.assert_array_equal(
        tower.transform(known.drop(columns=side)), tower.transform(known)
    )
    np.testing.assert_allclose(
        tower.transform(strangers), getattr(model, f"{side}_embeddings_"), atol=1e-6
    )
    # With an embedding of ids they are others.
    model = make_model(history=None, hidden_layer_sizes=hidden_layer_sizes).fit(X)
    tower = getattr(model, f"{side}_tower_")
    assert not np.allclose(tower.transform(strangers), tower.transform(known), atol=1e-3)


@pytest.mark.parametrize("feature", ["genre", "price", "tags"])
@pytest.mark.parametrize("item_id_embedding", [True, False])
def test_a_perturbed_feature_moves_one_item(feature, item_id_embedding):
    model = make_model(item_id_embedding=item_id_embedding, hidden_layer_sizes=(8,)).fit(X)
    before = model.item_tower_.transform(ITEMS)
    changed = ITEMS.copy()
    changed.loc[3, feature] = {"genre": "c", "price": 99.0, "tags": "y"}[feature]
    moved = (model.item_tower_.transform(changed) != before).any(axis=1)
    assert moved.tolist() == [item == 3 for item in range(N_ITEMS)]


@pytest.mark.parametrize("item_id_embedding", [True, False])
def test_unknown_and_rare_categories_share_a_vector(item_id_embedding):
    model = make_model(item_id_embedding=item_id_embedding).fit(X)
    genres = ["e", "never seen", "nor this", "a"]
    rare, unknown, other, frequent = model.item_tower_.transform(
        NEW.iloc[[0] * 4].assign(item=-1, genre=genres)
    )
    np.testing.assert_array_equal(rare, unknown)
    np.testing.assert_array_equal(rare, other)
    assert not np.allclose(rare, frequent, atol=1e-3)


# --- cold_start ----------------------------------------------------------------------


@pytest.mark.parametrize("n_recommendations", [3, N_ITEMS])
def test_popular(n_recommendations):
    model = bare().fit(X)
    options = dict(n_recommendations=n_recommendations, exclude_seen=False)
    found, scores = model.recommend([-1, 3, -2], cold_start="popular", **options)
    counts = X["item"].value_counts()
    for row in (0, 2):
        np.testing.assert_array_equal(
            scores[row], counts.to_numpy()[:n_recommendations].astype(float)
        )
        np.testing.assert_array_equal(scores[row], counts[found[row]])
        assert len(set(found[row])) == n_recommendations
    expected, _ = model.recommend([3], **options)
    assert found[1].tolist() == expected[0].tolist()


def test_popular_counts_positives():
    y = np.where(X["item"] == 0, 0, 1)  # shown most often, and never liked
    y[X.index[X["item"] == 0][:2]] = 1
    model = bare(loss="bpr").fit(X, y)
    frame = model.recommend(
        [-1], cold_start="popular", n_recommendations=N_ITEMS, as_frame=True
    )
    counts = X[y > 0]["item"].value_counts()
    assert frame["score"].tolist() == counts[frame["item"]].tolist()
    assert frame["score"].is_monotonic_decreasing
    assert dict(zip(frame["item"], frame["score"], strict=True))[0] == 2


def test_popular_among_candidates_and_without_the_seen():
    model = bare(history=None).fit(X)
    counts = X["item"].value_counts()
    found, scores = model.recommend(
        [-1], candidates=[9, 2, 5], cold_start="popular", n_recommendations=3
    )
    assert sorted(found[0]) == [2, 5, 9]
    assert scores[0].tolist() == sorted(counts[[9, 2, 5]].tolist(), reverse=True)
    # A history that no field reads is seen, and that is all: the user is still cold.
    clicks = pd.DataFrame({"user": -1, "item": counts.index[:2]})
    found, scores = model.recommend([-1], history=clicks, cold_start="popular")
    assert scores[0].tolist() == counts.iloc[2:].tolist()


def test_new_items_have_a_popularity_of_0():
    model = make_model(user_table=None, id_dropout=0.2).fit(X).add_items(NEW)
    frame = model.recommend([-1], cold_start="popular", n_recommendations=15, as_frame=True)
    assert set(frame["item"][-3:]) == {90, 91, 92}
    assert frame["score"][-3:].tolist() == [0.0] * 3
    unseen = pd.DataFrame({"item": [0, 99], "genre": "a"})
    found, scores = model.recommend(
        [-1], candidates=unseen, cold_start="popular", n_recommendations=2
    )
    assert found.tolist() == [[0, 99]]
    assert scores.tolist() == [[float((X["item"] == 0).sum()), 0.0]]


def test_mean_and_tower():
    model = bare(id_dropout=0.3).fit(X)
    items = model.item_embeddings_
    vectors = {
        "mean": model.user_embeddings_.mean(axis=0),
        "tower": model.user_tower_.transform([-1])[0],
    }
    rankings = []
    for cold_start, vector in vectors.items():
        found, scores = model.recommend(
            [-1, 3], cold_start=cold_start, n_recommendations=N_ITEMS, exclude_seen=False
        )
        order = np.argsort(-(items @ vector), kind="stable")
        assert found[0].tolist() == model.item_ids_[order].tolist()
        np.testing.assert_allclose(scores[0], (items @ vector)[order], atol=1e-6)
        known = items @ model.user_embeddings_[model.user_ids_.tolist().index(3)]
        np.testing.assert_allclose(scores[1], np.sort(known)[::-1], atol=1e-6)
        rankings.append(scores[0])
    assert not np.allclose(*rankings, atol=1e-3)
    default = model.recommend([-1], n_recommendations=N_ITEMS)
    np.testing.assert_allclose(default[1][0], rankings[1], atol=1e-6)


@pytest.mark.parametrize("cold_start", ["tower", "popular", "mean"])
def test_predict_scores_as_recommend_does(cold_start):
    model = bare(id_dropout=0.3).fit(X)
    ranked = model.recommend(
        [-1, 3], N_ITEMS, cold_start=cold_start, exclude_seen=False, as_frame=True
    )
    scores = model.predict(ranked[["user", "item"]], cold_start=cold_start)
    np.testing.assert_allclose(scores, ranked["score"], atol=1e-6)
    pair = pd.DataFrame({"user": [-1], "item": [-1]})
    unknown_item = model.predict(pair, cold_start=cold_start)
    item = model.item_tower_.transform([-1])[0]
    expected = {
        "tower": model.user_tower_.transform([-1])[0] @ item,
        "popular": 0.0,
        "mean": model.user_embeddings_.mean(axis=0) @ item,
    }
    np.testing.assert_allclose(unknown_item, [expected[cold_start]], atol=1e-6)


@pytest.mark.parametrize("cold_start", ["popular", "mean"])
def test_predict_scores_users_with_features_as_they_are(cold_start):
    rows = X.assign(age=X["user"] % 5)
    model = bare(user_features=["age"], id_dropout=0.2).fit(rows)
    new = pd.DataFrame({"user": [-1], "item": [X["item"][0]], "age": [4]})
    score = model.predict(new, cold_start=cold_start)
    np.testing.assert_array_equal(score, model.predict(new))
    cold = model.predict(new[["user", "item"]], cold_start=cold_start)
    assert not np.allclose(cold, score, atol=1e-4)


@pytest.mark.parametrize("cold_start", ["tower", "popular", "mean"])
def test_no_item_is_recommended_twice(cold_start):
    model = make_model(id_dropout=0.2, history=PooledHistory(2)).fit(X)
    users = [-1, 0, -1, -2, 5, 0]
    found, scores = model.recommend(users, cold_start=cold_start, n_recommendations=15)
    for row, row_scores in zip(found, scores, strict=True):
        items = [item for item in row if item is not None]
        assert len(items) == len(set(items)) == np.isfinite(row_scores).sum()
        assert (np.diff(row_scores[: len(items)]) <= 0).all()
    assert found[0].tolist() == found[2].tolist() == found[3].tolist()
    assert found[1].tolist() == found[5].tolist()


@pytest.mark.parametrize("cold_start", ["Popular", None, "id", True])
def test_cold_start_is_one_of_three(cold_start):
    message = "cold_start=.* must be 'tower', 'popular' or 'mean'"
    with pytest.raises(ValueError, match=message):
        bare().fit(X).recommend([0], cold_start=cold_start)
    with pytest.raises(ValueError, match=message):
        bare().fit(X).predict(X[["user", "item"]], cold_start=cold_start)


@pytest.mark.parametrize("cold_start", ["popular", "mean"])
def test_users_with_features_or_a_history_are_not_cold(cold_start):
    model = make_model(history=PooledHistory(3), id_dropout=0.2).fit(X)
    new = pd.DataFrame({"user": [-1], "age": [30.0], "city": ["oslo"]})
    clicks = pd.DataFrame({"user": [-1] * 2, "item": [3, 4]})
    for query, options in (
        (new, {}),
        (new.drop(columns="user"), {}),
        ([-1], {"history": clicks}),
        ([-1, 2], {"history": clicks}),
    ):
        expected = model.recommend(query, **options)
        found = model.recommend(query, cold_start=cold_start, **options)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    # Clicks of another user, or on unknown items, are no history.
    lukewarm = model.recommend([-1], cold_start=cold_start)
    assert not np.array_equal(lukewarm[1], model.recommend([-1])[1])
    other = model.recommend([-1], cold_start=cold_start, history=clicks.assign(user=-3))
    np.testing.assert_array_equal(other[1], lukewarm[1])
    with pytest.warns(UserWarning, match="2 of 2 item ids of history"):
        unknown = model.recommend(
            [-1], cold_start=cold_start, history=clicks.assign(item=[-4, -5])
        )
    np.testing.assert_array_equal(unknown[1], lukewarm[1])


# --- candidates ----------------------------------------------------------------------


@pytest.mark.parametrize("id_dropout", [0.0, 0.3])
def test_a_frame_of_candidates_is_scored_by_its_features(id_dropout):
    model = make_model(id_dropout=id_dropout).fit(X)
    offered = pd.concat([NEW, ITEMS[:2].assign(genre="d")], ignore_index=True)
    frame = model.recommend(
        [0, -1],
        candidates=offered,
        n_recommendations=9,
        exclude_seen=False,
        as_frame=True,
    )
    assert len(frame) == 2 * len(offered)
    vectors = model.item_tower_.transform(offered)
    users = model.user_tower_.transform([0, -1])
    for user, vector in zip([0, -1], users, strict=True):
        rows = frame[frame["user"] == user].set_index("item")
        np.testing.assert_allclose(
            rows.loc[offered["item"], "score"], vectors @ vector, atol=1e-6
        )
    # Nothing has been learnt by this.
    assert 90 not in model.item_ids_
    assert messages_of(lambda: model.recommend([0], candidates=[90, 1])) == [
        "1 of 2 candidates are not known items and are left out."
    ]


def test_seen_items_stay_excluded_among_candidates():
    model = make_model().fit(X)
    seen = set(X["item"][X["user"] == 0])
    offered = pd.concat([NEW, ITEMS], ignore_index=True)
    found, _ = model.recommend([0], candidates=offered, n_recommendations=15)
    expected = set(offered["item"]) - seen
    assert set(found[0]) - {None} == expected
    found, _ = model.recommend(
        [0], candidates=offered, n_recommendations=15, exclude_seen=False
    )
    assert set(found[0]) == set(offered["item"])


def test_candidates_without_features():
    model = make_model().fit(X)
    offered = NEW[["item"]].assign(item=[90, 3, 4], year=2000)
    with pytest.warns(UserWarning, match="^1 of 3 candidates are not known items"):
        found, scores = model.recommend(
            [0, 1], candidates=offered, n_recommendations=3, exclude_seen=False
        )
    expected = model.recommend(
        [0, 1], candidates=[3, 4], n_recommendations=3, exclude_seen=False
    )
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_candidates_with_some_of_the_features():
    """Of a known item the rest is as it was; of a new one it is missing."""
    model = make_model().fit(X)
    offered = pd.DataFrame({"item": [3, 90], "genre": ["a", "a"]})
    complete = pd.DataFrame(
        {"item": [3, 90], "genre": "a", "price": [ITEMS["price"][3], np.nan]}
    ).assign(tags=[ITEMS["tags"][3], None])
    options = dict(n_recommendations=2, exclude_seen=False)
    found = model.recommend([0], candidates=offered, **options)
    expected = model.recommend([0], candidates=complete, **options)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_an_encoder_that_cannot_do_without():
    encoder = OneHotEncoder(handle_unknown="error")
    model = make_model(item_table=ITEMS[["item", "genre", "tags"]], item_encoder=encoder)
    model.fit(X)
    with pytest.raises(ValueError, match=r"cannot encode rows without \['tags'\]"):
        model.recommend([0], candidates=pd.DataFrame({"item": [90], "genre": ["a"]}))


def test_repeated_candidates():
    model = make_model().fit(X)
    message = r"candidates has 2 rows with a duplicate id in column 'item' \(first at row 3"
    with pytest.raises(ValueError, match=message):
        model.recommend([0], candidates=pd.concat([NEW, NEW[:2]]))
    found, _ = model.recommend(
        [0], candidates=[5, 3, 5, 3], n_recommendations=4, exclude_seen=False
    )
    assert sorted(found[0][:2]) == [3, 5]
    assert found[0][2:].tolist() == [None, None]


def test_candidates_without_ids():
    message = r"candidates has no column with item ids \('item'\); its columns are \['gen"
    with pytest.raises(ValueError, match=message):
        make_model().fit(X).recommend([0], candidates=NEW[["genre", "price"]])


# --- add_items -----------------------------------------------------------------------


def catalogue(model):
    found, _ = model.recommend([-1], n_recommendations=99, exclude_seen=False)
    return set(found[0]) - {None}


@pytest.mark.parametrize("options", [{"id_dropout": 0.2}, {"item_id_embedding": False}])
def test_added_items_are_served(options):
    model = make_model(history=PooledHistory(3), **options).fit(X)
    at_fit = model.item_embeddings_.copy()
    of_tower = model.item_tower_.transform(NEW)
    before = model.recommend(range(5), exclude_seen=False, n_recommendations=12)
    assert model.add_items(NEW) is model  # and warns of nothing
    assert model.item_ids_.tolist()[N_ITEMS:] == [90, 91, 92]
    np.testing.assert_array_equal(model.item_embeddings_[:N_ITEMS], at_fit)
    np.testing.assert_array_equal(model.item_embeddings_[N_ITEMS:], of_tower)
    assert catalogue(model) == {*range(N_ITEMS), 90, 91, 92}

    users = range(N_USERS)
    frame = model.recommend(users, n_recommendations=99, as_frame=True)
    seen = set(X[["user", "item"]].itertuples(index=False, name=None))
    pairs = set(frame[["user", "item"]].itertuples(index=False, name=None))
    everything = {(u, i) for u in users for i in model.item_ids_}
    assert pairs == everything - seen
    # The others are ranked as before.
    after, _ = model.recommend(range(5), exclude_seen=False, n_recommendations=15)
    left = [[item for item in row if item < 90] for row in after]
    assert left == before[0].tolist()

    rows = pd.DataFrame({"user": [0, 1], "item": [90, 92]})
    by_hand = model.user_tower_.transform([0, 1]) * of_tower[[0, 2]]
    np.testing.assert_allclose(model.predict(rows), by_hand.sum(axis=1), atol=1e-6)
    ranked, _ = model.recommend([0, 1], n_recommendations=10)
    gains = [
        1 / np.log2(2 + row.tolist().index(item)) if item in row else 0.0
        for row, item in zip(ranked, [90, 92], strict=True)
    ]
    assert model.score(rows) == pytest.approx(np.mean(gains))
    similar, scores = model.similar_items([90, 0], n_recommendations=14)
    assert 90 not in similar[0] and 90 in similar[1]
    vectors = dict(zip(model.item_ids_, model.item_embeddings_, strict=True))
    np.testing.assert_allclose(
        scores[0], [vectors[90] @ vectors[i] for i in similar[0]], atol=1e-6
    )
    # A click on one of them is seen, and it is no item of a history that is trained.
    clicks = rows.assign(user=-1)
    found, _ = model.recommend([-1], history=clicks, n_recommendations=99)
    assert set(found[0]) - {None} == {*model.item_ids_} - {90, 92}


def test_adding_twice_and_updating():
    model = make_model(id_dropout=0.2).fit(X).add_items(NEW[:2])
    model.add_items(NEW[2:])
    once = make_model(id_dropout=0.2).fit(X).add_items(NEW)
    assert model.item_ids_.tolist() == once.item_ids_.tolist()
    np.testing.assert_allclose(model.item_embeddings_, once.item_embeddings_, atol=1e-6)

    before = model.item_embeddings_.copy()
    update = pd.DataFrame({"item": [91, 3, 93], "genre": ["c", "c", "c"]})
    of_tower = model.item_tower_.transform(update)
    with pytest.warns(UserWarning, match="2 of the 3 items are known already; their feat"):
        model.add_items(update)
    assert len(model.item_ids_) == N_ITEMS + 4
    places = {item: place for place, item in enumerate(model.item_ids_)}
    moved = [places[item] for item in (91, 3)]
    np.testing.assert_array_equal(model.item_embeddings_[[*moved, places[93]]], of_tower)
    others = np.setdiff1d(np.arange(len(before)), moved)
    np.testing.assert_array_equal(model.item_embeddings_[others], before[others])
    assert not np.allclose(model.item_embeddings_[moved], before[moved], atol=1e-3)
    # What was not given has stayed: the price and the tags of both.
    known = pd.concat([NEW[1:2], ITEMS[3:4]]).assign(genre="c")
    np.testing.assert_allclose(
        model.item_embeddings_[moved], once.item_tower_.transform(known), atol=1e-6
    )


def test_added_items_without_a_trained_path():
    model = make_model().fit(X)
    (message,) = messages_of(lambda: model.add_items(NEW))
    assert "id_dropout=0" in message and "candidates" in message
    assert catalogue(model) == set(range(N_ITEMS))
    found, scores = model.recommend([0], candidates=[90, 91], n_recommendations=2)
    assert set(found[0]) == {90, 91} and np.isfinite(scores).all()
    assert model.predict(pd.DataFrame({"user": [0], "item": [90]})).shape == (1,)


def test_an_update_alone_needs_no_trained_path():
    """Items that are in the catalogue stay there, and nothing is to be warned of."""
    model = make_model().fit(X)
    messages = messages_of(lambda: model.add_items(ITEMS[:1].assign(genre="c")))
    assert messages == ["1 of the 1 items are known already; their features are updated."]
    assert catalogue(model) == set(range(N_ITEMS))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (NEW[["item"]], r"none of the item features.*\['genre', 'price', 'tags'\]"),
        (NEW[["item"]].assign(year=1), "nothing to place the items by"),
        (NEW.drop(columns="item"), "frame has no column with item ids"),
        (pd.concat([NEW, NEW]), "frame has 3 rows with a duplicate id"),
        (NEW.assign(item=[1, None, 2]), "1 row with a missing item id .*row 1"),
        (NEW.assign(price=[1, np.inf, 2]), "'price' has 1 infinite value .*row 1"),
        (NEW.assign(price="cheap"), "'price' was fitted as 'number'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_items_that_cannot_be_added(frame, message):
    model = make_model(id_dropout=0.2).fit(X)
    with pytest.raises(ValueError, match=message):
        model.add_items(frame)
    assert len(model.item_ids_) == len(model.item_embeddings_) == N_ITEMS
    assert catalogue(model) == set(range(N_ITEMS))


def test_other_reasons_why_items_cannot_be_added():
    with pytest.raises(TypeError, match="add_items takes a frame.*got list"):
        make_model().fit(X).add_items([90])
    with pytest.raises(ValueError, match="no item features to place new items by"):
        bare().fit(X).add_items(NEW)


def test_items_of_columns_of_X_are_added_too():
    rows = X.merge(ITEMS, on="item")
    model = make_model(
        item_table=None, item_features=["genre", "price", "tags"], id_dropout=0.2
    ).fit(rows)
    of_tower = model.item_tower_.transform(NEW)
    model.add_items(NEW)
    np.testing.assert_array_equal(model.item_embeddings_[-3:], of_tower)
    one = make_model(item_table=None, item_features=["genre"], id_dropout=0.2).fit(rows)
    assert catalogue(one.add_items(NEW)) == {*range(N_ITEMS), 90, 91, 92}


def clicks_on_new():
    return pd.DataFrame({"user": [0, 1, 2], "item": NEW["item"]})


def test_added_items_keep_their_features_in_partial_fit():
    """Their features are known, although the table does not have them."""
    model = make_model(id_dropout=0.2).fit(X).add_items(NEW)
    assert messages_of(lambda: model.partial_fit(clicks_on_new())) == []
    assert_placed_by(model, NEW)


def test_added_items_keep_features_that_X_does_not_have():
    """Beside columns of X, which have been given anew, the table's stay."""
    rows = X.assign(price=ITEMS["price"].to_numpy()[X["item"]])
    model = make_model(
        item_table=ITEMS[["item", "genre", "tags"]],
        item_features=["price"],
        id_dropout=0.2,
    ).fit(rows)
    model.add_items(NEW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.partial_fit(clicks_on_new().assign(price=4.0))
    assert_placed_by(model, NEW.assign(price=4.0))


def assert_placed_by(model, features):
    """Known items have these features."""
    items, tower = features["item"], model.item_tower_
    np.testing.assert_array_equal(tower.transform(items), tower.transform(features))
    for name in features.columns.drop("item"):
        changed = features.assign(**{name: ITEMS[name][3]})
        assert not np.allclose(tower.transform(items), tower.transform(changed), atol=1e-4)


def test_a_refit_forgets_added_items():
    model = make_model(id_dropout=0.2).fit(X)
    before = model.item_embeddings_.copy()
    model.add_items(NEW).fit(X)
    np.testing.assert_array_equal(model.item_embeddings_, before)
    assert model.item_ids_.tolist() == make_model().fit(X).item_ids_.tolist()


def test_a_plain_table_beside_an_array_names_the_ids():
    """An array has no name for the ids; the table has them in its first column."""
    table = pd.DataFrame({"film": [0, 1, 2, 3], "kind": ["a", "b", "a", "b"]})
    array = np.array([[user, item] for user in range(6) for item in range(3)])
    model = TwoTowerRecommender(
        item_table=table, id_dropout=0.2, embedding_dim=2, max_iter=1, random_state=0
    ).fit(array)
    model.add_items(pd.DataFrame({"film": [9], "kind": ["b"]}))
    assert model.item_ids_.tolist() == [0, 1, 2, 3, 9]
    np.testing.assert_array_equal(model.item_embeddings_[4], model.item_embeddings_[3])
