"""Candidates for all queries and for each query, and excluded pairs."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.compose import make_column_transformer

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.pipeline import make_pipeline

N_USERS, N_ITEMS = 12, 9


def interactions():
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in rng.randint(0, N_USERS, 60)],
            "item": [f"i{i}" for i in rng.randint(0, N_ITEMS, 60)],
        }
    )


X = interactions()
MODELS = {
    "two towers": TwoTowerRecommender(embedding_dim=4, max_iter=2, random_state=0),
    "popular": PopularRecommender(),
    "ease": EASERecommender(),
    "item knn": ItemKNNRecommender(),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param].fit(X)


USERS = ["u3", "stranger", "u0", "u3"]
LISTS = [["i4", "i1", "i4"], [], ["i8", "i0", "i2", "i5"], ["i7"]]


def one_by_one(model, users, lists, **options):
    """Answers for one user at a time, with the list of this user as candidates."""
    answers = [
        model.recommend([user], candidates=ids, n_recommendations=5, **options)
        for user, ids in zip(users, lists, strict=True)
    ]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


FORMS = {
    "lists": LISTS,
    "arrays": [np.array(ids, dtype=object) for ids in LISTS],
    "series": [pd.Series(ids, dtype=object) for ids in LISTS],
    "mixed": [LISTS[0], np.array([]), pd.Index(LISTS[2]), LISTS[3]],
    "tuple of lists": tuple(LISTS),
    "series of lists": pd.Series(LISTS, index=[5, 6, 7, 8]),
    "object array of lists": pd.Series(LISTS).to_numpy(),
    "padded": [ids + [None] * (4 - len(ids)) for ids in LISTS],
    "padded array": np.array([ids + [None] * (4 - len(ids)) for ids in LISTS]),
    "padded with NaN": [ids + [np.nan] * 2 for ids in LISTS],
}


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_list_for_each_query(model, form, exclude_seen):
    expected = one_by_one(model, USERS, LISTS, exclude_seen=exclude_seen)
    found = model.recommend(
        USERS, candidates=FORMS[form], n_recommendations=5, exclude_seen=exclude_seen
    )
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    for row, ids in zip(found[0], LISTS, strict=True):
        assert set(row) - {None} <= set(ids)


def test_polars_lists(model):
    polars = pytest.importorskip("polars")
    lists = polars.Series(LISTS)
    found = model.recommend(USERS, candidates=lists, n_recommendations=5)
    expected = model.recommend(USERS, candidates=LISTS, n_recommendations=5)
    assert found[0].tolist() == expected[0].tolist()


def test_an_answer_is_a_list_of_candidates(model):
    """A second stage ranks the answer of a first one, including short rows."""
    first, _ = model.recommend(USERS, n_recommendations=N_ITEMS)
    assert None in first[0].tolist()
    again, _ = model.recommend(USERS, candidates=first, n_recommendations=N_ITEMS)
    assert again.tolist() == first.tolist()


def test_one_query_with_one_list(model):
    one = model.recommend(["u3"], candidates=[["i1", "i4"]], n_recommendations=2)
    other = model.recommend(["u3"], candidates=["i1", "i4"], n_recommendations=2)
    assert one[0].tolist() == other[0].tolist()


def test_no_query_with_no_list(model):
    for nothing in ([], np.empty((0, 3))):
        ids, _ = model.recommend([], candidates=nothing, n_recommendations=2)
        assert ids.shape == (0, 2)


def test_tuples_are_ids():
    pairs = X.assign(item=[(item, 0) for item in X["item"]])
    model = PopularRecommender().fit(pairs)
    shared = [("i1", 0), ("i2", 0)]
    ids, _ = model.recommend(["x", "y"], candidates=shared, n_recommendations=2)
    assert {tuple(row) for row in ids.tolist()} in (
        {(("i1", 0), ("i2", 0))},
        {(("i2", 0), ("i1", 0))},
    )
    lists = [[("i1", 0)], [("i2", 0)]]
    ids, _ = model.recommend(["x", "y"], candidates=lists, n_recommendations=1)
    assert ids.tolist() == [[("i1", 0)], [("i2", 0)]]


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(5),
        np.arange(5).astype(float),
        pd.date_range("2020-01-01", periods=5).as_unit("us").to_numpy(),
        pd.date_range("2020-01-01", periods=5, tz="Europe/Vienna"),
        [dt.date(2020, 1, day) for day in range(1, 6)],
    ],
    ids=["integers", "floats", "datetimes", "zoned datetimes", "dates"],
)
def test_ids_of_other_kinds(ids):
    data = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": ids})
    model = PopularRecommender().fit(data)
    lists = [[ids[4]], [ids[0], ids[1]], list(ids)]
    found, _ = model.recommend([9, 8, 7], candidates=lists, n_recommendations=5)
    expected, _ = one_by_one(model, [9, 8, 7], lists)
    assert found.tolist() == expected.tolist()
    if isinstance(ids, np.ndarray):
        block = np.array([ids[:2], ids[2:4]])
        found, _ = model.recommend([9, 8], candidates=block, n_recommendations=2)
        assert found.tolist() == block.tolist()


def test_unknown_ones_are_counted_once(model):
    lists = [["i1", "new"], ["newer", "i2", "new"]]
    with pytest.warns(UserWarning, match="3 of 5 candidates are not known items") as caught:
        ids, _ = model.recommend(
            ["u0", "u1"], candidates=lists, n_recommendations=2, exclude_seen=False
        )
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert ids.tolist() == [["i1", None], ["i2", None]]
    with pytest.warns(UserWarning, match="1 of 2 candidates are not known items") as caught:
        model.recommend(["u0", "u1"], candidates=["i1", "new"])
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([["i1"]], "1 lists of ids for 2 queries; give one for each, or a single list"),
        (np.array([["i1"]] * 3), "3 lists of ids for 2 queries"),
        ([["i1"], "i2"], "mixes lists and single ids"),
        ([["i1"], None], "mixes lists and single ids"),
        (["i1", None], "missing candidate id"),
        (["i2", ["i1"]], "mixes lists and single ids"),
        ("i1", r"candidates must be item ids.*the string 'i1'.*list of one: \['i1'\]"),
        (np.zeros((2, 2, 2)), "candidates must be item ids.*got a 3-D ndarray"),
    ],
)
def test_lists_that_are_refused(model, candidates, message):
    with pytest.raises(ValueError, match=message):
        model.recommend(["u0", "u1"], candidates=candidates)


@pytest.mark.parametrize("form", ["lists", "padded", "padded array"])
def test_lists_through_a_pipeline(form):
    """Lists of candidates are not taken for rows of X."""
    ids = make_column_transformer(
        ("passthrough", ["user", "item"]), verbose_feature_names_out=False
    )
    steps = ids.set_output(transform="pandas"), clone(MODELS["two towers"])
    pipeline = make_pipeline(*steps).fit(X)
    pair = pd.DataFrame({"user": ["u3"], "item": ["i1"]})
    options = {"candidates": FORMS[form], "exclude_interactions": pair}
    found, _ = pipeline.recommend(USERS, n_recommendations=4, **options)
    expected, _ = pipeline[-1].recommend(USERS, n_recommendations=4, **options)
    assert found.tolist() == expected.tolist()
    assert "i1" not in found[0].tolist()


# --- candidates by the id of the query ------------------------------------------------

BY_USER = {"u3": ["i4", "i1"], "u0": ["i8", "i0", "i2", "i5"], "else": ["i7"]}
OWN = [BY_USER.get(user, []) for user in USERS]  # u3 is asked for twice
PAIRS = pd.DataFrame(
    [(user, item) for user, items in BY_USER.items() for item in items],
    columns=["user", "item"],
)
LISTED = PAIRS.groupby("user")["item"].apply(list)
FORMS_BY_USER = {
    "pairs": PAIRS,
    "shuffled pairs with more columns": PAIRS.assign(n=1).sample(frac=1, random_state=0),
    "pairs in the index": PAIRS.set_index(["user", "item"]),
    "user in the index": PAIRS.set_index("user"),
    "series of items by user": PAIRS.set_index("user")["item"],
    "dict of lists": BY_USER,
    "dict of sets": {user: set(items) for user, items in BY_USER.items()},
    "dict of tuples": {user: tuple(items) for user, items in BY_USER.items()},
    "dict of arrays": {user: np.array(items) for user, items in BY_USER.items()},
    "dict of series": {user: pd.Series(items) for user, items in BY_USER.items()},
    "dict of iterators": {user: iter(items) for user, items in BY_USER.items()},
    "dict with nothing": BY_USER | {"stranger": None},
    "series of lists": LISTED,
    "series of lists without a name": LISTED.rename_axis(None),
    "series of sets": PAIRS.groupby("user")["item"].agg(set),
    "frame of lists": LISTED.reset_index(),
    "grouped column": PAIRS.groupby("user")["item"],
    "grouped frame": PAIRS.groupby("user"),
    "counts": PAIRS.value_counts(["user", "item"]),
    "levels": PAIRS.groupby("user")["item"].apply(lambda items: items),
    "pairs as an index": pd.MultiIndex.from_frame(PAIRS),
    "lists in order": OWN,
    "sets in order": [set(items) for items in OWN],
    "ranges of lists": tuple(OWN),
    "iterator of lists": None,
    "iterators in order": None,
}


@pytest.mark.parametrize("form", FORMS_BY_USER)
def test_candidates_of_each_user(model, form):
    candidates = FORMS_BY_USER[form]
    if form == "iterator of lists":
        candidates = iter(OWN)
    if form == "iterators in order":
        candidates = [iter(items) for items in OWN]
    if form == "dict of iterators":
        candidates = {user: iter(items) for user, items in BY_USER.items()}
    expected, scores = one_by_one(model, USERS, OWN, exclude_seen=False)
    found = model.recommend(USERS, 5, candidates=candidates, exclude_seen=False)
    assert found[0].tolist() == expected.tolist()
    np.testing.assert_allclose(found[1], scores, rtol=1e-5)
    assert found[0][1].tolist() == [None] * 5  # a stranger has no entry


@pytest.mark.parametrize("form", ["pairs", "frame of lists", "lists by row"])
@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_candidates_of_each_user_from_elsewhere(model, library, form):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    if form == "lists by row":
        candidates = pl.Series(OWN) if library == "polars" else pa.array(OWN)
    else:
        frame = FORMS_BY_USER[form].reset_index(drop=True)
        table = pa.table({name: frame[name].tolist() for name in ("user", "item")})
        candidates = pl.from_arrow(table) if library == "polars" else table
    expected, _ = one_by_one(model, USERS, OWN)
    assert model.recommend(USERS, 5, candidates=candidates)[0].tolist() == expected.tolist()


def test_users_of_each_item():
    model = MODELS["two towers"].fit(X)
    items = ["i4", "new", "i0"]
    lists = {"i0": ["u1", "u2"], "i4": ["u3"], "i8": ["u5"]}
    pairs = pd.DataFrame(
        [(u, i) for i, users in lists.items() for u in users], columns=["user", "item"]
    )
    for candidates in (lists, pairs, pairs.groupby("item")["user"]):
        with pytest.warns(UserWarning, match="1 of 3 item ids of item_ids are not known"):
            ids, _ = model.recommend_users(
                items, 2, candidates=candidates, exclude_seen=False
            )
        assert ids[:2].tolist() == [["u3", None], [None, None]]
        assert set(ids[2]) == {"u1", "u2"}
    ids, _ = model.similar_items(["i4", "i0"], 2, candidates={"i4": ["i1"], "i0": ["i2"]})
    assert ids.tolist() == [["i1", None], ["i2", None]]
    ids, _ = model.similar_users(["u3"], 2, candidates=pd.Series({"u3": ["u1", "u3"]}))
    assert ids.tolist() == [["u1", None]]


def test_integer_ids_by_user():
    rows = pd.DataFrame({"user": [0, 1, 2, 3] * 3, "item": [*range(6)] * 2})
    model = PopularRecommender().fit(rows)
    options = {"n_recommendations": 2, "exclude_seen": False}
    wanted = [[4, None], [5, None]]
    lists = {2: [4], 1: [5]}
    for candidates in (lists, pd.Series(lists), pd.Series([[5], [4]], index=[1, 2])):
        assert (
            model.recommend([2, 1], candidates=candidates, **options)[0].tolist() == wanted
        )
    # The default index numbers rows; here it could be ids as well.
    in_order = pd.Series([[4], [5]])
    assert model.recommend([7, 8], candidates=in_order, **options)[0].tolist() == wanted
    assert model.recommend([0, 1], candidates=in_order, **options)[0].tolist() == wanted
    for users, candidates in (([1, 0], in_order), ([2, 3], in_order.set_axis([7, 8]))):
        with pytest.raises(ValueError, match="candidates is a Series.*to_dict.*tolist"):
            model.recommend(users, candidates=candidates)
    arrays = PopularRecommender().fit(rows.to_numpy())
    pairs = pd.DataFrame([[2, 4], [1, 5]])
    assert arrays.recommend([2, 1], candidates=pairs, **options)[0].tolist() == wanted


def test_new_items_of_each_user():
    """Features in a frame of pairs score items that training did not have."""
    table = pd.DataFrame(
        {"item": [f"i{i}" for i in range(N_ITEMS)], "kind": list("xyz") * 3}
    )
    model = TwoTowerRecommender(
        embedding_dim=4, max_iter=2, random_state=0, item_table=table, id_dropout=0.3
    ).fit(X)
    offered = pd.DataFrame(
        {
            "user": ["u0", "u1", "u0", "u2"],
            "item": ["n1", "n1", "n2", "i3"],
            "kind": ["x", "x", "y", "z"],
        }
    )
    options = {"n_recommendations": 3, "exclude_seen": False}
    ids, scores = model.recommend(["u1", "u0", "u2", "u3"], candidates=offered, **options)
    assert [set(row) - {None} for row in ids] == [{"n1"}, {"n1", "n2"}, {"i3"}, set()]
    of_u0 = offered.loc[[0, 2], ["item", "kind"]]
    alone = model.recommend(["u0"], candidates=of_u0, **options)
    assert alone[0][0].tolist() == ids[1].tolist()
    np.testing.assert_allclose(alone[1][0], scores[1], rtol=1e-5)
    with pytest.raises(ValueError, match="several rows of item 'n1' with different"):
        model.recommend(["u0"], candidates=offered.assign(kind=list("xyzz")))
    with pytest.raises(ValueError, match="lacks the column 'kind' and has a column 'Kind'"):
        model.recommend(["u0"], candidates=offered.rename(columns={"kind": "Kind"}))


def a_set(*values):
    return frozenset(values)


@pytest.mark.parametrize(
    "candidates",
    [
        {"i1", "i2"},
        a_set("i1", "i2"),
        {"i1": 0, "i2": 0}.keys(),
        {0: "i1", 1: "i2"}.values(),
    ]
    + [
        pd.Index(["i1", "i2"]),
        np.array(["i1", "i2"]),
        ("i1", "i2"),
        pd.Categorical(["i1", "i2"]),
    ]
    + [pd.DataFrame({"item": ["i1", "i2"], "price": [1, 2]}), "iterator"],
    ids=lambda candidates: type(candidates).__name__,
)
def test_ids_for_all_queries(model, candidates):
    if isinstance(candidates, str):
        candidates = (item for item in ("i1", "i2"))
    found, _ = model.recommend(["u0", "u9"], 3, candidates=candidates, exclude_seen=False)
    assert [set(row) for row in found] == [{"i1", "i2", None}] * 2


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (5, "candidates must be item ids.*the single value 5.*list of one"),
        (b"i1", "candidates must be item ids.*single value b'i1'"),
        ({a_set("i1"), a_set("i2")}, "set of sets, which has no order"),
        ({"u0": "i1"}, r"candidates\['u0'\] must be a list of ids; got the string 'i1'"),
        ({"u0": 3}, r"candidates\['u0'\] must be a list of ids; got the single value 3"),
        ({"u0": {"i1": 0.5}}, r"candidates\['u0'\] must be a list of ids; got a dict"),
        ({"u0": np.array([["i1"]])}, r"candidates\['u0'\].*got a 2-D ndarray"),
        ([("u0", "i1"), ("u1", "i2")], "candidates is a list of tuples. A tuple is an id"),
        ([{"item": "i1"}], "candidates has a candidate id that cannot be hashed"),
        ([[["i1"]], [["i2"]]], "candidates has a candidate id that cannot be hashed"),
        (np.array([True] * N_ITEMS), "candidates is a mask"),
        (np.ones((2, N_ITEMS), dtype=bool), "candidates is a mask"),
        (sp.csr_matrix(np.ones((2, N_ITEMS))), "candidates must be.*a sparse matrix"),
        (pd.DataFrame({"user": ["u0"]}), "candidates has no column with item ids"),
        (
            X["item"].value_counts(),
            "candidates is a Series whose index 'item' has the item",
        ),
        (
            PAIRS.set_index(["user", "item"]).assign(n=1)["n"].rename_axis(["a", "b"]),
            r"candidates is a Series with the index levels \['a', 'b'\]",
        ),
    ],
)
def test_forms_that_are_refused(model, candidates, message):
    with pytest.raises((ValueError, TypeError), match=message):
        model.recommend(["u0", "u1"], candidates=candidates)


def test_no_user_is_found_because_of_the_type(model):
    with pytest.warns(
        UserWarning, match="Rows of candidates have user ids.*int.*str"
    ) as caught:
        ids, _ = model.recommend(["u0"], 1, candidates={0: ["i1"]})
    assert ids.tolist() == [[None]]
    assert caught[0].filename == __file__


def test_lazy_candidates(model):
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"candidates is a polars LazyFrame.*\.collect\(\)"):
        model.recommend(["u0"], candidates=pl.from_pandas(PAIRS).lazy())


@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("form", FORMS_BY_USER)
def test_candidates_of_each_user_through_a_pipeline(form, verbose):
    ids = make_column_transformer(
        ("passthrough", ["user", "item"]), verbose_feature_names_out=verbose
    )
    prefix = "passthrough__" if verbose else ""
    model = PopularRecommender(user_column=f"{prefix}user", item_column=f"{prefix}item")
    pipeline = make_pipeline(ids.set_output(transform="pandas"), model).fit(X)
    candidates = FORMS_BY_USER[form]
    if "iterator" in form:
        return
    expected, _ = one_by_one(pipeline[-1], USERS, OWN, exclude_seen=False)
    found, _ = pipeline.recommend(USERS, 5, candidates=candidates, exclude_seen=False)
    assert found.tolist() == expected.tolist()


# --- further pairs to exclude ---------------------------------------------------------


def pairs(*rows):
    return pd.DataFrame(rows, columns=["user", "item"])


UNHEARD = "ignore:.*item ids of exclude_interactions are not known"


@pytest.mark.filterwarnings(UNHEARD)
def test_further_exclusions(model):
    further = pairs(
        ("u3", "i1"), ("u3", "i4"), ("stranger", "i0"), ("else", "i2"), ("u3", "unheard")
    )
    expected = []
    ranked, _ = model.recommend(USERS, n_recommendations=N_ITEMS, exclude_seen=False)
    for user, row in zip(USERS, ranked, strict=True):
        hidden = set(further["item"][further["user"] == user])
        hidden |= set(X["item"][X["user"] == user])
        expected.append([item for item in row if item not in hidden])
    found, _ = model.recommend(
        USERS, n_recommendations=N_ITEMS, exclude_interactions=further
    )
    assert [[i for i in row if i is not None] for row in found] == expected
    alone, _ = model.recommend(
        USERS, n_recommendations=N_ITEMS, exclude_interactions=further, exclude_seen=False
    )
    for user, row, full in zip(USERS, alone, ranked, strict=True):
        hidden = set(further["item"][further["user"] == user])
        assert [i for i in row if i is not None] == [i for i in full if i not in hidden]
    within, _ = model.recommend(
        USERS,
        candidates=[["i0", "i1", "i2"]] * 4,
        n_recommendations=3,
        exclude_interactions=further,
        exclude_seen=False,
    )
    assert [set(row) - {None} for row in within] == [
        {"i0", "i2"},
        {"i1", "i2"},
        {"i0", "i1", "i2"},
        {"i0", "i2"},
    ]


def test_exclusions_are_found_behind_many(model):
    """An eligible item is found behind many excluded ones."""
    further = pairs(*[("u3", f"i{i}") for i in range(N_ITEMS) if i != 5])
    ids, _ = model.recommend(
        ["u3"], n_recommendations=1, exclude_interactions=further, exclude_seen=False
    )
    assert ids.tolist() == [["i5"]]


def test_no_further_exclusions(model):
    expected, _ = model.recommend(USERS)
    for nothing in (pairs(), pairs(("nobody", "i1")), []):
        assert model.recommend(USERS, exclude_interactions=nothing)[0].tolist() == (
            expected.tolist()
        )


def test_exclusions_that_cannot_be_read(model):
    with pytest.raises(ValueError, match="lacks the column 'item'"):
        model.recommend(["u0"], exclude_interactions=pd.DataFrame({"user": ["u0"]}))
    with pytest.raises(ValueError, match="1 row with a missing item id"):
        model.recommend(["u0"], exclude_interactions=pairs(("u0", None)))


def test_exclusions_as_an_array():
    model = EASERecommender().fit(X.to_numpy())
    expected = (
        EASERecommender().fit(X).recommend(["u3"], exclude_interactions=pairs(("u3", "i1")))
    )
    for rows in (np.array([["u3", "i1"]]), [["u3", "i1"]], [("u3", "i1")]):
        found = model.recommend(["u3"], exclude_interactions=rows)
        assert found[0].tolist() == expected[0].tolist()
