"""Recommenders of other packages are evaluated by the same code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
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


class Answers:
    """A recommender that answers in some form; it may say what was seen."""

    def __init__(self, recommended, seen=lambda n: [[] for _ in range(n)]):
        self.recommended, self.seen = recommended, seen

    def recommend(self, X, *, n_recommendations, exclude_seen):
        return self.recommended(len(X), min(n_recommendations, 25))

    def seen_items(self, user_ids):
        return self.seen(len(user_ids))


def ids(n, k):
    return np.tile(np.arange(1, k + 1), (n, 1))


def scores(n, k):
    return np.tile(1 / np.arange(2, k + 2), (n, 1))


def score(recommended, *seen, rows=TEST):
    return make_ranking_scorer("ndcg@5")(Answers(recommended, *seen), rows)


@pytest.mark.parametrize(
    "recommended",
    [
        lambda n, k: ids(n, k).tolist(),
        lambda n, k: (ids(n, k), scores(n, k)),
        lambda n, k: (ids(n, k).astype(object), np.full((n, k), 3)),
        lambda n, k: (np.column_stack([ids(n, k), [np.nan] * n]), scores(n, k + 1)),
        lambda n, k: pd.Series(list(ids(n, k))),
        lambda n, k: [tuple(row) for row in ids(n, k)],
    ],
)
def test_forms_of_rankings(recommended):
    assert score(recommended) == score(ids) > 0
    assert score(recommended, lambda n: [{99}] * n) == score(ids)


@pytest.mark.parametrize(
    ("recommended", "message"),
    [
        (lambda n, k: None, "a NoneType for 30 users; a scorer needs one row of item ids"),
        (lambda n, k: (), "a tuple of 0 rows for 30"),
        (lambda n, k: dict(enumerate(ids(n, k))), "a dict for 30"),
        (lambda n, k: (row for row in ids(n, k)), "a generator for 30"),
        (lambda n, k: csr_matrix(ids(n, k)), "a csr_matrix for 30"),
        (lambda n, k: pd.DataFrame(ids(n, k)), "a DataFrame of 30 rows for 30"),
        (lambda n, k: ids(n, k)[1:], "a ndarray of 29 rows for 30"),
        (lambda n, k: list(range(n)), "a list of 30 rows, one of them of type int, for"),
        (lambda n, k: ["abc"] * n, "one of them of type str, for"),
        (lambda n, k: [set(row) for row in ids(n, k)], "one of them of type set, for"),
        (lambda n, k: [None] * n, "one of them of type NoneType, for"),
        (
            lambda n, k: [[(item, 0.5) for item in row] for row in ids(n, k).tolist()],
            r"rows of tuple \(such as \(1, 0.5\)\), where item ids of X are of type int",
        ),
        (lambda n, k: np.dstack([ids(n, k), scores(n, k)]), "rows of ndarray"),
        (
            lambda n, k: (scores(n, k), ids(n, k)),
            r"second array has the item ids \(such as 1\) .* scores \(such as 0.5\)",
        ),
        (lambda n, k: (ids(n, k) * 1.0, ids(n, k)), "it must return .ids, scores"),
    ],
)
def test_other_forms_are_refused(recommended, message):
    with pytest.raises(TypeError, match=r"^Answers\.recommend returned .*" + message):
        score(recommended)


@pytest.mark.parametrize(
    ("seen", "form"),
    [
        (lambda n: None, "a NoneType"),
        (lambda n: dict.fromkeys(range(n), [1]), "a dict"),
        (lambda n: csr_matrix(np.ones((n, 3))), "a csr_matrix"),
        (lambda n: [None] * n, "a list of 30 rows, one of them of type NoneType,"),
    ],
)
def test_other_forms_of_seen_items_are_refused(seen, form):
    message = f"^Answers.seen_items returned {form} for 30 users; it must return a list"
    with pytest.raises(TypeError, match=message):
        score(ids, seen)
    with pytest.raises(TypeError, match=message):
        make_ranking_scorer("ndcg@5", by="cold", exclude_seen=False)(
            Answers(ids, seen), TEST
        )


def test_ids_of_another_type():
    of_text = r"'1'\), where those are of type int \(such as \d+\)"
    with pytest.warns(UserWarning, match="one of the relevant items of X: .*" + of_text):
        assert score(lambda n, k: ids(n, k).astype(str)) == 0
    known = Answers(lambda n, k: ids(n, k).astype(str))
    known.item_ids_ = np.arange(1, 26)
    with pytest.warns(UserWarning, match="one of the items of item_ids_: .*" + of_text):
        make_ranking_scorer("ndcg@5")(known, TEST)
    known.item_ids_ = known.item_ids_ + 100  # none of X, but its own
    known.recommended = lambda n, k: ids(n, k) + 100
    with pytest.warns(UndefinedMetricWarning):
        make_ranking_scorer("ndcg@5")(known, TEST)
    with pytest.warns(UserWarning, match="^Answers.seen_items returns ids of type str"):
        assert score(ids, lambda n: [["1"]] * n) == score(ids)


def test_an_item_twice_in_a_row_is_named():
    rows = TEST.assign(item="i" + TEST["item"].astype(str), user=TEST["user"] + 100)
    with pytest.raises(
        ValueError, match=r"returned item 'i7' more than once for user 1\d\d;"
    ):
        score(lambda n, k: [["i7", "i1", "i7"][:k]] * n, rows=rows)


def test_columns_of_ids_are_named_if_there_are_several():
    rows = TEST.assign(time=1, day="a")[["user", "time", "day", "item"]]
    scorer = make_ranking_scorer("ndcg@5", user_column="user", item_column="item")
    assert scorer(Answers(ids), rows) == score(ids)
    with pytest.raises(ValueError, match="has no user_column and no item_column .* pass"):
        score(ids, rows=rows)
    with pytest.raises(ValueError, match="has no item_column that says .*; pass item_col"):
        make_ranking_scorer("ndcg@5", user_column="user")(Answers(ids), rows)
    named = Answers(ids)
    named.user_column, named.item_column = "user", "item"
    assert make_ranking_scorer("ndcg@5")(named, rows) == score(ids)
    positions = rows[["user", "item", "time"]].to_numpy()
    assert score(ids, rows=positions) == score(ids, rows=pd.DataFrame(positions))


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
