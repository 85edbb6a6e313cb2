"""Negatives that are drawn for rows of an evaluation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
from sklearn.metrics import roc_auc_score

from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import sample_negatives
from tests.helpers import make_model, make_X, other_pairs

TRAIN = make_X(n_items=20)
TEST = other_pairs(make_X(seed=1, n_rows=60, n_items=20), TRAIN)
TEST = TEST[TEST["item"].isin(TRAIN["item"])].reset_index(drop=True)
NAMES = {"user_column": "user", "item_column": "item", "timestamp_column": "time"}


def pairs_of(*frames):
    return {tuple(pair) for frame in frames for pair in frame[["user", "item"]].to_numpy()}


# --- what is drawn --------------------------------------------------------------------


def test_negatives_follow_the_rows_and_are_new_pairs():
    X, y = sample_negatives(TEST, X_train=TRAIN, n_negatives=2, random_state=0, **NAMES)
    pd.testing.assert_frame_equal(X[: len(TEST)], TEST, check_like=False)
    assert y[: len(TEST)].tolist() == [1.0] * len(TEST)
    drawn = X[len(TEST) :]
    assert not y[len(TEST) :].any()
    assert not pairs_of(drawn) & pairs_of(TRAIN, TEST)
    assert set(drawn["item"]) <= set(TRAIN["item"])
    # one block of distinct items for each positive, with its user and time
    expected = TEST.loc[TEST.index.repeat(2)]
    assert drawn["user"].tolist() == expected["user"].tolist()
    assert drawn["time"].tolist() == expected["time"].tolist()
    assert not drawn.assign(row=expected.index).duplicated(["row", "item"]).any()


def by_user(*frames):
    whole = pd.concat(frames)
    return {user: set(rows) for user, rows in whole.groupby("user")["item"]}


def test_only_positives_get_negatives():
    labels = np.arange(len(TEST)) % 2 * 3
    X, y = sample_negatives(TEST, labels, X_train=TRAIN, random_state=0)
    assert y[: len(TEST)].tolist() == labels.tolist()
    assert X["user"][len(TEST) :].tolist() == TEST["user"][labels > 0].tolist()
    assert not pairs_of(X[len(TEST) :]) & pairs_of(TRAIN, TEST)  # nor rejected ones


def test_draws_are_uniform():
    train = pd.DataFrame({"user": [0, 0] + [1] * 6, "item": [1, 4, *range(6)]})
    test = pd.DataFrame({"user": [0] * 3000, "item": 2})
    X, _ = sample_negatives(test, X_train=train, n_negatives=2, random_state=0)
    counts = X["item"][3000:].value_counts()
    assert sorted(counts.index) == [0, 3, 5]
    assert chisquare(counts).pvalue > 0.01


def test_the_seed_decides():
    one, again, other = (
        sample_negatives(TEST, X_train=TRAIN, random_state=seed)[0] for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, again)
    assert one["item"].tolist() != other["item"].tolist()


def test_users_without_an_item_that_is_left():
    train = pd.DataFrame({"user": ["a", "a", "b", "c"], "item": [1, 2, 1, 3]})
    test = pd.DataFrame({"user": ["a", "b"], "item": [3, 2]})
    message = r"2 of the 2 users \(first 'a'\) have fewer than n_negatives=2 .*; 1 of them"
    with pytest.warns(UserWarning, match=message):
        X, y = sample_negatives(test, X_train=train, n_negatives=2, random_state=0)
    assert X.to_numpy().tolist() == [["a", 3], ["b", 2], ["b", 3]]
    assert y.tolist() == [1, 1, 0]


# --- features -------------------------------------------------------------------------


def test_a_negative_has_the_latest_features_of_its_item():
    train = pd.DataFrame(
        {
            "user": [0, 1, 1, 2],
            "item": ["x", "y", "y", "z"],
            "mood": ["a", "b", "c", "d"],
            "price": [1.0, 2.0, 3.0, np.nan],
            "kind": pd.Categorical(["p", "q", "q", "p"]),
            "time": [5, 9, 6, 7],
        }
    )
    test = pd.DataFrame(
        {
            "price": [1.5],  # in another order
            "kind": pd.Categorical(["p"], ["p", "q"]),
            "user": [0],
            "item": ["x"],
            "mood": ["e"],
            "time": [8],
        }
    )
    options = dict(X_train=train, n_negatives=2, item_features=["price", "kind"])
    X, _ = sample_negatives(test, random_state=0, **options, **NAMES)
    drawn = X[1:].sort_values("item")
    assert X.columns.tolist() == test.columns.tolist()
    assert drawn["item"].tolist() == ["y", "z"]
    assert drawn["price"].iloc[0] == 2.0 and np.isnan(drawn["price"].iloc[1])
    assert drawn["kind"].tolist() == ["q", "p"]
    assert drawn["mood"].tolist() == ["e", "e"] and drawn["time"].tolist() == [8, 8]
    assert X["kind"].dtype == test["kind"].dtype
    by_rows, _ = sample_negatives(test, random_state=0, user_column="user",
                                  item_column="item", **options)  # fmt: skip
    assert by_rows[1:].sort_values("item")["price"].iloc[0] == 3.0  # the last row


def test_an_array():
    train = np.array([[0, 10, 3.5], [1, 11, 4.5], [2, 12, 5.5]])
    test = np.array([[1.0, 10.0, 9.5]])  # the latest row of item 10
    X, y = sample_negatives(
        test, [2], X_train=train, n_negatives=1, item_features=[2], random_state=0
    )
    assert X.tolist() == [[1, 10, 9.5], [1, 12, 5.5]]
    assert y.tolist() == [2, 0] and X.dtype == test.dtype
    words = [["ann", "tea"], ["bob", "milk"]]
    X, _ = sample_negatives([["ann", "cake"]], X_train=words, random_state=0)
    assert X.tolist() == [["ann", "cake"], ["ann", "milk"]]


def planted(n_users=60, n_items=40):
    """Users take items of their own side; items are known by their side alone."""
    rng = np.random.RandomState(0)
    rows = pd.DataFrame({"user": np.repeat(np.arange(n_users), 14), "item": 0, "time": 0.0})
    for user in range(n_users):
        likes = np.where(np.arange(n_items) % 2 == user % 2, 4.0, 1.0)
        taken = rng.choice(n_items, 14, replace=False, p=likes / likes.sum())
        rows.loc[rows["user"] == user, "item"] = taken
    rows["side"] = np.where(rows["item"] % 2, "odd", "even")
    is_test = np.arange(len(rows)) % 14 >= 10
    return rows[~is_test].drop(columns="time"), rows[is_test].drop(columns="time")


def test_replaced_ids_alone_give_a_wrong_area():
    train, test = planted()
    options = dict(item_features=["side"], item_id_embedding=False, history=None)
    model = make_model(**options, max_iter=5, learning_rate=0.03).fit(train)
    area = make_ranking_scorer("roc_gauc")
    # The truth: each positive against all items that the user never had.
    seen = by_user(train, test)
    sides = np.array(["even", "odd"])
    others = [
        (user, item) for user in seen for item in sorted(set(train["item"]) - seen[user])
    ]
    rows = pd.concat([test, pd.DataFrame(others, columns=["user", "item"])])
    rows["side"] = sides[rows["item"] % 2]
    rows["label"] = np.arange(len(rows)) < len(test)
    rows["score"] = model.predict(rows)
    truth = np.mean(
        [roc_auc_score(own["label"], own["score"]) for _, own in rows.groupby("user")]
    )
    X, y = sample_negatives(
        test, X_train=train, n_negatives=5, item_features=["side"], random_state=0
    )
    assert (X["side"] == sides[X["item"] % 2]).all()
    assert truth > 0.6
    assert area(model, X, y) == pytest.approx(truth, abs=0.03)
    replaced = X.assign(side=[*test["side"], *test["side"].repeat(5)])
    assert area(model, replaced, y) == pytest.approx(0.5, abs=0.03)  # they are all ties
    with pytest.raises(
        ValueError, match=r"\['side'\] of X_train have one value .*item_fea"
    ):
        sample_negatives(test, X_train=train)
    forced, _ = sample_negatives(
        test, X_train=train, n_negatives=5, item_features=[], random_state=0
    )
    pd.testing.assert_frame_equal(forced, replaced)


def test_to_validate_on():
    X_val, y_val = sample_negatives(TEST, X_train=TRAIN, random_state=0, **NAMES)
    model = make_model(validation_metric=["roc_gauc", "ndcg@3"])
    model.fit(TRAIN, X_val=X_val, y_val=y_val)
    assert np.isfinite(model.validation_scores_["roc_gauc"]).all()
    alone = model.validation_scores_["ndcg@3"]  # negatives do not change rankings
    model.set_params(validation_metric="ndcg@3").fit(TRAIN, X_val=TEST)
    assert model.validation_scores_ == alone


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_negatives": 0}, ValueError, "n_negatives=0 must be at least 1"),
        ({"n_negatives": 1.5}, TypeError, "n_negatives=1.5 is not an integer"),
        (
            {"X_train": TRAIN.astype({"item": str})},
            ValueError,
            "item ids of X are of type i",
        ),
        ({"y": np.zeros(len(TEST))}, ValueError, "no row of X is a positive"),
        ({"item_features": ["prize"]}, ValueError, "item_features=.*are not columns"),
        ({"user_column": "usr"}, ValueError, "user_column='usr'"),
        ({"X_train": TRAIN.iloc[:0]}, ValueError, "0 sample"),
    ],
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        sample_negatives(TEST, **({"X_train": TRAIN} | options))
