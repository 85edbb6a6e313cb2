"""partial_fit and warm_start: new users, items and categories, and what stays."""

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder

from sktwotower.datasets import load_movielens_small
from sktwotower.history import PooledHistory
from sktwotower.model_selection import LastInteractionsSplit
from tests import helpers
from tests.helpers import NAMES, assert_same_answer

LOSSES = [
    {"loss": "softmax", "negatives": "in_batch"},
    {"loss": "softmax", "negatives": "in_batch", "sampling_correction": "refined"},
    {"loss": "softmax", "negatives": "mixed"},
    {"loss": "softmax", "negatives": "full"},
    {"loss": "softmax", "negatives": "popular"},
    {"loss": "softmax", "ssl_pattern": "rfm"},
    {"loss": "cross_entropy", "negatives": "random"},
    {"loss": "bpr"},
    {"loss": "max_margin"},
]


make_model = partial(helpers.make_model, **NAMES, batch_size=64)


@pytest.fixture(scope="module")
def chunks(data):
    """The first has users below 40 and items below 30, the second a few of everybody."""
    X = data.interactions
    early = (X["user_id"] < 40) & (X["item_id"] < 30)
    late = (~early) & (X["user_id"] % 2 == 0) & (X["item_id"] % 3 > 0)
    return X[early], X[late]


def table_of(model, name):
    """Rows of a table of ids by id; what an embedding is made of shows nowhere else."""
    side, tower = model._state.side(name), model._state.tower(name)
    table = tower.id_table.detach().numpy()
    ids = side.vocabulary.ids
    codes = side.entities.id_codes[1 : len(ids) + 1]
    return {i: table[code] for i, code in zip(ids.tolist(), codes, strict=True) if code}


@pytest.mark.slow
@pytest.mark.parametrize("parameters", LOSSES, ids=lambda p: "-".join(map(str, p.values())))
def test_ids_that_a_chunk_does_not_have_stay_bit_by_bit(data, chunks, parameters):
    first, second = chunks
    model = make_model(
        history=None, weight_decay=0.0, item_table=data.item_table, **parameters
    )
    model.fit(first)
    before = {name: table_of(model, name) for name in ("user", "item")}
    model.partial_fit(second, n_epochs=2)
    for name, column in (("user", "user_id"), ("item", "item_id")):
        after = table_of(model, name)
        touched = set(second[column])
        untouched = [i for i in before[name] if i not in touched]
        assert len(untouched) >= 5
        for i in untouched:
            np.testing.assert_array_equal(after[i], before[name][i])
        moved = [i for i in before[name] if i in touched]
        # (One user has all items but a few, so that nothing is a negative.)
        still = [i for i in moved if np.array_equal(after[i], before[name][i])]
        assert len(still) <= 1
        assert set(after) == set(before[name]) | touched


def test_with_weight_decay_they_are_trained_with_the_others(chunks):
    first, second = chunks
    model = make_model(history=None).fit(first)
    before = table_of(model, "user")
    after = table_of(model.partial_fit(second), "user")
    for user in set(before) - set(second["user_id"]):
        assert not np.array_equal(after[user], before[user])
        assert np.abs(after[user]).max() > 0.01  # and not shrunk to nothing


def test_codes_are_append_only_and_everything_is_seen(chunks):
    first, second = chunks
    model = make_model().fit(first)
    users, items = model.user_ids_.tolist(), model.item_ids_.tolist()
    model.partial_fit(second)
    assert model.user_ids_[: len(users)].tolist() == users
    assert model.item_ids_[: len(items)].tolist() == items
    assert set(model.user_ids_) == set(users) | set(second["user_id"])
    assert len(model.user_embeddings_) == len(model.user_ids_)
    both = pd.concat([first, second])
    found = model.recommend(both["user_id"].unique(), n_recommendations=99, as_frame=True)
    pairs = set(zip(found["user_id"], found["item_id"], strict=True))
    assert not pairs & set(zip(both["user_id"], both["item_id"], strict=True))
    n_items = len(model.item_ids_)
    seen = both.groupby("user_id")["item_id"].nunique()
    left = n_items - seen
    assert found.groupby("user_id").size().to_dict() == left[left > 0].to_dict()


