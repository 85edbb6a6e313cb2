"""Features in columns of X, in side tables and in both."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    StandardScaler,
)

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower._data.entity_building import build_entities
from sktwotower._nn import inputs
from sktwotower._nn.inputs import EntityRows
from sktwotower.history import PooledHistory
from sktwotower.preprocessing import FeatureEncoder

N_USERS, N_ITEMS, N_ROWS = 12, 9, 120


def make_model(**parameters):
    defaults = dict(
        user_column="user",
        item_column="item",
        embedding_dim=4,
        max_iter=2,
        batch_size=32,
        random_state=0,
    )
    return TwoTowerRecommender(**defaults | parameters)


def make_X(seed=0):
    """Each user has an age, a city and moods; each item a genre and prices."""
    rng = np.random.RandomState(seed)
    users, items = rng.randint(0, N_USERS, N_ROWS), rng.randint(0, N_ITEMS, N_ROWS)
    return pd.DataFrame(
        {
            "user": users,
            "item": items,
            "time": rng.permutation(N_ROWS),
            "age": 20.0 + (users * 7) % 31,
            "city": np.array(["rome", "oslo", "bern"])[users % 3],
            "mood": rng.choice(["calm", "wild"], N_ROWS),
            "genre": np.array(list("aabbccdde"))[items],
            "price": rng.choice([1.0, 2.0, 5.0], N_ROWS),
        }
    )


X = make_X()
USERS = X.drop_duplicates("user")[["user", "age", "city"]]  # in the order of encoding
ITEMS = X.drop_duplicates("item", keep="last")[["item", "genre"]]


def assert_same(one, other):
    np.testing.assert_array_equal(one.user_ids_, other.user_ids_)
    np.testing.assert_array_equal(one.item_ids_, other.item_ids_)
    np.testing.assert_array_equal(one.user_embeddings_, other.user_embeddings_)
    np.testing.assert_array_equal(one.item_embeddings_, other.item_embeddings_)


def differ(one, other):
    return not np.allclose(one, other, atol=1e-4)


# --- in a table, in X, in both -------------------------------------------------------


@pytest.mark.slow
def test_a_table_and_columns_of_X_are_the_same():
    """If features never change and the encoders get the same rows."""
    from_tables = make_model(user_table=USERS, item_table=ITEMS).fit(X)
    from_X = make_model(user_features=["age", "city"], item_features=["genre"]).fit(X)
    assert_same(from_X, from_tables)
    assert from_X.user_encoder_.kinds_ == {"age": "number", "city": "category"}
    assert from_X.score(X) == from_tables.score(X)
    assert differ(from_X.user_embeddings_, make_model().fit(X).user_embeddings_)


def test_the_order_of_a_table_does_not_matter():
    """Up to rounding: the encoder sums over its rows in another order."""
    tables = dict(user_table=USERS.sort_values("age"), item_table=ITEMS[::-1])
    from_tables = make_model(**tables).fit(X)
    from_X = make_model(user_features=["age", "city"], item_features=["genre"]).fit(X)
    np.testing.assert_allclose(
        from_tables.user_embeddings_, from_X.user_embeddings_, atol=1e-4
    )
    np.testing.assert_allclose(
        from_tables.item_embeddings_, from_X.item_embeddings_, atol=1e-4
    )


@pytest.mark.parametrize(
    "options",
    [
        dict(user_features=["age", "city", "mood"], timestamp_column="time"),
        dict(user_table=USERS, history=PooledHistory(3), timestamp_column="time"),
        dict(ssl_pattern="rfm", hidden_layer_sizes=(8,), dropout=0.2),
        dict(popularity_prior=1.0, optimizer="adagrad", hidden_layer_sizes=()),
    ],
    ids=["in X", "history", "self-supervision", "prior"],
)
def test_few_columns_are_trained_alike_as_a_matrix_and_looked_up(options, monkeypatch):
    """Up to rounding."""
    options = dict(item_table=ITEMS.assign(kind=ITEMS["item"] % 3)) | options
    taken, take = [], EntityRows.take
    monkeypatch.setattr(
        EntityRows, "take", lambda self, rows: taken.append(take(self, rows)) or taken[-1]
    )
    multiplied = make_model(**options).fit(X)
    assert any(batch.matrix is not None for batch in taken)
    taken.clear()
    monkeypatch.setattr(inputs, "FEW_COLUMNS", 0)
    looked_up = make_model(**options).fit(X)
    assert all(batch.matrix is None for batch in taken)
    for name in ("user_embeddings_", "item_embeddings_"):
        one, other = getattr(multiplied, name), getattr(looked_up, name)
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_a_table_beside_columns_of_X():
    both = make_model(user_features=["city", "mood"], user_table=USERS[["user", "age"]])
    all_in_X = make_model(user_features=["city", "mood", "age"])
    assert_same(both.fit(X), all_in_X.fit(X))
    assert list(both.user_encoder_.output_indices_) == ["city", "mood", "age"]
    both = make_model(item_features=["price"], item_table=ITEMS).fit(X)
    assert_same(both, make_model(item_features=["price", "genre"]).fit(X))


def test_entities_that_only_a_table_beside_columns_has():
    new = pd.DataFrame({"item": [90, 91], "genre": ["a", "z"]})
    table = pd.concat([ITEMS, new], ignore_index=True)
    model = make_model(item_features=["price"], item_table=table, id_dropout=0.3).fit(X)
    assert model.item_ids_[-2:].tolist() == [90, 91]
    found, scores = model.recommend([0], n_recommendations=11, exclude_seen=False)
    assert sorted(found[0]) == [*range(N_ITEMS), 90, 91]
    assert np.isfinite(scores).all()
    # They have a genre but no price.
    priceless = new.assign(item=[-1, -2], price=np.nan)
    np.testing.assert_allclose(
        model.item_tower_.transform(priceless), model.item_embeddings_[-2:], atol=1e-6
    )


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_name_that_is_in_both_is_refused(side):
    feature, table = {"user": ("age", USERS), "item": ("genre", ITEMS)}[side]
    model = make_model(**{f"{side}_table": table, f"{side}_features": [feature]})
    message = rf"\['{feature}'\] are columns of {side}_table and of {side}_features, too"
    with pytest.raises(ValueError, match=message):
        model.fit(X)


@pytest.mark.parametrize(
    ("options", "inside"),
    [
        ({}, False),
        ({"id_dropout": 0.2}, True),
        ({"item_id_embedding": False}, True),
    ],
    ids=str,
)
def test_items_without_interactions(options, inside):
    """Their vectors are made from the features of the table."""
    table = pd.concat([ITEMS, pd.DataFrame({"item": [90], "genre": ["a"]})])
    model = make_model(item_table=table.assign(year=np.arange(10)), **options).fit(X)
    assert list(model.item_encoder_.output_indices_) == ["genre", "year"]
    found, _ = model.recommend([0], n_recommendations=10, exclude_seen=False)
    assert (90 in found[0]) == inside
    named, scores = model.recommend([0], candidates=[90], n_recommendations=1)
    assert named.tolist() == [[90]] and np.isfinite(scores).all()


def test_an_entity_table_is_shared_by_clones():
    table = EntityTable(ITEMS, "item")
    model = make_model(item_table=table, user_table=USERS)
    copied = clone(model)
    assert copied.item_table is table
    assert table.frame is ITEMS
    assert copied.user_table is not model.user_table  # a plain frame is copied
    search = GridSearchCV(model, {"max_iter": [1, 2]}, cv=2, error_score="raise")
    search.fit(X.drop_duplicates(["user", "item"]))
    assert search.best_estimator_.item_table is table


def test_nothing_is_changed_in_place():
    rows, users, items = X.copy(), USERS.copy(), ITEMS.copy()
    model = make_model(
        user_table=EntityTable(users, "user"),
        item_table=items,
        user_features=["mood"],
        item_features=["price"],
        id_dropout=0.1,
    ).fit(rows)
    model.recommend(rows, history=rows)
    model.predict(rows)
    model.add_items(pd.DataFrame({"item": [90], "genre": ["a"]}))
    pd.testing.assert_frame_equal(rows, X)
    pd.testing.assert_frame_equal(users, USERS)
    pd.testing.assert_frame_equal(items, ITEMS)


# --- features that change ------------------------------------------------------------


def moody(seed=0, n_users=20, n_each=24):
    """The items of a user depend on the current mood only.

    A user's last row by time is neither the last nor the first of the frame.
    """
    rng = np.random.RandomState(seed)
    users = np.repeat(np.arange(n_users), n_each)
    wild = rng.randint(0, 2, len(users))
    items = 2 * rng.randint(0, 10, len(users)) + wild
    times = np.tile(np.roll(np.arange(n_each), n_each // 2), n_users)
    return pd.DataFrame(
        {
            "user": users,
            "item": items,
            "time": times,
            "mood": np.array(["calm", "wild"])[wild],
        }
    )


@pytest.mark.parametrize("user_id_embedding", [True, False])
@pytest.mark.slow
def test_training_uses_the_row_of_its_time(user_id_embedding):
    data = moody()
    model = make_model(
        user_features=["mood"],
        timestamp_column="time",
        user_id_embedding=user_id_embedding,
        mask_known_positives=False,  # items of the other mood are negatives
        embedding_dim=8,
        max_iter=15,
        batch_size=64,
    )
    assert share_in_the_mood(model.fit(data)) > 0.95
    # A model of the latest mood alone cannot learn it.
    latest = data.sort_values("time").groupby("user")["mood"].last()
    model.fit(data.assign(mood=data["user"].map(latest)))
    assert share_in_the_mood(model) < 0.75


def share_in_the_mood(model):
    """Share of the right items in the top 6 of both moods; 0.5 if both are equal."""
    shares = []
    for wild, mood in enumerate(["calm", "wild"]):
        query = pd.DataFrame({"user": range(20), "mood": mood})
        found, _ = model.recommend(query, n_recommendations=6, exclude_seen=False)
        shares.append((found % 2 == wild).mean())
    return np.mean(shares)


def test_a_user_at_another_time_trains_like_another_user():
    """Without id and history, a user in two moods is two users of one mood each."""
    options = dict(history=None, user_id_embedding=False, mask_known_positives=False)
    moods = make_model(user_features=["mood"], **options).fit(X)
    users = X["user"].astype(str) + X["mood"]
    apart = make_model(user_features=["mood"], **options).fit(X.assign(user=users))
    # The order of users in a batch differs, and so do the last digits.
    np.testing.assert_allclose(moods.item_embeddings_, apart.item_embeddings_, atol=1e-5)
    np.testing.assert_allclose(moods.loss_curve_, apart.loss_curve_, rtol=1e-6)


@pytest.mark.parametrize("timestamp_column", ["time", None])
def test_serving_uses_the_latest_row_of_a_user(timestamp_column):
    data = moody()
    model = make_model(user_features=["mood"], timestamp_column=timestamp_column)
    model.fit(data)
    in_order = data if timestamp_column is None else data.sort_values("time")
    latest = in_order.groupby("user")["mood"].last()
    last_rows = data.groupby("user")["mood"].last()
    assert (latest != last_rows).any() == (timestamp_column is not None)
    queries = latest.reset_index()
    np.testing.assert_allclose(
        model.user_tower_.transform(queries), model.user_embeddings_, atol=1e-6
    )
    ids, scores = model.recommend(queries["user"])
    of_rows = model.recommend(queries)
    np.testing.assert_allclose(scores, of_rows[1], atol=1e-6)
    other = queries.assign(mood=queries["mood"].map({"calm": "wild", "wild": "calm"}))
    assert differ(model.user_tower_.transform(other), model.user_embeddings_)


@pytest.mark.parametrize("timestamp_column", ["time", None])
def test_items_have_the_features_of_their_latest_row(timestamp_column):
    model = make_model(item_features=["price"], timestamp_column=timestamp_column)
    in_order = X if timestamp_column is None else X.sort_values("time")
    latest = in_order.groupby("item")["price"].last()
    assert (in_order.groupby("item")["price"].first() != latest).any()
    constant = X.assign(price=X["item"].map(latest))
    assert_same(model.fit(X), clone(model).fit(constant))
    rows = pd.DataFrame({"item": model.item_ids_}).assign(
        price=latest[model.item_ids_].to_numpy()
    )
    np.testing.assert_allclose(
        model.item_tower_.transform(rows), model.item_embeddings_, atol=1e-6
    )
    assert differ(
        model.item_tower_.transform(rows.assign(price=9.0)), model.item_embeddings_
    )


# --- which columns -------------------------------------------------------------------

SELECTORS = {
    "names": ["age", "city"],
    "tuple": ("age", "city"),
    "array of names": np.array(["age", "city"]),
    "index": X.columns[3:5],
    "positions": [3, 4],
    "negative positions": [-5, -4],
    "slice": slice(3, 5),
    "slice of names": slice("age", "city"),
    "mask": [False] * 3 + [True] * 2 + [False] * 3,
    "array mask": np.isin(X.columns, ["age", "city"]),
    "selector": make_column_selector("age|city"),
    "function": lambda frame: [name for name in frame if name in ("age", "city")],
}


@pytest.mark.parametrize("kind", SELECTORS)
def test_selectors(kind):
    expected = make_model(user_features=["age", "city"]).fit(X)
    model = make_model(user_features=SELECTORS[kind]).fit(X)
    assert_same(model, expected)
    assert list(model.user_encoder_.output_indices_) == ["age", "city"]
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_a_selector_by_dtype_leaves_ids_out():
    rows = X[["user", "item", "age", "price", "genre"]]
    model = make_model(item_features=make_column_selector(dtype_include="number")).fit(rows)
    assert_same(model, make_model(item_features=["age", "price"]).fit(rows))


def test_one_name_is_one_column_for_a_text_vectorizer():
    titles = ["red sky", "blue sky", "red sea", "sea", "old sea", "blue", "a", "b", "sky"]
    rows = X.assign(title=np.array(titles)[X["item"]])
    expected = make_model(
        item_table=rows.drop_duplicates("item", keep="last")[["item", "title"]],
        item_encoder=TfidfVectorizer(),
    ).fit(rows)
    for one in ("title", len(rows.columns) - 1, ["title"]):
        model = make_model(item_features=one, item_encoder=TfidfVectorizer()).fit(rows)
        assert_same(model, expected)
        words = ["blue", "old", "red", "sea", "sky"]
        assert model.item_encoder_.get_feature_names_out().tolist() == words
        np.testing.assert_allclose(
            model.item_tower_.transform(pd.DataFrame({"title": ["red sea"]})),
            model.item_tower_.transform(pd.DataFrame({"title": ["sea red"], "item": -1})),
            atol=1e-6,
        )


@pytest.mark.parametrize("dtype", [object, float])
def test_positions_of_arrays(dtype):
    rows = X[["user", "item", "age", "price"]]
    frame = make_model(
        user_column=0, item_column=1, user_features=[2], item_features=slice(3, 4)
    )
    array = clone(frame).fit(rows.to_numpy(dtype=dtype))
    frame.fit(rows)
    assert array.user_encoder_.kinds_ == {"x2": "number"}
    np.testing.assert_array_equal(array.item_embeddings_, frame.item_embeddings_)
    np.testing.assert_array_equal(
        array.predict(rows.to_numpy(dtype=dtype)), frame.predict(rows)
    )
    found = array.recommend(rows.to_numpy(dtype=dtype)[:5])
    np.testing.assert_allclose(found[1], frame.recommend(rows[:5])[1], atol=1e-6)
    assert array.score(rows.to_numpy(dtype=dtype)) == frame.score(rows)


def test_frames_without_names():
    """Columns of a plain ``DataFrame(array)`` are numbers."""
    named = X[["user", "item", "age", "price"]]
    rows = named.set_axis(range(4), axis=1)
    options = dict(user_column=0, item_column=1, user_features=[2], item_features=[3])
    model = make_model(**options).fit(rows)
    expected = make_model(**options).fit(named)
    assert_same(model, expected)
    np.testing.assert_array_equal(model.predict(rows), expected.predict(named))
    found, reference = model.recommend(rows[:5]), expected.recommend(named[:5])
    np.testing.assert_allclose(found[1], reference[1], atol=1e-6)
    np.testing.assert_array_equal(found[0], reference[0])


@pytest.mark.parametrize("fitted_on", ["frame", "array"])
def test_arrays_and_frames_in_turn(fitted_on):
    """scikit-learn warns about names and uses positions."""
    frame = X[["user", "item", "age", "price"]]
    array, unnamed = frame.to_numpy(), pd.DataFrame(frame.to_numpy())
    model = make_model(
        user_column=0, item_column=1, user_features=[2], item_features=[3]
    ).fit(frame if fitted_on == "frame" else array)
    rows = frame if fitted_on == "frame" else array
    expected = model.predict(rows)
    assert differ(expected, model.predict(_with_age(rows, 99.0)))
    others = [array] if fitted_on == "frame" else [unnamed, frame]
    for other in others:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X (does not have valid|has) feature")
            np.testing.assert_array_equal(model.predict(other), expected)
            # Features are read by position, too.
            np.testing.assert_allclose(
                model.predict(_with_age(other, 99.0)),
                model.predict(_with_age(rows, 99.0)),
                atol=1e-6,
            )


def _with_age(rows, age):
    rows = rows.copy()
    if isinstance(rows, pd.DataFrame):
        rows.iloc[:, 2] = age
    else:
        rows[:, 2] = age
    return rows


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["agee"], r"\['agee'\] are not columns of X .*the columns are \['user', 'item'"),
        ("agee", r"'agee' are not columns of X.*Did you mean 'age'\?$"),
        (["age", "town", "ciyt"], r"are not columns of X.*Did you mean 'city'\?$"),
        (["town"], r"\['town'\] are not columns of X [^?]*$"),
        ([99], r"\[99\] are not columns of X"),
        (["age", "user"], r"\['age', 'user'\] names the user_column"),
        ([1], r"\[1\] names the item_column"),
        (slice(0, 4), r"slice\(0, 4.* names the user_column"),
        ([True, False], r"are not columns of X"),
    ],
    ids=str,
)
def test_wrong_columns_are_refused_by_parameter(side, wanted, message):
    model = make_model(**{f"{side}_features": wanted})
    with pytest.raises(ValueError, match=rf"{side}_features=.*{message}"):
        model.fit(X)


def test_a_column_twice():
    with pytest.raises(ValueError, match="user_features=.*'age'"):
        make_model(user_features=["age", "city", "age"]).fit(X)


def test_wrong_columns_of_arrays():
    model = make_model(user_column=0, item_column=1, user_features=[7])
    with pytest.raises(ValueError, match=r"user_features=\[7\] are not columns of X"):
        model.fit(X[["user", "item", "age"]].to_numpy())
    with pytest.raises(ValueError, match=r"user_features=\['age'\] are not columns of X"):
        model.set_params(user_features=["age"]).fit(X[["user", "item"]].to_numpy())


def test_no_column_is_no_feature():
    for nothing in ([], slice(0, 0), [False] * 8, make_column_selector("no such")):
        model = make_model(user_features=nothing).fit(X)
        assert_same(model, make_model().fit(X))
        assert model.user_encoder_ is None


# --- every kind of feature -----------------------------------------------------------

DATES = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N_ITEMS) ** 2, unit="D")
VECTORS = np.random.RandomState(0).randn(N_ITEMS, 4)
TITLES = ["red sky", "blue sky", "red sea", "sky", "sea", "red", "old red", "sea", "blue"]
TAGS = [["x", "y"], ["y"], [], ["z", "x"], ["z"], ["x"], ["y", "z"], ["x", "y", "z"], ["y"]]
ORDERED = pd.Categorical(list("SSMMLLSML"), categories=list("SML"), ordered=True)
NUMBERS = [1.0, 2, 2, 3, 5, 8, 8, 9, 13]
FLAGS = [True, False, True] * 3
AS_DICTS = FunctionTransformer(lambda frame: frame.to_dict("records"))


def one(name, transformer):
    return ColumnTransformer([("field", transformer, [name])])


KINDS = {
    # The features of nine items, the encoder, and the width of each field.
    "categories": ({"f": list("aabbccdde")}, None, {"f": 5}),  # four, and the rare one
    "ordered categories": ({"f": ORDERED}, None, {"f": 3}),
    "ordinal": (
        {"f": ORDERED},
        one("f", OrdinalEncoder(categories=[list("SML")])),
        {"field": 1},
    ),
    "booleans": ({"f": FLAGS}, None, {"f": 2}),
    "numbers": ({"f": NUMBERS}, None, {"f": 1}),
    "numbers with gaps": ({"f": [np.nan, *NUMBERS[1:]]}, None, {"f": 2}),
    "integers": ({"f": range(9)}, None, {"f": 1}),
    "bins": (
        {"f": NUMBERS},
        one("f", KBinsDiscretizer(n_bins=3, strategy="uniform")),
        {"field": 3},
    ),
    "splines": (
        {"f": NUMBERS},
        one("f", SplineTransformer(n_knots=4, degree=3)),
        {"field": 6},
    ),
    "datetimes": ({"f": DATES}, None, {"f": 1}),
    "durations": ({"f": DATES - DATES[0]}, None, {"f": 1}),
    "lists": ({"f": TAGS}, None, {"f": 3}),
    "delimited strings": ({"f": ["|".join(tags) for tags in TAGS]}, None, {"f": 3}),
    "other delimiter": (
        {"f": [", ".join(tags) for tags in TAGS]},
        FeatureEncoder(separator=","),
        {"f": 3},
    ),
    "tf-idf": ({"f": TITLES}, TfidfVectorizer(), {"features": 5}),
    "hashed text": ({"f": TITLES}, HashingVectorizer(n_features=32), {"features": 32}),
    "vectors": ({"f": list(VECTORS)}, None, {"f": 4}),
    "lists of floats": ({"f": VECTORS.tolist()}, None, {"f": 4}),
    "many floats": (
        {f"v{i}": np.random.RandomState(i).randn(9) for i in range(20)},
        StandardScaler(),
        {"features": 20},
    ),
    "feature hasher": (
        {"f": list("aabbccdde"), "g": NUMBERS},
        make_pipeline(AS_DICTS, FeatureHasher(n_features=16)),
        {"features": 16},
    ),
    "all at once": (
        {"c": list("aabbccdde"), "t": TITLES, "n": NUMBERS, "v": NUMBERS, "u": FLAGS},
        ColumnTransformer(
            [
                ("category", OneHotEncoder(handle_unknown="ignore"), ["c"]),
                ("text", TfidfVectorizer(), "t"),
                ("number", StandardScaler(), ["n", "v"]),
            ],
            remainder="drop",
        ),
        {"category": 5, "text": 5, "number": 2},
    ),
}


@pytest.mark.filterwarnings("ignore:This Pipeline instance is not fitted:FutureWarning")
@pytest.mark.parametrize("where", ["table", "X"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, where):
    features, encoder, widths = KINDS[kind]
    table = pd.DataFrame({"item": range(N_ITEMS), **features})
    rows, options = X[["user", "item"]], {"item_table": table}
    if where == "X":
        rows, names = rows.merge(table, on="item", how="left"), list(features)
        options = {"item_features": names}
    model = make_model(
        item_encoder=encoder, item_id_embedding=False, max_iter=1, **options
    ).fit(rows)
    fields = model._state.item.entities.fields
    assert {name: part.stop - part.start for name, part in fields.items()} == widths
    tower = model.item_tower_.embedder.tower
    tables = [t for t in (tower.column_table, *tower.dense_tables) if t is not None]
    assert sum(len(t) for t in tables) == sum(widths.values())
    # The tower reads them: equal features, equal vectors.
    keys = table.drop(columns="item").map(repr).agg(" ".join, axis=1)
    vectors = model.item_tower_.transform(table["item"])
    for one_item in range(N_ITEMS):
        for other in range(one_item):
            if keys[one_item] == keys[other]:
                np.testing.assert_allclose(vectors[one_item], vectors[other], atol=1e-6)
    assert len(np.unique(vectors.round(5), axis=0)) > 1
    # New items with the same features have the same vectors.
    of_frame = model.item_tower_.transform(table.assign(item=range(-9, 0)))
    np.testing.assert_allclose(of_frame, vectors, atol=1e-6)


@pytest.mark.parametrize("kind", [name for name in KINDS if KINDS[name][1] is None])
@pytest.mark.slow
def test_kinds_that_a_query_lacks(kind):
    """Other features are missing for new items, and kept for known ones."""
    table = pd.DataFrame({"item": range(N_ITEMS), **KINDS[kind][0]})
    table["other"] = list("aabbccdda")
    model = make_model(item_table=table, id_dropout=0.2).fit(X)
    offered = pd.DataFrame({"item": [3, 90], "other": ["b", "b"]})
    complete = table.reindex([3, N_ITEMS]).assign(item=[3, 90], other=["b", "b"])
    np.testing.assert_allclose(
        model.item_tower_.transform(offered), model.item_tower_.transform(complete)
    )
    # Training continues with incomplete and complete rows.
    model.add_items(offered[1:]).add_items(table.assign(item=range(100, 109)))
    model.partial_fit(X[:9])
    assert np.isfinite(model.item_embeddings_).all()
    assert len(model.item_embeddings_) == 2 * N_ITEMS + 1


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("delimited", [False, True])
def test_combiners_by_hand(combiner, delimited):
    """A linear tower is a sum over the non-zeros; without a value it is the bias."""
    tags = ["|".join(tags) for tags in TAGS] if delimited else TAGS
    model = make_model(
        item_table=pd.DataFrame({"item": range(N_ITEMS), "tags": tags}),
        item_encoder=FeatureEncoder(multi_combiner=combiner),
        item_id_embedding=False,
        normalize=False,
        temperature=1.0,
    ).fit(X)
    values = [["x"], ["y"], ["x", "y"], []]
    query = ["|".join(v) for v in values] if delimited else values
    x, y, both, nothing = model.item_tower_.transform(pd.DataFrame({"tags": query}))
    factor = {"mean": 1 / 2, "sum": 1.0, "sqrtn": 1 / np.sqrt(2)}[combiner]
    by_hand = nothing + factor * ((x - nothing) + (y - nothing))
    np.testing.assert_allclose(both, by_hand, atol=1e-6)
    assert differ(x, y)


def test_numbers_are_standardised():
    """A linear tower is linear in the number; a missing value counts as the mean."""
    table = pd.DataFrame({"item": range(N_ITEMS), "n": np.array(NUMBERS) * 1e6})
    options = dict(item_id_embedding=False, normalize=False, temperature=1.0, max_iter=4)
    model = make_model(item_table=table, **options).fit(X)
    mean, std = table["n"].mean(), table["n"].std(ddof=0)
    values = pd.DataFrame({"n": [mean, mean + std, mean - 2 * std, np.nan]})
    at_mean, above, below, missing = model.item_tower_.transform(values)
    np.testing.assert_allclose(below - at_mean, -2 * (above - at_mean), atol=1e-5)
    np.testing.assert_allclose(missing, at_mean, atol=1e-6)
    assert differ(above, at_mean)
    # The unit does not matter.
    other = make_model(item_table=table.assign(n=table["n"] / 1e6), **options).fit(X)
    np.testing.assert_allclose(other.item_embeddings_, model.item_embeddings_, atol=1e-4)


def test_long_vectors_are_told_apart():
    """Two vectors of a user that differ in the middle only."""
    vectors = np.zeros((2, 1200))
    vectors[1, 600] = 1.0
    wild = (X["mood"] == "wild").to_numpy().astype(int)
    rows = X[["user", "item"]].assign(mood=list(vectors[wild]))
    model = make_model(user_features=["mood"], max_iter=1).fit(rows)
    pairs = pd.DataFrame({"user": X["user"], "wild": wild}).drop_duplicates()
    # The scaler has seen one row for each (user, vector).
    scaler = model.user_encoder_._fields[0].scaler
    assert scaler.mean_[600] == pytest.approx(pairs["wild"].mean())


@pytest.mark.filterwarnings("ignore:.* relevant pairs of X .* were seen in training")
def test_parameters_of_encoders_are_tuned():
    model = make_model(item_features=["genre"], item_encoder=FeatureEncoder())
    widths = []
    for min_frequency in (1, 2, 3):
        model.set_params(item_encoder__min_frequency=min_frequency)
        rare = "5 are rare" if min_frequency == 3 else None
        with pytest.warns(UserWarning, match=rare) if rare else nullcontext():
            model.fit(X)
        widths.append(model.item_encoder_.output_indices_["genre"].stop)
    assert widths == [5, 5, 1]  # all; four and a rare one; all are rare
    search = GridSearchCV(
        make_model(
            user_features=["age", "city"],
            user_encoder=ColumnTransformer([("bins", KBinsDiscretizer(), ["age"])]),
            item_features=["genre"],
            item_encoder=FeatureEncoder(),
        ),
        {
            "item_encoder__min_frequency": [1, 2],
            "user_encoder__bins": [StandardScaler(), SplineTransformer(n_knots=3)],
        },
        cv=KFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    best = clone(search.estimator).set_params(**search.best_params_).fit(X)
    assert_same(search.best_estimator_, best)


# --- polars and pyarrow --------------------------------------------------------------


def from_polars():
    return pytest.importorskip("polars").from_pandas


def from_pyarrow():
    return pytest.importorskip("pyarrow").Table.from_pandas


@pytest.mark.parametrize("library", [from_polars, from_pyarrow])
def test_other_frames_wherever_pandas_is(library):
    convert = library()

    def fitted(frame_of):
        return make_model(
            timestamp_column="time",
            user_features=["age", "mood"],
            item_features=["price"],
            item_table=frame_of(ITEMS.reset_index(drop=True)),
            user_table=EntityTable(
                frame_of(USERS[["user", "city"]].reset_index(drop=True)), "user"
            ),
            history=PooledHistory(3),
            id_dropout=0.2,
        ).fit(frame_of(X))

    model, expected = fitted(convert), fitted(lambda frame: frame)
    assert_same(model, expected)
    np.testing.assert_array_equal(model.predict(convert(X)), expected.predict(X))
    assert model.score(convert(X)) == expected.score(X)
    rows = X[:4][["user", "mood"]]
    more = pd.DataFrame({"user": [0, 1], "item": [3, 4], "time": [500, 501]})
    offered = pd.DataFrame({"item": [90, 91], "genre": ["a", "b"], "price": [1.0, 5.0]})
    for options in ({}, {"history": more}, {"candidates": offered}):
        found = model.recommend(
            convert(rows), **{name: convert(frame) for name, frame in options.items()}
        )
        reference = expected.recommend(rows, **options)
        np.testing.assert_array_equal(found[0], reference[0])
        np.testing.assert_array_equal(found[1], reference[1])
    np.testing.assert_array_equal(
        model.user_tower_.transform(convert(rows)), expected.user_tower_.transform(rows)
    )
    assert_same(model.add_items(convert(offered)), expected.add_items(offered))
    later = X[:9].assign(time=range(600, 609))
    assert_same(model.partial_fit(convert(later)), expected.partial_fit(later))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_columns_wherever_ids_are(library):
    convert = {"polars": "Series", "pyarrow": "array"}[library]
    convert = getattr(pytest.importorskip(library), convert)
    model = make_model(item_table=ITEMS).fit(X)
    users, items = convert([0, 3, 5]), convert([1, 2, 4])
    np.testing.assert_array_equal(model.recommend(users)[1], model.recommend([0, 3, 5])[1])
    np.testing.assert_array_equal(
        model.item_tower_.transform(items), model.item_tower_.transform([1, 2, 4])
    )
    np.testing.assert_array_equal(
        model.similar_items(items)[0], model.similar_items([1, 2, 4])[0]
    )
    np.testing.assert_array_equal(
        model.recommend([0], candidates=items, n_recommendations=3)[0],
        model.recommend([0], candidates=[1, 2, 4], n_recommendations=3)[0],
    )


@pytest.mark.parametrize("library", [from_polars, from_pyarrow])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (TAGS, "multi_hot"),
        ([[1, 2], [2, 3], [1, 3]] * 3, "multi_hot"),  # lists of integers are codes
        (VECTORS.tolist(), "vector"),
    ],
    ids=["strings", "codes", "floats"],
)
def test_lists_of_other_frames(library, values, kind):
    table = pd.DataFrame({"item": range(N_ITEMS), "f": values})
    expected = make_model(item_table=table, max_iter=1).fit(X)
    assert expected.item_encoder_.kinds_ == {"f": kind}
    model = make_model(item_table=library()(table), max_iter=1).fit(X)
    assert model.item_encoder_.kinds_ == {"f": kind}
    assert_same(model, expected)


# --- bad input -----------------------------------------------------------------------


def test_values_of_another_kind_at_serving():
    model = make_model(user_features=["age", "city"], item_features=["price"]).fit(X)
    words = X[:3].assign(age="old")
    message = "'age' was fitted as 'number'.*now holds string values.*row 0: 'old'"
    for call in (model.predict, model.recommend, model.score, model.user_tower_.transform):
        with pytest.raises(ValueError, match=message):
            call(words)
    message = "'price' was fitted as 'number'.*now holds string values"
    with pytest.raises(ValueError, match=message):
        model.recommend([0], candidates=pd.DataFrame({"item": [0], "price": ["cheap"]}))


def test_a_string_among_lists():
    tags = [["x", "y"], ["y"], "x"] * 3
    table = pd.DataFrame({"item": range(N_ITEMS), "tags": tags})
    with pytest.raises(ValueError, match="'tags' holds lists, but row 2 holds 'x'"):
        make_model(item_table=table).fit(X)
    rows = X[["user", "item"]].assign(tags=[["x", "y"], ["y"], "x"] * (N_ROWS // 3))
    with pytest.raises(ValueError, match="'tags' holds lists, but row 2 holds 'x'"):
        make_model(user_features=["tags"]).fit(rows)


def test_vectors_of_another_length():
    table = pd.DataFrame({"item": range(N_ITEMS), "v": list(VECTORS)})
    model = make_model(item_table=table).fit(X)
    longer = pd.DataFrame({"item": [0, 1], "v": [np.ones(4), np.ones(5)]})
    message = "'v' holds vectors of length 4, but row 1 has length 5"
    with pytest.raises(ValueError, match=message):
        model.item_tower_.transform(longer)
    with pytest.raises(ValueError, match=message):
        model.recommend([0], candidates=longer)


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "float64[pyarrow]"])
def test_infinite_values_in_X(dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    age = X["age"].astype(dtype)
    age[[17, 40]] = np.inf
    model = make_model(user_features=["age"])
    message = r"Column 'age' of X has 2 rows with an infinite value \(first at row 17\)"
    with pytest.raises(ValueError, match=message):
        model.fit(X.assign(age=age))
    with pytest.raises(ValueError, match=message):
        model.fit(X).predict(X.assign(age=age))
    array = X[["user", "item", "age"]].to_numpy()
    array[5, 2] = -np.inf
    model = make_model(user_column=0, item_column=1, item_features=[2])
    with pytest.raises(ValueError, match=r"Column 'x2' of X has 1 row .*row 5\)"):
        model.fit(array)


def test_missing_values_that_an_encoder_lets_through():
    """The message names the columns of X, since there is no table."""
    rows = X.assign(age=X["age"].where(X["user"] != 3))
    model = make_model(user_features=["age"], user_encoder=FunctionTransformer())
    with pytest.raises(ValueError, match=r"user_(features|encoder).*NaN or infinite"):
        model.fit(rows)


def test_a_text_vectorizer_of_two_columns():
    model = make_model(item_features=["genre", "city"], item_encoder=TfidfVectorizer())
    message = r"TfidfVectorizer encodes a single column.*\['genre', 'city'\]"
    with pytest.raises(ValueError, match=message):
        model.fit(X)


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_table_that_lacks_ids(side, beside):
    table = {"user": USERS[:8], "item": ITEMS[:5]}[side]
    feature = {"user": "mood", "item": "price"}[side]
    options = {f"{side}_table": table, f"{side}_id_embedding": False}
    model = make_model(history=None, **options)
    if beside:
        model.set_params(**{f"{side}_features": [feature]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    (warning,) = [w for w in caught if "encoded alike" not in str(w.message)]
    assert f"{side}_table lacks 4 of the {12 if side == 'user' else 9} ids" in str(
        warning.message
    )
    assert warning.filename == __file__
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.recommend(X["user"], exclude_seen=False)[1][:, :9]).all()
    if not beside:  # without id, history and features all vectors are equal
        tower = getattr(model, f"{side}_tower_")
        lacking = sorted(set(X[side]) - set(table[side]))
        vectors = tower.transform(lacking)
        np.testing.assert_allclose(vectors, vectors[[0] * 4], atol=1e-6)


def test_a_table_that_has_all_ids_does_not_warn():
    make_model(user_table=USERS, item_table=ITEMS).fit(X)  # warnings are errors


# --- size ----------------------------------------------------------------------------


def test_ids_are_not_one_hot_encoded():
    """Columns grow with the values of features, rows with the users and their features."""
    n, n_users, n_items = 20_000, 2_000, 500
    rng = np.random.RandomState(0)
    users, items = rng.randint(0, n_users, n), rng.randint(0, n_items, n)
    columns = {"user": users, "item": items}
    for side, ids in (("user", users), ("item", items)):
        columns |= {
            f"{side} category": np.array([f"c{c}" for c in range(50)])[ids % 50],
            f"{side} flag": ids % 2 == 0,
            f"{side} number": (ids % 97) / 7,
            f"{side} now": rng.choice(["on", "off"], n),
            f"{side} tags": np.array(["a|b", "b", "c|a", "d"])[ids % 4],
        }
    rows = pd.DataFrame(columns)
    users, items = (
        build_entities(
            rows[side].to_numpy(),
            np.ones(n, dtype=bool),
            None,
            FeatureEncoder(),
            parameter=f"{side}_table",
            features=rows.filter(like=f"{side} "),
            every_row=side == "user",
        )[0]
        for side in ("user", "item")
    )
    for entities in (users, items):
        assert entities.features.shape[1] == 50 + 2 + 1 + 2 + 4
        assert entities.features.nnz <= 6 * entities.features.shape[0]
        assert entities.id_codes.dtype == np.int32
    assert users.features.shape[0] <= 1 + 2 * n_users  # "on" and "off"
    assert items.features.shape[0] == 1 + len(items)
