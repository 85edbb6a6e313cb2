"""The scorer, for every kind of recommender, against brute force in plain Python."""

import math
import pickle
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.metrics import _external_ranker, _task, make_ranking_scorer, ndcg

ALL = [
    "ndcg@3",
    "recall@5",
    "precision@2",
    "map@4",
    "mrr@5",
    "hit_rate@2",
    "coverage@2",
]


def interactions(n=60, seed=0, n_users=12, n_items=9):
    """Distinct pairs, and 30 others."""
    pairs = np.random.RandomState(seed).permutation(n_users * n_items)
    users, items = np.divmod(pairs, n_items)
    frame = pd.DataFrame(
        {"user": [f"u{i}" for i in users], "item": [f"i{i}" for i in items]}
    )
    return frame[:n], frame[n : n + 30].reset_index(drop=True)


X, NEW = interactions()


def reorder(frame):
    """A step after which the user is in the second column."""
    return frame[["item", "user"]]


@pytest.fixture(scope="module")
def model():
    return TwoTowerRecommender(embedding_dim=4, max_iter=2, random_state=0).fit(X)


# --- brute force, from the answers of recommend --------------------------------------


def one_user(items, relevant, metric):
    name, k = metric.split("@")
    k = int(k)
    items = items[:k]
    hits = [item in relevant for item in items]
    first = hits.index(True) + 1 if any(hits) else math.inf
    return {
        "ndcg": sum(hit / math.log2(r + 2) for r, hit in enumerate(hits))
        / sum(1 / math.log2(r + 2) for r in range(min(k, len(relevant)))),
        "recall": sum(hits) / len(relevant),
        "precision": sum(hits) / k,
        "map": sum(sum(hits[: r + 1]) / (r + 1) for r in range(len(hits)) if hits[r])
        / min(k, len(relevant)),
        "mrr": 1 / first,
        "hit_rate": float(any(hits)),
    }[name]


def brute_force(model, data, metric, y=None, seen=X, exclude_seen=True):
    y = np.ones(len(data)) if y is None else np.asarray(y)
    data = data[y > 0]
    catalogue = set(model.item_ids_.tolist())
    values, shown = [], set()
    users = data["user"].unique()
    answers, _ = model.recommend(users, n_recommendations=99, exclude_seen=False)
    had = set(seen[["user", "item"]].itertuples(index=False, name=None))
    pairs = set(data[["user", "item"]].itertuples(index=False, name=None))
    pairs = {(user, item) for user, item in pairs if item in catalogue}
    of_training = not exclude_seen or pairs <= had
    for user, ids in zip(users, answers, strict=True):
        relevant = {i for u, i in pairs if u == user and (of_training or (u, i) not in had)}
        if not relevant:
            continue
        stay = pairs if of_training else set()
        hidden = {i for u, i in had - stay if u == user}
        items = [i for i in ids if i is not None and not (exclude_seen and i in hidden)]
        if metric.startswith("coverage"):
            shown |= set(items[: int(metric.split("@")[1])])
        else:
            values.append(one_user(items, relevant, metric))
    if metric.startswith("coverage"):
        return len(shown) / len(catalogue)
    return sum(values) / len(values)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("data", [X, NEW], ids=["training rows", "new rows"])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_by_brute_force(model, metric, data, exclude_seen):
    scorer = make_ranking_scorer(metric, exclude_seen=exclude_seen)
    expected = brute_force(model, data, metric, exclude_seen=exclude_seen)
    value = scorer(model, data)
    assert isinstance(value, float)
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("estimator", [EASERecommender(), PopularRecommender()])
def test_references_by_brute_force(estimator):
    estimator = clone(estimator).fit(X)
    for metric, value in make_ranking_scorer(ALL)(estimator, NEW).items():
        assert value == pytest.approx(brute_force(estimator, NEW, metric)), metric


def test_labels(model):
    y = np.random.RandomState(0).choice([-1, 0, 1, 5], len(NEW))
    for metric in ALL:
        value = make_ranking_scorer(metric)(model, NEW, y)
        assert value == pytest.approx(brute_force(model, NEW, metric, y)), metric


def test_a_list_makes_a_dict_and_a_name_a_number(model):
    many = make_ranking_scorer(ALL)(model, NEW)
    assert list(many) == ALL
    for metric in ALL:
        assert many[metric] == make_ranking_scorer(metric)(model, NEW)
        assert make_ranking_scorer([metric])(model, NEW) == {metric: many[metric]}
        assert make_ranking_scorer((metric,))(model, NEW) == {metric: many[metric]}


