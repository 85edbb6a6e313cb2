"""Who is asked for, and how: ids, rows with features, rows without ids, histories."""

import copy
import pickle
import random
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

from sktwotower import EntityTable
from sktwotower.history import PooledHistory
from tests.helpers import assert_same_answer, make_model, make_X, other_pairs

N_USERS, N_ITEMS, N_ROWS = 15, 12, 150
GLOBAL = check_random_state(None)  # the instance behind np.random.rand


def add_columns(X, seed=0):
    rng = np.random.RandomState(seed)
    return X.assign(
        mood=rng.choice(["calm", "wild"], len(X)),
        age=rng.randint(20, 60, len(X)) * 1.0,
        price=rng.choice([1.0, 2.0, 5.0], len(X)),
    )


X = add_columns(make_X(n_rows=N_ROWS, n_users=N_USERS, n_items=N_ITEMS))
USERS = pd.DataFrame(
    {
        "user": range(N_USERS),
        "city": np.array(["rome", "oslo", "bern"])[np.arange(N_USERS) % 3],
        "height": 150.0 + np.arange(N_USERS) * 7 % 40,
    }
)
ITEMS = pd.DataFrame({"item": range(N_ITEMS), "genre": list("aabbccddaabb")})


def with_everything(**parameters):
    return make_model(
        user_table=USERS,
        item_table=ITEMS,
        user_features=["mood", "age"],
        item_features=["price"],
        timestamp_column="time",
        history=PooledHistory(3),
        id_dropout=0.2,
        **parameters,
    )


def of_history(**parameters):
    """Users are their history and nothing else."""
    return make_model(user_id_embedding=False, history=PooledHistory(3), **parameters)


def all_scores(model, query, **options):
    """Scores of all items for each query, in the order of ``item_ids_``."""
    frames = []
    for position in range(len(query)):
        one = query[position : position + 1]
        frame = model.recommend(
            one, n_recommendations=99, exclude_seen=False, as_frame=True, **options
        )
        frames.append(frame.set_index("item")["score"][model.item_ids_].to_numpy())
    return np.array(frames)


def clicks(user, items, **columns):
    return pd.DataFrame({"user": user, "item": items, **columns})


assert_equal = partial(assert_same_answer, atol=1e-6)


def differ(one, other):
    return not np.allclose(one, other, atol=1e-4)


# --- ids, and rows -------------------------------------------------------------------


def test_features_equal_to_the_table_change_nothing():
    model = make_model(user_table=USERS, history=PooledHistory(2)).fit(X)
    expected = model.recommend(USERS["user"])
    for names in (["user"], ["user", "city"], ["user", "height"], list(USERS)):
        assert_equal(model.recommend(USERS[names]), expected)
        np.testing.assert_allclose(
            model.user_tower_.transform(USERS[names]),
            model.user_tower_.transform(USERS["user"]),
            atol=1e-6,
        )
    shuffled = USERS.sample(frac=1, random_state=0)
    found = model.recommend(shuffled[["height", "user"]])
    assert_equal(found, [part[shuffled["user"]] for part in expected])


def test_features_of_a_batch_take_the_place_of_those_of_training():
    """One row is changed in one feature; the others, and its others, stay."""
    model = make_model(user_table=USERS).fit(X)
    query = USERS[["user", "city"]].copy()
    query.loc[4, "city"] = "rome" if query["city"][4] != "rome" else "oslo"
    moved = (all_scores(model, query) != all_scores(model, USERS[["user", "city"]])).any(1)
    assert moved.tolist() == [user == 4 for user in range(N_USERS)]
    complete = USERS.assign(city=query["city"])
    np.testing.assert_allclose(
        model.user_tower_.transform(query), model.user_tower_.transform(complete), atol=1e-6
    )
    # and the model has not learnt it
    assert_equal(model.recommend([4]), model.recommend(USERS[4:5]))


def test_scores_are_those_of_the_towers():
    model = with_everything().fit(X)
    query = pd.DataFrame({"user": [3, -1, 7], "mood": "wild", "city": ["oslo"] * 3})
    items = model.item_tower_.transform(model.item_ids_)
    by_hand = model.user_tower_.transform(query) @ items.T
    np.testing.assert_allclose(all_scores(model, query), by_hand, atol=1e-6)


