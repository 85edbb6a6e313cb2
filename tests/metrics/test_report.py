"""Reports and comparisons against loops, in simulations, and on the bundled data."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.datasets import load_movielens_small, make_interactions
from sktwotower.metrics import compare, make_ranking_scorer, ranking_report
from sktwotower.metrics._bootstrap import bootstrap_means, interval, paired_bootstrap
from sktwotower.model_selection import train_test_split_interactions


def interactions(n=60, n_others=40):
    """Distinct pairs of users of different activity, and others."""
    rng = np.random.RandomState(0)
    users = np.minimum(rng.geometric(0.12, 600), 14)
    pairs = pd.DataFrame(
        {
            "user": [f"u{i}" for i in users],
            "item": [f"i{i}" for i in rng.randint(0, 9, 600)],
        }
    ).drop_duplicates(ignore_index=True)
    return pairs[:n], pairs[n : n + n_others]


X, OTHERS = interactions()
NEW = pd.concat(
    [
        OTHERS,
        # Two users without a training row, one of them without a known item.
        pd.DataFrame({"user": ["new", "lost", "u1"], "item": ["i3", "unheard", "unheard"]}),
    ],
    ignore_index=True,
)
GLOBAL = np.random.mtrand._rand
METRICS = ["ndcg@3", "recall@5", "popularity@3"]


@pytest.fixture(scope="module")
def model():
    return TwoTowerRecommender(embedding_dim=4, max_iter=2, random_state=0).fit(X)


# --- the bootstrap on arrays ---------------------------------------------------------


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1), n_users=st.integers(1, 12), missing=st.floats(0, 0.9)
)
def test_bootstrap_equals_a_loop(seed, n_users, missing):
    rng = np.random.RandomState(seed)
    values = rng.normal(size=(n_users, 2))
    values[rng.random_sample(values.shape) < missing] = np.nan
    means = bootstrap_means(values, 5, np.random.RandomState(seed))
    again = np.random.RandomState(seed)
    drawn = again.randint(n_users, size=(5, n_users))
    for mean, rows in zip(means, drawn, strict=True):
        for column in range(2):
            defined = [v for v in values[rows, column] if not np.isnan(v)]
            expected = sum(defined) / len(defined) if defined else np.nan
            np.testing.assert_allclose(mean[column], expected, atol=1e-12)


def test_bootstrap_in_blocks(monkeypatch):
    values = np.random.RandomState(0).normal(size=(7, 3))
    whole = bootstrap_means(values, 20, np.random.RandomState(1))
    monkeypatch.setitem(bootstrap_means.__globals__, "_BLOCK_SIZE", 15)
    blocks = bootstrap_means(values, 20, np.random.RandomState(1))
    np.testing.assert_allclose(blocks, whole)


def test_interval_is_that_of_the_normal_distribution():
    values = np.random.RandomState(0).normal(size=(400, 1))
    means = bootstrap_means(values, 4000, np.random.RandomState(1))
    low, high = interval(means, 0.95)
    half = 1.96 * values.std() / 20
    assert high[0] - values.mean() == pytest.approx(half, rel=0.08)
    assert values.mean() - low[0] == pytest.approx(half, rel=0.08)
    narrow = interval(means, 0.5)
    assert low < narrow[0] < narrow[1] < high


def test_no_users_are_undefined():
    assert np.isnan(bootstrap_means(np.empty((0, 2)), 3, np.random.RandomState(0))).all()
    (test,) = paired_bootstrap(np.full((3, 1), np.nan), 3, np.random.RandomState(0))
    assert test.n_users == 0 and np.isnan(test.p_value)


def test_two_seeds_of_noise_differ_at_the_nominal_rate():
    rng = np.random.RandomState(0)
    n_trials, n_users = 600, 60
    hard = rng.beta(1, 2, size=(n_users, 1))  # the same for two seeds of a model
    one = np.clip(hard + rng.normal(0, 0.1, (n_users, n_trials)), 0, 1)
    two = np.clip(hard + rng.normal(0, 0.1, (n_users, n_trials)), 0, 1)
    tests = paired_bootstrap(one - two, 500, rng)
    p_values = np.array([test.p_value for test in tests])
    # With 600 trials, 5 % have a standard error of .9 %; the bootstrap is a bit liberal.
    assert 0.03 < (p_values < 0.05).mean() < 0.085
    assert 0.15 < (p_values < 0.2).mean() < 0.25
    covered = [test.low <= 0 <= test.high for test in tests]
    assert 0.915 < np.mean(covered) < 0.97


def test_a_difference_is_found():
    rng = np.random.RandomState(0)
    better = rng.normal(0.1, 0.2, size=(200, 1))
    (test,) = paired_bootstrap(better, 1000, rng)
    assert test.above == 1 and test.below == 0 and test.low > 0
    assert test.p_value == pytest.approx(2 / 1001)
    (test,) = paired_bootstrap(-better, 1000, rng)
    assert test.below == 1 and test.high < 0 and test.p_value == pytest.approx(2 / 1001)
    (test,) = paired_bootstrap(np.zeros((9, 1)), 100, rng)
    assert (test.p_value, test.below, test.above) == (1, 0, 0)


# --- ranking_report ------------------------------------------------------------------


def test_means_are_those_of_the_scorer(model):
    metrics = [*METRICS, "coverage@3", "gini@3", "auc"]
    report = ranking_report(model, NEW, metrics=metrics, n_bootstrap=50, random_state=0)
    columns = ["slice", "metric", "mean", "low", "high", "n_users"]
    assert report.columns.tolist() == columns
    means = dict(zip(report["metric"], report["mean"], strict=True))
    assert means == pytest.approx(make_ranking_scorer(metrics)(model, NEW))
    assert (report["slice"] == "all").all()
    n_users = NEW["user"].nunique() - 1
    assert (report["n_users"][report["metric"] != "auc"] == n_users).all()
    one_number = report["metric"].isin(["coverage@3", "gini@3"])
    assert report.loc[one_number, ["low", "high"]].isna().all(axis=None)
    others = report[~one_number]
    assert (others["low"] <= others["mean"]).all()
    assert (others["mean"] <= others["high"]).all()
    assert report.attrs == {
        "n_left_out": {"all": 1},
        "n_dropped": {"all": 2},
        "n_seen": {"all": 0},
    }


def test_users_without_positives_are_left_out_and_counted(model):
    y = np.ones(len(NEW))
    y[NEW["user"] == "u2"] = 0
    report = ranking_report(model, NEW, y, metrics="ndcg@3", n_bootstrap=5)
    assert report.attrs["n_left_out"] == {"all": 2}
    repeated = pd.concat([NEW, NEW])
    again = ranking_report(model, repeated, metrics="ndcg@3", n_bootstrap=5)
    assert again.attrs == {
        "n_left_out": {"all": 1},
        "n_dropped": {"all": 2},
        "n_seen": {"all": 0},
    }


def check_slices(model, data, by, label_of):
    """Each slice is the report of its rows alone."""
    report = ranking_report(
        model, data, metrics=[*METRICS, "coverage@3"], by=by, n_bootstrap=20
    )
    labels = data["user"].map(label_of)
    for name in labels.dropna().unique():
        alone = ranking_report(
            model,
            data[labels == name],
            metrics=[*METRICS, "coverage@3"],
            n_bootstrap=20,
        )
        rows = report[report["slice"] == name].reset_index(drop=True)
        np.testing.assert_allclose(rows["mean"], alone["mean"])
        assert rows["n_users"].tolist() == alone["n_users"].tolist()
        for count in ("n_left_out", "n_dropped"):
            assert report.attrs[count][name] == alone.attrs[count]["all"]
    assert report["slice"].unique()[0] == "all"
    assert set(report["slice"]) == {"all", *labels.dropna()}
    return report


def test_cold(model):
    known = set(X["user"])
    report = check_slices(
        model,
        NEW[NEW["user"] != "lost"],
        "cold",
        lambda u: "known" if u in known else "new",
    )
    assert report["slice"].unique().tolist() == ["all", "known", "new"]
    report = ranking_report(model, NEW, metrics="ndcg@3", by="cold", n_bootstrap=5)
    assert report.attrs["n_left_out"] == {"all": 1, "known": 0, "new": 1}


def test_activity(model):
    counts = X.groupby("user")["item"].nunique()
    data = NEW[~NEW["user"].isin(["lost"])]
    of_users = np.sort([counts.get(user, 0) for user in data["user"].unique()])
    low, high = (
        of_users[int(np.ceil(len(of_users) * share)) - 1] for share in (1 / 3, 2 / 3)
    )

    def tercile(user):
        n = counts.get(user, 0)
        return "low" if n <= low else "medium" if n <= high else "high"

    report = check_slices(model, data, "activity", tercile)
    assert report["slice"].unique().tolist() == ["all", "low", "medium", "high"]


def test_labels(model):
    odd = {user: int(user[1:]) % 2 for user in X["user"].unique()}
    data = NEW[NEW["user"].isin(odd)]
    by_user = pd.Series(odd)
    one = check_slices(model, data, by_user, odd.get)
    rows = data["user"].map(odd)
    two = check_slices(model, data, rows.to_numpy(), odd.get)
    three = check_slices(model, data, odd, odd.get)
    four = check_slices(model, data, lambda users: [odd[user] for user in users], odd.get)
    for other in (two, three, four):
        np.testing.assert_array_equal(one["mean"], other["mean"])
    check_slices(
        model, data, {"u1": "some", "u2": "some"}, {"u1": "some", "u2": "some"}.get
    )


def test_random_state(model):
    state = pickle.dumps(GLOBAL.get_state())
    one, two, other = (
        ranking_report(model, NEW, n_bootstrap=30, random_state=seed) for seed in (0, 0, 1)
    )
    ranking_report(model, NEW, n_bootstrap=30)
    pd.testing.assert_frame_equal(one, two)
    assert not one["low"].equals(other["low"])
    assert pickle.dumps(GLOBAL.get_state()) == state


def test_pipelines_and_column_roles(model):
    swapped = NEW[["item", "user"]]
    pipeline = make_pipeline(
        FunctionTransformer(lambda frame: frame[["item", "user"]]),
        PopularRecommender(user_column=1, item_column=0),
    ).fit(X)
    alone = PopularRecommender().fit(X)
    options = {"metrics": METRICS, "n_bootstrap": 20, "random_state": 0, "by": "cold"}
    expected = ranking_report(alone, NEW, **options)
    pd.testing.assert_frame_equal(ranking_report(pipeline, NEW, **options), expected)
    named = PopularRecommender(user_column="user", item_column="item").fit(X)
    pd.testing.assert_frame_equal(ranking_report(named, swapped, **options), expected)


class External:
    def recommend(self, X, *, n_recommendations, exclude_seen):
        return [["i3", "i1"][:n_recommendations] for _ in X]


def test_external():
    report = ranking_report(External(), NEW, metrics="recall@2", n_bootstrap=5)
    assert report["n_users"].item() == NEW["user"].nunique()
    with pytest.raises(TypeError, match="External does not say what users had in training"):
        ranking_report(External(), NEW, metrics="recall@2", by="cold")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": np.zeros(len(NEW))}, ValueError, "no row of X is relevant"),
        ({"metrics": "ndgc@3"}, ValueError, "did you mean 'ndcg@3'"),
        ({"metrics": "ndcg@0"}, ValueError, "k='0' is not a positive integer"),
        ({"metrics": []}, ValueError, "metrics is empty"),
        ({"metrics": "roc_auc"}, ValueError, "'roc_auc' is one number for all rows"),
        ({"by": "age"}, ValueError, "by='age' is unknown; it is 'activity', 'cold'"),
        ({"by": [1, 2]}, ValueError, "by has shape .2,.; an array needs one label for"),
        ({"by": lambda users: [1]}, ValueError, "by returned shape .1,. for"),
        ({"by": {"nobody": 1}}, ValueError, "none of the users of X"),
        ({"by": {"u1": "all"}}, ValueError, "must not be called 'all'"),
        ({"by": pd.Series([1, 2], ["u1", "u1"])}, ValueError, "has a user id twice"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap must be an integer of at least 1"),
        ({"confidence": 95}, ValueError, "confidence must be above 0 and below 1"),
    ],
)
def test_messages(model, options, error, message):
    with pytest.raises(error, match=message):
        ranking_report(model, NEW, **options)


@pytest.mark.parametrize("flag", ["exclude_seen", "per_row"])
def test_flags_are_true_or_false(model, flag):
    options = {flag: "no"}
    message = f"{flag}='no' is neither True nor False"
    with pytest.raises(TypeError, match=message):
        ranking_report(model, NEW, **options)
    with pytest.raises(TypeError, match=message):
        compare({"one": model, "other": model}, NEW, **options)
    ranking_report(model, NEW, n_bootstrap=2, **{flag: np.bool_(False)})


def test_all_users_are_new(model):
    strangers = pd.DataFrame({"user": ["a", "b"], "item": ["i1", "i2"]})
    report = ranking_report(model, strangers, metrics="ndcg@9", by="cold", n_bootstrap=5)
    assert report["slice"].tolist() == ["all", "new"]
    assert (report["mean"] > 0).all()


def test_no_relevant_item_is_known(model):
    lost = NEW[NEW["item"] == "unheard"]
    report = ranking_report(model, lost, metrics=["ndcg@3", "coverage@3"], by="activity")
    assert report["n_users"].tolist() == [0, 0]
    assert report[["mean", "low", "high"]].isna().all(axis=None)
    assert report.attrs == {
        "n_left_out": {"all": 2},
        "n_dropped": {"all": 2},
        "n_seen": {"all": 0},
    }


# --- compare -------------------------------------------------------------------------


def test_compare_on_the_bundled_data():
    data = load_movielens_small().interactions
    data = data[data.groupby("item_id")["user_id"].transform("size") >= 20]  # EASE inverts
    test = np.random.RandomState(0).rand(len(data)) < 0.2
    columns = {"user_column": "user_id", "item_column": "item_id"}
    train = data[~test]
    models = {
        "ease": EASERecommender(regularization=300.0, **columns).fit(train),
        "popular": PopularRecommender(**columns).fit(train),
    }
    options = {"metrics": ["ndcg@10", "recall@10"], "n_bootstrap": 500, "random_state": 0}
    table = compare(models, data[test], **options)
    assert table["model"].tolist() == ["popular", "popular"]
    assert table["metric"].tolist() == ["ndcg@10", "recall@10"]
    assert (table["high"] < 0).all() and (table["below"] == 1).all()
    assert (table["p_value"] < 0.01).all()
    reports = {
        name: ranking_report(model, data[test], **options) for name, model in models.items()
    }
    np.testing.assert_allclose(table["mean"], reports["popular"]["mean"])
    np.testing.assert_allclose(table["baseline"], reports["ease"]["mean"])
    np.testing.assert_allclose(table["difference"], table["mean"] - table["baseline"])
    assert (table["n_users"] == reports["ease"]["n_users"]).all()
    # Paired differences have narrower intervals than two separate means.
    unpaired = reports["ease"]["high"] - reports["ease"]["low"]
    assert (table["high"] - table["low"] < 2**0.5 * unpaired).all()


class Seeded:
    """A model of what users like, with noise that depends on the seed."""

    likes = np.random.RandomState(0).normal(size=(50, 40))

    def __init__(self, seed, noise=1.0):
        self.rng, self.noise = np.random.RandomState(seed), noise

    def recommend(self, X, *, n_recommendations, exclude_seen):
        scores = self.likes[X] + self.noise * self.rng.normal(size=(len(X), 40))
        return np.argsort(-scores, axis=1)[:, :n_recommendations]


@pytest.mark.slow
def test_two_seeds_of_a_model_differ_at_the_nominal_rate():
    best = np.argsort(-Seeded.likes, axis=1)[:, :4]
    data = pd.DataFrame({"user": np.repeat(np.arange(50), 4), "item": best.ravel()})
    options = {"metrics": ["ndcg@5", "recall@10"], "n_bootstrap": 200}
    p_values, covered = [], []
    for trial in range(100):
        models = {"one": Seeded(2 * trial), "other": Seeded(2 * trial + 1)}
        table = compare(models, data, random_state=trial, **options)
        p_values.append(table["p_value"])
        covered.append((table["low"] <= 0) & (table["high"] >= 0))
    # With 100 trials, 5 % have a standard error of 2.2 %; the bootstrap is a bit liberal.
    for rate in (np.array(p_values) < 0.05).mean(axis=0):
        assert 0 < rate < 0.12
    assert (np.mean(covered, axis=0) > 0.88).all()
    worse = compare({"one": Seeded(0), "worse": Seeded(1, noise=2.0)}, data, **options)
    assert (worse["difference"] < 0).all() and (worse["p_value"] < 0.05).all()


def test_popularity_is_worse_and_another_seed_is_not():
    X = make_interactions(
        n_users=200, n_items=80, n_interactions=5000, random_state=0
    ).interactions
    train, test = train_test_split_interactions(X, timestamp_column="timestamp")
    columns = {"user_column": "user_id", "item_column": "item_id"}
    one, other = (
        TwoTowerRecommender(max_iter=5, random_state=seed, **columns).fit(train)
        for seed in (0, 1)
    )
    models = {"one": one, "other": other, "pop": PopularRecommender(**columns).fit(train)}
    table = compare(models, test, random_state=0).set_index(["model", "metric"])
    assert (table.loc["pop", "high"] < 0).all()
    assert (table.loc["pop", "p_value"] < 0.05).all()
    assert (table.loc["other", "p_value"] > 0.05).all()


def test_a_model_is_no_better_than_itself(model):
    table = compare({"a": model, "b": model}, NEW, metrics=METRICS, n_bootstrap=20)
    assert (table["difference"] == 0).all() and (table["p_value"] == 1).all()


def test_users_are_aligned_where_catalogues_differ(model):
    known = PopularRecommender().fit(X[X["item"].isin(["i1", "i2", "i3"])])
    table = compare({"a": model, "b": known}, NEW, metrics="recall@3", n_bootstrap=20)
    found = NEW[NEW["item"].isin(["i1", "i2", "i3"])]["user"].nunique()
    assert table["n_users"].item() == found
    among = compare(
        {"a": model, "b": known},
        NEW,
        metrics="recall@3",
        candidates=["i1", "i2", "i3"],
        n_bootstrap=20,
    )
    # Three ranks for three items, so all relevant items are found.
    assert among["mean"].item() == among["baseline"].item() == 1


def test_compare_refuses(model):
    both = {"a": model, "b": model}
    with pytest.raises(ValueError, match=r"at least two fitted models by name; got \['a'"):
        compare({"a": model}, NEW)
    with pytest.raises(ValueError, match="by name; got list"):
        compare([model, model], NEW)
    with pytest.raises(ValueError, match="'gini@3' is one number for all users"):
        compare(both, NEW, metrics=["ndcg@3", "gini@3"])
    with pytest.raises(ValueError, match="compare cannot split by users"):
        compare(both, NEW, metrics="pr_auc")
    with pytest.raises(ValueError, match="no row of X is relevant"):
        compare(both, NEW, np.zeros(len(NEW)))
    other = make_pipeline(
        FunctionTransformer(lambda frame: frame.assign(user=frame["user"] + "!")), model
    )
    with pytest.raises(ValueError, match="'a' and 'b' read different users from X"):
        compare({"a": model, "b": other}, NEW)
