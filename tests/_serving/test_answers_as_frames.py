"""Answers as frames: named like X, and merged with tables without renaming."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.pipeline import make_pipeline
from tests.helpers import make_model, make_X

X = make_X().rename(columns={"user": "user_id", "item": "item_id"})
NAMES = {"user_column": "user_id", "item_column": "item_id"}


def two_towers(user="user_id", item="item_id"):
    return make_model(user_column=user, item_column=item)


MODELS = {
    "two towers": two_towers,
    "popular": lambda user="user_id", item="item_id": PopularRecommender(
        user_column=user, item_column=item
    ),
    "ease": lambda user="user_id", item="item_id": EASERecommender(
        user_column=user, item_column=item
    ),
}


@pytest.fixture(params=MODELS)
def make(request):
    return MODELS[request.param]


KINDS = {
    "int": lambda ids: ids,
    "int32": lambda ids: ids.astype("int32"),
    "Int64": lambda ids: ids.astype("Int64"),
    "uint8": lambda ids: ids.astype("uint8"),
    "str": lambda ids: "n" + ids.astype(str),
    "object": lambda ids: ("n" + ids.astype(str)).astype(object),
    "category": lambda ids: ("n" + ids.astype(str)).astype("category"),
    "datetime": lambda ids: pd.to_datetime("2020-01-01") + pd.to_timedelta(ids, unit="D"),
    "zoned": lambda ids: pd.to_datetime(ids, unit="D", utc=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_needs_no_renaming(make, kind):
    rows = X.assign(user_id=KINDS[kind](X["user_id"]), item_id=KINDS[kind](X["item_id"]))
    model = make().fit(rows)
    users = rows[["user_id"]].drop_duplicates().assign(city="Graz")
    items = rows[["item_id"]].drop_duplicates().assign(title="Tea")
    for n in (2, 99):  # with padding and without
        for asked in (users, users["user_id"], users[:1]):
            frame = model.recommend(asked, n, as_frame=True)
            assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]
            merged = frame.merge(users).merge(items)
            assert len(merged) == len(frame) > 0
            ids, _ = model.recommend(asked, n)
            assert frame["item_id"].tolist() == [
                i for i in ids.ravel() if i is not None
            ] or (
                kind in ("datetime", "zoned")  # arrays hold them as numpy.datetime64
            )
            seen = frame.merge(rows, on=["user_id", "item_id"])
            assert len(seen) == 0


def test_types_of_ids_stay_where_there_is_no_answer(make):
    model = make().fit(X)
    everything = pd.MultiIndex.from_product([X["user_id"].unique(), X["item_id"].unique()])
    pairs = everything.to_frame(index=False, name=["user_id", "item_id"])
    frame = model.recommend([1, 2], as_frame=True, exclude_interactions=pairs)
    assert len(frame) == 0
    assert frame.dtypes[["user_id", "item_id"]].tolist() == [np.int64, np.int64]
    assert len(frame.merge(X)) == 0


def test_the_other_queries():
    model = two_towers().fit(X)
    frame = model.recommend_users([1, 2], 3, as_frame=True)
    assert frame.columns.tolist() == ["item_id", "user_id", "score", "rank"]
    assert len(frame.merge(X)) == 0
    frame = model.similar_items([1, 2], 3, as_frame=True)
    assert frame.columns.tolist() == ["query", "item_id", "score", "rank"]
    frame = model.similar_users([1, 2], 3, as_frame=True)
    assert frame.columns.tolist() == ["query", "user_id", "score", "rank"]
    assert frame["query"].tolist() == [1] * 3 + [2] * 3


def test_positions_have_the_names_of_X(make):
    columns = ["item_id", "time", "user_id"]
    frame = make(2, 0).fit(X[columns]).recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]
    frame = make(-1, -3).fit(X[columns]).recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]


@pytest.mark.parametrize("form", ["array", "list", "integer labels"])
def test_without_names(make, form):
    rows = X[["user_id", "item_id"]].to_numpy()
    rows = {"array": rows, "list": rows.tolist(), "integer labels": pd.DataFrame(rows)}[
        form
    ]
    frame = make(0, 1).fit(rows).recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user", "item", "score", "rank"]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_names_of_other_frames(make, library):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    rows = pl.from_pandas(X) if library == "polars" else pa.Table.from_pandas(X)
    frame = make().fit(rows).recommend(rows[:3], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]


def test_names_of_a_table_do_not_matter():
    table = pd.DataFrame({"film": range(9), "kind": list("abc") * 3})
    model = make_model(**NAMES, item_table=table).fit(X)
    frame = model.recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]


@pytest.mark.parametrize("name", ["score", "rank"])
def test_names_that_are_taken(make, name):
    for renamed, columns in (
        ("user_id", (name, "item_id")),
        ("item_id", ("user_id", name)),
    ):
        model = make(*columns).fit(X.rename(columns={renamed: name}))
        message = f"two columns '{name}'.*Rename that column of X before fit"
        with pytest.raises(ValueError, match=message):
            model.recommend([1], as_frame=True)
        assert model.recommend([1], 2)[0].shape == (1, 2)


def test_query_is_taken_where_it_is_used():
    model = make_model(user_column="user_id", item_column="query").fit(
        X.rename(columns={"item_id": "query"})
    )
    frame = model.recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "query", "score", "rank"]
    with pytest.raises(ValueError, match="two columns 'query'"):
        model.similar_items([1], as_frame=True)
    assert model.similar_users([1], 2, as_frame=True).columns[1] == "user_id"


@pytest.mark.parametrize("verbose", [True, False])
def test_names_before_a_pipeline(verbose):
    """The columns of X, not those that a ColumnTransformer makes of them."""
    ids = make_column_transformer(
        ("passthrough", ["user_id", "item_id"]), verbose_feature_names_out=verbose
    ).set_output(transform="pandas")
    prefix = "passthrough__" if verbose else ""
    model = TwoTowerRecommender(
        user_column=f"{prefix}user_id",
        item_column=f"{prefix}item_id",
        embedding_dim=2,
        max_iter=1,
        random_state=0,
    )
    pipeline = make_pipeline(ids, model).fit(X)
    frame = pipeline.recommend([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]
    frame = pipeline.similar_items([1], 2, as_frame=True)
    assert frame.columns.tolist() == ["query", "item_id", "score", "rank"]
    assert pipeline[-1].recommend([1], as_frame=True).columns[0] == f"{prefix}user_id"
