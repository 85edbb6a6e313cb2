"""recommend, similar_items and score, by brute force from the embeddings."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender

N_USERS, N_ITEMS = 12, 9


def interactions(seed=0, n=70):
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in rng.randint(0, N_USERS, n)],
            "item": [f"i{i}" for i in rng.randint(0, N_ITEMS, n)],
            "junk": np.nan,
        }
    )


X = interactions()
# Item "never" and user "grump" are only in rows with y = 0.
X_FIT = pd.concat(
    [X, pd.DataFrame({"user": ["u0", "grump"], "item": ["never", "i0"]})], ignore_index=True
)
Y_FIT = np.r_[np.ones(len(X)), 0, 0]


@pytest.fixture(scope="module")
def model():
    estimator = TwoTowerRecommender(embedding_dim=5, max_iter=2, random_state=0)
    return estimator.fit(X_FIT, Y_FIT)


REPEATS = pytest.mark.filterwarnings("ignore:.* were seen in training. They are dropped")


def score_of(model, user, item):
    """Plain Python, in double precision; unknown ones by the model's unknown vectors."""
    users = dict(zip(model.user_ids_.tolist(), model.user_embeddings_, strict=True))
    items = dict(zip(model.item_ids_.tolist(), model.item_embeddings_, strict=True))
    one = users.get(user, model.user_tower_.transform([user])[0])
    other = items.get(item, model.item_tower_.transform([item])[0])
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def seen_by(user):
    return set(X_FIT["item"][X_FIT["user"] == user])


def ranking(model, user, eligible):
    return sorted(eligible, key=lambda item: -score_of(model, user, item))


CATALOGUE = list(dict.fromkeys(X["item"]))


def test_the_shape_of_things(model):
    assert model.user_ids_.tolist() == list(dict.fromkeys(X_FIT["user"]))
    assert model.item_ids_.tolist() == list(dict.fromkeys(X_FIT["item"]))
    assert model.user_embeddings_.shape == (len(model.user_ids_), 5)
    assert model.item_embeddings_.shape == (len(model.item_ids_), 5)
    for vectors in (model.user_embeddings_, model.item_embeddings_):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_seen_pairs_by_id(model):
    assert model.seen_.shape == (len(model.user_ids_), len(model.item_ids_))
    for row, user in enumerate(model.user_ids_):
        items = model.item_ids_[model.seen_[[row]].indices].tolist()
        assert sorted(items) == sorted(seen_by(user))
    for column, item in enumerate(model.item_ids_):
        users = model.user_ids_[model.seen_[:, [column]].nonzero()[0]].tolist()
        assert set(users) == set(X_FIT["user"][X_FIT["item"] == item])
    counts = X_FIT.groupby("item")["user"].nunique()
    assert model.seen_.getnnz(axis=0).tolist() == counts[model.item_ids_].tolist()


# --- recommend -----------------------------------------------------------------------


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_recommend_by_brute_force(model, exclude_seen):
    users = [*model.user_ids_, "stranger"]
    ids, scores = model.recommend(users, n_recommendations=4, exclude_seen=exclude_seen)
    assert ids.shape == scores.shape == (len(users), 4)
    assert scores.dtype == np.float32
    for user, row, row_scores in zip(users, ids, scores, strict=True):
        hidden = seen_by(user) if exclude_seen else set()
        expected = ranking(model, user, [i for i in CATALOGUE if i not in hidden])[:4]
        n = len(expected)
        assert row.tolist() == expected + [None] * (4 - n)
        np.testing.assert_allclose(
            row_scores[:n], [score_of(model, user, item) for item in expected], rtol=1e-4
        )
        assert (row_scores[n:] == -np.inf).all()