def test_cut_offs_of_one_ranking_do_not_disturb_each_other(model):
    both = make_ranking_scorer(["precision@1", "precision@9"])(model, NEW)
    assert both["precision@1"] == make_ranking_scorer("precision@1")(model, NEW)
    large = make_ranking_scorer(["recall@500", "ndcg@500"], exclude_seen=False)(model, NEW)
    assert large["recall@500"] == pytest.approx(1.0)


def test_it_is_the_score_of_the_estimator(model):
    assert make_ranking_scorer("ndcg@10")(model, NEW) == model.score(NEW)


# --- kinds of estimators -------------------------------------------------------------


def test_pipeline_whose_steps_move_columns():
    pipeline = Pipeline(
        [
            ("reorder", FunctionTransformer(reorder)),
            (
                "model",
                TwoTowerRecommender(
                    user_column=1,
                    item_column=0,
                    embedding_dim=4,
                    max_iter=2,
                    random_state=0,
                ),
            ),
        ]
    ).fit(X)
    alone = clone(pipeline[-1]).fit(reorder(X))
    scorer = make_ranking_scorer(ALL)
    assert scorer(pipeline, NEW) == scorer(alone, reorder(NEW))
    # The same as by hand, so that the columns were not swapped twice.
    expected = brute_force(alone, NEW, "ndcg@3")
    assert scorer(pipeline, NEW)["ndcg@3"] == pytest.approx(expected)


def test_pipeline_of_arrays():
    swap = FunctionTransformer(lambda rows: rows[:, ::-1])
    model = PopularRecommender(user_column=1, item_column=0)
    pipeline = make_pipeline(swap, model).fit(X.to_numpy())
    value = make_ranking_scorer("ndcg@3")(pipeline, NEW.to_numpy())
    expected = make_ranking_scorer("ndcg@3")(PopularRecommender().fit(X), NEW)
    assert value == pytest.approx(expected)


def test_pipeline_of_one_step_and_pipelines_in_pipelines(model):
    scorer = make_ranking_scorer("ndcg@3")
    assert scorer(Pipeline([("model", model)]), NEW) == scorer(model, NEW)
    inner = make_pipeline(
        FunctionTransformer(reorder), PopularRecommender(user_column=1, item_column=0)
    )
    outer = make_pipeline(FunctionTransformer(lambda frame: frame), inner).fit(X)
    assert scorer(outer, NEW) == scorer(PopularRecommender().fit(X), NEW)
    skipped = make_pipeline("passthrough", PopularRecommender()).fit(X)
    assert scorer(skipped, NEW) == scorer(PopularRecommender().fit(X), NEW)


def test_fitted_search():
    scorer = make_ranking_scorer("ndcg@3")
    search = GridSearchCV(
        make_pipeline(
            FunctionTransformer(reorder), EASERecommender(user_column=1, item_column=0)
        ),
        {"easerecommender__regularization": [1.0, 100.0]},
        scoring=scorer,
        cv=3,
    ).fit(X)
    assert scorer(search, NEW) == scorer(search.best_estimator_, NEW)
    assert search.score(NEW) == scorer(search, NEW)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_in_cross_validation_by_hand():
    scorer = make_ranking_scorer(["ndcg@3", "recall@5"])
    cv = KFold(3, shuffle=True, random_state=0)
    found = cross_validate(PopularRecommender(), X, scoring=scorer, cv=cv)
    for fold, (train, test) in enumerate(cv.split(X)):
        estimator = PopularRecommender().fit(X.iloc[train])
        for metric in ("ndcg@3", "recall@5"):
            expected = brute_force(estimator, X.iloc[test], metric, seen=X.iloc[train])
            assert found[f"test_{metric}"][fold] == pytest.approx(expected)


def test_multi_metric_search():
    search = GridSearchCV(
        EASERecommender(),
        {"regularization": [1.0, 100.0]},
        scoring=make_ranking_scorer(["ndcg@3", "coverage@3"]),
        refit="coverage@3",
        cv=3,
    ).fit(X)
    assert search.best_score_ == search.cv_results_["mean_test_coverage@3"].max()
    assert "mean_test_ndcg@3" in search.cv_results_


class OnlyRecommends:
    """An object with nothing but ``recommend``, the same items for all users."""

    def __init__(self, order):
        self.order = order

    def recommend(self, X, *, n_recommendations, exclude_seen):
        assert list(X) == list(dict.fromkeys(X))  # each user once
        return [self.order[:n_recommendations] for _ in X]


class External(BaseEstimator):
    """An external estimator with column parameters; short answers are padded."""

    def __init__(self, user_column=0, item_column=1, returns="ids"):
        self.user_column = user_column
        self.item_column = item_column
        self.returns = returns

    def fit(self, X, y=None):
        self.popular_ = X["item"].value_counts().index.to_numpy()
        self.seen_ = X.groupby("user")["item"].agg(set).to_dict()
        return self

    def recommend(self, X, n_recommendations=10, exclude_seen=True):
        rows = []
        for user in X:
            hidden = self.seen_.get(user, set()) if exclude_seen else set()
            row = [item for item in self.popular_ if item not in hidden]
            rows.append((row + [None] * n_recommendations)[:n_recommendations])
        ids = np.array(rows, dtype=object)
        return (ids, np.zeros(ids.shape)) if self.returns == "tuple" else ids


