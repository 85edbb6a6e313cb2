"""With which row's features a user is asked, and rows that are asked for themselves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._data.interactions import Interactions
from sktwotower.baselines import PopularRecommender
from sktwotower.metrics import compare, make_ranking_scorer, ranking_report
from sktwotower.metrics._query_rows import (
    keys_in_groups,
    most_frequent,
    query_rows,
    sorted_codes,
)
from tests.helpers import make_model

NAMES = {"user_column": "user", "item_column": "item"}


def daytimes(seed=0, n=600, n_users=20):
    """In the morning users take the items 0 to 9, in the evening those from 10 to 19."""
    rng = np.random.RandomState(seed)
    data = pd.DataFrame({"user": rng.randint(0, n_users, n), "time": np.arange(n)})
    data["daytime"] = rng.choice(["am", "pm"], n)
    data["item"] = rng.randint(0, 10, n) + 10 * (data["daytime"] == "pm")
    return data


DATA = daytimes()
TRAIN, TEST = DATA[:480], DATA[480:]
REPEATS = {"exclude_seen": False}


def fit(**parameters):
    parameters = NAMES | {"user_features": ["daytime"], "max_iter": 10} | parameters
    return make_model(mask_known_positives=False, embedding_dim=8, **parameters).fit(TRAIN)


@pytest.fixture(scope="module")
def dated():
    return fit(timestamp_column="time")


@pytest.fixture(scope="module")
def undated():
    return fit()


def ndcg_of(model, features, wanted, k=10):
    """NDCG@k of one query, from recommend."""
    ids, _ = model.recommend(features, n_recommendations=k, exclude_seen=False)
    gain = sum(1 / math.log2(r + 2) for r, item in enumerate(ids[0]) if item in wanted)
    return gain / sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted))))


# --- one query a user ----------------------------------------------------------------


def test_the_earliest_row_with_timestamps(dated):
    scorer = make_ranking_scorer("ndcg@10", **REPEATS)
    values = []
    for _, rows in TEST.groupby("user"):
        earliest = rows.loc[[rows["time"].idxmin()], ["user", "daytime"]]
        values.append(ndcg_of(dated, earliest, set(rows["item"])))
    expected = pytest.approx(np.mean(values))
    assert scorer(dated, TEST) == expected
    assert scorer(dated, TEST[::-1]) == expected
    # An earlier row that is not relevant does not count.
    early = TEST.assign(time=-TEST["time"], daytime="never seen")
    both, y = pd.concat([early, TEST]), np.repeat([0, 1], len(TEST))
    assert scorer(dated, both, y) == expected


def test_the_most_frequent_features_without_timestamps(dated, undated):
    scorer = make_ranking_scorer("ndcg@10", **REPEATS)
    without = TEST.drop(columns="time")
    for model, data in ((undated, TEST), (undated, without), (dated, without)):
        values = []
        for user, rows in data.groupby("user"):
            counts = rows["daytime"].value_counts()
            chosen = "am" if counts.get("am", 0) >= counts.get("pm", 0) else "pm"
            query = pd.DataFrame({"user": [user], "daytime": [chosen]})
            values.append(ndcg_of(model, query, set(rows["item"])))
        for rows in (data, data[::-1], data.sample(frac=1, random_state=0)):
            assert scorer(model, rows) == pytest.approx(np.mean(values))


def test_rows_of_the_same_time(dated):
    """They are chosen from as without timestamps."""
    at_once = TEST.assign(time=7)
    scorer = make_ranking_scorer("ndcg@10", **REPEATS)
    expected = scorer(dated, TEST.drop(columns="time"))
    assert scorer(dated, at_once) == scorer(dated, at_once[::-1]) == expected


FEATURES = st.sampled_from(["am", "pm", None])


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 22), st.integers(0, 21), FEATURES, st.integers(0, 2)),
        min_size=1,
        max_size=30,
    ),
    seed=st.integers(0, 99),
)
@pytest.mark.filterwarnings("ignore:.*were seen in training", "ignore:No user has a rel")
def test_the_order_of_rows_never_changes_a_score(dated, rows, seed):
    data = pd.DataFrame(rows, columns=["user", "item", "daytime", "time"])
    other = data.sample(frac=1, random_state=seed)
    for options in ({}, {"per_row": True} | REPEATS):
        scorer = make_ranking_scorer(["ndcg@3", "auc", "coverage@2"], **options)
        found, shuffled = scorer(dated, data), scorer(dated, other)
        assert shuffled == pytest.approx(found, rel=1e-12, nan_ok=True)
    np.testing.assert_equal(dated.score(other), dated.score(data))


def test_validation_asks_with_the_earliest_row():
    parameters = NAMES | {"user_features": ["daytime"], "timestamp_column": "time"}
    new = TEST.drop_duplicates(["user", "item"])
    new = new[
        ~new[["user", "item"]]
        .apply(tuple, axis=1)
        .isin(set(TRAIN[["user", "item"]].itertuples(index=False, name=None)))
    ]
    model = make_model(**parameters).fit(TRAIN, X_val=new)
    again = make_model(**parameters).fit(TRAIN, X_val=new[::-1])
    assert model.validation_scores_ == again.validation_scores_
    assert model.validation_scores_[-1] == model.score(new)


def test_polars(dated):
    for per_row in (False, True):
        scorer = make_ranking_scorer("ndcg@10", per_row=per_row, **REPEATS)
        assert scorer(dated, pl.from_pandas(TEST)) == scorer(dated, TEST)


def test_arrays():
    columns = ["user", "item", "time", "daytime"]
    array = TRAIN[columns].to_numpy()
    model = make_model(timestamp_column=2, user_features=[3]).fit(array)
    named = make_model(**NAMES, timestamp_column="time", user_features=["daytime"])
    named.fit(TRAIN[columns])
    for per_row in (False, True):
        scorer = make_ranking_scorer("ndcg@10", per_row=per_row, **REPEATS)
        expected = scorer(named, TEST)
        assert scorer(model, TEST[columns].to_numpy()) == pytest.approx(expected)
        assert scorer(model, TEST[columns].to_numpy()[::-1]) == pytest.approx(expected)


def test_a_missing_time_is_said(dated):
    with pytest.raises(ValueError, match="missing timestamp in column 'time'"):
        dated.score(TEST.assign(time=np.nan))


# --- a query each row ----------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_each_row_with_its_own_features(dated, weighted):
    weights = np.random.RandomState(0).choice([0.0, 1.0, 3.0], len(TEST))
    weights = weights if weighted else np.ones(len(TEST))
    values, of_users = [], []
    for _, rows in TEST.assign(weight=weights).query("weight > 0").groupby("user"):
        own = [
            ndcg_of(dated, rows[["user", "daytime"]].iloc[[n]], {rows["item"].iloc[n]})
            for n in range(len(rows))
        ]
        values.append(np.average(own, weights=rows["weight"]))
        of_users.append(rows["weight"].mean())
    scorer = make_ranking_scorer("ndcg@10", per_row=True, **REPEATS)
    found = scorer(dated, TEST, None, weights if weighted else None)
    assert found == pytest.approx(np.average(values, weights=of_users))
    report = ranking_report(
        dated,
        TEST,
        sample_weight=weights if weighted else None,
        metrics="ndcg@10",
        per_row=True,
        n_bootstrap=2,
        **REPEATS,
    )
    assert report["mean"].item() == pytest.approx(found)


def test_context_decides(dated):
    """Rows with the wrong context are not found."""
    scorer = make_ranking_scorer("recall@10", per_row=True, **REPEATS)
    assert scorer(dated, TEST) > 0.95
    wrong = TEST.assign(daytime=TEST["daytime"].map({"am": "pm", "pm": "am"}))
    assert scorer(dated, wrong) < 0.1


def test_metrics_and_counts_of_rows(dated):
    names = ["hit_rate@1", "auc", "r_precision", "coverage@3", "novelty@2", "diversity@3"]
    scorer = make_ranking_scorer(names, per_row=True, with_counts=True, **REPEATS)
    strangers = pd.DataFrame({"user": [50, 0], "item": [3, 99], "daytime": "am", "time": 0})
    scores = scorer(dated, pd.concat([TEST, strangers]))
    assert scores["n_users"] == TEST["user"].nunique() + 1
    assert scores["n_dropped"] == 1
    assert scores["hit_rate@1"] == scores["r_precision"]  # one relevant item a row
    assert 0.3 < scores["coverage@3"] < 1
    seen = make_ranking_scorer("ndcg@10", per_row=True, with_counts=True)
    with pytest.warns(UserWarning, match="were seen in training. They are dropped"):
        scores = seen(dated, TEST)
    pairs = set(TRAIN[["user", "item"]].itertuples(index=False, name=None))
    n_seen = sum(pair in pairs for pair in zip(TEST["user"], TEST["item"], strict=True))
    assert scores["n_seen"] == scores["n_dropped"] == n_seen


class OfRows:
    """A recommender of another package that is asked by rows."""

    def __init__(self, model):
        self.model = model
        self.item_ids_ = model.item_ids_

    def recommend(self, X, *, n_recommendations, exclude_seen):
        return self.model.recommend(
            X, n_recommendations=n_recommendations, exclude_seen=exclude_seen
        )


class OfIds(OfRows):
    def recommend(self, X, *, n_recommendations, exclude_seen):
        return [self.item_ids_[:n_recommendations] for _ in list(X)]


@pytest.mark.filterwarnings("ignore:.*were seen in training")
def test_rows_of_another_package(dated):
    for options in (REPEATS, {}):
        scorer = make_ranking_scorer(
            ["ndcg@3", "recall@2"],
            per_row=True,
            user_column="user",
            item_column="item",
            with_counts=True,
            **options,
        )
        assert scorer(OfRows(dated), TEST) == pytest.approx(scorer(dated, TEST))
    weights = np.arange(len(TEST)) % 3
    expected = scorer(dated, TEST, None, weights)
    assert scorer(OfRows(dated), TEST, None, weights) == pytest.approx(expected)
    table = compare(
        {"own": dated, "other": OfRows(dated)},
        TEST,
        metrics="ndcg@3",
        user_column="user",
        item_column="item",
        per_row=True,
        n_bootstrap=2,
    )
    assert table["difference"].abs().max() < 1e-12
    with pytest.raises(TypeError, match=r"OfIds.recommend returned .* rows of X \(per_row"):
        scorer(OfIds(dated), TEST)


@pytest.mark.filterwarnings("ignore:.*were seen in training")
def test_users_in_the_index_of_rows_of_another_package(dated):
    """They are a column of the rows that are asked with, and predicted."""

    class Reads(OfRows):
        def recommend(self, X, **options):
            assert {"user", "item", "daytime"} <= set(X.columns)
            return super().recommend(X, **options)

        def predict(self, X):
            return self.model.predict(X[["user", "item", "daytime", "time"]])

    options = {"user_column": "user", "item_column": "item"}
    scorer = make_ranking_scorer("ndcg@3", per_row=True, **options, **REPEATS)
    indexed = TEST.set_index("user")
    weights = np.arange(len(TEST)) % 3
    for weight in (None, weights):
        expected = scorer(Reads(dated), TEST, None, weight)
        assert scorer(Reads(dated), indexed, None, weight) == pytest.approx(expected)
    report = {"metrics": "ndcg@3", "per_row": True, "n_bootstrap": 2} | options
    reports = [
        ranking_report(Reads(dated), rows, random_state=0, **report)
        for rows in (TEST, indexed)
    ]
    pd.testing.assert_frame_equal(*reports)
    y = TEST["item"] % 2
    auc = make_ranking_scorer("roc_auc", **options)
    assert auc(Reads(dated), indexed, y) == pytest.approx(auc(Reads(dated), TEST, y))


def test_without_features_a_row_is_a_query_too():
    model = PopularRecommender(**NAMES).fit(TRAIN)
    best, _ = model.recommend([0], n_recommendations=5, exclude_seen=False)
    hits = TEST["item"].isin(best[0]).groupby(TEST["user"]).mean()
    scorer = make_ranking_scorer("recall@5", per_row=True, **REPEATS)
    assert scorer(model, TEST) == pytest.approx(hits.mean())


# --- keys of rows --------------------------------------------------------------------


def test_keys_of_rows_are_by_value():
    frame = pd.DataFrame(
        {
            "number": [2.0, 1.0, np.nan, 2.0, np.nan, 1.0],
            "text": ["b", "a", None, "b", None, "a"],
            "list": [[1, 2], [1], None, [1, 2], None, [2]],
            "set": [{1, "x"}, {2}, set(), {"x", 1}, set(), {2}],
            "array": [np.arange(2)] * 6,
        }
    )
    one_group = [np.zeros(len(frame))]
    keys = keys_in_groups(frame, one_group)
    assert keys[0] == keys[3] and keys[2] == keys[4]
    assert len(set(keys)) == 4
    assert keys[1] < keys[5] < keys[0] and keys[2] < keys[1]
    categories = frame[["text"]].astype("category")
    expected = keys_in_groups(frame[["text"]], one_group)
    assert (keys_in_groups(categories, one_group) == expected).all()


def test_ids_of_several_types_have_an_order():
    ids = np.array([3, "b", (1, 2), "a", 3, None], dtype=object)[:5]
    codes, distinct = sorted_codes(ids)
    assert [distinct[code] for code in codes] == ids.tolist()
    again, same = sorted_codes(ids[::-1])
    assert list(same) == list(distinct) and (again[::-1] == codes).all()


def test_labels_of_users():
    labels = np.array(["x", "y", "y", "b", "a", None], dtype=object)
    groups = np.array([0, 0, 0, 2, 2, 3])
    assert most_frequent(groups, labels, 4).tolist() == ["y", None, "a", None]


def brute_force_rows(data, per_row):
    """The rows that are asked with, from loops over the groups; features as one text."""
    key = data["kind"].astype(object).map(lambda v: "" if pd.isna(v) else v)
    if per_row:
        order = sorted(data.index, key=lambda i: (data["user"][i], data["item"][i], key[i]))
        return [(data["user"][i], data["item"][i], key[i]) for i in order]
    found = []
    for user, rows in data.groupby("user"):
        first = rows[rows["time"] == rows["time"].min()]
        counts = key[first.index].value_counts()
        best = min(k for k, n in counts.items() if n == counts.max())
        found.append((user, best))
    return found


@pytest.mark.parametrize("dtype", ["object", "category", "string"])
@pytest.mark.parametrize("n_times", [1, 3, 10_000])
def test_rows_that_are_asked_with(dtype, n_times):
    rng = np.random.RandomState(0)
    n = 300
    data = pd.DataFrame({"user": rng.randint(0, 120, n), "item": rng.randint(0, 4, n)})
    data["time"] = rng.randint(0, n_times, n)
    kinds = rng.choice(np.array(["b", "a", None, "c"], dtype=object), n)
    data["kind"] = pd.Series(kinds).astype(dtype)
    features = data[["kind"]].assign(constant=data["user"] % 3)
    rows = Interactions(
        data["user"].to_numpy(),
        data["item"].to_numpy(),
        np.ones(n, dtype=bool),
        None,
        data["time"].to_numpy(),
        features,
    )
    key = data["kind"].astype(object).map(lambda v: "" if pd.isna(v) else v)
    asked = query_rows(rows, per_row=False)
    found = [(data["user"][i], key[i]) for i in asked.rows]
    assert found == brute_force_rows(data, per_row=False)
    assert (asked.user_of_query[asked.query_of_pair] == asked.users).all()
    asked = query_rows(rows, per_row=True)
    found = [(data["user"][i], data["item"][i], key[i]) for i in asked.rows]
    assert found == brute_force_rows(data, per_row=True)
    assert (asked.rows[asked.query_of_pair] == np.arange(n)).all()


class Counted:
    """A value that counts how often it is written as a text, which is slow."""

    n_texts = 0

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    def __hash__(self):
        return hash(self.value)

    def __repr__(self):
        Counted.n_texts += 1
        return str(self.value)


def test_only_distinct_values_are_put_in_order():
    values = [Counted(n % 3) for n in range(600)]
    users = np.arange(600) % 200

    def n_texts(users, values, times=None):
        Counted.n_texts = 0
        features = pd.DataFrame({"x": pd.Series(values, dtype=object)})
        items, positive = np.arange(600), np.ones(600, dtype=bool)
        rows = Interactions(users, items, positive, None, times, features)
        query_rows(rows, per_row=False)
        query_rows(rows, per_row=True)
        return Counted.n_texts

    assert n_texts(users, values) == 3
    assert n_texts(users, values, times=np.arange(600)) == 0
    assert n_texts(np.arange(600), values) == 0
    assert n_texts(np.arange(600) % 3, values) == 0  # one value a user
