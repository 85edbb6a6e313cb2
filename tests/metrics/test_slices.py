"""Slices of users and counts in a scorer: as in a report, with the same keys always."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, cross_validate

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import ItemKNNRecommender, PopularRecommender
from sktwotower.metrics import make_ranking_scorer, ranking_report
from sktwotower.model_selection import LastInteractionsSplit, UserKFold


def interactions(n, n_others):
    """Distinct pairs of users of different activity, and others."""
    rng = np.random.RandomState(0)
    users = np.minimum(rng.geometric(0.12, 600), 14)
    pairs = pd.DataFrame({"user": users, "item": rng.randint(0, 9, 600)})
    pairs = pairs.drop_duplicates(ignore_index=True)
    return pairs[:n], pairs[n : n + n_others]


X, OTHERS = interactions(60, 40)
STRANGERS = pd.DataFrame({"user": [91, 91, 92], "item": [3, 4, 99]})
NEW = pd.concat([OTHERS, STRANGERS], ignore_index=True)
METRICS = ["ndcg@3", "recall@2", "coverage@2", "auc"]
ODD = {user: "odd" if user % 2 else "even" for user in range(1, 15)}


@pytest.fixture(scope="module")
def model():
    return TwoTowerRecommender(embedding_dim=4, max_iter=2, random_state=0).fit(X)


@pytest.mark.parametrize("by", ["activity", "cold", ODD, pd.Series(ODD)])
def test_values_are_those_of_the_report(model, by):
    scores = make_ranking_scorer(METRICS, by=by, with_counts=True)(model, NEW)
    report = ranking_report(model, NEW, metrics=METRICS, by=by, n_bootstrap=2)
    for row in report.itertuples():
        suffix = "" if row.slice == "all" else f"[{row.slice}]"
        found = scores[f"{row.metric}{suffix}"]
        assert found == pytest.approx(row.mean, nan_ok=True)
        if row.metric != "auc":  # which is not defined if everything is relevant
            assert scores[f"n_users{suffix}"] == row.n_users
        for count in ("n_left_out", "n_dropped", "n_seen"):
            assert scores[f"{count}{suffix}"] == report.attrs[count][row.slice]
    n_slices = report["slice"].nunique()
    assert len(scores) == n_slices * (len(METRICS) + 4)


def test_counts(model):
    scores = make_ranking_scorer("ndcg@3", with_counts=True)(model, NEW)
    known = NEW["user"][NEW["item"] < 99].nunique()
    assert list(scores) == ["ndcg@3", "n_users", "n_left_out", "n_dropped", "n_seen"]
    assert (scores["n_users"], scores["n_left_out"], scores["n_dropped"]) == (known, 1, 1)
    assert scores["ndcg@3"] == make_ranking_scorer("ndcg@3")(model, NEW)
    # Pairs outside the candidates count once.
    among = make_ranking_scorer("ndcg@3", candidates=[0, 1, 2], with_counts=True)
    twice = pd.concat([NEW, NEW])
    outside = NEW[NEW["item"] > 2].drop_duplicates()
    assert among(model, twice)["n_dropped"] == len(outside)
    assert among(model, twice) == pytest.approx(among(model, NEW))
    y = np.arange(len(NEW)) % 2
    rows = make_ranking_scorer("roc_auc", with_counts=True)(model, NEW, y)
    assert rows["n_users"] == NEW["user"].nunique()


@pytest.mark.parametrize(("by", "n_empty"), [("activity", 2), ("cold", 1), (ODD, 1)])
def test_keys_do_not_depend_on_the_rows(model, by, n_empty):
    scorer = make_ranking_scorer("ndcg@3", by=by, with_counts=True)
    one_user = NEW[NEW["user"] == 1]
    scores = scorer(model, one_user)
    assert list(scores) == list(scorer(model, NEW))
    empty = [key for key, value in scores.items() if np.isnan(value)]
    assert len(empty) == n_empty
    for key in empty:
        assert scores[key.replace("ndcg@3", "n_users")] == 0


def test_users_without_a_training_row():
    """They are ranked as the unknown user, and are a slice."""
    scorer = make_ranking_scorer("recall@3", by="cold")
    popular = PopularRecommender().fit(X)
    scores = scorer(popular, NEW)
    best = X["item"].value_counts(sort=True).index[:3]
    assert scores["recall@3[new]"] == np.isin([3, 4], best).mean()
    # In folds of users no user of test is known.
    found = cross_validate(
        popular, X, scoring=scorer, cv=UserKFold(2, random_state=0), error_score="raise"
    )
    assert np.isnan(found["test_recall@3[known]"]).all()
    np.testing.assert_array_equal(found["test_recall@3[new]"], found["test_recall@3"])


def test_in_a_search():
    scorer = make_ranking_scorer(["ndcg@3", "auc"], by=ODD, with_counts=True)
    search = GridSearchCV(
        ItemKNNRecommender(),
        {"n_neighbors": [1, 5]},
        scoring=pickle.loads(pickle.dumps(scorer)),
        refit="ndcg@3[odd]",
        cv=LastInteractionsSplit(n_last=2),
    ).fit(X)
    assert search.best_score_ == search.cv_results_["mean_test_ndcg@3[odd]"].max()
    assert {"mean_test_n_users[even]", "mean_test_auc[odd]"} < set(search.cv_results_)


class External:
    user_ids_ = np.array([1, 2, 3])

    def recommend(self, X, *, n_recommendations, exclude_seen):
        return [[3, 1][:n_recommendations] for _ in X]


def test_an_external_estimator_knows_its_users():
    scores = make_ranking_scorer("recall@2", by="cold", with_counts=True)(External(), NEW)
    known = NEW["user"].isin(External.user_ids_)
    assert scores["n_users[known]"] == NEW["user"][known].nunique()
    assert scores["n_users[new]"] == NEW["user"][~known].nunique()
    alone = make_ranking_scorer("recall@2")(External(), NEW[known])
    assert scores["recall@2[known]"] == pytest.approx(alone)
    with pytest.raises(TypeError, match="External does not say what users had in training"):
        make_ranking_scorer("recall@2", by="activity")(External(), NEW)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "age"}, "by must be 'activity', 'cold', or labels by user id .* got 'age'"),
        ({"by": np.arange(3)}, "got a ndarray. Labels of rows would not fit other rows"),
        ({"by": lambda users: users}, "by must be .* got a function"),
        ({"metrics": ["ndcg@3", "roc_auc"], "by": "cold"}, "'roc_auc' is one number for"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        make_ranking_scorer(**{"metrics": "ndcg@3"} | options)


ROWS = NEW.assign(half=["odd" if user % 2 else "even" for user in NEW["user"]])
OF_TEXT = ROWS.assign(user="u" + ROWS["user"].astype(str))


@pytest.fixture(scope="module")
def popular():
    return PopularRecommender().fit(OF_TEXT[["user", "item"]])


def report(model, rows, by):
    options = {"metrics": "recall@2", "n_bootstrap": 2, "random_state": 0}
    return ranking_report(model, rows, by=by, exclude_seen=False, **options)


@pytest.mark.parametrize(
    "rows",
    [
        OF_TEXT,
        OF_TEXT.set_axis(range(100, 100 + len(OF_TEXT))),
        OF_TEXT.set_axis([0] * len(OF_TEXT)),
        OF_TEXT.set_index("user"),
        OF_TEXT.set_index(["user", "item"]),
    ],
)
def test_a_column_of_X_has_labels_of_rows(popular, rows):
    expected = report(popular, rows, rows["half"].to_numpy())
    assert set(expected["slice"]) == {"all", "odd", "even"}
    pd.testing.assert_frame_equal(report(popular, rows, rows["half"]), expected)
    with pytest.raises(ValueError, match="labels of rows would not fit other rows"):
        make_ranking_scorer("recall@2", by=rows["half"])(popular, rows)


@pytest.mark.parametrize("start", [0, 1])
def test_labels_that_may_be_of_rows_or_of_users_are_refused(model, start):
    index = range(start, start + len(ROWS))
    rows = ROWS.set_axis(index)
    message = "by is a Series whose index is that of the rows of X, and could be user ids"
    with pytest.raises(ValueError, match=message + ".*pass by.to_numpy.. for labels of"):
        report(model, rows, rows["half"])
    if not start:  # as long as an X that has no index
        with pytest.raises(ValueError, match=message):
            report(model, rows[["user", "item"]].to_numpy(), rows["half"])
    with pytest.raises(ValueError, match=message + ".*labels of rows would not fit"):
        make_ranking_scorer("recall@2", by=rows["half"])(model, rows)
    of_users = rows["half"].to_dict()
    named = rows["half"].rename_axis("user")
    pd.testing.assert_frame_equal(report(model, rows, named), report(model, rows, of_users))


def test_labels_of_rows_and_users_that_agree(model):
    rows = NEW[NEW["user"] < 90].drop_duplicates("user").set_index("user", drop=False)
    rows.index.name = None
    by = pd.Series(ODD).reindex(rows.index)
    expected = report(model, rows, by.to_numpy())
    pd.testing.assert_frame_equal(report(model, rows, by), expected)
    make_ranking_scorer("ndcg@3", by=by)(model, rows)


def test_a_warning_of_labels_that_are_mostly_not_of_users(model):
    some = ROWS[::2]
    for measure in (report, lambda *a: make_ranking_scorer("ndcg@3", by=a[2])(*a[:2])):
        with pytest.warns(UserWarning, match=r"only 1\d of the 43 labels .* are users"):
            measure(model, some, ROWS["half"])
        measure(model, some, ROWS["half"].to_dict())
        measure(model, some, pd.Series(ODD))


def test_messages_about_labels(model):
    with pytest.raises(
        ValueError, match="a dict of labels by user id, but it has a label for none"
    ):
        make_ranking_scorer("ndcg@3", by={"nobody": 1})(model, NEW)
    with pytest.raises(ValueError, match="must not be called 'all'"):
        make_ranking_scorer("ndcg@3", by={1: "all"})(model, NEW)