def test_frames_without_ids():
    model = with_everything().fit(X)
    rows = pd.DataFrame(
        {"mood": ["calm", "wild"], "age": [30.0, 50.0]}, index=["first", "second"]
    )
    frame = model.recommend(rows, n_recommendations=3, as_frame=True)
    assert frame["user"].tolist() == ["first"] * 3 + ["second"] * 3
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    strangers = rows.assign(user=[-2, -3])
    assert_equal(model.recommend(rows), model.recommend(strangers))
    assert differ(*all_scores(model, rows))
    # An index that looks like ids of training is none.
    assert_equal(model.recommend(rows.set_index(pd.Index([0, 1]))), model.recommend(rows))
    np.testing.assert_array_equal(
        model.user_tower_.transform(rows), model.user_tower_.transform(strangers)
    )
    np.testing.assert_array_equal(
        model.item_tower_.transform(ITEMS[["genre"]]),
        model.item_tower_.transform(ITEMS.assign(item=-2)),
    )
    message = "X lacks the column 'user'"
    with pytest.raises(ValueError, match=message):
        model.recommend(pd.DataFrame({"nothing": [1]}))


def test_arrays_are_laid_out_like_X():
    columns = ["user", "item", "mood", "age", "price"]
    array = X[columns].to_numpy(dtype=object)
    options = dict(user_features=[2, 3], item_features=[4], user_id_embedding=False)
    model = make_model(user_column=0, item_column=1, **options).fit(array)
    named = make_model(user_column=0, item_column=1, **options).fit(X[columns])
    rows = array[:6].copy()
    rows[:, 1] = None  # the item of a query is not read
    rows[:, 3] = 25.0
    query = X[:6].assign(age=25.0)[["user", "mood", "age"]]
    for form in (rows, rows.tolist()):
        assert_equal(model.recommend(form), named.recommend(query))
    ids = rows[:, 0].tolist()
    assert differ(all_scores(model, rows), all_scores(model, ids))
    assert_equal(model.recommend(ids), named.recommend(query["user"]))
    with pytest.raises(ValueError, match="X has 3 features.*expecting 5"):
        model.recommend(rows[:, :3])


@pytest.mark.parametrize("form", [list, tuple, np.array, pd.Series, pd.Index])
def test_ids_in_every_form(form):
    model = with_everything().fit(X)
    assert_equal(
        model.recommend(form([3, 5])), model.recommend(pd.DataFrame({"user": [3, 5]}))
    )


def test_the_same_user_twice():
    model = with_everything().fit(X)
    found, scores = model.recommend([3, 5, 3])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(scores[0], scores[2])
    rows = pd.DataFrame({"user": [3, 5, 3, 3], "mood": ["calm", "calm", "wild", "calm"]})
    calm, _, wild, again = all_scores(model, rows)
    np.testing.assert_allclose(calm, again, atol=1e-6)
    assert differ(calm, wild)
    together = model.recommend(rows)
    for position in range(4):
        alone = model.recommend(rows[position : position + 1])
        assert_equal([part[position : position + 1] for part in together], alone)
    # Each of the rows has the history of the user.
    more = clicks([3, 5, 3], [0, 1, 2], time=[900, 901, 902])
    found, _ = model.recommend(rows, history=more, n_recommendations=N_ITEMS)
    for row, user in zip(found, rows["user"], strict=True):
        assert not set(row) & set(more["item"][more["user"] == user])
    np.testing.assert_array_equal(found[0], found[3])


def test_an_empty_query():
    model = with_everything().fit(X)
    for nobody in ([], X[:0]):
        found, scores = model.recommend(nobody)
        assert found.shape == scores.shape == (0, 10)
        assert len(model.recommend(nobody, as_frame=True)) == 0


# --- history -------------------------------------------------------------------------


def clusters(seed=0, n_users=90, n_each=8):
    """Users stay within one of three clusters of ten items."""
    rng = np.random.RandomState(seed)
    items = [
        rng.choice(10, n_each, replace=False) + 10 * (user % 3) for user in range(n_users)
    ]
    return pd.DataFrame(
        {"user": np.repeat(np.arange(n_users), n_each), "item": np.concatenate(items)}
    )