def external_by_hand(estimator, data, metric):
    values, shown = [], set()
    for user in data["user"].unique():
        relevant = set(data["item"][data["user"] == user])
        items = [i for i in estimator.recommend([user], n_recommendations=99)[0] if i]
        shown |= set(items[: int(metric.split("@")[1])])
        if not metric.startswith("coverage"):
            values.append(one_user(items, relevant, metric))
    if metric.startswith("coverage"):
        every = set(np.ravel(estimator.recommend(data["user"].unique(), 5)))
        return len(shown) / len((every | set(data["item"])) - {None})
    return sum(values) / len(values)


@pytest.mark.parametrize("returns", ["ids", "tuple"])
def test_external_estimator(returns):
    estimator = External(returns=returns).fit(X)
    plain = External().fit(X)
    scorer = make_ranking_scorer(ALL)
    for metric, value in scorer(estimator, NEW).items():
        assert value == pytest.approx(external_by_hand(plain, NEW, metric)), metric


def test_external_estimator_with_its_columns():
    estimator = External().fit(X)
    expected = make_ranking_scorer("ndcg@3")(estimator, NEW)
    swapped = reorder(NEW)
    by_name = make_ranking_scorer("ndcg@3", user_column="user", item_column="item")
    assert by_name(estimator, swapped) == expected
    assert make_ranking_scorer("ndcg@3")(External(1, 0).fit(X), swapped) == expected
    found = cross_validate(External(), X, scoring=by_name, cv=3, error_score="raise")
    assert np.isfinite(found["test_score"]).all()


def test_anything_that_recommends():
    data = pd.DataFrame({"user": [1, 1, 2], "item": ["a", "z", "c"]})
    scorer = make_ranking_scorer(["precision@2", "recall@2", "hit_rate@1"])
    found = scorer(OnlyRecommends(["a", "b", "c"]), data)
    assert found == {"precision@2": 0.25, "recall@2": 0.25, "hit_rate@1": 0.5}


def test_short_and_long_rows_of_an_external_recommender():
    class Rows:
        def __init__(self, *rows):
            self.rows = rows

        def recommend(self, X, *, n_recommendations, exclude_seen):
            return list(self.rows)

        def seen_items(self, user_ids):
            return [[] for _ in user_ids]

    data = pd.DataFrame({"user": [1, 2, 2], "item": ["a", "b", "z"]})
    scorer = make_ranking_scorer(["precision@2", "recall@2"])
    expected = {"precision@2": 0.5, "recall@2": 0.75}
    # Longer rows are cut, and missing items count as misses.
    assert scorer(Rows(["c", "a", "b"], ["c", "b", "z"]), data) == expected
    assert scorer(Rows(["a"], ["c", "b"]), data) == expected
    assert scorer(Rows(["a", None], ["b", np.nan]), data) == expected


def test_what_cannot_be_scored(model):
    scorer = make_ranking_scorer("ndcg@3")

    class Silent(BaseEstimator):
        def fit(self, X, y=None):
            self.fitted_ = True
            return self

    with pytest.raises(TypeError, match="Silent has none"):
        scorer(Silent().fit(X), X)
    with pytest.raises(NotFittedError):
        scorer(TwoTowerRecommender(), X)
    with pytest.raises(NotFittedError):
        scorer(make_pipeline(FunctionTransformer(reorder), PopularRecommender()), X)
    with pytest.raises(NotFittedError):
        scorer(GridSearchCV(PopularRecommender(), {}), X)


# --- users that are left out, and bad input ------------------------------------------


def test_users_without_relevant_items_are_left_out(model):
    more = pd.DataFrame(
        {"user": ["lonely", "u0", "u1"], "item": ["unheard", "unheard", "unheard"]}
    )
    scorer = make_ranking_scorer(ALL)
    with_them = scorer(model, pd.concat([NEW, more], ignore_index=True))
    assert with_them == pytest.approx(scorer(model, NEW))
    y = np.r_[np.ones(len(NEW)), 0]
    zero = pd.concat([NEW, pd.DataFrame({"user": ["zero"], "item": ["i0"]})])
    assert scorer(model, zero, y) == pytest.approx(scorer(model, NEW))