FORMS = {
    "list": lambda users: list(users),
    "array": lambda users: np.array(users),
    "object array": lambda users: np.array(users, dtype=object),
    "series": lambda users: pd.Series(users, index=range(5, 5 + len(users))),
    "string series": lambda users: pd.Series(users, dtype="string"),
    "categorical": lambda users: pd.Series(users, dtype="category"),
    "pandas array": lambda users: pd.array(users, dtype="string"),
    "index": lambda users: pd.Index(users),
    "frame": lambda users: pd.DataFrame({"user": users, "item": "i0", "junk": 1}),
    "frame of the user column": lambda users: pd.DataFrame({"user": users}),
    "frame in another order": lambda users: pd.DataFrame({"item": "i0", "user": users}),
    "2-D list": lambda users: [[user, None, None] for user in users],
    "2-D array": lambda users: np.array([[user, None, None] for user in users]),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_users(model, form):
    users = ["u3", "stranger", "u3", "u0"]
    expected_ids, expected_scores = model.recommend(users, n_recommendations=3)
    ids, scores = model.recommend(FORMS[form](users), n_recommendations=3)
    assert ids.tolist() == expected_ids.tolist()
    assert scores.tolist() == expected_scores.tolist()
    assert ids[0].tolist() == ids[2].tolist()


def test_polars_forms(model):
    polars = pytest.importorskip("polars")
    expected = model.recommend(["u1", "u2"])[0].tolist()
    assert model.recommend(polars.Series(["u1", "u2"]))[0].tolist() == expected
    frame = polars.DataFrame({"user": ["u1", "u2"]})
    assert model.recommend(frame)[0].tolist() == expected


def test_users_that_are_refused(model):
    with pytest.raises(
        ValueError, match=r"X must be user ids.*the string 'u0'.*list of one: \['u0'\]"
    ):
        model.recommend("u0")
    with pytest.raises(ValueError, match="one dimension; got a 3-D ndarray"):
        model.recommend(np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match="1 row with a missing user id.*row 1"):
        model.recommend(["u0", None])
    with pytest.raises(ValueError, match="lacks the column 'user'"):
        model.recommend(pd.DataFrame({"item": ["i0"]}))


def test_no_users(model):
    for nobody in ([], np.array([], dtype=object), X[:0]):
        ids, scores = model.recommend(nobody, n_recommendations=2)
        assert ids.shape == scores.shape == (0, 2)
    assert len(model.recommend([], as_frame=True)) == 0


def test_unknown_users_get_the_same_recommendations(model):
    ids, scores = model.recommend(["x", 3.5, ("t", 1)][:2], n_recommendations=3)
    assert ids[0].tolist() == ids[1].tolist()
    assert np.isfinite(scores).all()


def test_candidates(model):
    wanted = ["i4", "i1", "i4", "i8"]  # a duplicate counts once
    ids, scores = model.recommend(
        ["u0", "u5"], n_recommendations=5, candidates=wanted, exclude_seen=False
    )
    for user, row in zip(["u0", "u5"], ids, strict=True):
        assert row.tolist() == [*ranking(model, user, {"i4", "i1", "i8"}), None, None]
    assert (scores[:, 3:] == -np.inf).all()
    again, _ = model.recommend(
        ["u0", "u5"],
        n_recommendations=5,
        candidates=pd.Series(wanted[::-1]),
        exclude_seen=False,
    )
    assert again.tolist() == ids.tolist()  # their order does not matter


def test_candidates_and_seen(model):
    ids, _ = model.recommend(["u0"], candidates=["i1", "i2", "i3"], n_recommendations=3)
    expected = ranking(model, "u0", {"i1", "i2", "i3"} - seen_by("u0"))
    assert [item for item in ids[0] if item is not None] == expected


def test_lengths_of_a_small_type(model):
    """A product of them would overflow."""
    popular = PopularRecommender().fit(X)
    calls = [popular.recommend, model.recommend, model.similar_users, model.recommend_users]
    for call in calls:
        ids = ["i0"] if call == model.recommend_users else ["u0"]
        for n in (np.uint8(200), np.int8(100)):
            found, _ = call(ids, n)
            np.testing.assert_array_equal(found, call(ids, int(n))[0])


def test_unknown_candidates_are_left_out_and_counted(model):
    with pytest.warns(UserWarning, match="2 of 3 candidates are not known"):
        ids, _ = model.recommend(
            ["u0"], candidates=["i1", "new", 7], n_recommendations=2, exclude_seen=False
        )
    assert ids.tolist() == [["i1", None]]
    with pytest.warns(UserWarning, match="1 of 1 candidates"):
        ids, scores = model.recommend(["u0"], candidates=["new"], n_recommendations=2)
    assert ids.tolist() == [[None, None]]
    ids, _ = model.recommend(["u0"], candidates=[], n_recommendations=2)
    assert ids.tolist() == [[None, None]]


def test_candidates_outside_the_catalogue_are_scored(model):
    assert "never" not in model.recommend(["u1"], n_recommendations=99)[0]
    ids, scores = model.recommend(["u1"], candidates=["never"], n_recommendations=1)
    assert ids.tolist() == [["never"]]
    assert np.isfinite(scores).all()


def test_candidates_that_are_refused(model):
    with pytest.raises(ValueError, match="no column with item ids .'item'.*'film'"):
        model.recommend(["u0"], candidates=pd.DataFrame({"film": ["i0"]}))
    with pytest.raises(ValueError, match="1 row with a duplicate id.*first at row 2"):
        model.recommend(["u0"], candidates=pd.DataFrame({"item": ["i0", "i1", "i0"]}))
    with pytest.raises(ValueError, match="missing candidate id"):
        model.recommend(["u0"], candidates=["i0", None])


def test_rows_with_y_0_are_seen(model):
    ids, _ = model.recommend(["grump"], n_recommendations=99)
    assert "i0" not in ids[0].tolist()
    ids, _ = model.recommend(["u0"], candidates=["never"], n_recommendations=1)
    assert ids.tolist() == [[None]]


def test_padding(model):
    ids, scores = model.recommend(["u0", "stranger"], n_recommendations=N_ITEMS + 3)
    n_eligible = [len(set(CATALOGUE) - seen_by("u0")), len(CATALOGUE)]
    assert ids.dtype == object
    for row, row_scores, n in zip(ids, scores, n_eligible, strict=True):
        assert all(item is not None for item in row[:n])
        assert all(item is None for item in row[n:])
        assert np.isfinite(row_scores[:n]).all()
        assert (row_scores[n:] == -np.inf).all()
        assert (np.diff(row_scores[:n]) <= 0).all()


@pytest.mark.parametrize("bad", [0, -1, 2.0, "3", None])
def test_numbers_of_recommendations_that_are_refused(model, bad):
    with pytest.raises(ValueError, match="n_recommendations must be an integer"):
        model.recommend(["u0"], n_recommendations=bad)
    with pytest.raises(ValueError, match="n_recommendations must be an integer"):
        model.similar_items(["i0"], n_recommendations=bad)


def test_as_frame(model):
    users = ["u0", "stranger"]
    ids, scores = model.recommend(users, n_recommendations=N_ITEMS)
    frame = model.recommend(users, n_recommendations=N_ITEMS, as_frame=True)
    assert frame.columns.tolist() == ["user", "item", "score", "rank"]
    assert not frame.isna().any().any()
    for user, row, row_scores in zip(users, ids, scores, strict=True):
        own = frame[frame["user"] == user]
        n = sum(item is not None for item in row)
        assert own["item"].tolist() == row[:n].tolist()
        assert own["score"].tolist() == row_scores[:n].tolist()
        assert own["rank"].tolist() == list(range(1, n + 1))


def test_as_frame_of_repeated_users_keeps_the_order_of_queries(model):
    frame = model.recommend(["u1", "u0", "u1"], n_recommendations=1, as_frame=True)
    assert frame["user"].tolist() == ["u1", "u0", "u1"]


def test_integer_ids_stay_integers():
    numbers = pd.DataFrame({"user": [1, 1, 2, 3], "item": [10, 20, 20, 30]})
    model = TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=0).fit(numbers)
    ids, _ = model.recommend([9], n_recommendations=2)
    assert ids.dtype == np.int64
    padded, _ = model.recommend([1], n_recommendations=3)
    assert padded.tolist() == [[30, None, None]]
    frame = model.recommend([1, 2], n_recommendations=3, as_frame=True)
    assert frame["item"].dtype == np.int64
    assert frame["user"].dtype == np.int64