@pytest.mark.slow
@pytest.mark.parametrize("user_id_embedding", [True, False])
def test_three_clicks_make_it_personal(user_id_embedding):
    model = make_model(
        history=PooledHistory(5),
        user_id_embedding=user_id_embedding,
        id_dropout=0.3,
        embedding_dim=8,
        max_iter=15,
        batch_size=64,
    ).fit(clusters())
    new = [-1, -2, -3]
    items = [[1, 4, 7], [12, 15, 18], [20, 21, 29]]
    history = pd.concat([clicks(u, i) for u, i in zip(new, items, strict=True)])
    found, _ = model.recommend(new, history=history, n_recommendations=7)
    for cluster in range(3):  # the seven that are left
        rest = set(range(10 * cluster, 10 * cluster + 10)) - set(items[cluster])
        assert len(set(found[cluster]) & rest) >= 6
    # whatever the order of the rows, and of the users
    turned, _ = model.recommend(new[::-1], history=history[::-1], n_recommendations=7)
    np.testing.assert_array_equal(turned[::-1], found)


@pytest.mark.parametrize("of_model", [None, PooledHistory(3)])
def test_a_history_is_seen(of_model):
    model = make_model(history=of_model).fit(X)
    history = clicks([0, 0, -1, -1, -1], [3, 5, 1, 2, 2])
    found, _ = model.recommend([0, -1, 1], history=history, n_recommendations=99)
    seen = {user: set(X["item"][X["user"] == user]) for user in (0, 1)}
    everything = set(range(N_ITEMS))
    left = [set(row) - {None} for row in found]
    assert left[0] == everything - seen[0] - {3, 5}
    assert left[1] == everything - {1, 2}
    assert left[2] == everything - seen[1]
    found, _ = model.recommend(
        [0, -1], history=history, n_recommendations=99, exclude_seen=False
    )
    assert all(set(row) - {None} == everything for row in found)
    if of_model is None:  # and that is all that it is
        expected = all_scores(model, [0, -1])
        np.testing.assert_array_equal(all_scores(model, [0, -1], history=history), expected)


def test_a_history_by_hand():
    """Through a linear tower: sum / sqrt(n) of what single clicks say."""
    model = of_history(normalize=False, temperature=1.0, weight_decay=0.0).fit(X)
    nothing, *rest = (
        all_scores(model, [-1], **options)[0]
        for options in (
            {},
            *({"history": clicks(-1, items)} for items in ([3], [5], [8], [3, 5, 8])),
        )
    )
    singles, together = rest[:3], rest[3]
    by_hand = nothing + sum(one - nothing for one in singles) / np.sqrt(3)
    np.testing.assert_allclose(together, by_hand, atol=1e-5)
    assert differ(together, nothing)


@pytest.mark.parametrize("timestamp_column", [None, "time"])
@pytest.mark.parametrize("size", [1, 3, 50, None])
def test_the_history_of_a_known_user_makes_the_same_vector(timestamp_column, size):
    model = make_model(
        user_id_embedding=False,
        history=PooledHistory(size),
        timestamp_column=timestamp_column,
    ).fit(X)
    users = [0, 7, 11]
    history = X[X["user"].isin(users)].assign(user=lambda rows: -1 - rows["user"])
    new = [-1 - user for user in users]
    assert_equal(model.recommend(new, history=history), model.recommend(users))
    np.testing.assert_allclose(
        all_scores(model, new, history=history), all_scores(model, users), atol=1e-6
    )
    assert differ(all_scores(model, new), all_scores(model, users))


def test_a_history_is_added_to_the_known_one():
    """The last three of both: one of training, and two of the query."""
    model = of_history(timestamp_column="time").fit(X)
    more = clicks(0, [3, 5], time=[900, 901])
    known = X[X["user"] == 0].sort_values("time")[["user", "item", "time"]]
    last = pd.concat([known[-1:], more]).assign(user=-1)
    np.testing.assert_allclose(
        all_scores(model, [0], history=more), all_scores(model, [-1], history=last)
    )
    assert differ(all_scores(model, [0], history=more), all_scores(model, [0]))


