"""A user tower that reads the history in its order, as a user of the package meets it."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender, load
from sktwotower._nn.sequence_rows import SequenceRows
from sktwotower.datasets import make_interactions
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.inspection import feature_importance
from tests.helpers import same_embeddings

N_ITEMS, LENGTH = 24, 9
COLUMNS = ["user", "item", "time"]


def walks(n_users=300, seed=0):
    """Users who go round a circle of items, half of them backwards.

    Where a user goes next is said by the order of the last two items.
    """
    rng = np.random.default_rng(seed)
    starts, turns = rng.integers(0, N_ITEMS, n_users), rng.choice([-1, 1], n_users)
    steps = np.arange(LENGTH)
    items = (starts[:, None] + turns[:, None] * steps) % N_ITEMS
    frame = {
        "user": np.repeat(np.arange(n_users), LENGTH),
        "item": items.ravel(),
        "time": np.tile(steps, n_users),
    }
    return pd.DataFrame(frame), turns


def make(history=None, **parameters):
    values = {
        "user_column": "user",
        "item_column": "item",
        "timestamp_column": "time",
        "history": TransformerHistory(size=4) if history is None else history,
        "embedding_dim": 16,
        "batch_size": 128,
        "max_iter": 2,
        "random_state": 0,
    }
    return TwoTowerRecommender(**values | parameters)


X, TURNS = walks()


@pytest.fixture(scope="module")
def fitted():
    """A model that has learned the walks."""
    return make(max_iter=12).fit(X)


def clicks(items, user=-1):
    """A history of a user that training does not know."""
    times = LENGTH + np.arange(len(items))
    return pd.DataFrame({"user": user, "item": items, "time": times})


def after(model, items, **options):
    """What is recommended to a new user after these clicks."""
    found, _ = model.recommend([-1], history=clicks(items), n_recommendations=3, **options)
    return found[0].tolist()


# --- what it learns ------------------------------------------------------------------


def share_of_right_turns(model):
    """How often the item after two clicks is the next one in their direction."""
    first, second = np.arange(N_ITEMS), (np.arange(N_ITEMS) + 1) % N_ITEMS
    forward = [after(model, [a, b])[0] for a, b in zip(first, second, strict=True)]
    backward = [after(model, [b, a])[0] for a, b in zip(first, second, strict=True)]
    right = forward == (second + 1) % N_ITEMS, backward == (first - 1) % N_ITEMS
    return np.mean(right)


def test_the_next_item_follows_from_the_order(fitted):
    assert share_of_right_turns(fitted) > 0.95


@pytest.mark.slow
def test_a_bag_is_right_half_of_the_time():
    bag = make(PooledHistory(size=4), max_iter=20, user_id_embedding=False).fit(X)
    assert share_of_right_turns(bag) == 0.5


def test_known_and_new_users_are_ranked_by_their_history_alone(fitted):
    user = int(X["user"].iloc[-1])
    items = X.loc[X["user"] == user, "item"].tolist()
    known, _ = fitted.recommend([user], n_recommendations=3)
    assert known[0].tolist() == after(fitted, items)
    # one more click counts
    step = (items[-1] + TURNS[user]) % N_ITEMS
    moved, _ = fitted.recommend([user], history=clicks([step], user), n_recommendations=3)
    assert moved[0].tolist() == after(fitted, [*items, step])
    assert moved[0, 0] == (step + TURNS[user]) % N_ITEMS
    # a history is cut to its end
    options = {"exclude_seen": False}
    assert after(fitted, items, **options) == after(fitted, items[-4:], **options)


def test_an_empty_history_and_unknown_items(fitted):
    nothing, scores = fitted.recommend([-1], n_recommendations=3)
    assert np.isfinite(scores).all()
    with pytest.warns(UserWarning, match="1 of 3 item ids of history are not known"):
        assert after(fitted, [0, 999, 1]) == after(fitted, [0, 1])
    with pytest.warns(UserWarning, match="1 of 1 item ids of history are not known"):
        assert after(fitted, [999]) == nothing[0].tolist()


def test_a_new_item_says_something_by_its_features():
    drawn = make_interactions(60, 30, 1500, random_state=0)
    rows = drawn.interactions
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        timestamp_column="timestamp",
        item_table=EntityTable(drawn.item_table, "item_id"),
        history=TransformerHistory(size=5),
        id_dropout=0.2,
        max_iter=2,
        random_state=0,
    ).fit(rows)
    known = drawn.item_table.iloc[:2]
    model.add_items(known.assign(item_id=[1001, 1002]))
    time = rows["timestamp"].max() + pd.Timedelta(days=1)

    def scores_after(item):
        history = pd.DataFrame({"user_id": [-1], "item_id": [item], "timestamp": [time]})
        return model.recommend([-1], history=history, n_recommendations=5)[1]

    assert not np.allclose(scores_after(1001), scores_after(1002))


def test_without_times_the_order_of_the_rows_is_the_order(capsys):
    model = make(timestamp_column=None, verbose=1).fit(X[["user", "item"]])
    assert "(the order of the rows is taken as their order in time)" in (
        capsys.readouterr().out
    )
    timed = make(verbose=1).fit(X)
    assert "order of the rows" not in capsys.readouterr().out
    assert same_embeddings(model, timed)


# --- the estimator around it ---------------------------------------------------------


def test_it_is_a_parameter_with_parameters(fitted):
    model = make().set_params(history__size=7, history__n_layers=1)
    assert clone(model).history.get_params() == {
        "size": 7,
        "n_layers": 1,
        "n_heads": 2,
        "dropout": 0.2,
    }
    assert repr(fitted.history_) == "TransformerHistory(size=4)"
    grid = {"history__size": [2, 3]}
    search = GridSearchCV(make(max_iter=1), grid, cv=2).fit(X[:900])
    assert search.best_estimator_.history_.size in (2, 3)


@pytest.mark.parametrize("loss", ["softmax", "bpr", "cross_entropy"])
def test_the_same_seed_gives_equal_bits(loss):
    options = {"loss": loss, "id_dropout": 0.1, "user_id_embedding": True}
    first, again, other = (
        make(**options, random_state=seed).fit(X[:600]) for seed in (3, 3, 4)
    )
    assert same_embeddings(first, again) and not same_embeddings(first, other)
    assert first.loss_curve_[-1] < first.loss_curve_[0]


def test_a_history_of_training_rows_has_nothing_of_the_held_out_ones():
    """The scores of early stopping are those of a model without the held-out rows."""
    train, test = X[X["time"] < LENGTH - 1], X[X["time"] == LENGTH - 1]
    model = make(max_iter=4, early_stopping=True, refit=False).fit(train, X_val=test)
    assert model.best_validation_score_ == model.score(test)
    assert model.score(test) > 0.2  # of 24 items


def test_saved_and_loaded(tmp_path, fitted):
    fitted.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert same_embeddings(loaded, fitted) and loaded.history_.size == 4
    for other in (loaded, pickle.loads(pickle.dumps(fitted))):
        assert after(other, [5, 8]) == after(fitted, [5, 8])
    assert same_embeddings(
        loaded.partial_fit(X[:90]), pickle.loads(pickle.dumps(fitted)).partial_fit(X[:90])
    )


def test_exported(tmp_path, fitted):
    """The graph gives the vectors of known users from their lists of items."""
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted.export_onnx(tmp_path / "graphs", k=3)
    arrays = np.load(tmp_path / "graphs" / "users.npz")
    ends = arrays["history_ends"]
    rows = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    # items of code 0 change nothing, wherever they stand
    rows, items = np.insert(rows, 3, rows[3]), np.insert(arrays["history_items"], 3, 0)
    session = onnxruntime.InferenceSession(tmp_path / "graphs" / "user_tower.onnx")
    feed = {
        "code": np.arange(len(ends)),
        "history_row": rows.astype(np.int64),
        "history_item": items.astype(np.int64),
    }
    (vectors,) = session.run(None, feed)
    np.testing.assert_allclose(vectors, arrays["vectors"], atol=1e-5)


def test_continued():
    model = make().fit(X[X["user"] < 200])
    model.partial_fit(X[X["user"] >= 200], n_epochs=1)
    assert len(model.user_ids_) == 300
    assert after(model, [0, 1]) != after(model, [1, 0])
    with pytest.raises(ValueError, match="history"):
        model.set_params(history__n_layers=1).partial_fit(X[:90])
    with pytest.raises(ValueError, match="history"):
        model.set_params(history=PooledHistory()).partial_fit(X[:90])
    model.set_params(history=TransformerHistory(size=4, dropout=0.5), warm_start=True)
    assert np.isfinite(model.fit(X).loss_curve_).all()


def test_the_history_is_all_that_counts():
    model, test = make(max_iter=8).fit(X[X["time"] < 8]), X[X["time"] == 8]
    importance = feature_importance(model, test, n_repeats=1, random_state=0)
    shares = importance.set_index(["side", "field"])["importance_mean"]
    assert shares["user", "history"] > 0.5 * importance.attrs["baseline"]


@pytest.mark.parametrize("negatives", ["full", "in_batch", "mixed"])
def test_explicit_negatives_weights_and_views(negatives):
    """A negative of a user lowers its score; what else a batch may have is trained, too."""
    table = pd.DataFrame({"item": range(N_ITEMS), "kind": ["a", "b", "c"] * 8})
    rows = X.assign(hour=X["time"] % 3)  # changes from row to row
    against = pd.DataFrame({"user": range(300), "item": 7, "time": 50, "hour": 0})
    own = rows["user"].isin(rows["user"][rows["item"] == 7])
    against = against[~against["user"].isin(rows["user"][own])]
    options = {
        "negatives": negatives,
        "item_table": table,
        "user_features": ["hour"],
        "ssl_pattern": "rfm",
    }
    plain = make(**options).fit(rows)
    both = pd.concat([rows, against])
    y = np.r_[np.ones(len(rows)), np.zeros(len(against))]
    weights = np.r_[np.ones(len(rows)), np.full(len(against), 20.0)]
    taught = make(**options).fit(both, y, sample_weight=weights)
    asked = against[["user", "item"]].assign(time=60, hour=0)[rows.columns]
    assert taught.predict(asked).mean() < plain.predict(asked).mean() - 0.1


def test_rows_of_a_file(tmp_path):
    pytest.importorskip("pyarrow")
    X.to_parquet(tmp_path / "rows.parquet")
    assert same_embeddings(make().fit(tmp_path / "rows.parquet"), make().fit(X))


# --- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (TransformerHistory(size=0), "'size' parameter of TransformerHistory"),
        (TransformerHistory(n_layers=0), "'n_layers' parameter of TransformerHistory"),
        (TransformerHistory(dropout=1.0), "'dropout' parameter of TransformerHistory"),
        (TransformerHistory(n_heads=3), r"n_heads=3\) does not divide embedding_dim=16"),
        (TransformerHistory, r"make an object of it: TransformerHistory\(\)"),
    ],
    ids=str,
)
def test_bad_histories(history, message):
    with pytest.raises(ValueError, match=message):
        make(history).fit(X)


def test_times_of_another_kind(fitted):
    history = clicks([0, 3]).assign(time=pd.Timestamp("2024-01-01"))
    with pytest.raises(ValueError, match="give numbers"):
        fitted.recommend([-1], history=history)


def test_two_halves_of_a_batch_train_what_one_part_trains(monkeypatch):
    model = make(TransformerHistory(size=4, dropout=0.0))
    halves = model.fit(X).user_embeddings_
    monkeypatch.setattr(
        SequenceRows, "halves", lambda self, rows: [torch.arange(len(rows))]
    )
    np.testing.assert_allclose(halves, clone(model).fit(X).user_embeddings_, atol=1e-4)


def test_threads_do_not_change_the_model():
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        model = make().fit(X)
    finally:
        torch.set_num_threads(n_threads)
    alone = make().fit(X)
    for name in ("user_embeddings_", "item_embeddings_"):
        np.testing.assert_allclose(getattr(model, name), getattr(alone, name), atol=1e-5)