DAYS = pd.date_range("2020-01-01", periods=4)


@pytest.mark.parametrize("unit", ["ns", "us", "s"])
@pytest.mark.parametrize("zone", [None, "Europe/Vienna"])
def test_padded_datetimes_stay_datetimes(unit, zone):
    days = pd.Series(DAYS[[0, 1, 1, 2]]).dt.as_unit(unit).dt.tz_localize(zone)
    data = pd.DataFrame({"user": [1, 1, 2, 3], "item": days})
    model = TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=0).fit(data)
    full, _ = model.recommend([9], n_recommendations=3)
    padded, _ = model.recommend([9], n_recommendations=5)
    assert padded[0, 3:].tolist() == [None, None]
    known = set(days)
    assert {pd.Timestamp(item) for item in full[0]} == known
    for item, expected in zip(padded[0, :3], full[0], strict=True):
        assert not isinstance(item, int)
        assert pd.Timestamp(item) == pd.Timestamp(expected)
    # what comes out can go in again
    ids, _ = model.recommend(
        [9], candidates=padded[0, :3], n_recommendations=3, exclude_seen=False
    )
    assert ids.tolist() == full.tolist()
    frame = model.recommend([1], n_recommendations=3, as_frame=True)
    assert frame["item"].tolist() == [days[3]]