def test_timestamps_order_a_history():
    model = make_model(
        user_id_embedding=False, history=PooledHistory(1), timestamp_column="time"
    ).fit(X)
    single = {item: all_scores(model, [-2], history=clicks(-2, [item])) for item in (3, 5)}
    assert differ(single[3], single[5])

    def found(user, items, times=None):
        columns = {} if times is None else {"time": times}
        return all_scores(model, [user], history=clicks(user, items, **columns))

    np.testing.assert_allclose(found(-1, [3, 5], [10, 11]), single[5], atol=1e-6)
    np.testing.assert_allclose(found(-1, [3, 5], [11, 10]), single[3], atol=1e-6)
    np.testing.assert_allclose(found(-1, [3, 5], [10, 10]), single[5], atol=1e-6)
    np.testing.assert_allclose(found(-1, [5, 3]), single[3], atol=1e-6)
    # of a known user: before, after and without a date
    last = X["time"][X["user"] == 0].max()
    np.testing.assert_allclose(found(0, [3], [last - 1]), all_scores(model, [0]), atol=1e-6)
    np.testing.assert_allclose(found(0, [3], [last + 1]), single[3], atol=1e-6)
    np.testing.assert_allclose(found(0, [3]), single[3], atol=1e-6)
    np.testing.assert_allclose(found(0, [3, 5]), single[5], atol=1e-6)


@pytest.mark.parametrize("of_history", ["s", "ns", "strings"])
@pytest.mark.parametrize("of_fit", ["s", "ns"])
def test_datetimes_of_any_unit(of_fit, of_history):
    """Frames come from parquet in one unit and from a request in another."""
    start = pd.Timestamp("2024-01-01")

    def times(days, unit):
        moments = start + pd.to_timedelta(days, unit="D")
        if unit == "strings":  # what pandas makes of them is its own affair
            return pd.to_datetime(moments.strftime("%Y-%m-%d"))
        return moments.astype(f"datetime64[{unit}]")

    model = make_model(
        user_id_embedding=False, history=PooledHistory(1), timestamp_column="time"
    ).fit(X.assign(time=times(X["time"].to_numpy(), of_fit)))
    single = all_scores(model, [-2], history=clicks(-2, [3]))
    last = X["time"][X["user"] == 0].max()
    for days, expected in ((last - 1, all_scores(model, [0])), (last + 1, single)):
        history = clicks(0, [3], time=times(np.array([days]), of_history))
        np.testing.assert_allclose(
            all_scores(model, [0], history=history), expected, atol=1e-6
        )


def test_histories_of_others_change_nothing():
    model = with_everything().fit(X)
    own = clicks(0, [3], time=[900])
    others = clicks([1, "else", 2], [4, 5, 6], time=[901, 902, 903])
    both = pd.concat([others[:2], own, others[2:]])
    assert_equal(
        model.recommend([0, 9], history=both), model.recommend([0, 9], history=own)
    )
    assert_equal(model.recommend([0, 9], history=others), model.recommend([0, 9]))


