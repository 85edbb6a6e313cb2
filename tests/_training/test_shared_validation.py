"""Several ranks, which are threads here, hold out and score the rows of their own users."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder

from sktwotower._data.interactions import Interactions, read_interactions
from sktwotower._data.row_shares import OwnRows
from sktwotower._nn.distributed import RankError
from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._training.data import with_own_users
from sktwotower._training.early_stopping import hold_out
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._registry import METRICS, WITHIN_USERS
from sktwotower.metrics._task import RankingOptions
from tests._nn.thread_ranks import on_ranks
from tests.helpers import make_model, make_X, other_pairs

SIZES = [2, 3]


def shared(interactions, owners, ranks):
    """The rows of a rank."""
    share, own = OwnRows.of_all_rows(interactions, owners, ranks)
    return replace(own, share=share)


# --- holding out ----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("fraction", [0.2, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_hold_out_what_one_process_holds_out(size, timed, fraction, seed):
    X, rng = make_X(seed, n_rows=60), np.random.default_rng(seed)
    X.loc[::7, "item"] += np.arange(len(X.iloc[::7])) + 50  # items of one row
    X.loc[[3, 30], "item"] = 40  # of two users, so that one of them gets it back
    positive = rng.random(len(X)) < (0.7 if seed % 2 else 1.0)
    rows = Interactions(
        pd.Categorical(X["user"]),
        pd.Categorical(X["item"]),
        positive,
        None,
        X["time"].to_numpy() // 5 if timed else None,
    )
    expected = hold_out(rows, fraction, np.random.RandomState(seed))
    assert expected.any()
    owners = X["user"].to_numpy() % size
    owners[owners == 1] = 0  # a rank without rows

    def call(ranks):
        own = shared(rows, owners, ranks)
        return hold_out(own, fraction, np.random.RandomState(seed))

    for rank, held in enumerate(on_ranks(size, call)):
        np.testing.assert_array_equal(held, expected[owners == rank])


# --- scores ---------------------------------------------------------------------------


def fitted():
    """A model with a history and features, and rows with labels, also of unknown ids."""
    X = make_X(n_users=14, n_items=30, n_rows=120)
    rows = make_X(seed=1, n_users=16, n_items=33)
    for seed, frame in enumerate((X, rows)):
        rng = np.random.default_rng(seed)
        frame["city"] = rng.choice(["rome", "oslo"], len(frame))
        frame["price"] = frame["item"] % 3 + seed * (frame["item"] == 1)
    model = make_model(
        timestamp_column="time", user_features=["city"], item_features=["price"]
    ).fit(X)
    labels = np.random.default_rng(2).integers(0, 4, len(rows))
    weights = np.random.default_rng(3).uniform(0.5, 2, len(rows))
    return model, read_interactions(rows, labels, weights, roles=model._state.roles)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("has_weights", [False, True])
def test_ranks_find_the_scores_of_all_users(size, held_out, has_weights):
    model, rows = fitted()
    if not has_weights:
        rows = replace(rows, weights=None)
    source, users = StateEvaluation(model._state), model._state.user.entities
    options = RankingOptions(held_out=held_out)

    def scores_of(rows, names):
        return evaluate(source, rows, names, options)

    def call(ranks):
        own = with_own_users(rows, users, ranks)
        assert 0 < len(own) < len(rows)
        return [scores_of(own, names) for names in (list(METRICS), ["roc_auc"])]

    expected = [scores_of(rows, names) for names in (list(METRICS), ["roc_auc"])]
    assert np.isfinite(list(expected[0].means.values())).all()
    for found in on_ranks(size, call):
        for one, other in zip(found, expected, strict=True):
            assert one.means == pytest.approx(other.means, rel=1e-12)
            assert one.counts == other.counts
        assert found[0].users.notes == expected[0].users.notes
    assert len(expected[0].users.notes) == 1 + (not held_out)  # of features, of seen pairs


@pytest.mark.parametrize("names", [list(METRICS), list(WITHIN_USERS)], ids=len)
def test_a_rank_has_no_row_or_no_positive_one(names):
    model, rows = fitted()
    source, options = StateEvaluation(model._state), RankingOptions()
    chosen = np.isin(rows.users, [2, 4])
    negative = (rows.users == 5) & ~rows.positive
    for of_first in (np.zeros_like(negative), negative):
        given = rows.take(chosen | of_first)
        owners = (given.users != 5).astype(int)
        expected = evaluate(source, given, names, options)

        def call(ranks, given=given, owners=owners):
            own = shared(given, owners, ranks)
            found = evaluate(source, own, names, options)
            return len(own), found, found.users.has_rankings

        found = on_ranks(2, call)
        assert found[0][0] == of_first.sum()
        for _, one, has_rankings in found:
            assert one.means == pytest.approx(expected.means, rel=1e-12)
            assert one.counts == expected.counts
            assert has_rankings == expected.users.has_rankings


@pytest.mark.parametrize("held_out", [False, True])
def test_training_rows_are_told_on_all_ranks(held_out):
    """All relevant pairs were seen: they are training rows, or a part of them."""
    X = make_X()[["user", "item"]]
    model = make_model().fit(X)
    source = StateEvaluation(model._state)
    options = RankingOptions(held_out=held_out)
    rows = read_interactions(X[X["user"] > 3], roles=model._state.roles)
    expected = evaluate(source, rows, "ndcg", options)

    def call(ranks):
        owners = (rows.users % 2).astype(int)
        return evaluate(source, shared(rows, owners, ranks), "ndcg", options)

    for found in on_ranks(2, call):
        assert found.means == pytest.approx(expected.means, rel=1e-12)
        assert found.users.notes == expected.users.notes
    assert bool(expected.users.notes) != held_out


def test_a_rank_has_training_rows_alone():
    X = make_X(n_items=30)[["user", "item"]]
    model = make_model().fit(X)
    source = StateEvaluation(model._state)
    new = other_pairs(make_X(seed=1, n_items=30)[["user", "item"]], X)
    both = pd.concat([X[X["user"] % 2 == 0], new[new["user"] % 2 == 1]])
    rows = read_interactions(both, roles=model._state.roles)
    expected = evaluate(source, rows, "ndcg")
    assert expected.counts["n_seen"]

    def call(ranks):
        owners = (rows.users % 2).astype(int)
        return evaluate(source, shared(rows, owners, ranks), "ndcg")

    for found in on_ranks(2, call):
        assert found.means == pytest.approx(expected.means, rel=1e-12)
        assert found.counts == expected.counts


@pytest.mark.parametrize(
    ("positive", "names", "message"),
    [
        (False, "ndcg", "no row of X is relevant"),
        (True, "roc_auc", "X has only positives"),
        (False, "roc_gauc", "X has none"),
    ],
)
def test_what_cannot_be_scored_is_refused_on_all_ranks(positive, names, message):
    model, rows = fitted()
    rows = replace(rows, positive=np.full(len(rows), positive))
    source, users = StateEvaluation(model._state), model._state.user.entities

    def call(ranks):
        with pytest.raises(ValueError, match=message):
            evaluate(source, with_own_users(rows, users, ranks), names)

    on_ranks(2, call)


@pytest.mark.parametrize("names", ["ndcg", "roc_auc", "roc_gauc"])
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_rank_is_one_of_all(names, failing):
    """The features of a user cannot be encoded."""
    X = make_X(n_users=14, n_items=30).assign(city="rome")
    model = make_model(user_features=["city"], user_encoder=OneHotEncoder()).fit(X)
    rows = make_X(seed=1, n_users=14, n_items=30)
    rows["city"] = np.where(rows["user"] % 2 == failing, "bern", "rome")
    labels = np.arange(len(rows)) % 2
    rows = read_interactions(rows, labels, roles=model._state.roles)
    source = StateEvaluation(model._state)
    owners = (rows.users % 2).astype(int)

    def call(ranks):
        error = (ValueError, "bern") if ranks.rank == failing else (RankError, str(failing))
        with pytest.raises(error[0], match=error[1]):
            evaluate(source, shared(rows, owners, ranks), names)

    on_ranks(2, call)
