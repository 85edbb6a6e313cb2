"""The references against their definitions."""

import datetime as dt
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.baselines._linear import _ease_weights
from sktwotower.pipeline import make_pipeline
from tests.helpers import assert_same_answer

MODELS = [
    EASERecommender(regularization=3.0),
    ItemKNNRecommender(n_neighbors=4),
    PopularRecommender(),
]


def interactions(seed=0, n=120, n_users=15, n_items=10):
    rng = np.random.RandomState(seed)
    users, items = rng.randint(0, n_users, n), rng.zipf(1.5, n).clip(max=n_items)
    return pd.DataFrame({"user": users, "item": items * 100})


X = interactions()


def matrix_of(frame, model):
    """Binary users by items, in the model's order."""
    matrix = np.zeros((len(model.user_ids_), len(model.item_ids_)))
    users, items = model.user_ids_.tolist(), model.item_ids_.tolist()
    for user, item in frame.itertuples(index=False):
        matrix[users.index(user), items.index(item)] = 1
    return matrix


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_seen_pairs(model):
    fitted = clone(model).fit(X)
    np.testing.assert_array_equal(fitted.seen_.toarray(), matrix_of(X, fitted))
    with pytest.raises(NotFittedError):
        _ = clone(model).seen_


@pytest.mark.parametrize("block", [3, 512])
@pytest.mark.parametrize("shape", [(15, 10), (7, 20)], ids=["users", "items"])
def test_ease_by_constrained_least_squares(shape, block, monkeypatch):
    """Each column of B solves its own ridge regression with B_jj = 0: no inverse.

    With more users than items, and with fewer.
    """
    monkeypatch.setattr("sktwotower.baselines._linear._BLOCK", block)
    rows = interactions(n_users=shape[0], n_items=shape[1])
    model = EASERecommender(regularization=3.0).fit(rows)
    matrix = matrix_of(rows, model)
    n_items = matrix.shape[1]
    assert (len(matrix) > n_items) == (shape[0] > shape[1])
    for j in range(n_items):
        others = [i for i in range(n_items) if i != j]
        A = matrix[:, others]
        b = np.linalg.solve(A.T @ A + 3.0 * np.eye(n_items - 1), A.T @ matrix[:, j])
        np.testing.assert_allclose(model.item_weights_[others, j], b, atol=1e-5)
        assert model.item_weights_[j, j] == 0
    assert model.item_weights_.dtype == np.float32