def test_unknown_items_of_a_history():
    model = of_history().fit(X)
    history = clicks(-1, [-2, 3, -3, 5, -2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.recommend([-1], history=history)
    (warning,) = caught
    assert str(warning.message) == (
        "3 of 5 item ids of history are not known items and are left out."
    )
    assert warning.filename == __file__
    assert_equal(found, model.recommend([-1], history=clicks(-1, [3, 5])))


def test_a_history_of_rows_without_ids():
    """They are called by the index of the frame, in a history, too."""
    model = with_everything().fit(X)
    rows = pd.DataFrame({"mood": ["calm", "wild"]}, index=["first", "second"])
    history = clicks(["second"] * 2, [3, 5], time=[900, 901])
    found, _ = model.recommend(rows, history=history, n_recommendations=N_ITEMS)
    assert set(found[0]) == set(range(N_ITEMS))
    assert set(found[1]) - {None} == set(range(N_ITEMS)) - {3, 5}


def test_a_history_of_arrays():
    array = X[["user", "item", "time"]].to_numpy()
    model = make_model(
        user_column=0, item_column=1, timestamp_column=2, history=PooledHistory(3)
    ).fit(array)
    frame = make_model(history=PooledHistory(3), timestamp_column="time").fit(X)
    history = clicks([0, 99], [3, 5], time=[900, 901])
    assert_equal(
        model.recommend([0, 99], history=history.to_numpy()),
        frame.recommend([0, 99], history=history),
    )


@pytest.mark.parametrize("of_model", [None, PooledHistory(3)])
def test_an_empty_history_is_none(of_model):
    """A service asks with what it has, and that may be nothing yet."""
    model = make_model(history=of_model).fit(X)
    nothing = clicks([], [])
    assert_equal(model.recommend([0, -1], history=nothing), model.recommend([0, -1]))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (pd.DataFrame({"item": [1]}), "lacks the column 'user'"),
        (pd.DataFrame({"user": [1]}), "lacks the column 'item'"),
        (clicks([None, 1], [1, 2]), "1 row with a missing user id"),
        (clicks([1, 2], [1, None]), "1 row with a missing item id"),
        (clicks([1, 2], [1, 2], time=[1.0, np.nan]), "1 row with a missing timestamp"),
    ],
    ids=["no user", "no item", "missing user", "missing item", "missing time"],
)
def test_histories_that_cannot_be_read(history, message):
    model = make_model(history=PooledHistory(3), timestamp_column="time").fit(X)
    with pytest.raises(ValueError, match=message):
        model.recommend([1], history=history)


# --- predict and score ---------------------------------------------------------------


def test_predict_uses_the_features_of_each_row():
    model = with_everything().fit(X)
    users = model.user_tower_.transform(X[["user", "mood", "age"]])
    items = model.item_tower_.transform(X[["item", "price"]])
    by_hand = (users * items).sum(axis=1)
    np.testing.assert_allclose(model.predict(X), by_hand, atol=1e-6)
    shuffled = X.sample(frac=1, random_state=0)
    np.testing.assert_allclose(model.predict(shuffled), by_hand[shuffled.index], atol=1e-6)
    # Without a column it is as it was in training.
    latest = X.sort_values("time").groupby("user")["mood"].last()
    np.testing.assert_allclose(
        model.predict(X.drop(columns="mood")),
        model.predict(X.assign(mood=X["user"].map(latest))),
        atol=1e-6,
    )
    pairs = X[["user", "item"]]
    users, items = (
        getattr(model, f"{side}_tower_").transform(X[side]) for side in ("user", "item")
    )
    np.testing.assert_allclose(model.predict(pairs), (users * items).sum(1), atol=1e-6)


def test_score_asks_for_a_user_as_in_the_earliest_row():
    """NDCG@10 in plain Python; what is later is not known at the time of the query."""
    model = with_everything().fit(X[:120])
    test = other_pairs(X[120:], X[:120]).drop(columns="price")
    first = test.sort_values("time").drop_duplicates("user").sort_values("user")
    assert (test.groupby("user")["mood"].nunique() > 1).any()

    def ndcg(queries):
        found, _ = model.recommend(queries, n_recommendations=N_ITEMS, exclude_seen=False)
        values = []
        for user, row in zip(queries["user"], found, strict=True):
            relevant = set(test["item"][test["user"] == user])
            seen = set(X["item"][:120][X["user"][:120] == user])
            ranked = [item for item in row if item not in seen][:10]
            dcg = sum(1 / np.log2(r + 2) for r, i in enumerate(ranked) if i in relevant)
            ideal = sum(1 / np.log2(r + 2) for r in range(min(len(relevant), 10)))
            values.append(dcg / ideal)
        return np.mean(values)

    names = ["user", "mood", "age"]
    assert model.score(test) == pytest.approx(ndcg(first[names]))
    assert model.score(test[::-1]) == model.score(test)
    last = test.sort_values("time").drop_duplicates("user", keep="last")
    assert ndcg(last[names]) != pytest.approx(ndcg(first[names]))
    assert model.score(test[["user", "item"]]) == pytest.approx(ndcg(first[["user"]]))


# --- copies, and what is left alone --------------------------------------------------


