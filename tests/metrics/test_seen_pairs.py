"""Pairs that were seen in training: dropped, counted and said, by every kind of model."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._training import early_stopping
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.metrics import _task, compare, make_ranking_scorer, ranking_report
from sktwotower.metrics._external_ranker import _WantedPairs
from sktwotower.metrics._relevant_pairs import RelevantPairs
from tests.helpers import make_model, make_X, other_pairs

X = make_X()[["user", "item"]]
# Half of the rows are repeats; an unknown user, an unknown item, a user with repeats only.
NEW = pd.concat(
    [
        X[:20],
        other_pairs(make_X(1), X)[["user", "item"]][:20],
        pd.DataFrame({"user": [99, 3, 99], "item": [2, 77, 77]}),
        X[X["user"] == X["user"].iloc[-1]],
    ],
    ignore_index=True,
)
DROPPED = "relevant pairs of X(_val)? .* were seen in training. They are dropped"
TRAINING = "this is a score of training rows"
IGNORED = pytest.mark.filterwarnings(f"ignore:.*{DROPPED}", f"ignore:.*{TRAINING}")
MODELS = [
    make_model(max_iter=1),
    EASERecommender(regularization=1.0),
    ItemKNNRecommender(),
    PopularRecommender(),
]


class Wrapper:
    """A recommender of another package, as far as a scorer can tell."""

    def __init__(self, model):
        self.model = model
        self.n_asked = 0

    def recommend(self, X, *, n_recommendations, exclude_seen, candidates=None):
        self.n_asked += len(X)
        options = {} if candidates is None else {"candidates": candidates}
        return self.model.recommend(
            list(X),
            n_recommendations=n_recommendations,
            exclude_seen=exclude_seen,
            **options,
        )


class Knows(Wrapper):
    @property
    def item_ids_(self):
        return self.model.item_ids_


class Tells(Wrapper):
    def seen_items(self, user_ids):
        return [X["item"][X["user"] == user].tolist() for user in user_ids]


class Refuses(Knows):
    """It raises where fewer items are left than were asked for."""

    def recommend(self, X, *, n_recommendations, exclude_seen):
        ids, _ = super().recommend(
            X, n_recommendations=n_recommendations, exclude_seen=exclude_seen
        )
        if (ids == None).any():  # noqa: E711
            raise ValueError("too few eligible items")
        return ids


def in_plain_python(model, rows, y=None, weights=None, *, candidates=None, k=3):
    """NDCG@k, and the counts, from complete rankings that leave nothing out."""
    y = [1] * len(rows) if y is None else y
    weights = [1] * len(rows) if weights is None else weights
    relevant = [
        (user, item, weight)
        for (user, item), label, weight in zip(rows.values, y, weights, strict=True)
        if label > 0 and weight > 0
    ]
    catalogue = set(model.recommend([-1], n_recommendations=99)[0][0]) - {None}
    if candidates is not None:
        catalogue &= set(candidates)
    seen = set(map(tuple, X.values))
    pairs = {(user, item) for user, item, _ in relevant}
    possible = {(user, item) for user, item in pairs if item in catalogue}
    is_training = bool(possible) and possible <= seen
    left = possible if is_training else possible - seen
    stay = left if is_training else set()
    users = list({user for user, _ in left}) or [-1]
    answers = model.recommend(users, n_recommendations=99, exclude_seen=False)[0]
    values, weight_of_values = [], []
    for user, ranked in zip(users, answers, strict=True):
        wanted = {item for u, item in left if u == user}
        if not wanted:
            break
        hidden = {item for u, item in seen - stay if u == user}
        ranked = [item for item in ranked if item in catalogue and item not in hidden][:k]
        gain = sum(1 / math.log2(r + 2) for r, item in enumerate(ranked) if item in wanted)
        ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted))))
        own = [weight for u, _, weight in relevant if u == user]
        values.append(gain / ideal)
        weight_of_values.append(sum(own) / len(own))
    users = {user for (user, _), weight in zip(rows.values, weights, strict=True) if weight}
    return {
        "ndcg@3": np.average(values, weights=weight_of_values) if values else math.nan,
        "n_users": len(values),
        "n_left_out": len(users) - len(values),
        "n_dropped": len(pairs) - len(left),
        "n_seen": 0 if is_training else len(possible & seen),
    }


@IGNORED
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("candidates", [None, [0, 2, 3, 5, 8]])
def test_in_plain_python(model, candidates):
    model = clone(model).fit(X)
    rng = np.random.RandomState(0)
    y, weights = rng.choice([-1, 0, 1, 2.5], len(NEW)), rng.choice([0, 1, 3.5], len(NEW))
    scorer = make_ranking_scorer("ndcg@3", candidates=candidates, with_counts=True)
    for labels, sample_weight in [(None, None), (y, None), (None, weights), (y, weights)]:
        expected = in_plain_python(model, NEW, labels, sample_weight, candidates=candidates)
        assert expected["n_seen"] > 3
        assert scorer(model, NEW, labels, sample_weight) == pytest.approx(expected)
    assert scorer(model, X) == pytest.approx(
        in_plain_python(model, X, candidates=candidates)
    )


@IGNORED
@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 10)), min_size=1),
    order=st.randoms(use_true_random=False),
)
def test_any_rows_in_any_order(rows, order):
    scorer = make_ranking_scorer("ndcg@3", with_counts=True)
    data = pd.DataFrame(rows, columns=["user", "item"])
    order.shuffle(rows)
    shuffled = pd.DataFrame(rows, columns=["user", "item"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scorer(EASE, data)
        again, known = scorer(EASE, shuffled), scorer(Knows(EASE), data)
    assert found == pytest.approx(in_plain_python(EASE, data), nan_ok=True)
    np.testing.assert_equal(again, found)
    np.testing.assert_equal(known, found)


EASE = EASERecommender(regularization=1.0).fit(X)


# --- the same numbers around a model -------------------------------------------------

METRICS = ["ndcg@3", "recall@2", "map@3", "hit_rate@1", "r_precision", "auc", "coverage@2"]


@pytest.mark.filterwarnings("ignore:1 of 6 candidates are not known items")
@IGNORED
@pytest.mark.filterwarnings("ignore:1 of 6 candidates are not known items")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("candidates", [None, [0, 2, 3, 5, 8, 555]])
def test_wrappers_score_as_the_model(model, exclude_seen, candidates):
    model = clone(model).fit(X)
    known = NEW[NEW["item"] != 77]  # an item that nobody knows is a miss of others
    options = {"exclude_seen": exclude_seen, "candidates": candidates}
    with_counts = make_ranking_scorer(METRICS, with_counts=True, **options)
    short = make_ranking_scorer(METRICS[:4], **options)
    among = None if candidates is None else candidates[:-1]
    bare = make_ranking_scorer(METRICS[:4], exclude_seen=exclude_seen, candidates=among)
    inside = known if candidates is None else known[known["item"].isin(candidates)]
    pipeline = make_pipeline(FunctionTransformer(), model)
    for rows in (NEW, X, X[:30]):
        expected = with_counts(model, rows)
        assert with_counts(pipeline, rows) == expected
        assert with_counts(Knows(model), rows) == pytest.approx(expected)
    for rows in (inside, X, X[:30]):
        if among is not None:
            rows = rows[rows["item"].isin(among)]
        expected = short(model, rows)
        for wrapper in (Wrapper(model), Tells(model)):
            assert bare(wrapper, rows) == pytest.approx(expected)


def test_forms_of_X():
    model = EASERecommender(user_column="user", item_column="item").fit(X)
    array = EASERecommender().fit(X.to_numpy())
    with pytest.warns(UserWarning, match=DROPPED):
        expected = model.score(NEW)
    with pytest.warns(UserWarning, match=DROPPED):
        assert array.score(NEW.to_numpy()) == expected
    with pytest.warns(UserWarning, match=DROPPED):
        assert array.score(NEW.values.tolist()) == expected
    with pytest.warns(UserWarning, match=DROPPED):
        assert model.score(pl.from_pandas(NEW)) == expected


def test_explicit_negatives_are_seen():
    """A rejected item is not recommended, so that it cannot be found later."""
    y = np.ones(len(X))
    y[X["user"] == 0] = -1
    model = PopularRecommender().fit(X, y)
    rejected = X[X["user"] == 0].drop_duplicates()
    rows = pd.concat([rejected, other_pairs(NEW[:40], X)])
    with pytest.warns(UserWarning, match=f"^{len(rejected)} of the {len(rows)} {DROPPED}"):
        scores = make_ranking_scorer("ndcg@3", with_counts=True)(model, rows)
    assert scores["n_seen"] == len(rejected)
    with pytest.warns(UserWarning, match=TRAINING):
        model.score(X[y > 0])
    assert 0 < model.score(X, y) < 1


# --- what is said ---------------------------------------------------------------------


def test_the_share_is_said_at_the_callers_line():
    model = PopularRecommender().fit(X)
    new = other_pairs(make_X(1, n_rows=400), X)[["user", "item"]]
    repeats = X.drop_duplicates()
    report = {"metrics": "ndcg@3", "n_bootstrap": 2}
    calls = [
        lambda rows: model.score(rows),
        lambda rows: make_ranking_scorer("ndcg@3")(model, rows),
        lambda rows: ranking_report(model, rows, **report),
        lambda rows: compare({"one": model, "other": EASE}, rows, **report),
        lambda rows: make_model(max_iter=3).fit(X, X_val=rows),
        lambda rows: make_ranking_scorer("ndcg@3")(Knows(model), rows),
    ]
    message = f"^3 of the {len(new) + 3} {DROPPED}"
    for call in calls:
        call(new)
        with pytest.warns(UserWarning, match=message) as found:
            call(pd.concat([new, repeats[:3]]))
        assert [each.filename for each in found] == [__file__]
        with pytest.warns(UserWarning, match=TRAINING) as found:
            call(repeats[:3])
        assert [each.filename for each in found] == [__file__]
        call(X)
    # Up to one in a hundred is not worth a word, but counted.
    many = pd.DataFrame({"user": np.arange(100, 199), "item": 3})
    few = pd.concat([repeats[:1], many])
    scores = make_ranking_scorer("ndcg@3", with_counts=True)(model, few)
    assert (scores["n_seen"], scores["n_dropped"], scores["n_users"]) == (1, 1, 99)
    assert "exclude_seen=False" in str(found[0].message)


def test_scikit_learn_on_rows_of_training():
    """Scores of training rows, none of which is warned of."""
    distinct = X.drop_duplicates(ignore_index=True)
    cv = KFold(3, shuffle=True, random_state=0)
    options = {"cv": cv, "error_score": "raise"}
    found = cross_validate(EASERecommender(), distinct, return_train_score=True, **options)
    for n, (train, _) in enumerate(cv.split(distinct)):
        rows = distinct.iloc[train]
        expected = EASERecommender().fit(rows).score(rows)
        assert found["train_score"][n] == expected
    _, train, _ = learning_curve(
        EASERecommender(), distinct, None, train_sizes=[0.3, 0.6, 1.0], **options
    )
    assert train[-1].tolist() == found["train_score"].tolist()
    grid = {"regularization": [1.0, 9.0]}
    search = GridSearchCV(EASERecommender(), grid, return_train_score=True, **options)
    search.fit(distinct)
    assert search.score(distinct) == search.best_estimator_.score(distinct)


def test_a_search_does_not_tune_for_memory():
    rng = np.random.RandomState(0)
    noise = pd.DataFrame({"user": np.repeat(np.arange(60), 60)})
    noise["item"] = rng.randint(0, 80, len(noise))
    test = noise.groupby("user").cumcount() >= 48
    cv = PredefinedSplit(np.where(test, 0, -1))
    with pytest.warns(UserWarning, match=DROPPED):
        search = GridSearchCV(
            EASERecommender(), {"regularization": [1.0, 1000.0]}, cv=cv
        ).fit(noise)
    found = search.cv_results_["mean_test_score"]
    by_chance = PopularRecommender().fit(noise[~test])
    with pytest.warns(UserWarning, match=DROPPED):
        expected = by_chance.score(noise[test])
    assert abs(found - expected).max() < 0.08


# --- repeat purchases -----------------------------------------------------------------


def test_repeats_are_found_where_they_are_asked_for():
    """Users who buy the same again: only exclude_seen=False can show it."""
    users = np.repeat(np.arange(20), 3)
    bought = pd.DataFrame({"user": users, "item": users % 10})
    others = pd.DataFrame({"user": np.arange(20), "item": (np.arange(20) + 5) % 10})
    train = pd.concat([bought, others])
    model = EASERecommender(regularization=0.1).fit(train)
    again = bought[::3]
    repeats = make_ranking_scorer("hit_rate@2", exclude_seen=False)
    assert repeats(model, again) == 1
    for other in (Wrapper(model), Knows(model), Tells(model)):
        assert repeats(other, again) == 1
    assert repeats(model, train) == repeats(Knows(model), train)
    report = ranking_report(
        model, again, metrics="hit_rate@2", exclude_seen=False, n_bootstrap=2
    )
    assert report["mean"].item() == 1
    assert report.attrs["n_seen"] == {"all": 0}


# --- other packages -------------------------------------------------------------------


def test_what_was_seen_is_found_out_only_where_it_matters():
    model = PopularRecommender().fit(X)
    rows = other_pairs(make_X(1, n_rows=400), X)[["user", "item"]]
    n_users = rows["user"].nunique()
    found = Knows(model)
    make_ranking_scorer("recall@9")(found, rows)  # every item is found at once
    assert found.n_asked == n_users
    told = Tells(model)
    make_ranking_scorer("recall@1")(told, rows)
    assert told.n_asked == n_users
    asked = Knows(model)
    make_ranking_scorer("recall@1")(asked, rows)
    assert n_users < asked.n_asked <= 2 * n_users  # complete rankings, but no repeats
    plain = Knows(model)
    make_ranking_scorer("recall@1", exclude_seen=False)(plain, rows)
    assert plain.n_asked == n_users


def test_a_recommender_that_refuses_complete_rankings():
    model = PopularRecommender().fit(X)
    rows = other_pairs(NEW[:40], X)
    scorer = make_ranking_scorer("recall@1")
    message = (
        "^Refuses does not say which items a user has seen.*too few eligible items.*"
        r"seen_items\(user_ids\)"
    )
    with pytest.warns(UserWarning, match=message) as found:
        assert scorer(Refuses(model), rows) == scorer(model, rows)
    assert found[0].filename == __file__
    # What it has seen is not known, so that rows of training are misses.
    old = X[X.groupby("user")["item"].transform("nunique") < 9]
    with pytest.warns(UserWarning, match=message):
        assert scorer(Refuses(model), old) == 0
    options = {"metrics": "recall@1", "n_bootstrap": 2}
    with pytest.warns(UserWarning) as found:
        table = compare({"one": model, "other": Refuses(model)}, old, **options)
    assert table["mean"].item() == 0
    assert any("score of training rows" in str(each.message) for each in found)


def test_seen_items_of_a_wrong_length():
    class Wrong(Wrapper):
        def seen_items(self, user_ids):
            return [[1]]

    with pytest.raises(
        TypeError, match=r"Wrong.seen_items returned a list of 1 rows for \d+ users"
    ):
        make_ranking_scorer("recall@1")(Wrong(EASE), X)


def test_activity_of_another_package():
    model = PopularRecommender().fit(X)
    rows = other_pairs(NEW[:40], X)
    scorer = make_ranking_scorer("recall@2", by="activity")
    assert scorer(Tells(model), rows) == scorer(model, rows)


class Lists(Knows):
    """It answers with lists."""

    def recommend(self, X, **options):
        ids, _ = super().recommend(X, **options)
        return [[item for item in row if item is not None] for row in ids]


def test_tuples_are_ids_of_another_package():
    pairs = pd.DataFrame({"user": [1, 1, 2, 2], "item": [(1, 2), (3, 4), (1, 2), (5, 6)]})
    model = PopularRecommender().fit(pairs)
    rows = pd.DataFrame({"user": [1, 1, 2], "item": [(1, 2), (5, 6), (3, 4)]})
    scorer = make_ranking_scorer("recall@1", with_counts=True)
    with pytest.warns(UserWarning, match="^1 of the 3 " + DROPPED):
        expected = scorer(model, rows)
    with pytest.warns(UserWarning, match="^1 of the 3 " + DROPPED):
        assert scorer(Knows(model), rows) == expected
    with pytest.warns(UserWarning, match="^1 of the 3 " + DROPPED):
        assert scorer(Lists(model), rows) == expected


IDS = {
    "int64": np.array([5, 7, 5, 9]),
    "text": np.array(["5", "7", "5", "9"], dtype=object),
    "mixed": np.array([5, "7", 5, 9.5], dtype=object),
    "dates": pd.to_datetime(["2020-01-05", "2020-01-07", "2020-01-05", "2020-01-09"]),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("form", ["array", "objects", "lists", "padded"])
def test_pairs_in_answers_of_every_form(kind, form):
    ids = np.asarray(IDS[kind])
    queries = np.array([0, 1, 2, 2])
    wanted = _WantedPairs.of(RelevantPairs(queries, ids, None), 3)
    answers = ids[[[1, 0], [3, 0], [1, 3]]]
    if form != "array":
        plain = pd.Series(ids).astype(object).to_numpy()
        answers = np.empty((3, 3), dtype=object)
        answers[:, :2] = plain[[[1, 0], [3, 0], [1, 3]]]
    if form == "lists":
        answers = [list(row[:n]) for row, n in zip(answers, (2, 2, 3), strict=True)]
    if form == "objects":
        answers = answers[:, :2]
    assert wanted.of_queries(np.arange(1, 3)).tolist() == [1, 2, 3]
    found = wanted.among(np.arange(4), np.arange(3), answers)
    assert found.tolist() == [True, False, False, True]
    some = wanted.among(np.array([2, 3]), np.array([2]), answers[2:])
    assert some.tolist() == [False, True]


# --- comparisons ----------------------------------------------------------------------


def test_models_are_compared_on_the_same_pairs():
    """Models of different training rows: what one has seen is dropped for both."""
    early, late = X[:60], X
    models = {"early": EASERecommender().fit(early), "late": EASERecommender().fit(late)}
    new = other_pairs(make_X(1), X)[["user", "item"]]
    rows = pd.concat([new, other_pairs(X[60:], early)])
    options = {"metrics": ["ndcg@3", "recall@2"], "n_bootstrap": 5, "random_state": 0}
    with pytest.warns(UserWarning, match=DROPPED) as found:
        table = compare(models, rows, **options)
    assert len(found) == 1
    same = ["model", "metric", "mean", "baseline", "difference", "n_users"]
    pd.testing.assert_frame_equal(table[same], compare(models, new, **options)[same])
    # If nothing is left without them, they stay, and it is said.
    with pytest.warns(UserWarning, match=TRAINING) as found:
        table = compare(models, late, **options)
    assert len(found) == 1
    assert (table["n_users"] == X["user"].nunique()).all()


# --- validation while training ----------------------------------------------------------


def test_validation_rows_are_dropped_in_silence_after_the_first_epoch():
    with pytest.warns(UserWarning, match=DROPPED) as found:
        model = make_model(max_iter=4).fit(X, X_val=NEW)
    assert len(found) == 1
    with pytest.warns(UserWarning, match=DROPPED):
        assert model.validation_scores_[-1] == model.score(NEW)


def test_what_to_do_is_said_to_whom_it_applies():
    model = PopularRecommender().fit(X)
    option = r"To evaluate repeat purchases, set exclude_seen=False\.$"
    for rows in (NEW, X[:20]):  # dropped, and all seen
        with pytest.warns(UserWarning, match=option):
            make_ranking_scorer("ndcg@3")(model, rows)
        with pytest.warns(UserWarning, match=option):
            ranking_report(model, rows, n_bootstrap=2)
        with pytest.warns(
            UserWarning, match=r"make_ranking_scorer with exclude_seen=False\.$"
        ):
            model.score(rows)
        with pytest.warns(UserWarning, match=r"Leave these pairs out of X_val\.$") as found:
            make_model().fit(X, X_val=rows)
        assert not any("exclude_seen" in str(each.message) for each in found)


def test_validation_reads_its_rows_once(monkeypatch):
    calls = []

    def counted(name, function):
        def call(*arguments, **options):
            calls.append(name)
            return function(*arguments, **options)

        return call

    for module, name in [
        (early_stopping, "query_rows"),
        (_task, "query_rows"),
        (StateEvaluation, "other_item_features"),
    ]:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    rows = X.assign(price=X["item"] / 2)
    new = other_pairs(make_X(1), X)[["user", "item"]]
    model = make_model(max_iter=3, item_features=["price"])
    model.fit(rows, X_val=new.assign(price=new["item"] / 2))
    assert len(model.validation_scores_) == 3
    assert sorted(calls) == ["other_item_features", "query_rows"]
    calls.clear()
    make_model(max_iter=3, early_stopping=True, item_features=["price"]).fit(rows)
    assert calls == ["query_rows"]  # held-out rows have the features of training


def test_nothing_relevant_to_validate_on():
    with pytest.raises(ValueError, match="There is nothing to find"):
        make_model().fit(X, X_val=NEW, y_val=np.zeros(len(NEW)))


def test_held_out_rows_of_early_stopping_are_not_seen():
    """They count as seen later, but the model was not trained on them."""

    model = make_model(early_stopping=True, max_iter=2, validation_fraction=0.3)
    fitted = model.fit(X)
    assert len(fitted.validation_scores_) == 2 and 0 < max(fitted.validation_scores_) < 1
