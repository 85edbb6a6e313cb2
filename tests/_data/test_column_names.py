"""Ids in an index, misspelt columns, single rows: understood or refused by name."""

import numpy as np
import pandas as pd
import pytest

import sktwotower
from sktwotower import EntityTable
from sktwotower._data.column_names import with_index
from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit
from tests.helpers import assert_same_answer, make_model, same_embeddings

RNG = np.random.RandomState(0)
X = pd.DataFrame(
    {"user": RNG.randint(0, 12, 90), "item": RNG.randint(100, 109, 90), "time": range(90)}
)
USERS = pd.DataFrame(
    {"user": range(12), "team": ["even", "odd"] * 6, "age": np.arange(12.0)}
)
ITEMS = pd.DataFrame({"item": range(100, 109), "genre": list("abcabcabc")})
NAMES = {"user_column": "user", "item_column": "item"}
QUERY = USERS.iloc[[5, 7]]
# A known column misses a letter, has one too many, or other capitals.
MISSPELT = ["teem", "Team", "teams", "tea m"]


@pytest.fixture(scope="module")
def model():
    return make_model(**NAMES, user_table=USERS, item_table=ITEMS, id_dropout=0.2).fit(X)


BASELINES = {
    "popular": PopularRecommender(**NAMES),
    "item knn": ItemKNNRecommender(**NAMES),
    "ease": EASERecommender(**NAMES),
}


@pytest.fixture(params=BASELINES, scope="module")
def baseline(request):
    return BASELINES[request.param].fit(X)


def as_polars(frame):
    return pytest.importorskip("polars").from_pandas(frame)


def as_arrow(frame):
    return pytest.importorskip("pyarrow").Table.from_pandas(frame)


# --- the index -----------------------------------------------------------------------


def test_levels_of_an_index_become_the_last_columns():
    frame = X.set_index(["user", "item"])
    assert list(with_index(frame, ["item", "user"])) == ["time", "user", "item"]
    assert with_index(frame, ["time"]) is frame
    kept = X.set_index("user", drop=False)
    assert with_index(kept, ["user"]) is kept
    assert list(frame) == ["time"]  # the caller's frame is as it was


@pytest.mark.parametrize(
    "query",
    [
        QUERY.set_index("user"),
        QUERY.set_index("user")[[]],
        QUERY.set_index(["team", "user"]),
        QUERY.astype({"user": "category"}).set_index("user"),
        QUERY.set_index("user", drop=False),
    ],
)
def test_ids_of_a_query_in_its_index(model, baseline, query):
    expected = model.recommend([5, 7])
    assert_same_answer(model.recommend(query), expected)
    np.testing.assert_array_equal(
        model.user_tower_.transform(query), model.user_tower_.transform([5, 7])
    )
    assert_same_answer(model.similar_users(query), model.similar_users([5, 7]))
    assert_same_answer(baseline.recommend(query), baseline.recommend([5, 7]))


def test_an_index_that_arrow_has_written(model):
    query = as_arrow(QUERY.set_index("user"))
    assert_same_answer(model.recommend(query), model.recommend([5, 7]))
    assert_same_answer(model.recommend(as_polars(QUERY)), model.recommend([5, 7]))


def test_items_in_an_index(model):
    items = ITEMS.set_index("item").iloc[2:4]
    assert_same_answer(model.similar_items(items), model.similar_items([102, 103]))
    assert_same_answer(model.recommend_users(items), model.recommend_users([102, 103]))
    ids, _ = model.recommend([5], candidates=items, exclude_seen=False)
    assert set(ids[0]) - {None} == {102, 103}
    new = pd.DataFrame({"genre": ["a"]}, index=pd.Index([500], name="item"))
    added = make_model(**NAMES, item_table=ITEMS, id_dropout=0.2).fit(X).add_items(new)
    assert added.item_ids_[-1] == 500