@pytest.mark.parametrize(
    "copied",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy],
    ids=["pickle", "deep"],
)
def test_copies_answer_alike(copied):
    model = with_everything().fit(X)
    model.add_items(pd.DataFrame({"item": [90], "genre": ["b"], "price": [2.0]}))
    again = copied(model)
    query = pd.DataFrame({"user": [0, -1], "mood": ["wild", "calm"]})
    history = clicks([0, -1], [90, 3], time=[900, 901])
    offered = pd.DataFrame({"item": [91, 0], "genre": ["a", "d"]})
    for options in ({}, {"history": history}, {"candidates": offered}):
        one, other = (m.recommend(query, **options) for m in (model, again))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    tower = copied(model.user_tower_)
    np.testing.assert_array_equal(
        tower.transform(query), model.user_tower_.transform(query)
    )
    # The two go different ways from here.
    again.add_items(pd.DataFrame({"item": [92], "genre": ["a"], "price": [1.0]}))
    assert 92 not in model.item_ids_
    fresh = clone(model)
    assert not hasattr(fresh, "item_embeddings_")
    np.testing.assert_array_equal(
        fresh.fit(X).user_embeddings_, with_everything().fit(X).user_embeddings_
    )


def test_entity_tables_in_copies():
    table = EntityTable(USERS, "user")
    model = make_model(user_table=table).fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert again.user_table.id_column == "user"
    pd.testing.assert_frame_equal(again.user_table.frame, USERS)
    assert_equal(again.recommend(USERS), model.recommend(USERS), atol=0)
    np.testing.assert_array_equal(again.fit(X).user_embeddings_, model.user_embeddings_)


def test_a_query_leaves_no_trace():
    model = with_everything().fit(X)
    expected = model.recommend([0, -1], n_recommendations=N_ITEMS)
    predicted = model.predict(X)
    torch.manual_seed(1)
    GLOBAL.seed(2)
    random.seed(3)
    before = torch.get_rng_state(), GLOBAL.get_state(), random.getstate()
    query = pd.DataFrame({"user": [0, -1], "mood": ["wild", "calm"]})
    history = clicks([0, -1], [4, 3], time=[900, 901])
    offered = pd.DataFrame({"item": [91, 0], "genre": ["a", "d"]})
    frames = [frame.copy() for frame in (query, history, offered)]
    model.recommend(query, history=history, candidates=offered, cold_start="mean")
    model.recommend([-1], cold_start="popular")
    model.user_tower_.transform(query)
    model.item_tower_.transform(offered)
    model.score(X[["user", "item", "mood"]])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(GLOBAL.get_state()[1], before[1][1])
    assert random.getstate() == before[2]
    for frame, copied in zip((query, history, offered), frames, strict=True):
        pd.testing.assert_frame_equal(frame, copied)
    found = model.recommend([0, -1], n_recommendations=N_ITEMS)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_global_random_states_are_as_before_a_fit():
    torch.manual_seed(1)
    GLOBAL.seed(2)
    random.seed(3)
    before = torch.get_rng_state(), GLOBAL.get_state(), random.getstate()
    for random_state in (0, None):
        model = with_everything(random_state=random_state, dropout=0.1).fit(X)
        model.add_items(pd.DataFrame({"item": [90], "genre": ["b"], "price": [2.0]}))
        model.partial_fit(X[:20])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(GLOBAL.get_state()[1], before[1][1])
    assert GLOBAL.get_state()[2:] == before[1][2:]
    assert random.getstate() == before[2]


@pytest.mark.parametrize("flag", ["exclude_seen", "as_frame", "sample"])
@pytest.mark.parametrize("value", ["no", None, 1])
def test_flags_are_true_or_false(flag, value):
    model = make_model(max_iter=1).fit(X[["user", "item"]])
    with pytest.raises(TypeError, match=f"{flag}={value!r} is neither True nor False"):
        model.recommend([1], **{flag: value})


def test_more_answers_than_memory():
    model = make_model(max_iter=1).fit(X[["user", "item"]])
    for count in (10**9, 10**400):
        with pytest.raises(ValueError, match="n_recommendations=.* more than 100,000,000"):
            model.recommend([1], count)