def test_users_without_a_training_row(model):
    """They are ranked as the unknown user."""
    strangers = pd.DataFrame({"user": ["new", "new", "newer"], "item": ["i3", "i5", "i3"]})
    data = pd.concat([NEW, strangers], ignore_index=True)
    for estimator in (model, PopularRecommender().fit(X), EASERecommender().fit(X)):
        for rows in (data, strangers):
            for metric, value in make_ranking_scorer(ALL)(estimator, rows).items():
                assert value == pytest.approx(brute_force(estimator, rows, metric)), metric


def test_nothing_relevant(model):
    with pytest.raises(ValueError, match="no row of X is relevant"):
        make_ranking_scorer("ndcg@3")(model, NEW, np.zeros(len(NEW)))
    with pytest.raises(ValueError, match="no row of X is relevant"):
        make_ranking_scorer(["ndcg@3"])(External().fit(X), NEW, np.zeros(len(NEW)))
    unheard = pd.DataFrame({"user": ["u0"], "item": ["unheard"]})
    with pytest.warns(UndefinedMetricWarning):
        found = make_ranking_scorer(ALL)(model, unheard)
    # Coverage is not defined without users either.
    assert [metric for metric, value in found.items() if not math.isnan(value)] == []


def test_sample_weight(model):
    weights = np.random.RandomState(0).choice([0, 1, 4], len(NEW))
    users = NEW["user"].unique()
    values, user_weights = [], []
    for user in users:
        rows = (NEW["user"] == user).to_numpy() & (weights > 0)
        if rows.any():
            values.append(brute_force(model, NEW[rows], "ndcg@3"))
            user_weights.append(weights[rows].mean())
    expected = np.average(values, weights=user_weights)
    found = make_ranking_scorer("ndcg@3")(model, NEW, sample_weight=weights)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("ndgc@10", "ndcg"),
        ("recal@5", "recall"),
        (["ndcg@10", "hitrate@3"], "hit_rate"),
        ("ndcg@0", "k='0' is not a positive integer; write 'ndcg@10'"),
        ("ndcg@x", "k='x' is not a positive integer"),
        ([], "empty"),
    ],
)
def test_unknown_metrics(metrics, message):
    with pytest.raises(ValueError, match=message):
        make_ranking_scorer(metrics)


@pytest.mark.parametrize("value", ["no", None, 0, 1.0, [True]])
@pytest.mark.parametrize("flag", ["exclude_seen", "per_row", "with_counts"])
def test_flags_are_true_or_false(flag, value):
    message = re.escape(f"{flag}={value!r} is neither True nor False.")
    with pytest.raises(TypeError, match=message):
        make_ranking_scorer("ndcg@3", **{flag: value})
    make_ranking_scorer("ndcg@3", **{flag: np.bool_(True)})


def test_did_you_mean():
    with pytest.raises(ValueError, match=r"(?i)did you mean.*ndcg"):
        make_ranking_scorer("ndgc@10")


def test_bad_columns_say_so(model):
    with pytest.raises(ValueError, match="user_column='uid' is not a column"):
        make_ranking_scorer("ndcg@3", user_column="uid")(External().fit(X), NEW)
    with pytest.raises(ValueError, match="missing item id"):
        make_ranking_scorer("ndcg@3")(model, NEW.assign(item=None))
    with pytest.raises(ValueError, match="inconsistent"):
        make_ranking_scorer("ndcg@3")(model, NEW, np.ones(3))


def test_pickling(model):
    scorer = make_ranking_scorer(["ndcg@3", "mrr@5"], user_column="user")
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy(model, NEW) == scorer(model, NEW)
    assert "ndcg@3" in repr(copy)
    assert clone(GridSearchCV(PopularRecommender(), {}, scoring=scorer)).scoring is not None


def test_timestamps_are_not_needed_to_score():
    timed = X.assign(t=np.arange(len(X)))
    model = TwoTowerRecommender(
        timestamp_column="t", embedding_dim=4, max_iter=1, random_state=0
    ).fit(timed)
    scorer = make_ranking_scorer("ndcg@10")
    dated = NEW.assign(t=np.arange(len(NEW)))
    assert scorer(model, NEW) == scorer(model, dated) == model.score(NEW)
    for score in (model.score, lambda rows: scorer(model, rows)):
        with pytest.raises(ValueError, match="30 rows with a missing timestamp in col"):
            score(NEW.assign(t=np.nan))
        with pytest.raises(ValueError, match="'t' of X are datetimes, and cannot be comp"):
            score(NEW.assign(t=pd.Timestamp("2024-01-01")))


# --- every name, callables, candidates -----------------------------------------------

BEYOND = ["serendipity@3", "popularity@3", "novelty@4", "diversity@3", "gini@3"]