@pytest.mark.parametrize("index", ["user", ["user", "item"], ["item", "user"], "time"])
def test_X_with_ids_or_times_in_its_index(model, baseline, index, tmp_path):
    rows = X.set_index(index)
    options = NAMES | {"timestamp_column": "time", "history": PooledHistory(3)}
    expected = make_model(**options).fit(X)
    assert same_embeddings(make_model(**options).fit(rows), expected)
    assert same_embeddings(expected.partial_fit(X), expected.partial_fit(rows)) is True
    np.testing.assert_array_equal(model.predict(rows), model.predict(X))
    scorer = make_ranking_scorer("ndcg@10")
    assert scorer(model, rows) == scorer(model, X)
    np.testing.assert_array_equal(baseline.predict(rows), baseline.predict(X))
    again = type(baseline)(**NAMES).fit(rows)
    assert again.item_ids_.tolist() == baseline.item_ids_.tolist()
    further = {"history": rows[:9], "exclude_interactions": rows[30:60]}
    named = {"history": X[:9], "exclude_interactions": X[30:60]}
    assert_same_answer(model.recommend([5], **further), model.recommend([5], **named))
    split = LastInteractionsSplit(user_column="user", timestamp_column="time")
    for one, other in zip(split.split(rows), split.split(X), strict=True):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


