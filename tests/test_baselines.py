"""The references against their definitions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktwotower.baselines import EASERecommender, PopularRecommender


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


def test_ease_by_constrained_least_squares():
    """Each column of B solves its own ridge regression with B_jj = 0: no inverse."""
    model = EASERecommender(regularization=3.0).fit(X)
    matrix = matrix_of(X, model)
    n_items = matrix.shape[1]
    for j in range(n_items):
        others = [i for i in range(n_items) if i != j]
        A = matrix[:, others]
        b = np.linalg.solve(A.T @ A + 3.0 * np.eye(n_items - 1), A.T @ matrix[:, j])
        np.testing.assert_allclose(model.item_weights_[others, j], b, atol=1e-5)
        assert model.item_weights_[j, j] == 0
    assert model.item_weights_.dtype == np.float32


def test_ease_scores():
    model = EASERecommender(regularization=3.0).fit(X)
    expected = matrix_of(X, model) @ model.item_weights_.astype(float)
    ids, scores = model.recommend(model.user_ids_, n_recommendations=10, exclude_seen=False)
    items = model.item_ids_.tolist()
    for row, row_ids, row_scores in zip(expected, ids, scores, strict=True):
        columns = [items.index(item) for item in row_ids]
        np.testing.assert_allclose(row_scores, row[columns], atol=1e-5)
        np.testing.assert_allclose(row_scores, np.sort(row)[::-1], atol=1e-5)


@pytest.mark.parametrize(
    "model", [EASERecommender(regularization=3.0), PopularRecommender()]
)
def test_predict_is_what_recommend_says(model):
    model = clone(model).fit(X)
    frame = model.recommend(
        [*model.user_ids_, "stranger"],
        n_recommendations=10,
        exclude_seen=False,
        as_frame=True,
    )
    assert len(frame) == 10 * (len(model.user_ids_) + 1)
    predictions = model.predict(frame[["user", "item"]])
    np.testing.assert_allclose(predictions, frame["score"], atol=1e-5)


def test_predict_in_blocks():
    model = EASERecommender(regularization=3.0).fit(X)
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
    assert 9900 not in with_bad.recommend(["stranger"], n_recommendations=99)[0]
    assert with_bad.recommend([1], candidates=[9900])[0][0, 0] is None  # but it is seen


def test_strangers_get_what_is_popular():
    counts = X["item"].value_counts()
    for model in (EASERecommender().fit(X), PopularRecommender().fit(X)):
        ids, scores = model.recommend(["stranger"], n_recommendations=len(counts))
        assert scores[0].tolist() == counts.tolist()
        assert counts[ids[0]].tolist() == counts.tolist()


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
    pairs = pd.DataFrame({"user": [0, "stranger"], "item": ["new", "new"]})
    for model in (EASERecommender().fit(X), PopularRecommender().fit(X)):
        assert model.predict(pairs).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("estimator", [EASERecommender(), PopularRecommender()])
def test_nothing_to_learn_from(estimator):
    with pytest.raises(ValueError, match="nothing to learn from"):
        clone(estimator).fit(X, np.zeros(len(X)))


def test_parameters_are_checked():
    for bad in (0, -1, "high", None):
        with pytest.raises(ValueError, match="regularization"):
            EASERecommender(regularization=bad).fit(X)


def test_in_a_search():
    search = GridSearchCV(EASERecommender(), {"regularization": [1.0, 1e5]}, cv=3).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.recommend([0]) is not None


def test_relabelled_ids_give_the_same_model():
    renamed = X.assign(user=X["user"].map("u{}".format), item=X["item"].map("i{}".format))
    for estimator in (EASERecommender(regularization=3.0), PopularRecommender()):
        one = clone(estimator).fit(X).recommend(X["user"].unique(), n_recommendations=3)
        other = (
            clone(estimator)
            .fit(renamed)
            .recommend(renamed["user"].unique(), n_recommendations=3)
        )
        assert one[1].tolist() == other[1].tolist()
        expected = [[i and f"i{i}" for i in row] for row in one[0].tolist()]
        assert other[0].tolist() == expected