def ranked_by_hand(model, data, k=99, among=None):
    """Relevant and eligible items of each user with a relevant one, from recommend."""
    catalogue = set(model.item_ids_.tolist())
    if among is not None:
        catalogue &= set(among)
    users = data["user"].unique()
    answers, _ = model.recommend(users, n_recommendations=99, exclude_seen=False)
    for user, ids in zip(users, answers, strict=True):
        relevant = set(data["item"][data["user"] == user]) & catalogue
        hidden = set(X["item"][X["user"] == user]) - relevant
        items = [i for i in ids if i in catalogue and i not in hidden]
        if relevant:
            yield relevant, items[:k]


def beyond_by_hand(model, data, metric):
    name, k = metric.split("@")
    k = int(k)
    counts = X.groupby("item")["user"].nunique()
    taste = model.item_embeddings_[:, : model.embedding_dim_]  # without the popularity
    vectors = dict(zip(model.item_ids_, taste, strict=True))
    ids = model.item_ids_  # all of them are in the catalogue
    popular = set(counts.reindex(ids).sort_values(ascending=False, kind="stable")[:k].index)
    shown = dict.fromkeys(ids, 0)
    values = []
    for relevant, items in ranked_by_hand(model, data, k):
        for item in items:
            shown[item] += 1
        if name == "serendipity":
            values.append(len((relevant & set(items)) - popular) / k)
        elif name == "popularity":
            values.append(np.mean([counts[item] for item in items]))
        elif name == "novelty":
            values.append(
                np.mean([-math.log2(counts[item] / counts.sum()) for item in items])
            )
        elif len(items) > 1:
            unit = np.array([vectors[i] / np.linalg.norm(vectors[i]) for i in items])
            cosines = (unit @ unit.T)[~np.eye(len(items), dtype=bool)]
            values.append(1 - cosines.mean())
    if name == "gini":
        of_items = np.array(list(shown.values()))
        differences = np.abs(of_items[:, None] - of_items).sum()
        return differences / (2 * len(of_items) * of_items.sum())
    return np.mean(values)


@pytest.mark.parametrize("metric", BEYOND)
@pytest.mark.parametrize("data", [X, NEW], ids=["training rows", "new rows"])
def test_beyond_accuracy_by_hand(model, metric, data):
    expected = beyond_by_hand(model, data, metric)
    assert make_ranking_scorer(metric)(model, data) == pytest.approx(expected, rel=1e-5)


def test_without_a_cut_off(model):
    auc, r_precision = [], []
    for relevant, items in ranked_by_hand(model, NEW):
        others = [i for i in items if i not in relevant]
        right = [items.index(a) < items.index(b) for a in relevant for b in others]
        if right:
            auc.append(np.mean(right))
        first = set(items[: len(relevant)])
        r_precision.append(len(first & relevant) / len(relevant))
    found = make_ranking_scorer(["auc", "r_precision"])(model, NEW)
    assert found == pytest.approx(
        {"auc": np.mean(auc), "r_precision": np.mean(r_precision)}
    )


def test_blocks_of_users_are_one_evaluation(model, monkeypatch):
    metrics = [*ALL, *BEYOND, "auc", "r_precision"]
    for estimator in (model, External().fit(X)):
        names = metrics if estimator is model else ALL
        whole = make_ranking_scorer(names)(estimator, NEW)
        with monkeypatch.context() as patch:
            patch.setattr(_task, "_BLOCK_SIZE", 20)
            patch.setattr(_external_ranker, "_BLOCK_SIZE", 20)
            assert make_ranking_scorer(names)(estimator, NEW) == pytest.approx(whole)


POINTWISE = ["roc_auc", "pr_auc", "neg_log_loss", "balanced_accuracy"]
LABELS = np.random.RandomState(5).randint(0, 2, len(NEW))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimator", ["two towers", "popular", "external"])
def test_pointwise_is_scikit_learn_on_predict(model, estimator, weighted):
    class Predicts(External):
        def predict(self, X):
            return X["item"].str[1:].astype(float).to_numpy() - 4

    fitted = {
        "two towers": model,
        "popular": PopularRecommender().fit(X),
        "external": Predicts().fit(X),
    }[estimator]
    scores = fitted.predict(NEW).astype(float)
    weights = np.random.RandomState(0).choice([0, 1, 3], len(NEW)) if weighted else None
    chances = 1 / (1 + np.exp(-scores / getattr(fitted, "temperature_", 1)))
    expected = {
        "roc_auc": roc_auc_score(LABELS, scores, sample_weight=weights),
        "pr_auc": average_precision_score(LABELS, scores, sample_weight=weights),
        "neg_log_loss": -log_loss(LABELS, chances, sample_weight=weights),
        "balanced_accuracy": balanced_accuracy_score(
            LABELS, chances > 0.5, sample_weight=weights
        ),
    }
    scorer = make_ranking_scorer(POINTWISE)
    assert scorer(fitted, NEW, LABELS, weights) == pytest.approx(expected)
    both = make_ranking_scorer(["roc_auc", "ndcg@3"])(fitted, NEW, LABELS, weights)
    assert list(both) == ["roc_auc", "ndcg@3"]
    assert both["roc_auc"] == pytest.approx(expected["roc_auc"])