# --- predict -------------------------------------------------------------------------


def test_predict_by_brute_force(model):
    pairs = pd.concat(
        [
            X[["user", "item"]],
            pd.DataFrame({"user": ["new", "u0", "new"], "item": ["i0", "new", "new"]}),
        ]
    )
    predictions = model.predict(pairs)
    assert predictions.shape == (len(pairs),)
    assert predictions.dtype == np.float32
    expected = [score_of(model, u, i) for u, i in pairs.itertuples(index=False)]
    np.testing.assert_allclose(predictions, expected, rtol=1e-4, atol=1e-6)


def test_predict_is_what_recommend_says(model):
    frame = model.recommend(model.user_ids_, n_recommendations=3, as_frame=True)
    np.testing.assert_allclose(
        model.predict(frame[["user", "item"]]), frame["score"], rtol=1e-5, atol=1e-6
    )


# --- similar items -------------------------------------------------------------------


def test_similar_items_by_brute_force(model):
    queries = [*CATALOGUE, "never", "new"]
    with pytest.warns(UserWarning, match="item ids of item_ids are not known items"):
        ids, scores = model.similar_items(queries, n_recommendations=N_ITEMS + 1)
    vectors = dict(zip(model.item_ids_, model.item_embeddings_.astype(float), strict=True))
    vectors["new"] = model.item_tower_.transform(["new"])[0]
    for query, row, row_scores in zip(queries, ids, scores, strict=True):
        others = [item for item in CATALOGUE if item != query]
        similarity = {item: vectors[query] @ vectors[item] for item in others}
        expected = sorted(others, key=lambda item: -similarity[item])
        assert row.tolist() == expected + [None] * (N_ITEMS + 1 - len(expected))
        np.testing.assert_allclose(
            row_scores[: len(expected)],
            [similarity[i] for i in expected],
            rtol=1e-4,
            atol=1e-5,
        )


def test_similar_items_as_frame(model):
    frame = model.similar_items(["i1", "i0"], n_recommendations=2, as_frame=True)
    assert frame.columns.tolist() == ["query", "item", "score", "rank"]
    assert frame["query"].tolist() == ["i1", "i1", "i0", "i0"]
    assert frame["rank"].tolist() == [1, 2, 1, 2]
    assert (frame["query"] != frame["item"]).all()