@pytest.mark.parametrize("index", ["user", ["user", "item"]])
def test_files_of_frames_with_an_index(index, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    X.set_index(index).to_parquet(path)
    model = make_model(**NAMES).fit(path)
    assert same_embeddings(model, make_model(**NAMES).fit(X))
    assert same_embeddings(
        make_model(**NAMES).fit(X, X_val=path), make_model(**NAMES).fit(X, X_val=X)
    )


def test_tables_with_ids_in_their_index(tmp_path):
    pytest.importorskip("skops")
    expected = make_model(**NAMES, item_table=ITEMS).fit(X)
    indexed = ITEMS.set_index("item")
    tables = {
        "frame": indexed,
        "arrow": as_arrow(indexed),
        "table": EntityTable(indexed, "item"),
        "features": EntityTable(indexed, "item", features=["genre"]),
    }
    for name, table in tables.items():
        model = make_model(**NAMES, item_table=table).fit(X)
        assert same_embeddings(model, expected)
        model.save(tmp_path / name)
        loaded = sktwotower.load(tmp_path / name)
        assert same_embeddings(loaded, expected)
        assert same_embeddings(loaded.fit(X), expected)


# --- columns of other names ----------------------------------------------------------


@pytest.mark.parametrize("name", ["userId", "USER", "user_id", "users", "visitor"])
def test_the_ids_have_another_name(model, baseline, name):
    renamed = QUERY.rename(columns={"user": name})
    meant = "Did you mean 'user'" if name != "visitor" else "Rename the column with the ids"
    message = rf"X has no column with user ids \('user'\).*{name!r}.*{meant}"
    for call in (model.recommend, model.user_tower_.transform):
        for frame in (renamed, as_polars(renamed), as_arrow(renamed)):
            with pytest.raises(ValueError, match=message):
                call(frame)
    message = "^user_ids has no column with user ids.*, which are not columns of training"
    with pytest.raises(ValueError, match=message):
        model.similar_users(renamed)
    rows = X.rename(columns={"user": name})
    lacks = "lacks the column 'user'"
    for call in (baseline.recommend, baseline.predict, model.predict, model.score):
        with pytest.raises(ValueError, match=lacks):
            call(rows)
    for argument in ("history", "exclude_interactions"):
        with pytest.raises(ValueError, match=f"{argument} {lacks}"):
            model.recommend([5], **{argument: rows})


STRINGS = {
    "X": X.astype({"user": str, "item": str}),
    "users": USERS.astype({"user": str}).set_index("user"),
    "items": ITEMS.astype({"item": str}).set_index("item"),
}


@pytest.fixture(scope="module")
def of_strings():
    tables = {"user_table": STRINGS["users"], "item_table": STRINGS["items"]}
    return make_model(**NAMES, **tables, id_dropout=0.2).fit(STRINGS["X"])


@pytest.mark.parametrize("name", [None, "visitor"])
def test_known_ids_in_an_index_of_no_or_another_name(of_strings, name):
    users = STRINGS["users"].rename_axis(name).iloc[[5, 7]]
    items = STRINGS["items"].rename_axis(name)
    both = users.set_index("age", append=True, drop=False)
    for call in (of_strings.recommend, of_strings.user_tower_.transform):
        for frame in (users, both):
            message = "^The index of X has ids of known users, such as '5'.*|nobody knows"
            with pytest.raises(ValueError, match=message):
                call(frame)
    message = r"index of user_ids has .*'5', and no column.*user_ids.rename_axis\('user'\)"
    with pytest.raises(ValueError, match=message):
        of_strings.similar_users(users)
    for call in (of_strings.similar_items, of_strings.recommend_users):
        with pytest.raises(
            ValueError, match="^The index of item_ids has ids of known items"
        ):
            call(items)
    for call in (of_strings.add_items, lambda X: of_strings.recommend(["5"], candidates=X)):
        with pytest.raises(ValueError, match="Call the index 'item' if it has them"):
            call(items)
    new = users.set_axis(["x", "y"]).rename_axis(name)
    expected = of_strings.recommend(users.reset_index(drop=True))
    assert_same_answer(of_strings.recommend(new), expected)


def test_values_by_id_are_no_ids(model, of_strings):
    teams = STRINGS["users"]["team"].rename_axis(None)
    for call in (of_strings.recommend, of_strings.user_tower_.transform):
        with pytest.raises(ValueError, match="The index of X has .*'0', and its values"):
            call(teams)
    counts = X["user"].value_counts()
    for call in (model.recommend, model.user_tower_.transform):
        with pytest.raises(
            ValueError, match="X is a Series whose index 'user' has the user"
        ):
            call(counts)
    assert_same_answer(
        model.recommend(counts.index[:2]), model.recommend([*counts.index[:2]])
    )


def test_an_index_of_a_similar_name(model):
    with pytest.raises(ValueError, match="'userId'.*Did you mean 'user'"):
        model.recommend(QUERY.set_index("user").rename_axis("userId"))


def test_items_of_another_name(model):
    renamed = ITEMS.rename(columns={"item": "itemId"})
    for call, where in (
        (model.similar_items, "item_ids"),
        (model.recommend_users, "item_ids"),
        (model.add_items, "frame"),
        (lambda frame: model.recommend([5], candidates=frame), "candidates"),
    ):
        with pytest.raises(ValueError, match=f"^{where} has .*itemId"):
            call(renamed)


def test_rows_without_ids_are_new_users(model):
    for frame in (QUERY[["team"]], QUERY[["age", "team"]].set_index(pd.Index([1, 2]))):
        found = model.recommend(frame)
        assert found[0].shape == (2, 10)
    named = QUERY[["team"]].set_index(pd.Index(["x", "y"], name="session"))
    frame = model.recommend(named, as_frame=True)
    assert frame["user"].unique().tolist() == ["x", "y"]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_feature(model, name):
    misspelt = QUERY.rename(columns={"team": name})
    message = f"lacks the column 'team' and has a column '{name}'.*Did you mean 'team'"
    for call in (model.recommend, model.similar_users, model.user_tower_.transform):
        for frame in (misspelt, misspelt.set_index("user"), misspelt.drop(columns="user")):
            with pytest.raises(ValueError, match=message):
                call(frame)


def test_a_misspelt_feature_of_items(model):
    frame = ITEMS.rename(columns={"genre": "genres"}).assign(item=range(500, 509))
    for call in (
        model.add_items,
        model.similar_items,
        lambda frame: model.recommend([5], candidates=frame),
    ):
        with pytest.raises(ValueError, match="lacks the column 'genre'.*'genres'"):
            call(frame)


def test_a_misspelt_column_of_X():
    rows = X.merge(USERS)
    options = NAMES | {"user_features": ["team", "age"], "timestamp_column": "time"}
    model = make_model(**options).fit(rows)
    message = "^X lacks the column 'team' and has a column 'Team'"
    wrong = rows.rename(columns={"team": "Team"})
    scorer = make_ranking_scorer("ndcg@10")
    for call in (model.predict, model.score, model.recommend, lambda X: scorer(model, X)):
        with pytest.raises(ValueError, match=message):
            call(wrong)
    assert model.predict(rows.drop(columns="team")).shape == (90,)
    with pytest.raises(ValueError, match="history lacks the column 'time'.*'times'"):
        model.recommend([5], history=rows.rename(columns={"time": "times"}))
    with pytest.raises(ValueError, match="^X_val lacks the column 'team'.*'Team'"):
        make_model(**options).fit(rows, X_val=wrong)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(wrong)
    with pytest.raises(ValueError, match="'team', 'age'.*Did you mean 'Team'"):
        make_model(**options).fit(wrong)


def test_other_columns_are_ignored_as_ever(model):
    expected = model.recommend([5, 7])
    assert_same_answer(model.recommend(QUERY.assign(page=1, note="x")), expected)
    only_team = QUERY[["user", "team"]].assign(wage=3)  # not a misspelt age
    assert_same_answer(model.recommend(only_team), expected, atol=1e-6)


# --- single rows ---------------------------------------------------------------------


def test_a_row_is_not_a_list_of_ids(model, baseline):
    rows = [
        QUERY.iloc[0],
        X.iloc[0],
        next(QUERY.itertuples()),
        QUERY.to_records(index=False),
        QUERY.iloc[0].to_dict(),
    ]
    for row in rows:
        for call in (
            model.recommend,
            model.similar_users,
            model.user_tower_.transform,
            baseline.recommend,
        ):
            with pytest.raises((ValueError, TypeError), match="row|records|dict|dimension"):
                call(row)
    with pytest.raises(ValueError, match=r"item_ids is a single row .*X.iloc\[\[0\]\]"):
        model.similar_items(ITEMS.iloc[0])
    with pytest.raises(ValueError, match=r"item_ids is a single row"):
        model.recommend_users(ITEMS.iloc[0])


ROWS = {
    "row": (X.iloc[0], "is a single row .*X.iloc"),
    "reordered": (X.iloc[0][::-1], "is a single row"),
    "items": (ITEMS.iloc[0], "is a single row"),
    "named tuple": (next(X.itertuples(index=False)), "is a named tuple with the fields"),
    "records": (X.to_records(index=False), "is an array of records"),
    "record": (X.to_records(index=False)[0], "is an array of records"),
}


@pytest.mark.parametrize("form", ROWS)
def test_a_row_is_no_candidates_and_no_interactions(model, baseline, form):
    row, message = ROWS[form]
    for call, query in (
        (model.recommend, 5),
        (model.similar_items, 105),
        (model.similar_users, 5),
        (model.recommend_users, 105),
        (baseline.recommend, 5),
    ):
        with pytest.raises(ValueError, match=f"^candidates {message}.*, or a list of"):
            call([query], candidates=row)
    if form == "items":
        return
    for argument in ("history", "exclude_interactions"):
        with pytest.raises(ValueError, match=f"^{argument} {message}"):
            model.recommend([5], **{argument: row})
    with pytest.raises(ValueError, match=f"^exclude_interactions {message}"):
        baseline.recommend([5], exclude_interactions=row)


def test_a_series_of_ids_is_one(model):
    expected = model.recommend([5, 7])
    for series in (pd.Series([5, 7]), pd.Series([5, 7], index=["a", "b"]), QUERY["user"]):
        assert_same_answer(model.recommend(series), expected)