@pytest.mark.parametrize("shape", [(900, 600), (400, 800)], ids=["users", "items"])
def test_ease_needs_the_memory_that_it_says(shape, monkeypatch):
    """The weights, and the inverse of the smaller matrix; blocks are small here."""
    monkeypatch.setattr("sktwotower.baselines._linear._BLOCK", 16)
    rng = np.random.RandomState(0)
    positives = sp.csr_matrix((rng.random_sample(shape) < 0.02).astype(np.float32))
    tracemalloc.start()
    _ease_weights(positives, 3.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * (4 * shape[1] ** 2 + 8 * min(shape) ** 2)


@pytest.mark.parametrize("n_users", [1, 4])
def test_ease_with_a_regularization_that_is_lost(n_users):
    twice = [[user, item] for user in range(n_users) for item in ("a", "b")]
    others = [[user, item] for user in range(4) for item in ("c", "d", "e")]
    with pytest.raises(ValueError, match="regularization=1e-300 is too small"):
        EASERecommender(regularization=1e-300).fit(twice + others)


def test_ease_scores():
    model = EASERecommender(regularization=3.0).fit(X)
    expected = matrix_of(X, model) @ model.item_weights_.astype(float)
    ids, scores = model.recommend(model.user_ids_, n_recommendations=10, exclude_seen=False)
    items = model.item_ids_.tolist()
    for row, row_ids, row_scores in zip(expected, ids, scores, strict=True):
        columns = [items.index(item) for item in row_ids]
        np.testing.assert_allclose(row_scores, row[columns], atol=1e-5)
        np.testing.assert_allclose(row_scores, np.sort(row)[::-1], atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_predict_is_what_recommend_says(model):
    model = clone(model).fit(X)
    frame = model.recommend(
        [*model.user_ids_, -1],
        n_recommendations=10,
        exclude_seen=False,
        as_frame=True,
    )
    assert len(frame) == 10 * (len(model.user_ids_) + 1)
    predictions = model.predict(frame[["user", "item"]])
    np.testing.assert_allclose(predictions, frame["score"], atol=1e-5)


@pytest.mark.parametrize("model", MODELS[:2])
def test_predict_in_blocks(model):
    model = clone(model).fit(X)
    many = X.iloc[np.arange(9000) % len(X)]
    np.testing.assert_allclose(
        model.predict(many), np.resize(model.predict(X), 9000), rtol=1e-6
    )


def test_ease_counts_a_pair_once_and_ignores_the_size_of_weights():
    once = X.drop_duplicates()
    assert len(once) < len(X)
    weights = np.random.RandomState(0).uniform(0.1, 5, len(X))
    one = EASERecommender(regularization=3.0).fit(once)
    other = EASERecommender(regularization=3.0).fit(X, sample_weight=weights)
    assert one.item_ids_.tolist() == other.item_ids_.tolist()
    np.testing.assert_array_equal(one.item_weights_, other.item_weights_)


def test_ease_does_not_learn_from_other_rows():
    bad = pd.DataFrame({"user": [0, 1, 2], "item": [100, 9900, 200]})
    both = pd.concat([X, bad], ignore_index=True)
    y = np.r_[np.ones(len(X)), np.zeros(3)]
    alone = EASERecommender(regularization=3.0).fit(X)
    with_bad = EASERecommender(regularization=3.0).fit(both, y)
    n = len(alone.item_ids_)
    np.testing.assert_allclose(
        with_bad.item_weights_[:n, :n], alone.item_weights_, atol=1e-6
    )
    assert 9900 not in with_bad.recommend([-1], n_recommendations=99)[0]
    assert with_bad.recommend([1], candidates=[9900])[0][0, 0] is None  # but it is seen


def test_unknown_users_get_popular_items():
    counts = X["item"].value_counts()
    for model in MODELS:
        model = clone(model).fit(X)
        ids, scores = model.recommend([-1], n_recommendations=len(counts))
        assert scores[0].tolist() == counts.tolist()
        assert counts[ids[0]].tolist() == counts.tolist()


# --- similar items -------------------------------------------------------------------

LINEAR = [EASERecommender(regularization=3.0), ItemKNNRecommender(n_neighbors=4)]
linear = pytest.mark.parametrize("model", LINEAR, ids=lambda model: type(model).__name__)


@linear
def test_similar_items_by_brute_force(model):
    """The row of the item, without the item; unknown items get the most popular ones."""
    y = np.r_[np.ones(len(X)), 0]
    rows = pd.concat([X, pd.DataFrame({"user": [0], "item": [9900]})])  # never a positive
    model = clone(model).fit(rows, y)
    weights = model.item_weights_
    weights = weights.toarray() if sp.issparse(weights) else weights
    items = model.item_ids_.tolist()
    catalogue = [item for item in items if item != 9900]
    asked = [*items, -1]
    with pytest.warns(UserWarning) as caught:
        ids, scores = model.similar_items(asked, n_recommendations=len(items))
    assert [str(one.message) for one in caught] == [
        f"1 of {len(asked)} item ids of item_ids are not known items and get the most "
        "popular items."
    ]
    counts = X["item"].value_counts()
    for item, row, row_scores in zip(asked, ids, scores, strict=True):
        others = [other for other in catalogue if other != item]
        if item == -1:
            value = counts.to_dict()
        else:
            value = dict(zip(items, weights[items.index(item)], strict=True))
        expected = sorted(others, key=lambda other: -value[other])
        n = len(expected)
        assert row.tolist() == expected + [None] * (len(items) - n)
        np.testing.assert_allclose(row_scores[:n], [value[i] for i in expected], rtol=1e-6)
        assert (row_scores[n:] == -np.inf).all()


@linear
def test_similar_items_are_recommended_to_a_user_of_one_item(model):
    rows = pd.concat([X, pd.DataFrame({"user": [99], "item": [300]})])
    model = clone(model).fit(rows)
    found = model.similar_items([300], n_recommendations=20)
    assert_same_answer(found, model.recommend([99], n_recommendations=20))


@linear
def test_similar_items_as_frame(model):
    model = clone(model).fit(X)
    ids, scores = model.similar_items([300, 100], n_recommendations=2)
    for asked in ([300, 100], pd.DataFrame({"item": [300, 100]})):
        frame = model.similar_items(asked, n_recommendations=2, as_frame=True)
        assert frame.columns.tolist() == ["query", "item", "score", "rank"]
        assert frame["query"].tolist() == [300, 300, 100, 100]
        assert frame["item"].tolist() == ids.ravel().tolist()
        assert frame["score"].tolist() == scores.ravel().tolist()
        assert frame["rank"].tolist() == [1, 2, 1, 2]


@linear
def test_candidates_of_similar_items(model):
    model = clone(model).fit(X)
    everything = model.similar_items([300, 100], 20, as_frame=True)

    def best_of(query, candidates):
        among = (everything["query"] == query) & everything["item"].isin(candidates)
        return everything[among]["item"].tolist()

    ids, _ = model.similar_items([300, 100], 3, candidates=[100, 200, 300])
    assert ids[:, :2].tolist() == [best_of(300, [100, 200]), best_of(100, [200, 300])]
    assert ids[:, 2].tolist() == [None, None]
    for each in ([[100, 400], [500]], {300: [100, 400], 100: [500]}):
        ids, _ = model.similar_items([300, 100], 2, candidates=each)
        assert ids.tolist() == [best_of(300, [100, 400]), [500, None]]
    with pytest.warns(UserWarning, match="1 of 2 candidates are not known items and are l"):
        ids, _ = model.similar_items([300], 1, candidates=[-1, 400])
    assert ids.tolist() == [[400]]


@linear
def test_bad_queries_of_similar_items_have_the_messages_of_two_towers(model):
    model = clone(model).fit(X)
    towers = TwoTowerRecommender(embedding_dim=2, max_iter=1, random_state=0).fit(X)
    names = [type(each).__name__ for each in (towers, model)]
    for arguments in (
        {"item_ids": [300], "n_recommendations": 0},
        {"item_ids": [300], "n_recommendations": True},
        {"item_ids": [300], "as_frame": "yes"},
        {"item_ids": 300},
        {"item_ids": [300, None]},
        {"item_ids": pd.DataFrame({"nothing": [1]})},
        {"item_ids": X.iloc[0]},
        {"item_ids": [300], "candidates": 300},
        {"item_ids": [300], "candidates": [[100], [200]]},
    ):
        messages = []
        for each in (towers, model):
            with pytest.raises((TypeError, ValueError)) as caught:
                each.similar_items(**arguments)
            messages.append(str(caught.value))
        assert messages[0].replace(*names) == messages[1]
    with pytest.raises(NotFittedError):
        clone(model).similar_items([300])


def test_similar_items_in_a_pipeline():
    model = ItemKNNRecommender(n_neighbors=4)
    pipeline = make_pipeline(FunctionTransformer(), model).fit(X)
    assert_same_answer(
        pipeline.similar_items([300, 100], 3), model.similar_items([300, 100], 3)
    )
    assert not hasattr(PopularRecommender(), "similar_items")


# --- popularity ----------------------------------------------------------------------


def test_popular_counts_rows():
    model = PopularRecommender().fit(X)
    counts = X["item"].value_counts()
    assert model.item_counts_.tolist() == counts[model.item_ids_].tolist()
    y = np.arange(len(X)) % 3
    model = PopularRecommender().fit(X, y)
    counts = X["item"][y > 0].value_counts().reindex(model.item_ids_, fill_value=0)
    assert model.item_counts_.tolist() == counts.tolist()
    weights = np.random.RandomState(0).uniform(size=len(X))
    model = PopularRecommender().fit(X, None, weights)
    sums = pd.Series(weights).groupby(X["item"]).sum()
    np.testing.assert_allclose(model.item_counts_, sums[model.item_ids_])


def test_unknown_items_have_score_0():
    pairs = pd.DataFrame({"user": [0, -1], "item": [-1, -2]})
    for model in MODELS:
        model = clone(model).fit(X)
        assert model.predict(pairs).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("estimator", MODELS)
def test_nothing_to_learn_from(estimator):
    with pytest.raises(ValueError, match="nothing to learn from"):
        clone(estimator).fit(X, np.zeros(len(X)))


def test_parameters_are_checked():
    for bad in (0, -1, "high", None):
        with pytest.raises(ValueError, match="regularization"):
            EASERecommender(regularization=bad).fit(X)
    for bad in (0, 2.0, None):
        with pytest.raises(ValueError, match="n_neighbors"):
            ItemKNNRecommender(n_neighbors=bad).fit(X)
    for bad in (-1, "7D"):
        with pytest.raises(ValueError, match="window"):
            PopularRecommender(window=bad, timestamp_column=1).fit(X)


def test_in_a_search():
    search = GridSearchCV(EASERecommender(), {"regularization": [1.0, 1e5]}, cv=3)
    search.fit(X.drop_duplicates())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.recommend([0]) is not None


def test_relabelled_ids_give_the_same_model():
    renamed = X.assign(user=X["user"].map("u{}".format), item=X["item"].map("i{}".format))
    for estimator in (*MODELS[::2], ItemKNNRecommender()):  # ties among few neighbours
        one = clone(estimator).fit(X).recommend(X["user"].unique(), n_recommendations=3)
        other = (
            clone(estimator)
            .fit(renamed)
            .recommend(renamed["user"].unique(), n_recommendations=3)
        )
        assert one[1].tolist() == other[1].tolist()
        expected = [[i and f"i{i}" for i in row] for row in one[0].tolist()]
        assert other[0].tolist() == expected


@pytest.mark.parametrize("n_neighbors", [1, 3, 9, 100])
def test_knn_by_plain_loops(n_neighbors):
    """Against scikit-learn's cosine matrix; neighbours by value, since there are ties."""
    model = ItemKNNRecommender(n_neighbors=n_neighbors).fit(X)
    matrix = matrix_of(X, model)
    cosines = cosine_similarity(matrix.T)
    np.fill_diagonal(cosines, -1)
    weights = model.item_weights_.toarray()
    assert model.item_weights_.dtype == np.float32
    for row, found in zip(cosines, weights, strict=True):
        nearest = np.sort(row)[::-1][: min(n_neighbors, len(row) - 1)]
        np.testing.assert_allclose(np.sort(found)[::-1][: len(nearest)], nearest, atol=1e-6)
        np.testing.assert_allclose(found[found > 0], row[found > 0], atol=1e-6)
        assert (found > 0).sum() == (nearest > 0).sum()
    expected = matrix @ weights
    _, scores = model.recommend(model.user_ids_, n_recommendations=10, exclude_seen=False)
    np.testing.assert_allclose(scores, -np.sort(-expected), atol=1e-5)


def test_knn_of_a_small_type():
    X = interactions(n=900, n_users=40, n_items=150)
    one, other = (ItemKNNRecommender(n_neighbors=n).fit(X) for n in (120, np.uint8(120)))
    np.testing.assert_array_equal(one.recommend([1]), other.recommend([1]))


def test_knn_counts_a_pair_once_and_needs_no_neighbours():
    once = X.drop_duplicates()
    weights = np.random.RandomState(0).uniform(0.1, 5, len(X))
    one = ItemKNNRecommender().fit(once)
    other = ItemKNNRecommender().fit(X, sample_weight=weights)
    np.testing.assert_array_equal(
        one.item_weights_.toarray(), other.item_weights_.toarray()
    )
    alone = ItemKNNRecommender().fit([["ann", "tea"], ["bob", "tea"]])
    assert alone.item_weights_.nnz == 0
    assert alone.recommend(["cid"], n_recommendations=1)[1].tolist() == [[2.0]]


# --- the window of PopularRecommender --------------------------------------------------

ROWS = pd.DataFrame(
    {
        "user": [1, 2, 3, 1, 2, 3],
        "item": ["old", "old", "old", "new", "new", "mid"],
        "time": [0, 1, 2, 10, 8, 6],
    }
)


@pytest.mark.parametrize(
    ("window", "counts"),
    [(None, [3, 2, 1]), (0, [0, 1, 0]), (3.9, [0, 2, 0]), (4, [0, 2, 1]), (99, [3, 2, 1])],
)
@pytest.mark.parametrize("kind", ["numbers", "unsigned", "datetimes", "objects", "ages"])
def test_window(window, counts, kind):
    days = pd.to_timedelta(ROWS["time"], unit="D")
    dates = days + pd.Timestamp("2024-01-01", tz="Europe/Vienna")
    times = {
        "numbers": ROWS["time"],
        "unsigned": ROWS["time"].astype("uint8"),
        "datetimes": dates,
        "objects": dates.dt.date.astype(object),
        "ages": days,
    }[kind]
    if window is not None and kind not in ("numbers", "unsigned"):
        window = dt.timedelta(days=window)
    model = PopularRecommender(window=window, timestamp_column="time")
    model.fit(ROWS.assign(time=times))
    assert model.item_ids_.tolist() == ["old", "new", "mid"]
    assert model.item_counts_.tolist() == counts
    # What is older is still there, and seen.
    assert set(model.recommend([9], n_recommendations=3)[0][0]) == {"old", "new", "mid"}
    assert "old" not in model.recommend([1])[0][0]
    # Nobody is asked for a time.
    pairs = ROWS[["user", "item"]]
    assert model.predict(pairs)[:1].tolist() == counts[:1]
    assert 0 < model.score(pairs) <= 1


@pytest.mark.parametrize(
    "model", [PopularRecommender(), ItemKNNRecommender(), EASERecommender()], ids=str
)
@pytest.mark.parametrize("ids", [[1, 2, 3], ["a", "b", "c"], [("a", 1), ("b", 2), 3]])
def test_skops_stores_a_fitted_baseline(model, ids):
    io = pytest.importorskip("skops.io")
    column = pd.Series(ids, dtype=object).infer_objects()
    X = pd.DataFrame({"u": column.iloc[[0, 1, 2, 0]].array, "i": column.iloc[[1, 2, 0, 0]]})
    fitted = clone(model).set_params(user_column="u", item_column="i").fit(X)
    content = io.dumps(fitted)
    loaded = io.loads(content, trusted=io.get_untrusted_types(data=content))
    for one, other in zip(fitted.recommend(column), loaded.recommend(column), strict=True):
        assert one.tolist() == other.tolist()


def test_window_of_numpy_and_in_an_array():
    dates = ROWS.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(ROWS.time, "D"))
    week = np.timedelta64(4, "D")
    model = PopularRecommender(window=week, timestamp_column="time").fit(dates)
    assert model.item_counts_.tolist() == [0, 2, 1]
    model = PopularRecommender(window=4, timestamp_column=2).fit(ROWS.to_numpy())
    assert model.item_counts_.tolist() == [0, 2, 1]


def test_window_counts_back_from_the_latest_positive():
    y = [1, 1, 1, 0, 1, 1]
    model = PopularRecommender(window=2, timestamp_column="time").fit(ROWS, y)
    assert model.item_counts_.tolist() == [0, 1, 1]
    weights = [1, 1, 1, 0, 0.5, 2]
    model = PopularRecommender(window=2, timestamp_column="time").fit(ROWS, None, weights)
    assert model.item_counts_.tolist() == [0, 0.5, 2]


@pytest.mark.parametrize(
    ("window", "column", "message"),
    [
        (3, None, "window=3 needs timestamp_column; it is None"),
        (dt.timedelta(1), "time", "does not fit .* 'time', of dtype int64; give a number"),
        (3, "date", "does not fit .* 'date', of dtype datetime64.*; give a duration"),
        (dt.timedelta(-1), "date", "must not be negative"),
        (3, "when", "timestamp_column='when' is not a column of X"),
    ],
)
def test_bad_windows(window, column, message):
    frame = ROWS.assign(date=pd.Timestamp("2024-01-01"))
    model = PopularRecommender(window=window, timestamp_column=column)
    with pytest.raises(ValueError, match=message):
        model.fit(frame)
    assert not hasattr(model, "item_ids_")
    missing = ROWS.assign(time=ROWS["time"].where(ROWS["time"] < 10))
    with pytest.raises(ValueError, match="1 row with a missing timestamp"):
        PopularRecommender(window=3, timestamp_column="time").fit(missing)
