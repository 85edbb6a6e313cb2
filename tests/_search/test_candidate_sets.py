"""Candidates for all queries and for each query, and excluded pairs."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
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
        pd.date_range("2020-01-01", periods=5).to_numpy(),
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
        ("i1", "candidate ids in one dimension; got 0"),
        (np.zeros((2, 2, 2)), "candidate ids in one dimension; got 3"),
    ],
)
def test_lists_that_are_refused(model, candidates, message):
    with pytest.raises(ValueError, match=message):
        model.recommend(["u0", "u1"], candidates=candidates)


def test_an_id_beside_lists_is_refused(model):
    with pytest.raises(TypeError, match="candidate id that cannot be hashed"):
        model.recommend(["u0", "u1"], candidates=["i2", ["i1"]])


@pytest.mark.parametrize("name", ["popular", "ease"])
def test_frames_are_for_features(name):
    with pytest.raises(TypeError, match="candidates must be item ids.*got a frame"):
        MODELS[name].fit(X).recommend(["u0"], candidates=pd.DataFrame({"item": ["i0"]}))


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
