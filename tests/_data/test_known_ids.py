"""Ids of another type than the known ones: refused in training, warned of in queries."""

import datetime as dt
import io
import re
import uuid
import warnings

import numpy as np
import pandas as pd
import pytest

from sktwotower import EntityTable
from sktwotower._data import known_ids
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.metrics import make_ranking_scorer, ranking_report
from tests.helpers import make_model

RNG = np.random.RandomState(0)
X = pd.DataFrame({"user": RNG.randint(0, 12, 90), "item": RNG.randint(100, 109, 90)})
TEXT = X.astype(str)
NAMES = {"user_column": "user", "item_column": "item"}
ITEMS = pd.DataFrame({"item": range(100, 109), "genre": list("abcabcabc")})
INT_TO_STR = r"type int \(such as -?\d+\).*type str \(such as '\w+'\)"
STR_TO_INT = r"type str \(such as '\w+'\).*type int \(such as -?\d+\)"
BASELINES = [PopularRecommender, ItemKNNRecommender, EASERecommender]


@pytest.fixture(scope="module")
def model():
    return make_model(**NAMES, item_table=ITEMS, id_dropout=0.2).fit(X)


@pytest.fixture(scope="module")
def of_text():
    return make_model(**NAMES).fit(TEXT)


def one_warning(call, match):
    """What a call returns that warns once, at this file's line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call()
    (warning,) = [w for w in caught if "is in the catalogue" not in str(w.message)]
    assert re.search(match, str(warning.message)), warning.message
    assert warning.filename == __file__
    return found


def silent(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


# --- training ------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["user", "item"])
@pytest.mark.parametrize("spelled", ["100", "007", "3.0", " 5"])
def test_a_column_of_numbers_and_of_strings_that_look_like_numbers(column, spelled):
    rows = X.assign(**{column: [*X[column][:-1], spelled]})
    message = rf"column '{column}' of X has {column} ids that are int .*str \(such as"
    for estimator in [make_model(**NAMES), *(baseline(**NAMES) for baseline in BASELINES)]:
        with pytest.raises(ValueError, match=message + r".*astype\(str\).*to_numeric"):
            estimator.fit(rows)
    with pytest.raises(ValueError, match="column 0 of X has user ids that are int"):
        make_model().fit([[1, 100], ["1", 101]] * 3)


def test_numbers_and_names_may_be_mixed_on_purpose():
    rows = X.assign(item=[*X["item"][:-1], "B07"])
    model = make_model(**NAMES).fit(rows)
    assert model.item_ids_.tolist()[-1] == "B07"
    grown = silent(lambda: model.partial_fit(rows.replace({"B07": "C11"})))
    assert grown.item_ids_.tolist()[-1] == "C11"
    with pytest.raises(ValueError, match="and the known item ids together have int.*'101'"):
        model.partial_fit(rows.assign(item="101"))
    text = make_model(**NAMES).fit(rows.astype({"item": str}))
    with pytest.raises(ValueError, match="None of the 1 item ids .*is known"):
        text.partial_fit(rows.assign(item=7))


def test_chunks_of_a_file():
    """pandas reads the chunk with B07 as strings, and the others as integers."""
    rows = [(user, 100 + (user + k) % 6) for k in range(4) for user in range(1, 7)]
    csv = "user,item\n" + "\n".join(f"{a},{b}" for a, b in rows) + "\n3,B07\n"
    model = make_model(**NAMES)
    first, second = pd.read_csv(io.StringIO(csv), chunksize=13)
    before = model.partial_fit(first).item_embeddings_.copy()
    with pytest.raises(ValueError, match=f"of column 'item' of X.*{STR_TO_INT}"):
        model.partial_fit(second)
    np.testing.assert_array_equal(model.item_embeddings_, before)
    model = make_model(**NAMES)
    for chunk in pd.read_csv(io.StringIO(csv), chunksize=13, dtype={"item": str}):
        model.partial_fit(chunk)
    assert len(model.item_ids_) == 7


@pytest.mark.parametrize("column", ["user", "item"])
@pytest.mark.parametrize("in_file", [False, True])
def test_training_goes_on_with_another_type(column, in_file, tmp_path):
    rows, numbers = X.assign(**{column: TEXT[column]}), X
    if in_file:
        pytest.importorskip("pyarrow")
        rows.to_parquet(tmp_path / "text.parquet")
        X.to_parquet(tmp_path / "numbers.parquet")
        rows, numbers = tmp_path / "text.parquet", tmp_path / "numbers.parquet"
    where = f"None of the .* {column} ids of column '{column}' of X is known"
    with pytest.raises(ValueError, match=rf"{where}.*{STR_TO_INT}.*to_numeric"):
        make_model(**NAMES).fit(numbers).partial_fit(rows)
    with pytest.raises(ValueError, match=rf"{where}.*{INT_TO_STR}.*astype\(str\)"):
        make_model(**NAMES).fit(rows).partial_fit(numbers)
    with pytest.raises(ValueError, match=where):
        make_model(**NAMES, warm_start=True).fit(numbers).fit(rows)
    message = f"ids of column '{column}' of X_val is known.*{STR_TO_INT}"
    with pytest.raises(ValueError, match=message):
        make_model(**NAMES).fit(numbers, X_val=rows)


@pytest.mark.parametrize(
    ("known", "given"),
    [
        ([dt.date(2020, 1, 1)], ["2020-01-01"]),
        (pd.to_datetime(["2020-01-01"]), ["2020-01-01"]),
        (pd.to_datetime(["2020-01-01"]), [1577836800]),
        ([uuid.UUID(int=1)], [str(uuid.UUID(int=1))]),
        ([b"ann"], ["ann"]),
        ([(1, 2)], ["(1, 2)"]),
        ([5], [(5,)]),
        (["a"], [True]),
    ],
    ids=str,
)
def test_types_of_any_kind(known, given):
    def rows(ids):
        return pd.DataFrame({"user": pd.Series([*ids, *ids]), "item": ["a", "b"]})

    model = make_model(**NAMES)
    with pytest.warns(UserWarning, match="each item has one row"):
        model.fit(rows(known))
    with pytest.raises(ValueError, match=f"type {type(given[0]).__name__}"):
        model.partial_fit(rows(given))
    one_warning(lambda: model.recommend(given), f"type {type(given[0]).__name__}")


def test_new_ids_of_the_same_type_are_normal(model, of_text):
    new = X + 1000
    for rows in (new, new.astype(float), new.astype("uint16"), new.astype("Int64")):
        silent(lambda rows=rows: make_model(**NAMES).fit(X).partial_fit(rows))
        silent(lambda rows=rows: model.recommend(rows["user"].unique()))
        silent(lambda rows=rows: model.predict(rows))
    silent(lambda: of_text.predict(new.astype(str)))
    silent(lambda: of_text.recommend(np.array(["new"])))
    silent(lambda: of_text.recommend(pd.Categorical(["new"])))


# --- tables --------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [ITEMS, ITEMS.set_index("item")])
def test_tables_of_another_type(frame):
    text = ITEMS.astype({"item": str})
    for table in (text, text.set_index("item"), EntityTable(text, "item")):
        message = f"ids of column 'item' of item_table is known.*{STR_TO_INT}"
        with pytest.raises(ValueError, match=message):
            make_model(**NAMES, item_table=table).fit(X)
    with pytest.raises(ValueError, match=f"item_table is known.*{INT_TO_STR}"):
        make_model(**NAMES, item_table=frame).fit(TEXT)
    users = pd.DataFrame({"user": TEXT["user"].unique(), "a": 1.0})
    with pytest.raises(ValueError, match="'user' of user_table is known"):
        make_model(**NAMES, user_table=users).fit(X)


def test_the_first_column_of_a_table_holds_titles():
    films = ITEMS.assign(title=[f"Film {i}" for i in range(9)])[["title", "genre"]]
    with pytest.raises(ValueError, match=r"column 'title' of item_table .*EntityTable\("):
        make_model(**NAMES, item_table=films).fit(X)


def test_a_table_of_other_entities():
    other = ITEMS.assign(item=range(9))
    message = (
        r"item_table has none of the 9 ids that X has: its ids, in column 'item', begin "
        r"with \[0, 1, 2\], those of X with \[\d+, \d+, \d+\]"
    )
    for table in (other, EntityTable(other, "item")):
        with pytest.raises(ValueError, match=message):
            make_model(**NAMES, item_table=table).fit(X)
    some = pd.concat([other, ITEMS[:1]])
    with pytest.warns(UserWarning, match="lacks 8 of the 9 ids"):
        make_model(**NAMES, item_table=some).fit(X)


def test_a_table_of_numbers_and_spelled_numbers():
    mixed = pd.concat([ITEMS, ITEMS.assign(item=[str(i) for i in range(9)])])
    with pytest.raises(ValueError, match="Column 'item' of the table has ids that are int"):
        EntityTable(mixed, "item")


def test_items_that_are_added(model):
    text = pd.DataFrame({"item": ["500"], "genre": ["a"]})
    for frame in (text, text.set_index("item")):
        with pytest.raises(ValueError, match=f"item ids of frame is known.*{STR_TO_INT}"):
            model.add_items(frame)
    mixed = pd.DataFrame({"item": [100, "500"], "genre": ["a", "b"]})
    with pytest.raises(ValueError, match="frame has item ids that are int"):
        model.add_items(mixed)
    assert 500 not in model.item_ids_


# --- queries -------------------------------------------------------------------------


def forms(ids):
    """Strings in the forms in which people have them."""
    yield ids
    yield np.array(ids)
    yield np.array(ids, dtype=object)
    yield pd.Series(ids, dtype="category")
    yield [np.str_(value) for value in ids]
    polars = pytest.importorskip("polars")
    yield polars.Series(ids)
    arrow = pytest.importorskip("pyarrow")
    yield arrow.array(ids)
    yield pd.Series(ids, dtype="string[pyarrow]")


def test_queries_of_strings_where_integers_are_known(model):
    for ids in forms(["1", "2", "3"]):
        users = f"^3 of 3 user ids of .* are not known users.*: they are of {STR_TO_INT}"
        one_warning(lambda ids=ids: model.recommend(ids), users)
        one_warning(lambda ids=ids: model.similar_users(ids), users)
        one_warning(lambda ids=ids: model.user_tower_.transform(ids), users)
    for ids in forms(["100", "101"]):
        items = f"^2 of 2 item ids of .* are not known items.*: they are of {STR_TO_INT}"
        one_warning(lambda ids=ids: model.similar_items(ids), items)
        one_warning(lambda ids=ids: model.recommend_users(ids), items)
        one_warning(lambda ids=ids: model.item_tower_.transform(ids), items)


def test_queries_of_integers_where_strings_are_known(of_text):
    for ids in ([1, 2], np.array([1, 2]), pd.Series([1, 2], dtype="Int8"), [1.0, 2.0]):
        match = r"type (int|float) \(such as .*type str .*astype\(str\)"
        one_warning(lambda ids=ids: of_text.recommend(ids), match)


@pytest.mark.parametrize("baseline", BASELINES)
def test_queries_of_baselines(baseline):
    model = baseline(**NAMES).fit(X)
    one_warning(lambda: model.recommend(["1"]), f"user ids of X.*{STR_TO_INT}")
    one_warning(lambda: model.recommend([1], candidates=["100"]), STR_TO_INT)
    pairs = X.astype({"item": str})
    one_warning(lambda: model.recommend([1], exclude_interactions=pairs), STR_TO_INT)
    one_warning(lambda: model.predict(X.astype({"user": str})), "in column 'user' of X")
    one_warning(lambda: model.predict(pairs), "in column 'item' of X")


@pytest.mark.parametrize("column", ["user", "item"])
def test_rows_that_are_scored(model, column):
    rows = X.assign(**{column: TEXT[column]})
    match = f"90 of 90 ids in column '{column}' of X are not known.*{STR_TO_INT}"
    scorer = make_ranking_scorer("ndcg@10")
    for call in (
        lambda: model.predict(rows),
        lambda: model.score(rows),
        lambda: scorer(model, rows),
        lambda: ranking_report(model, rows),
    ):
        one_warning(call, match)


def test_candidates_that_are_not_known(model):
    left_out = "candidates are not known items and are left out"
    for ids in (["100", "101"], [["100"], ["101"]], np.array([["100"], ["101"]])):
        match = f"^2 of 2 {left_out}: they are of {STR_TO_INT}"
        one_warning(lambda ids=ids: model.recommend([1, 2], candidates=ids), match)
    one_warning(lambda: model.similar_items([100], candidates=["101"]), STR_TO_INT)
    one_warning(lambda: model.recommend([1], candidates=[100, 7]), f"1 of 2 {left_out}.$")
    spelled = f"1 of 2 {left_out}: '101' is not known, and 101 is; convert.*to_numeric"
    one_warning(lambda: model.recommend([1], candidates=[100, "101"]), spelled)
    some = make_ranking_scorer("ndcg@3", candidates=[100, 101, 7])
    one_warning(lambda: some(model, X), f"1 of 3 {left_out}.$")
    with pytest.raises(ValueError, match=f"None of the 1 candidates.*{STR_TO_INT}"):
        make_ranking_scorer("ndcg@3", candidates=["100"])(model, X)


def test_histories_and_exclusions(model):
    items, users = X.astype({"item": str}), X.astype({"user": str})
    new = X.assign(item=7)
    for argument, then in (
        ("history", "are left out"),
        ("exclude_interactions", "exclude nothing"),
    ):

        def call(rows, argument=argument):
            return lambda: model.recommend([1], **{argument: rows})

        unknown = f"item ids of {argument} are not known items and {then}"
        one_warning(call(items), f"{unknown}: they are of {STR_TO_INT}")
        one_warning(call(new), f"{unknown}.$")
        match = f"Rows of {argument} have user ids that are not among .*{STR_TO_INT}"
        one_warning(call(users), match)
        silent(call(X.assign(user=5)))  # of others


def test_an_unknown_item_has_the_vector_of_an_unknown_one(model):
    vector = "are not known items and have no features, so that their vector is that of"
    described = pd.DataFrame({"item": [7], "genre": ["a"]})
    for call in (model.similar_items, model.recommend_users):
        one_warning(
            lambda call=call: call([100, 7]), f"1 of 2 item ids of item_ids {vector}"
        )
        silent(lambda call=call: call(described))
        silent(lambda call=call: call([100, 101]))
    users = "1 of 1 user ids of user_ids are not known users and have no features"
    one_warning(lambda: model.similar_users([77]), users)
    silent(lambda: model.recommend([77]))
    silent(lambda: model.item_tower_.transform([7]))


def test_another_spelling_of_known_ids():
    """Where integers and strings are known, too."""
    model = make_model(**NAMES).fit(X.assign(item=[*X["item"][:-1], "B07"]))
    match = "1 of 2 .* are left out: '100' is not known, and 100 is; give ids of one type"
    one_warning(lambda: model.recommend([1], candidates=["B07", "100"]), match)
    # The ids that are known in another spelling are counted apart from new ones.
    match = "3 of 4 .* are left out; 2 since '100' is not known, and 100 is"
    among = ["B07", "100", "C11", "101"]
    one_warning(lambda: model.recommend([1], candidates=among), match)
    rows = pd.DataFrame({"user": 1, "item": among})
    match = "^2 of 4 ids in column 'item' of X are not known items: '100' is not known, and"
    one_warning(lambda: model.predict(rows), match)
    pairs = pd.DataFrame({"user": ["1", 2], "item": 100})
    match = "not among those of the query: '1' is not one, and 1 is; convert them"
    one_warning(lambda: model.recommend([1, 2], exclude_interactions=pairs), match)
    one_warning(lambda: model.recommend([1], candidates=["B07", "C11"]), "are left out.$")


def test_usual_ids_are_looked_up_once(monkeypatch):
    """Ids of the one known type need no look-up for a warning, and none to refuse them."""
    called = []
    codes = Vocabulary.codes
    monkeypatch.setattr(
        Vocabulary, "codes", lambda self, ids: called.append(1) or codes(self, ids)
    )
    monkeypatch.setattr(known_ids, "_distinct", pytest.fail)
    for rows in (X, TEXT):
        model = PopularRecommender(**NAMES).fit(rows)
        called.clear()
        model.predict(rows)
        assert len(called) == 2