def test_similar_items_never_itself_even_when_another_has_its_vector(model):
    """Equal vectors: ties must not bring the query back."""
    model = TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=0).fit(X)
    model.item_embeddings_[:] = 1.0
    ids, _ = model.similar_items(model.item_ids_, n_recommendations=N_ITEMS - 1)
    for query, row in zip(model.item_ids_, ids, strict=True):
        assert query not in row.tolist()
        assert None not in row.tolist()


def test_similar_items_of_missing_ids(model):
    with pytest.raises(ValueError, match="missing item id"):
        model.similar_items(["i0", None])


# --- score ---------------------------------------------------------------------------


def ndcg_by_hand(model, pairs, y=None, weights=None, k=10):
    """In plain Python: seen pairs are dropped, unless all of them were seen."""
    y = [1] * len(pairs) if y is None else list(y)
    weights = [1.0] * len(pairs) if weights is None else list(weights)
    rows = [
        (user, item, weight)
        for (user, item), label, weight in zip(pairs, y, weights, strict=True)
        if label > 0 and weight > 0
    ]
    is_training = all(i in seen_by(u) for u, i, _ in rows if i in CATALOGUE)
    total = total_weight = 0.0
    for user in dict.fromkeys(user for user, _, _ in rows):
        own = [weight for u, _, weight in rows if u == user]
        relevant = {i for u, i, _ in rows if u == user and i in CATALOGUE}
        hidden = seen_by(user)
        if is_training:
            hidden = hidden - relevant
        relevant = relevant - hidden
        if not relevant:
            continue
        best = ranking(model, user, [i for i in CATALOGUE if i not in hidden])[:k]
        dcg = sum(1 / math.log2(r + 2) for r, item in enumerate(best) if item in relevant)
        ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(relevant))))
        weight = sum(own) / len(own)
        total += weight * dcg / ideal
        total_weight += weight
    return total / total_weight


def pairs_of(frame):
    return list(frame[["user", "item"]].itertuples(index=False, name=None))


def test_score_of_training_rows(model):
    expected = ndcg_by_hand(model, pairs_of(X))
    assert model.score(X_FIT, Y_FIT) == pytest.approx(expected)
    assert 0 < expected < 1
    # The rows of the explicit negatives are missing.
    with pytest.warns(UserWarning, match="this is a score of training rows") as found:
        assert model.score(X) == pytest.approx(expected)
    assert found[0].filename == __file__


@REPEATS
def test_score_of_new_rows(model):
    new = interactions(seed=1, n=30)
    new.loc[0, "user"] = "stranger"  # is answered
    new.loc[1:3, "item"] = "unheard"  # is dropped
    new.loc[4] = ["lonely", "unheard", 0]  # has no relevant item left, is left out
    assert model.score(new) == pytest.approx(ndcg_by_hand(model, pairs_of(new)))


@REPEATS
def test_score_with_labels(model):
    rng = np.random.RandomState(0)
    new = interactions(seed=2, n=40)
    y = rng.choice([-1, 0, 0.5, 3], 40)
    expected = ndcg_by_hand(model, pairs_of(new), y)
    assert model.score(new, y) == pytest.approx(expected)
    assert model.score(new, list(y)) == pytest.approx(expected)
    assert expected != ndcg_by_hand(model, pairs_of(new))


@REPEATS
def test_score_with_sample_weight(model):
    rng = np.random.RandomState(0)
    new = interactions(seed=3, n=40)
    weights = rng.choice([0, 0.5, 2, 7], 40)
    expected = ndcg_by_hand(model, pairs_of(new), None, weights)
    assert model.score(new, sample_weight=weights) == pytest.approx(expected)
    assert model.score(new, sample_weight=weights * 3) == pytest.approx(expected)
    assert expected != ndcg_by_hand(model, pairs_of(new))
    ones = model.score(new, sample_weight=np.ones(40))
    assert ones == pytest.approx(model.score(new))