def test_new_ids_start_from_the_unknown_id(data, chunks):
    """At a learning rate of (next to) nothing they are where the unknown one is."""
    first, second = chunks
    model = make_model(history=None, id_dropout=0.2, weight_decay=0.0).fit(first)
    unknown = model._state.tower("user").id_table[0].detach().numpy().copy()
    old = table_of(model, "user")
    model.set_params(learning_rate=1e-30).partial_fit(second)
    new = table_of(model, "user")
    for user in set(new) - set(old):
        np.testing.assert_allclose(new[user], unknown, atol=1e-7)


def test_the_first_call_begins(chunks):
    first, second = chunks
    model = make_model().partial_fit(first, n_epochs=3)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.validation_scores_ is None
    model.partial_fit(second)
    assert model.n_iter_ == len(model.loss_curve_) == 4
    assert 0 <= model.score(pd.concat([first, second])) <= 1


def test_any_iterator_of_frames(data):
    model = make_model()
    stream = (data.interactions.iloc[i : i + 100] for i in range(0, 900, 100))
    for chunk in stream:
        model.partial_fit(chunk)
    assert set(model.user_ids_) == set(data.interactions["user_id"])


@pytest.mark.parametrize("parameters", LOSSES, ids=lambda p: "-".join(map(str, p.values())))
def test_a_chunk_of_one_row(data, chunks, parameters):
    model = make_model(item_table=data.item_table, **parameters).fit(chunks[0])
    row = pd.DataFrame({"user_id": [10_000], "item_id": [20_000]})
    with warnings.catch_warnings():  # the table lacks the new item
        warnings.simplefilter("ignore")
        model.partial_fit(row, n_epochs=5)
    assert 10_000 in model.user_ids_
    assert 20_000 in model.item_ids_
    assert np.isfinite(model.user_embeddings_).all()


def test_same_seed_same_model(chunks):
    first, second = chunks
    one, other = (make_model().fit(first).partial_fit(second, n_epochs=2) for _ in range(2))
    np.testing.assert_array_equal(one.user_embeddings_, other.user_embeddings_)


def test_a_pickled_model_continues_as_the_original(chunks):
    first, second = chunks
    model = make_model().fit(first)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        copied.partial_fit(second).item_embeddings_,
        model.partial_fit(second).item_embeddings_,
    )