@pytest.mark.parametrize("y", [None, np.ones(len(NEW)), np.zeros(len(NEW))])
def test_pointwise_needs_both_classes(model, y):
    with pytest.raises(ValueError, match="'roc_auc' needs rows of both classes"):
        make_ranking_scorer("roc_auc")(model, NEW, y)


def third(ranked, relevant):
    """A metric of the caller's: how many of the first three items are relevant."""
    dense = relevant.toarray()
    return [
        sum(dense[user, item] for item in row[:3] if item >= 0)
        for user, row in enumerate(ranked)
    ]


def test_callables(model):
    scorer = make_ranking_scorer(third)
    assert scorer(model, NEW) == pytest.approx(3 * brute_force(model, NEW, "precision@3"))
    many = make_ranking_scorer([third, "ndcg@3", partial(ndcg, k=2)])
    found = many(model, NEW)
    assert list(found) == ["third", "ndcg@3", "ndcg"]
    assert found["third"] == scorer(model, NEW)
    assert found["ndcg"] == make_ranking_scorer("ndcg@2")(model, NEW)
    named = {"a": lambda ranked, relevant: ranked[:, 0] * 0.0 + 7, "b": "recall@5"}
    assert make_ranking_scorer(named)(model, NEW)["a"] == 7
    assert make_ranking_scorer(named)(External().fit(X), NEW)["a"] == 7
    pickle.loads(pickle.dumps(many))


@pytest.mark.parametrize(("n_ranked", "width"), [(1, 1), (4, 4), (500, 9)])
def test_what_a_callable_sees(model, n_ranked, width):
    def look(ranked, relevant):
        assert ranked.shape == (NEW["user"].nunique(), width)
        assert relevant.shape == (len(ranked), 9)
        assert set(relevant.data) == {1.0}
        return np.full(len(ranked), np.nan)

    scorer = make_ranking_scorer([look, "ndcg@300"], n_ranked=n_ranked)
    found = scorer(model, NEW)
    assert math.isnan(found["look"])
    assert found["ndcg@300"] == make_ranking_scorer("ndcg@300")(model, NEW)


def test_bad_callables(model):
    with pytest.raises(ValueError, match=r"Metric 'bad' returned shape \(\) for"):
        make_ranking_scorer({"bad": lambda ranked, relevant: 1.0})(model, NEW)
    with pytest.raises(ValueError, match="Two metrics are called 'third'"):
        make_ranking_scorer([third, third])
    with pytest.raises(TypeError, match="metric=3 is not a string"):
        make_ranking_scorer([3])
    with pytest.raises(ValueError, match="n_ranked=0 must be at least 1"):
        make_ranking_scorer(third, n_ranked=0)


def test_candidates(model):
    among = ["i1", "i3", "i4", "i8", "unheard", "i1"]
    before = make_ranking_scorer("recall@9")(model, NEW)
    scorer = make_ranking_scorer(
        ["precision@2", "recall@3", "coverage@4"], candidates=among
    )
    precision, recall, shown = [], [], set()
    for relevant, items in ranked_by_hand(model, NEW, among=among):
        precision.append(len(relevant & set(items[:2])) / 2)
        recall.append(len(relevant & set(items[:3])) / len(relevant))
        shown |= set(items)
    expected = [np.mean(precision), np.mean(recall), len(shown) / 4]
    with pytest.warns(UserWarning, match="1 of 5 candidates are not known items"):
        scores = scorer(model, NEW)
    assert list(scores.values()) == pytest.approx(expected)
    assert make_ranking_scorer("recall@9")(model, NEW) == before  # of the catalogue
    with pytest.raises(ValueError, match="None of the 1 candidates is a known item"):
        make_ranking_scorer("ndcg@3", candidates=["unheard"])(model, NEW)


@pytest.mark.parametrize(
    ("candidates", "got"),
    [
        (X, "a DataFrame"),
        ({1: [2, 3]}, "a dict"),
        ([[1, 2], [3]], "a list of lists"),
        (pd.Series([[1, 2], [3]], index=[7, 8]), "a Series of lists"),
        (X.groupby(X.columns[0])[X.columns[1]], "a Series of lists"),
        (np.ones((2, 2)), "a 2-D ndarray"),
        (sp.csr_matrix(np.ones((2, 2))), "a csr_matrix"),
    ],
)
def test_candidates_are_for_all_users(candidates, got):
    model = PopularRecommender().fit(X)
    message = f"candidates must be item ids for all users, in one dimension; got {got}. A "
    with pytest.raises(TypeError, match=message):
        make_ranking_scorer("ndcg@3", candidates=candidates)(model, NEW)