@REPEATS
def test_order_and_repetition_of_rows_do_not_matter_to_score(model):
    new = interactions(seed=4, n=25)
    shuffled = new.sample(frac=1, random_state=0)
    doubled = pd.concat([new, new])
    assert model.score(shuffled) == model.score(new)
    assert model.score(doubled) == pytest.approx(model.score(new))


def test_score_of_nothing_relevant(model):
    with pytest.raises(ValueError, match="no row of X is relevant"):
        model.score(X, np.zeros(len(X)))
    unheard = pd.DataFrame({"user": ["u0"], "item": ["unheard"]})
    with pytest.warns(UndefinedMetricWarning, match="No user has a relevant item"):
        assert math.isnan(model.score(unheard))


@pytest.mark.parametrize("estimator", [PopularRecommender(), EASERecommender()])
def test_references_have_the_same_face(estimator):
    estimator.fit(X_FIT, Y_FIT)
    ids, scores = estimator.recommend(["u0", "stranger"], n_recommendations=3)
    assert ids.shape == scores.shape == (2, 3)
    assert scores.dtype == np.float32
    assert not set(ids[0]) & seen_by("u0")
    frame = estimator.recommend(["u0"], n_recommendations=3, as_frame=True)
    assert frame["item"].tolist() == ids[0].tolist()
    assert 0 < estimator.score(X_FIT, Y_FIT) <= 1
    with pytest.warns(UserWarning, match="1 of 2 candidates"):
        estimator.recommend(["u0"], candidates=["i0", "new"])


@pytest.mark.parametrize(
    "estimator", [TwoTowerRecommender(), PopularRecommender(), EASERecommender()]
)
def test_not_fitted(estimator):
    calls = [
        lambda: estimator.recommend(["u0"]),
        lambda: estimator.predict(X),
        lambda: estimator.score(X),
    ]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize(
    "estimator",
    [TwoTowerRecommender(max_iter=1), PopularRecommender(), EASERecommender()],
)
def test_a_fit_that_failed_is_no_fit(estimator):
    with pytest.raises(ValueError):
        estimator.fit(X, np.zeros(len(X)))
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    with pytest.raises(NotFittedError):
        estimator.recommend(["u0"])


@pytest.mark.parametrize(
    "estimator", [TwoTowerRecommender(max_iter=1), PopularRecommender()]
)
def test_one_column_cannot_be_both(estimator):
    """X with the item first and only the user column named: the rest is a default."""
    swapped = X[["item", "user"]]
    with pytest.raises(
        ValueError, match="user_column.*item_column|item_column.*user_column"
    ):
        estimator.set_params(user_column="user").fit(swapped)


def test_answers_do_not_hand_out_the_models_memory():
    model = TwoTowerRecommender(embedding_dim=3, max_iter=1, random_state=0).fit(X)
    before = model.user_embeddings_.copy(), model.item_embeddings_.copy()
    model.user_tower_.transform(["u0"])[:] = 9
    model.item_tower_.transform(CATALOGUE)[:] = 9
    ids, scores = model.recommend(["u0"], exclude_seen=False)
    ids[:] = "x"
    scores[:] = 9
    model.predict(X)[:] = 9
    assert (model.user_embeddings_ == before[0]).all()
    assert (model.item_embeddings_ == before[1]).all()
    assert "x" not in model.item_ids_


def test_queries_are_not_changed():
    model = TwoTowerRecommender(embedding_dim=3, max_iter=1, random_state=0).fit(X)
    frame, users, candidates = X.copy(), np.array(["u0", "u1"]), ["i0", "i1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.recommend(frame)
        model.recommend(users, candidates=candidates)
        model.predict(frame)
        model.score(frame, np.ones(len(frame)))
        model.similar_items(candidates)
    pd.testing.assert_frame_equal(frame, X)
    assert users.tolist() == ["u0", "u1"]
    assert candidates == ["i0", "i1"]
