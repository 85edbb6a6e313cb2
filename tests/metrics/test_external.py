"""Recommenders of other packages are evaluated by the same code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_validate

from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.metrics import compare, make_ranking_scorer, ranking_report
from sktwotower.model_selection import LastInteractionsSplit


def interactions(seed=0, n=400):
    rng = np.random.RandomState(seed)
    items = rng.zipf(1.3, n).clip(max=25)
    return pd.DataFrame({"user": rng.randint(0, 30, n), "item": items}).drop_duplicates()


X = interactions()
train_rows, test_rows = next(LastInteractionsSplit(n_last=2).split(X))
TRAIN, TEST = X.iloc[train_rows], X.iloc[test_rows]
METRICS = ["ndcg@5", "recall@3", "map@5", "mrr@5", "precision@2", "coverage@3"]


class Popular(BaseEstimator):
    """A recommender with the whole signature that uses scikit-learn alone."""

    def __init__(self, reverse=False):
        self.reverse = reverse

    def fit(self, X, y=None):
        counts = pd.Series(np.asarray(X)[:, 1]).value_counts(sort=False)
        self.order_ = counts.sort_values(ascending=self.reverse, kind="stable")
        self.seen_ = pd.DataFrame(np.asarray(X)).groupby(0)[1].agg(set).to_dict()
        return self

    def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
        ids = np.full((len(X), n_recommendations), None, dtype=object)
        scores = np.full(ids.shape, -np.inf)
        for row, user in enumerate(X):
            hidden = self.seen_.get(user, set()) if exclude_seen else set()
            rank = 0
            for item, count in self.order_.items():
                eligible = candidates is None or item in candidates
                if eligible and item not in hidden and rank < n_recommendations:
                    ids[row, rank], scores[row, rank] = item, count
                    rank += 1
        return ids, scores


@pytest.mark.parametrize("candidates", [None, [1, 2, 5, 9, 13]])
def test_as_the_baseline_of_this_package(candidates):
    external, native = Popular().fit(TRAIN), PopularRecommender().fit(TRAIN)
    ids, _ = native.recommend(TEST["user"], n_recommendations=20)
    theirs, _ = external.recommend(TEST["user"], n_recommendations=20)
    assert theirs.tolist() == ids.tolist()  # also of equal scores
    found = TEST[TEST["item"].isin(TRAIN["item"])]  # the external one has no item_ids_
    names = METRICS if candidates else METRICS[:-1]
    scorer = make_ranking_scorer(names, candidates=candidates)
    assert scorer(external, found) == pytest.approx(scorer(native, found))
    options = {"metrics": "ndcg@5", "candidates": candidates, "random_state": 0}
    reports = [ranking_report(model, found, **options) for model in (external, native)]
    pd.testing.assert_frame_equal(*reports)
    table = compare({"native": native, "external": external}, found, **options)
    assert (table["difference"] == 0).all()


def test_in_scikit_learn():
    scorer = make_ranking_scorer("ndcg@5")
    cv = LastInteractionsSplit(n_last=2)
    found = cross_validate(Popular(), X, scoring=scorer, cv=cv, error_score="raise")
    assert found["test_score"].item() == scorer(Popular().fit(TRAIN), TEST)
    search = GridSearchCV(Popular(), {"reverse": [True, False]}, scoring=scorer, cv=cv)
    assert search.fit(X).best_params_ == {"reverse": False}


def skrecsys():
    return pytest.importorskip("skrecsys.recommendation")


def test_ease_of_skrecsys_equals_ease():
    theirs = skrecsys().EASE(l2_reg=5.0).fit(TRAIN.to_numpy())
    native = EASERecommender(regularization=5.0).fit(TRAIN)
    found = TEST[TEST["item"].isin(TRAIN["item"])]
    scorer = make_ranking_scorer(METRICS)
    assert scorer(theirs, found.to_numpy()) == pytest.approx(scorer(native, found))
    table = compare({"native": native, "external": theirs}, found, n_bootstrap=20)
    assert (table["difference"].abs() < 1e-9).all()
    by_user = make_ranking_scorer("ndcg@5", by="cold", with_counts=True)
    scores = by_user(theirs, found)
    assert scores["n_users[known]"] == scores["n_users"] == found["user"].nunique()


@pytest.mark.parametrize(
    "name",
    ["BM25Recommender", "ItemKNNRecommender", "MostPopularRecommender", "RP3Beta"],
)
def test_recommenders_of_skrecsys(name):
    model = getattr(skrecsys(), name)()
    scores = make_ranking_scorer(METRICS)(model.fit(TRAIN.to_numpy()), TEST.to_numpy())
    assert all(0 < value <= 1 for value in scores.values())
    found = cross_validate(
        model,
        X.to_numpy(),
        scoring=make_ranking_scorer(METRICS),
        cv=LastInteractionsSplit(n_last=2),
        error_score="raise",
    )
    assert found["test_ndcg@5"].item() == pytest.approx(scores["ndcg@5"])


def test_errors_of_skrecsys_are_raised():
    """It refuses unknown users, and rankings with too few items."""
    model = skrecsys().EASE().fit(TRAIN.to_numpy())
    stranger = [[99, TEST["item"].iloc[0]]]
    with pytest.raises(ValueError, match="Unknown user"):
        make_ranking_scorer("ndcg@5")(model, stranger)
    with pytest.raises(ValueError, match="eligible items"):
        make_ranking_scorer("auc")(model, TEST.to_numpy())