def test_candidates_that_are_no_ids():
    model = PopularRecommender().fit(X)
    with pytest.raises(ValueError, match="candidates must be item ids in one dimension"):
        make_ranking_scorer("ndcg@3", candidates="i1")(model, NEW)
    with pytest.raises(ValueError, match="candidates has .*missing item id"):
        make_ranking_scorer("ndcg@3", candidates=["i1", None])(model, NEW)


def test_candidates_of_an_external_estimator():
    class Chooses(External):
        def recommend(self, X, n_recommendations=10, exclude_seen=True, candidates=None):
            self.popular_ = np.array([i for i in self.popular_ if i in set(candidates)])
            return super().recommend(X, n_recommendations, exclude_seen)

    among = ["i1", "i3", "i4"]
    scorer = make_ranking_scorer(["recall@50", "coverage@3", "auc"], candidates=among)
    found = scorer(Chooses().fit(X), X)
    assert found["recall@50"] == 1  # rows of training stay in the ranking
    assert 0 < found["coverage@3"] <= 1
    assert scorer(Chooses().fit(X), NEW) == pytest.approx(
        make_ranking_scorer(["recall@50", "coverage@3", "auc"], candidates=among)(
            PopularRecommender().fit(X), NEW
        )
    )


def test_metrics_that_need_attributes_of_an_external_estimator():
    external = External().fit(X)
    with pytest.raises(TypeError, match="'roc_auc' needs a score .* External has no pred"):
        make_ranking_scorer("roc_auc")(external, NEW, LABELS)
    with pytest.raises(TypeError, match="External has no item vectors, which 'diversity'"):
        make_ranking_scorer("diversity@3")(external, NEW)
    with pytest.raises(TypeError, match="External does not say how often an item"):
        make_ranking_scorer("novelty@3")(external, NEW)
    with pytest.raises(TypeError, match="External has no item_ids_, so its complete"):
        make_ranking_scorer("auc")(external, NEW)
    with pytest.raises(TypeError, match="EASERecommender has no item vectors"):
        make_ranking_scorer("diversity@3")(EASERecommender().fit(X), NEW)
    external.item_ids_ = np.array(sorted(X["item"].unique()))
    external.item_counts_ = X.groupby("item")["user"].nunique()[external.item_ids_]
    external.item_embeddings_ = np.eye(9)
    found = make_ranking_scorer(["diversity@3", "popularity@3", "auc"])(external, NEW)
    assert found["diversity@3"] == pytest.approx(1)
    first = make_ranking_scorer("popularity@1", exclude_seen=False)(external, NEW)
    assert first == external.item_counts_[external.popular_[0]]


# --- functions and searches of scikit-learn that take a scorer -----------------------

TINY = TwoTowerRecommender(embedding_dim=4, max_iter=1, batch_size=64, random_state=0)
ONE, TWO = make_ranking_scorer("ndcg@5"), make_ranking_scorer(["ndcg@5", "auc"])


def test_cross_validate():
    found = cross_validate(TINY, X, scoring=TWO, cv=2, error_score="raise")
    assert np.isfinite(found["test_ndcg@5"]).all() and np.isfinite(found["test_auc"]).all()


def test_cross_validate_on_labels():
    y = np.random.RandomState(0).randint(0, 2, len(X))
    scorer = make_ranking_scorer(["ndcg@5", "roc_auc", "neg_log_loss"])
    found = cross_validate(TINY, X, y, scoring=scorer, cv=2, error_score="raise")
    assert np.isfinite(found["test_roc_auc"]).all()
    assert (found["test_neg_log_loss"] < 0).all()


@pytest.mark.parametrize("refit", ["ndcg@5", "auc"])
def test_grid_search(refit):
    grid = {"temperature": [0.1, 0.5]}
    search = GridSearchCV(TINY, grid, scoring=TWO, refit=refit, cv=2, error_score="raise")
    search.fit(X)
    assert search.best_score_ == search.cv_results_[f"mean_test_{refit}"].max()
    assert search.score(NEW) == TWO(search, NEW)[refit]


