"""Labels and weights of rows in scorers, reports and comparisons."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import ndcg_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import ItemKNNRecommender, PopularRecommender
from sktwotower.metrics import compare, make_ranking_scorer, ndcg, ranking_report
from sktwotower.metrics._bootstrap import bootstrap_means, paired_bootstrap


def interactions(pairs, n):
    """Rows of some pairs, repeated ones among them, and their labels."""
    rng = np.random.RandomState(n)
    users, items = np.divmod(rng.choice(pairs, n), 9)
    return pd.DataFrame({"user": users, "item": items}), rng.choice([-1, 0, 1, 2.5, 5], n)


PAIRS = np.random.RandomState(0).permutation(12 * 9)
X, Y = interactions(PAIRS[:50], 80)
NEW, GRADES = interactions(PAIRS[50:], 60)
DISTINCT = X.drop_duplicates(ignore_index=True)  # folds without repeats
TINY = TwoTowerRecommender(embedding_dim=4, max_iter=1, batch_size=64, random_state=0)


@pytest.fixture(scope="module")
def model():
    return clone(TINY).fit(X)


class FirstItems:
    """A external estimator: the same items to everyone."""

    def recommend(self, X, *, n_recommendations, exclude_seen):
        return [[3, 1, 7, 0, 2][:n_recommendations] for _ in X]


# --- graded relevance ------------------------------------------------------------------


def best_grades(data, y):
    """The largest y of each pair, above 0."""
    grades = data.assign(y=y).groupby(["user", "item"])["y"].max()
    return grades[grades > 0]


def graded_by_scikit_learn(ranked_of, data, y, k, catalogue):
    values = []
    for user, grades in best_grades(data, y).groupby("user"):
        truth = grades.droplevel("user").reindex(catalogue, fill_value=0)
        if not truth.any():
            continue
        items = ranked_of(user, set(truth.index[truth > 0]))
        place = {item: -rank for rank, item in enumerate(items)}
        scores = [place.get(item, -1e9) for item in catalogue]
        values.append(ndcg_score([truth], [scores], k=k, ignore_ties=True))
    return np.mean(values)


@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("data", ["training rows", "new rows"])
def test_graded_ndcg_is_that_of_scikit_learn(model, data, k):
    rows, y = (X, Y) if data == "training rows" else (NEW, GRADES)
    assert rows.duplicated().any()
    seen = X.groupby("user")["item"].agg(set)

    def ranked_of(user, relevant):
        ids, _ = model.recommend([user], n_recommendations=9, exclude_seen=False)
        return [i for i in ids[0] if i not in seen[user] - relevant]

    expected = graded_by_scikit_learn(ranked_of, rows, y, k, model.item_ids_)
    scores = make_ranking_scorer([f"graded_ndcg@{k}", f"ndcg@{k}"])(model, rows, y)
    assert scores[f"graded_ndcg@{k}"] == pytest.approx(expected)
    assert scores[f"ndcg@{k}"] != pytest.approx(expected)
    report = ranking_report(model, rows, y, metrics=f"graded_ndcg@{k}", n_bootstrap=5)
    assert report["mean"].item() == pytest.approx(expected)


def test_graded_ndcg_of_an_external_estimator():
    expected = graded_by_scikit_learn(
        lambda user, relevant: [3, 1, 7, 0, 2], NEW, GRADES, 4, np.arange(9)
    )
    scorer = make_ranking_scorer("graded_ndcg@4")
    assert scorer(FirstItems(), NEW, GRADES) == pytest.approx(expected)


def test_grades_change_nothing_else(model):
    names = ["ndcg@3", "recall@3", "map@5", "auc", "r_precision", "serendipity@3", "gini@3"]
    scorer = make_ranking_scorer(names)
    binary = scorer(model, NEW, (GRADES > 0).astype(int))
    assert scorer(model, NEW, GRADES) == binary
    graded, plain = make_ranking_scorer("graded_ndcg@3"), make_ranking_scorer("ndcg@3")
    small = graded(model, NEW, np.full(len(NEW), 0.3))
    assert graded(model, NEW) == pytest.approx(small)
    assert graded(model, NEW) == plain(model, NEW)


def test_a_callable_sees_the_grades(model):
    total = make_ranking_scorer(lambda ranked, relevant: relevant.sum(axis=1))
    expected = best_grades(NEW, GRADES).groupby("user").sum().mean()
    assert total(model, NEW, GRADES) == pytest.approx(expected)
    own = make_ranking_scorer({"mine": partial(ndcg, k=3, gains="graded")})
    named = make_ranking_scorer("graded_ndcg@3")
    assert own(model, NEW, GRADES)["mine"] == named(model, NEW, GRADES)


def test_early_stopping_on_grades():
    stopped = clone(TINY).set_params(validation_metric="graded_ndcg@5")
    stopped.fit(X, Y, X_val=NEW, y_val=GRADES)
    scorer = make_ranking_scorer("graded_ndcg@5")
    assert stopped.validation_scores_ == [scorer(stopped, NEW, GRADES)]


# --- weights of rows -------------------------------------------------------------------

WEIGHTS = np.random.RandomState(2).choice([0, 0.5, 1, 4], len(NEW))


def weights_of_users():
    """Mean weight of the relevant rows of each, without rows of weight 0."""
    rows = NEW.assign(weight=WEIGHTS)[(WEIGHTS > 0) & (GRADES > 0)]
    return rows.groupby("user")["weight"].mean()


def test_a_user_counts_with_the_mean_weight_of_the_relevant_rows(model):
    kept = WEIGHTS > 0
    shares = weights_of_users()
    scorer = make_ranking_scorer("ndcg@3")
    values = {
        user: scorer(model, NEW[kept & mine], GRADES[kept & mine])
        for user in shares.index
        for mine in [(NEW["user"] == user).to_numpy()]
    }
    expected = np.average([values[user] for user in shares.index], weights=shares)
    assert scorer(model, NEW, GRADES, WEIGHTS) == pytest.approx(expected)
    assert scorer(model, NEW, GRADES, sample_weight=WEIGHTS) == pytest.approx(expected)
    plain = make_ranking_scorer("ndcg@10")
    assert model.score(NEW, GRADES, WEIGHTS) == plain(model, NEW, GRADES, WEIGHTS)


def test_weights_in_a_report(model):
    names = ["ndcg@3", "graded_ndcg@3", "recall@5", "popularity@3", "gini@3"]
    options = {"sample_weight": WEIGHTS, "n_bootstrap": 40, "random_state": 0}
    report = ranking_report(model, NEW, GRADES, metrics=names, **options)
    scores = make_ranking_scorer(names)(model, NEW, GRADES, WEIGHTS)
    assert dict(zip(report["metric"], report["mean"], strict=True)) == pytest.approx(scores)
    assert (report["n_users"] == len(weights_of_users())).all()
    means = report[report["metric"] != "gini@3"]
    assert (means["low"] < means["mean"]).all() and (means["mean"] < means["high"]).all()
    # The scale of weights does not matter, and equal weights have no effect.
    scaled = ranking_report(
        model, NEW, GRADES, metrics=names, **options | {"sample_weight": 7 * WEIGHTS}
    )
    pd.testing.assert_frame_equal(scaled, report)
    ones, none = (
        ranking_report(model, NEW, GRADES, metrics=names, **options | {"sample_weight": w})
        for w in (np.full(len(NEW), 3.0), None)
    )
    pd.testing.assert_frame_equal(ones, none)


def test_slices_of_weighted_rows(model):
    parity = (NEW["user"] % 2).to_numpy()
    options = {"metrics": "ndcg@3", "n_bootstrap": 5}
    report = ranking_report(model, NEW, GRADES, sample_weight=WEIGHTS, by=parity, **options)
    for name in (0, 1):
        mine = parity == name
        alone = ranking_report(
            model, NEW[mine], GRADES[mine], sample_weight=WEIGHTS[mine], **options
        )
        row = report[report["slice"] == name]
        assert row["mean"].item() == pytest.approx(alone["mean"].item())
        assert row["n_users"].item() == alone["n_users"].item()
    with pytest.raises(ValueError, match=f"one label for each of the {len(NEW)} rows"):
        ranking_report(model, NEW, GRADES, sample_weight=WEIGHTS, by=parity[WEIGHTS > 0])


def test_weights_in_a_comparison(model):
    models = {"two towers": model, "popular": PopularRecommender().fit(X)}
    names = ["ndcg@3", "recall@2"]
    options = {"metrics": names, "n_bootstrap": 30, "random_state": 0}
    table = compare(models, NEW, GRADES, sample_weight=WEIGHTS, **options)
    scorer = make_ranking_scorer(names)
    mean = scorer(models["popular"], NEW, GRADES, WEIGHTS)
    baseline = scorer(model, NEW, GRADES, WEIGHTS)
    for row in table.itertuples():
        assert row.mean == pytest.approx(mean[row.metric])
        assert row.baseline == pytest.approx(baseline[row.metric])
        assert row.difference == pytest.approx(row.mean - row.baseline)
        assert row.low <= row.difference <= row.high
    assert (table["n_users"] == len(weights_of_users())).all()
    plain = compare(models, NEW, GRADES, **options)
    assert (plain["difference"] != table["difference"]).all()


@settings(max_examples=30)
@example(seed=309, n_users=3)
@given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(1, 12))
def test_weighted_bootstrap_equals_a_loop(seed, n_users):
    rng = np.random.RandomState(seed)
    values = rng.normal(size=(n_users, 2))
    values[rng.random_sample(values.shape) < 0.3] = np.nan
    weights = rng.uniform(0.1, 5, n_users)
    means = bootstrap_means(values, 5, np.random.RandomState(seed), weights)
    drawn = np.random.RandomState(seed).randint(n_users, size=(5, n_users))
    for mean, rows in zip(means, drawn, strict=True):
        for column in range(2):
            defined = [row for row in rows if not np.isnan(values[row, column])]
            total = sum(weights[row] for row in defined)
            expected = sum(weights[row] * values[row, column] for row in defined)
            np.testing.assert_allclose(
                mean[column], expected / total if defined else np.nan, atol=1e-12
            )
    tests = paired_bootstrap(values, 5, np.random.RandomState(seed), weights=weights)
    for column, test in enumerate(tests):
        defined = ~np.isnan(values[:, column])
        if defined.any():
            expected = np.average(values[defined, column], weights=weights[defined])
            assert test.mean == pytest.approx(expected)


def test_a_bootstrap_that_draws_nobody_with_a_value():
    values = np.full((500, 2), np.nan)
    values[3] = [2.0, np.nan]
    seed = next(
        s for s in range(9) if 3 not in np.random.RandomState(s).randint(500, size=500)
    )
    one, none = paired_bootstrap(values, 1, np.random.RandomState(seed))
    assert (one.mean, one.n_users, one.p_value) == (2.0, 1, 1.0)
    assert np.isnan([one.low, one.high, one.below, one.above]).all()
    assert none.n_users == 0 and np.isnan([none.mean, none.p_value]).all()


def test_a_bootstrap_of_users_without_weight():
    values, weights = np.array([[1.0], [2.0], [np.nan]]), np.array([0.0, 0.0, 1.0])
    (test,) = paired_bootstrap(values, 9, np.random.RandomState(0), weights=weights)
    assert np.isnan([test.mean, test.low, test.high, test.below, test.above]).all()
    assert (test.p_value, test.n_users) == (1.0, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(len(NEW)), "must contain at least one non-zero"),
        (-np.ones(len(NEW)), "Negative values"),
        (np.ones(3), "sample_weight"),
    ],
)
def test_bad_weights(model, weights, message):
    with pytest.raises(ValueError, match=message):
        make_ranking_scorer("ndcg@3")(model, NEW, None, weights)
    with pytest.raises(ValueError, match=message):
        ranking_report(model, NEW, sample_weight=weights)
    with pytest.raises(ValueError, match=message):
        compare({"a": model, "b": model}, NEW, sample_weight=weights)


# --- metadata routing ------------------------------------------------------------------


def test_weights_are_routed_to_the_scorer():
    weights = np.random.RandomState(3).choice([0.5, 1, 9], len(DISTINCT))
    cv = KFold(3, shuffle=True, random_state=0)
    plain = make_ranking_scorer(["ndcg@3", "recall@5"])
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = ItemKNNRecommender().set_fit_request(sample_weight=True)
        scorer = make_ranking_scorer(["ndcg@3", "recall@5"])
        scorer = scorer.set_score_request(sample_weight=True)
        params = {"sample_weight": weights}
        found = cross_validate(estimator, DISTINCT, scoring=scorer, cv=cv, params=params)
        search = GridSearchCV(
            estimator, {"n_neighbors": [2, 5]}, scoring=scorer, refit="ndcg@3", cv=cv
        ).fit(DISTINCT, **params)
    for fold, (train, test) in enumerate(cv.split(DISTINCT)):
        fitted = ItemKNNRecommender().fit(DISTINCT.iloc[train], None, weights[train])
        expected = plain(fitted, DISTINCT.iloc[test], None, weights[test])
        for name, value in expected.items():
            assert found[f"test_{name}"][fold] == pytest.approx(value)
    assert np.isfinite(search.best_score_)


def test_weights_that_were_not_requested():
    scorer = make_ranking_scorer("ndcg@3")
    with pytest.raises(RuntimeError, match="set_score_request needs metadata routing"):
        scorer.set_score_request(sample_weight=True)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = PopularRecommender().set_fit_request(sample_weight=True)
        params = {"sample_weight": np.arange(1, len(DISTINCT) + 1)}
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(estimator, DISTINCT, scoring=scorer, params=params)
        unweighted = scorer.set_score_request(sample_weight=False)
        found = cross_validate(estimator, DISTINCT, scoring=unweighted, cv=3, params=params)
    plain = cross_validate(
        PopularRecommender(), DISTINCT, scoring=scorer, cv=3, params=params
    )
    np.testing.assert_array_equal(found["test_score"], plain["test_score"])
