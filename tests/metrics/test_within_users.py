"""Metrics of the labelled rows of each user: roc_gauc and callables."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold

from sktwotower.baselines import ItemKNNRecommender, PopularRecommender
from sktwotower.inspection import feature_importance
from sktwotower.metrics import (
    METRICS,
    compare,
    make_ranking_scorer,
    ranking_report,
    within_users,
)
from tests.helpers import make_model, make_X, other_pairs

X = make_X()
# Users 0 to 11 in training; 3 has positives only, 50 is unknown and has no positive.
NEW = other_pairs(make_X(seed=1, n_rows=120), X)
NEW = pd.concat([NEW, NEW.iloc[:4].assign(user=50)], ignore_index=True)
Y = np.random.RandomState(3).randint(0, 2, len(NEW))
Y[NEW["user"] == 3] = 1
Y[NEW["user"] == 50] = 0
WEIGHTS = np.random.RandomState(4).randint(0, 4, len(NEW)) / 2


@pytest.fixture(scope="module")
def model():
    return make_model(timestamp_column="time").fit(X)


def by_user(metric, scores, y=Y, weights=None):
    """Value and weight of each user of both classes, one user after the other."""
    values, totals = {}, {}
    for user, rows in NEW.groupby("user").indices.items():
        of_rows = np.ones(len(rows)) if weights is None else weights[rows]
        rows, of_rows = rows[of_rows > 0], of_rows[of_rows > 0]
        if len(set(y[rows] > 0)) == 2:
            options = {} if weights is None else {"sample_weight": of_rows}
            values[user] = metric(y[rows], scores[rows], **options)
            totals[user] = of_rows.sum()
    return pd.Series(values), pd.Series(totals)


def expected(*arguments, **options):
    values, totals = by_user(*arguments, **options)
    return np.average(values, weights=totals)


# --- the function ---------------------------------------------------------------------

rows_of_users = st.lists(
    st.tuples(
        st.integers(0, 3), st.booleans(), st.integers(0, 4), st.sampled_from([0.5, 1, 3])
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(rows_of_users)
def test_the_area_is_scikit_learns_for_each_user(rows):
    users, positive, scores, weights = map(np.array, zip(*rows, strict=True))
    values = METRICS["roc_gauc"](positive, scores, users, 5, weights)
    for user in range(5):
        own = users == user
        if len(set(positive[own])) < 2:
            assert np.isnan(values[user])
            continue
        area = roc_auc_score(positive[own], scores[own], sample_weight=weights[own])
        assert values[user] == pytest.approx(area)


def test_a_tie_counts_one_half():
    values = METRICS["roc_gauc"](
        np.array([1, 0, 0, 1, 0]), np.ones(5), np.array([0, 0, 0, 1, 1]), 2
    )
    assert values.tolist() == [0.5, 0.5]


# --- scorers --------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_users_count_with_their_rows(model, weights):
    scorer = make_ranking_scorer("roc_gauc", with_counts=True)
    found = scorer(model, NEW, Y, weights)
    scores = model.predict(NEW)
    assert found["roc_gauc"] == pytest.approx(
        expected(roc_auc_score, scores, weights=weights)
    )
    values, _ = by_user(roc_auc_score, scores, weights=weights)
    of_rows = NEW if weights is None else NEW[weights > 0]
    assert found["n_users"] == len(values)
    assert found["n_left_out"] == of_rows["user"].nunique() - len(values) > 0


def test_without_rankings_nothing_is_dropped(model):
    seen = X.iloc[:30]
    labels = np.arange(30) % 2
    scorer = make_ranking_scorer("roc_gauc", with_counts=True)
    found = scorer(model, seen, labels)  # no warning of seen pairs
    assert found["n_dropped"] == found["n_seen"] == 0
    assert 0 <= found["roc_gauc"] <= 1


def test_beside_rankings_and_metrics_of_all_rows(model):
    names = ["ndcg@3", "roc_gauc", "roc_auc", "coverage@3"]
    together = make_ranking_scorer(names, with_counts=True)(model, NEW, Y)
    for name in names:
        assert together[name] == make_ranking_scorer(name)(model, NEW, Y)
    alone = make_ranking_scorer("ndcg@3", with_counts=True)(model, NEW, Y)
    assert together["n_users"] == alone["n_users"]


def test_in_a_search():
    both = pd.concat([X.assign(y=1), NEW.assign(y=Y)])
    both = both.drop_duplicates(["user", "item"], ignore_index=True)
    rated, y = both.drop(columns="y"), both["y"].to_numpy()
    search = GridSearchCV(
        make_model(),
        {"temperature": [0.1, 0.3]},
        scoring=make_ranking_scorer(["ndcg@10", "roc_gauc"]),
        refit="roc_gauc",
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(rated, y)
    assert np.isfinite(search.cv_results_["mean_test_roc_gauc"]).all()
    assert 0 <= search.best_score_ <= 1


def test_as_validation_metric():
    model = make_model(validation_metric="roc_gauc")
    model.fit(X, X_val=NEW, y_val=Y)
    assert model.validation_scores_[-1] == make_ranking_scorer("roc_gauc")(model, NEW, Y)


def test_another_package_is_asked_for_predictions():
    class External:
        def recommend(self, X, *, n_recommendations, exclude_seen):
            raise AssertionError("nothing is ranked")

        def predict(self, X):
            return X["item"].to_numpy()

    scorer = make_ranking_scorer("roc_gauc", user_column="user", item_column="item")
    found = scorer(External(), NEW, Y, WEIGHTS)
    scores = NEW["item"].to_numpy()
    assert found == pytest.approx(expected(roc_auc_score, scores, weights=WEIGHTS))
    report = ranking_report(
        External(), NEW, Y, metrics="roc_gauc", user_column="user", item_column="item"
    )
    assert report["mean"].item() == pytest.approx(expected(roc_auc_score, scores))


def test_the_importance_of_fields(model):
    labels = (model.predict(NEW) > np.median(model.predict(NEW))).astype(int)
    found = feature_importance(
        model, NEW, labels, metric="roc_gauc", n_repeats=2, random_state=0
    )
    assert found.attrs["baseline"] == make_ranking_scorer("roc_gauc")(model, NEW, labels)
    assert found["importance_mean"].max() > 0


# --- reports --------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_report_has_the_value_of_the_scorer(model, weights):
    metrics = ["roc_gauc", "ndcg@3"]
    report = ranking_report(
        model, NEW, Y, sample_weight=weights, metrics=metrics, by="cold", random_state=0
    ).set_index(["slice", "metric"])
    scores = make_ranking_scorer(metrics, by="cold")(model, NEW, Y, weights)
    for metric in metrics:
        row = report.loc["all", metric]
        assert row["mean"] == scores[metric]
        assert report.loc["known", metric]["mean"] == scores[f"{metric}[known]"]
        assert row["low"] <= row["mean"] <= row["high"]
    values, _ = by_user(roc_auc_score, model.predict(NEW), weights=weights)
    assert report.loc["all", "roc_gauc"]["n_users"] == len(values)
    assert np.isnan(scores["roc_gauc[new]"])  # user 50 has no positive


def test_a_report_counts_users_whose_items_are_unknown(model):
    """Their rows have an order, although no ranking can contain the items."""
    rows = NEW.assign(item=NEW["item"].where(NEW["user"] != 1, NEW["item"] + 100))
    report = ranking_report(
        model, rows, Y, metrics=["ndcg@3", "roc_gauc"], random_state=0
    ).set_index("metric")
    values, totals = by_user(roc_auc_score, model.predict(rows))
    assert 1 in values
    assert report.loc["roc_gauc", "mean"] == pytest.approx(
        np.average(values, weights=totals)
    )
    assert report.loc["roc_gauc", "n_users"] == len(values)
    assert report.attrs["n_left_out"]["all"] >= 1


def test_the_bootstrap_weights_each_metric_by_its_own(model):
    together = ranking_report(
        model, NEW, Y, metrics=["ndcg@3", "roc_gauc"], random_state=0, n_bootstrap=50
    ).set_index("metric")
    alone = ranking_report(
        model, NEW, Y, metrics=["ndcg@3"], random_state=0, n_bootstrap=50
    ).set_index("metric")
    assert together.loc["ndcg@3", "mean"] == alone.loc["ndcg@3", "mean"]
    rows = ranking_report(model, NEW, Y, metrics="roc_gauc", random_state=0, n_bootstrap=50)
    values, totals = by_user(roc_auc_score, model.predict(NEW))
    drawn = np.random.RandomState(0).randint(len(values), size=(50, len(values)))
    means = [
        np.average(values.to_numpy()[each], weights=totals.to_numpy()[each])
        for each in drawn
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    assert rows["low"].item() == pytest.approx(low)
    assert rows["high"].item() == pytest.approx(high)


@pytest.mark.parametrize("metrics", ["roc_gauc", ["ndcg@3", "roc_gauc"]])
def test_a_comparison(model, metrics):
    other = ItemKNNRecommender().fit(X)
    table = compare(
        {"towers": model, "knn": other}, NEW, Y, metrics=metrics, random_state=0
    ).set_index("metric")
    row = table.loc["roc_gauc"]
    scorer = make_ranking_scorer("roc_gauc")
    assert row["mean"] == pytest.approx(scorer(other, NEW, Y))
    assert row["baseline"] == pytest.approx(scorer(model, NEW, Y))
    assert row["difference"] == pytest.approx(row["mean"] - row["baseline"])


# --- callables ------------------------------------------------------------------------


def test_a_callable_sees_the_rows_of_a_user(model):
    scorer = make_ranking_scorer(
        {"ap": within_users(average_precision_score), "area": within_users(roc_auc_score)}
    )
    found = pickle.loads(pickle.dumps(scorer))(model, NEW, Y)
    assert found["ap"] == pytest.approx(
        expected(average_precision_score, model.predict(NEW))
    )
    assert found["area"] == pytest.approx(make_ranking_scorer("roc_gauc")(model, NEW, Y))


def test_a_callable_gets_y_as_it_is():
    stars = np.random.RandomState(0).randint(-1, 4, len(NEW)).astype(float)
    seen = []

    def note(y_true, y_score):
        assert y_true.shape == y_score.shape
        seen.append(y_true)
        return np.nan if len(seen) == 1 else 1.0

    model = PopularRecommender(user_column="user", item_column="item").fit(X)
    assert make_ranking_scorer(within_users(note))(model, NEW, stars) == 1.0
    values, _ = by_user(lambda y, s: tuple(y), stars, y=stars)
    assert [tuple(each) for each in seen] == list(values)


def test_names():
    assert make_ranking_scorer(within_users(roc_auc_score)).__name__ == "roc_auc_score"
    metric = within_users(partial(roc_auc_score, max_fpr=0.5))
    assert repr(metric) == "within_users(roc_auc_score)"


# --- bad input ------------------------------------------------------------------------


def test_a_name_is_no_callable():
    with pytest.raises(TypeError, match="callable metric.*'roc_gauc'"):
        within_users("roc_auc")


def test_a_callable_must_return_a_number(model):
    scorer = make_ranking_scorer(within_users(lambda y, s: s))
    with pytest.raises(ValueError, match="must return a number"):
        scorer(model, NEW, Y)


@pytest.mark.parametrize("y", [None, np.ones(len(NEW))])
def test_positives_alone(model, y):
    with pytest.raises(
        ValueError, match="'roc_gauc' needs rows of both .*sample_negatives"
    ):
        make_ranking_scorer("roc_gauc")(model, NEW, y)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.where(Y, np.nan, 1.0), r"External returned \d+ NaN for \d+ rows"),
        (np.ones((len(Y), 1)), r"External returned shape \(\d+, 1\) for \d+ rows"),
    ],
)
def test_predictions_that_are_no_numbers_of_rows(scores, message):
    class External:
        def recommend(self, X, *, n_recommendations, exclude_seen):
            raise AssertionError("nothing is ranked")

        def predict(self, X):
            return scores

    scorer = make_ranking_scorer("roc_gauc", user_column="user", item_column="item")
    with pytest.raises(ValueError, match=message):
        scorer(External(), NEW, Y)


def test_users_of_one_class_alone(model):
    labels = (NEW["user"] % 2).to_numpy()
    for metrics in ("roc_gauc", ["ndcg@3", "roc_gauc"]):
        with pytest.warns(UserWarning, match="No user of X has rows of both classes"):
            found = make_ranking_scorer(metrics)(model, NEW, labels)
        assert np.isnan(found["roc_gauc"] if isinstance(found, dict) else found)