def test_randomized_search():
    search = RandomizedSearchCV(
        TINY,
        {"learning_rate": [0.01, 0.03, 0.1]},
        n_iter=2,
        scoring=ONE,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(X)
    assert np.isfinite(search.best_score_)
    assert search.score(NEW) == ONE(search.best_estimator_, NEW)


def test_halving_search_over_epochs():
    search = HalvingGridSearchCV(
        TINY,
        {"temperature": [0.1, 0.5]},
        resource="max_iter",
        min_resources=1,
        max_resources=2,
        factor=2,
        scoring=ONE,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(X)
    assert search.n_resources_ == [1, 2]
    assert search.best_estimator_.n_iter_ == 2
    assert search.score(NEW) == ONE(search.best_estimator_, NEW)


@pytest.mark.filterwarnings(
    "ignore:OptunaSearchCV is experimental",
    "ignore:`optuna.terminator` module has been",
    "ignore:The OptunaSearchCV or classes",  # with scikit-learn 1.6
)
def test_optuna():
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration.sklearn")
    search = integration.OptunaSearchCV(
        TINY,
        {"temperature": optuna.distributions.FloatDistribution(0.05, 1.0, log=True)},
        scoring=ONE,
        cv=2,
        n_trials=2,
        random_state=0,
        error_score="raise",
    ).fit(X)
    trials = search.study_.trials_dataframe()
    assert search.best_score_ == trials["value"].max()
    temperature = search.best_params_["temperature"]
    by_hand = clone(TINY).set_params(temperature=temperature)
    scores = cross_validate(by_hand, X, scoring=ONE, cv=2)["test_score"]
    assert search.best_score_ == pytest.approx(scores.mean())
    assert search.score(NEW) == ONE(search, NEW) == ONE(search.best_estimator_, NEW)


def test_learning_curve():
    sizes, train, test = learning_curve(
        TINY, X, None, train_sizes=[0.5, 1.0], cv=2, scoring=ONE, error_score="raise"
    )
    assert sizes.tolist() == [15, 30]
    assert np.isfinite(train).all() and np.isfinite(test).all()


def test_validation_curve():
    train, test = validation_curve(
        TINY,
        X,
        None,
        param_name="embedding_dim",
        param_range=[2, 4],
        cv=2,
        scoring=ONE,
        error_score="raise",
    )
    assert train.shape == test.shape == (2, 2)
    assert np.isfinite(train).all() and np.isfinite(test).all()


def test_permutation_importance():
    noisy = X.assign(noise=np.arange(len(X)))
    model = clone(TINY).fit(noisy)
    # Among shuffled users and items there are pairs of training.
    with pytest.warns(UserWarning, match="relevant pairs of X .* were seen in training"):
        found = permutation_importance(
            model, noisy, None, scoring=ONE, n_repeats=2, random_state=0
        )
    assert found.importances.shape == (3, 2)
    assert not found.importances[2].any()
    with pytest.warns(UserWarning, match="were seen in training"):
        several = permutation_importance(
            model, noisy, None, scoring=TWO, n_repeats=2, random_state=0
        )
    np.testing.assert_array_equal(several["ndcg@5"].importances, found.importances)


@pytest.mark.parametrize("metric", ["auc", "r_precision", "diversity@3", "novelty@3"])
def test_early_stopping_on_any_ranking_metric(metric):
    model = clone(TINY).set_params(
        early_stopping=True, validation_fraction=0.3, validation_metric=metric
    )
    assert np.isfinite(model.fit(X).validation_scores_).all()


def test_early_stopping_on_labels():
    y = np.random.RandomState(0).randint(0, 2, len(X))
    model = clone(TINY).set_params(validation_metric="roc_auc")
    model.fit(X, y, X_val=X, y_val=y)
    assert model.validation_scores_ == [make_ranking_scorer("roc_auc")(model, X, y)]
    with pytest.raises(ValueError, match="'roc_auc' needs rows of both classes"):
        model.fit(X, y, X_val=X)


def test_candidates_bring_in_items_that_only_the_table_has():
    table = pd.DataFrame({"item": [f"i{i}" for i in range(12)], "kind": list("abc") * 4})
    model = TwoTowerRecommender(
        user_column="user",
        item_column="item",
        item_table=table,
        embedding_dim=4,
        max_iter=1,
        random_state=0,
    ).fit(X)
    cold = pd.DataFrame({"user": ["u1", "nobody"], "item": ["i10", "i11"]})
    with pytest.warns(UndefinedMetricWarning):
        make_ranking_scorer("recall@3")(model, cold)
    among = ["i3", "i10", "i11"]
    scorer = make_ranking_scorer(["recall@3", "coverage@3", "mrr@3"], candidates=among)
    found = scorer(model, cold)
    assert (found["recall@3"], found["coverage@3"]) == (1, 1)
    ids, _ = model.recommend(
        ["u1", "nobody"], n_recommendations=3, candidates=among, exclude_seen=False
    )
    hidden = set(X["item"][X["user"] == "u1"])
    first = [item for item in ids[0] if item not in hidden].index("i10") + 1
    second = ids[1].tolist().index("i11") + 1
    assert found["mrr@3"] == pytest.approx((1 / first + 1 / second) / 2)