def test_the_random_numbers_of_others_stay(chunks):
    first, second = chunks
    model = make_model().fit(first)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    model.partial_fit(second)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_a_refused_chunk_changes_nothing(data, chunks):
    first, second = chunks
    model = make_model(item_features=["kind"])
    first, second = first.assign(kind="a"), second.assign(kind="b")
    model.fit(first)
    before = pickle.dumps(model)
    for bad, message in (
        (second.assign(item_id=np.nan), "missing item id"),
        (second.drop(columns="user_id"), "lacks the column 'user_id'"),
        (second.assign(kind=1.5), "'kind' was fitted as 'category'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(bad)
        assert pickle.dumps(model) == before
    with pytest.raises(ValueError, match="no row of X is a positive"):
        model.partial_fit(second, np.zeros(len(second)))
    for n_epochs in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="n_epochs must be an integer of at least 1"):
            model.partial_fit(second, n_epochs=n_epochs)
    assert pickle.dumps(model) == before


def test_a_chunk_that_diverges_changes_nothing(chunks):
    first, second = chunks
    second = second[: len(first) // 20]  # so few that not all rows are replayed
    model = make_model(normalize=False).fit(first).partial_fit(second)
    before = pickle.dumps(model)
    learning_rate = model.learning_rate
    model.set_params(learning_rate=1e30)
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(second, n_epochs=3)
    assert pickle.dumps(model.set_params(learning_rate=learning_rate)) == before


def test_known_items_with_new_categories(data, chunks):
    first, second = chunks
    table = data.item_table[["item_id"]].assign(kind="a")
    model = make_model(item_table=table).fit(first)
    model.partial_fit(second)
    assert model.item_encoder_.get_feature_names_out().tolist() == ["kind_a"]
    table = table.assign(kind=np.where(table["item_id"] < 5, "b", "a"))
    model.set_params(item_table=table).partial_fit(second)
    assert model.item_encoder_.get_feature_names_out().tolist() == ["kind_a", "kind_b"]


def test_rows_are_counted_once(data):
    """With warm_start the same rows come twice; a rare category stays rare."""
    X = data.interactions.assign(kind="common")
    user = X["user_id"].iloc[0]
    X.loc[X["user_id"] == user, "kind"] = "rare"
    model = make_model(user_features=["kind"], warm_start=True).fit(X)
    names = model.user_encoder_.get_feature_names_out().tolist()
    assert model.fit(X).user_encoder_.get_feature_names_out().tolist() == names
    assert len(names) == 2


def test_features_of_before_are_not_lacking(data, chunks):
    first, second = chunks
    model = make_model(item_table=data.item_table, item_id_embedding=False).fit(first)
    model.set_params(item_table=data.item_table[data.item_table["item_id"] < 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(second)
    # a later item without a row in the table is placed by the features it had
    later = data.item_table[data.item_table["item_id"] >= 30]
    by_features = model.item_tower_.transform(later.drop(columns="item_id"))
    np.testing.assert_array_equal(
        model.item_tower_.transform(later["item_id"]), by_features
    )


def test_verbose_counts_the_epochs_of_the_chunk(chunks, capsys):
    first, second = chunks
    model = make_model().fit(first).set_params(verbose=1)
    capsys.readouterr()
    model.partial_fit(second, n_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    epochs = [line.split("  ")[0] for line in lines if line.startswith("epoch")]
    assert epochs == ["epoch 1/2", "epoch 2/2"]


def test_new_categories_get_columns(data, chunks):
    first, second = chunks
    table = data.item_table.assign(kind=np.where(data.item_table["item_id"] < 30, "a", "b"))
    early = table[table["item_id"] < 30]
    model = make_model(item_table=early).fit(first)
    assert not any("kind_b" in name for name in model.item_encoder_.get_feature_names_out())
    entities = model._state.item.entities
    width = entities.features.shape[1]
    columns = model._state.tower("item").column_table.detach().numpy().copy()
    fields = dict(entities.fields)
    encoder = model.item_encoder_
    model.set_params(item_table=table, learning_rate=1e-30, weight_decay=0.0)
    model.partial_fit(second)
    entities = model._state.item.entities
    assert entities.features.shape[1] > width
    assert any("kind_b" in name for name in model.item_encoder_.get_feature_names_out())
    assert encoder is not model.item_encoder_  # the one from before is as it was
    now = model._state.tower("item").column_table.detach().numpy()
    for name, old in fields.items():
        new = entities.fields[name]
        width = old.stop - old.start
        np.testing.assert_allclose(
            now[new.start : new.start + width], columns[old], atol=1e-6
        )
        unknown = encoder.unknown_columns_.get(name)
        expected = 0.0 if unknown is None else columns[unknown]
        for row in now[new.start + width : new.stop]:
            np.testing.assert_allclose(row, expected + 0 * row, atol=1e-6)


def test_other_encoders_stay_as_they_are(data, chunks):
    first, second = chunks
    table = data.item_table.assign(kind=np.where(data.item_table["item_id"] < 30, "a", "b"))
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = make_model(
        item_table=table.loc[table["item_id"] < 30, ["item_id", "kind"]],
        item_encoder=encoder,
    ).fit(first)
    fitted = model.item_encoder_
    model.set_params(item_table=table[["item_id", "kind"]]).partial_fit(second)
    assert model.item_encoder_ is fitted
    assert model.item_encoder_.get_feature_names_out().tolist() == ["kind_a"]


def test_features_in_X_are_the_latest_over_all_chunks(data):
    X = data.interactions.iloc[:300].assign(mood="x", when=np.arange(300))
    model = make_model(user_features=["mood"], timestamp_column="when").fit(X)
    user = X["user_id"].iloc[0]
    later = X[X["user_id"] == user].iloc[:1].assign(mood="y", when=1000)
    model.partial_fit(pd.concat([later] * 2))  # two, so that y is not rare
    other = X["user_id"][X["user_id"] != user].iloc[0]
    users = model.user_tower_
    for one, mood, wrong in ((user, "y", "x"), (other, "x", "y")):
        known = users.transform([one])
        named, misnamed = (
            users.transform(pd.DataFrame({"user_id": [one], "mood": [value]}))
            for value in (mood, wrong)
        )
        np.testing.assert_allclose(known, named, atol=1e-6)
        assert not np.allclose(known, misnamed, atol=1e-4)


def test_histories_grow_in_partial_fit(chunks):
    first, second = chunks
    model = make_model(history=PooledHistory(4), user_id_embedding=False)
    model.fit(first).partial_fit(second)
    both = pd.concat([first, second])
    user = second["user_id"].iloc[0]
    last = both[both["user_id"] == user][-4:]
    assert len(last) == 4
    assert_same_answer(
        model.recommend([user], exclude_seen=False, n_recommendations=5),
        model.recommend(
            [-1],
            history=last.assign(user_id=-1),
            exclude_seen=False,
            n_recommendations=5,
        ),
        atol=1e-6,
    )


def test_frequencies_include_the_old_data(chunks):
    first, second = chunks
    model = make_model(negatives="in_batch").fit(first).partial_fit(second)
    assert model._state.frequencies is None  # the counts say it
    model = make_model(negatives="in_batch").fit(first)
    second = second[: len(first) // 20]  # so few that not all rows are replayed
    model.partial_fit(second)
    once = model._state.frequencies
    assert once.step >= 1
    item = first["item_id"].value_counts().index[0]
    code = 1 + model.item_ids_.tolist().index(item)
    share = (first["item_id"] == item).mean()
    gap = 1 / (1 - (1 - share) ** 64)  # in-batch candidates of 64 rows, or nearly so
    assert once.gaps[code].item() == pytest.approx(gap, rel=0.35)
    steps = once.step
    model.partial_fit(second)
    assert model._state.frequencies.step > steps


def test_an_item_that_was_only_turned_down_is_replayed():
    """It has no positive, so no row is ranked against it."""
    rows = pd.DataFrame({"user": [1, 1, 1, 2, 2], "item": [1, 2, 3, 1, 2]})
    labels = [1, 1, 0, 1, 1]
    names = {"user_column": "user", "item_column": "item"}
    model = helpers.make_model(**names).fit(rows, labels).partial_fit(rows, labels)
    assert np.isfinite(model.loss_curve_).all()


def test_sample_weights_and_explicit_negatives(chunks):
    first, second = chunks
    y = np.where(np.arange(len(second)) % 3 == 0, 0, 1)
    model = make_model(loss="cross_entropy").fit(first)
    model.partial_fit(second, y, sample_weight=np.linspace(0, 2, len(second)))
    assert np.isfinite(model.loss_curve_).all()
    model = make_model().fit(first)
    model.partial_fit(second, y, sample_weight=np.linspace(0, 2, len(second)))
    assert np.isfinite(model.loss_curve_).all()


def test_warm_start_begins_where_the_last_fit_ended(data):
    X = data.interactions
    cold = make_model(max_iter=3).fit(X)
    warm = make_model(max_iter=3, warm_start=True).fit(X)
    np.testing.assert_array_equal(cold.user_embeddings_, warm.user_embeddings_)
    first = warm.loss_curve_[0]
    warm.fit(X)
    assert warm.n_iter_ == 3
    assert warm.loss_curve_[0] < first
    still = clone(warm).fit(X)  # a clone has nothing to start from
    np.testing.assert_array_equal(still.user_embeddings_, cold.user_embeddings_)


def test_warm_start_takes_new_ids_and_forgets_old_pairs(chunks):
    first, second = chunks
    model = make_model(warm_start=True).fit(first)
    users = model.user_ids_.tolist()
    model.fit(second)
    assert model.user_ids_[: len(users)].tolist() == users
    assert set(second["user_id"]) <= set(model.user_ids_)
    found = model.recommend(model.user_ids_, n_recommendations=99, as_frame=True)
    n_pairs = len(model.user_ids_) * len(model.item_ids_)
    n_seen = len(second.drop_duplicates(["user_id", "item_id"]))
    assert len(found) == n_pairs - n_seen


@pytest.mark.slow
def test_partial_fit_by_time_is_nearly_as_good_as_one_fit():
    """On real data, each user of which comes for a short time and does not come back."""
    X = load_movielens_small().interactions
    X = X[X["user_id"] <= 120]
    split = LastInteractionsSplit(
        fraction=0.2, timestamp_column="timestamp", user_column="user_id"
    )
    train, test = next(split.split(X))
    train, test = X.iloc[train].sort_values("timestamp"), X.iloc[test]
    model = make_model(
        embedding_dim=32,
        max_iter=15,
        batch_size=512,
        history=PooledHistory(20),
        timestamp_column="timestamp",
    )
    fit = clone(model).fit(train).score(test)
    for rows in np.array_split(np.arange(len(train)), 5):
        model.partial_fit(train.iloc[rows], n_epochs=2)
    assert model.score(test) > 0.9 * fit
