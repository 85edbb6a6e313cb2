"""What is said of arguments in wrong forms: their name, what was given, what to do."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.model_selection import GlobalTimeSplit, train_test_split_interactions
from sktwotower.pipeline import make_pipeline
from sktwotower.preprocessing import FeatureEncoder
from tests.helpers import make_X

X = make_X()
ITEMS = pd.DataFrame({"item": range(9), "kind": list("abc") * 3})
COLUMNS = {"user_column": "user", "item_column": "item"}
MODELS = {
    "two towers": TwoTowerRecommender(
        **COLUMNS,
        timestamp_column="time",
        item_table=ITEMS,
        id_dropout=0.2,
        embedding_dim=4,
        max_iter=1,
        random_state=0,
    ),
    "popular": PopularRecommender(**COLUMNS),
    "ease": EASERecommender(**COLUMNS),
    "item knn": ItemKNNRecommender(**COLUMNS),
}


@cache
def fitted(name="two towers"):
    return MODELS[name].fit(X)


# Methods of rows, and methods of ids, by the name of their argument.
OF_ROWS = {"fit": "X", "predict": "X", "score": "X"}
OF_IDS = {
    "recommend": "X",
    "recommend_users": "item_ids",
    "similar_items": "item_ids",
    "similar_users": "user_ids",
}

CALLS = [
    pytest.param(name, method, id=f"{method} of {name}")
    for name, model in MODELS.items()
    for method in {**OF_ROWS, **OF_IDS}
    if hasattr(model, method)
]


def ask(name, method, value):
    model = fitted(name) if method != "fit" else clone(MODELS[name])
    return getattr(model, method)(value)


FORMS = {
    "number": (5, "got the single value 5"),
    "moment": (pd.Timestamp("2020-01-01"), r"got the single value Timestamp\('2020-01-01"),
    "array of no dimension": (np.array(5), "got the single value 5"),
    "bytes": (b"x", "got the single value b'x'"),
    "set": ({1, 2}, r"got a set. Give a list: list\(...\)"),
    "dict": ({1: [2]}, "got a dict"),
    "iterator": (iter([1, 2]), r"got a list_iterator. Give a list: list\(...\)"),
    "three dimensions": (np.zeros((1, 1, 1)), "got a 3-D ndarray"),
    "None": (None, "got None"),
}


@pytest.mark.parametrize(("name", "method"), CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_queries_in_other_forms(name, method, form):
    value, message = FORMS[form]
    wanted = r"^X must be rows of \(user id, item id\)"
    if method in OF_IDS:
        wanted = f"^{OF_IDS[method]} must be.*ids"
    with pytest.raises(ValueError, match=f"{wanted}.*{message}"):
        ask(name, method, value)


def test_a_single_string():
    with pytest.raises(
        ValueError, match=r"^X must be.*string 'ann'.*list of one: \['ann'\]"
    ):
        fitted().recommend("ann")


def test_a_dict_of_columns():
    columns = {"user": ["u0"], "item": ["i0"]}
    for name in ("history", "exclude_interactions", "candidates"):
        message = (
            rf"^{name} is a dict with the columns \['user', 'item'\].*pandas.DataFrame"
        )
        with pytest.raises(ValueError, match=message):
            fitted().recommend([1], **{name: columns})


# --- frames --------------------------------------------------------------------------

LEVELS = {
    "MultiIndex": (
        lambda frame: pd.concat({"a": frame}, axis=1),
        ValueError,
        "has a MultiIndex of columns.*one level",
    ),
    "lazy": (
        lambda frame: pytest.importorskip("polars").from_pandas(frame).lazy(),
        TypeError,
        r"is a polars LazyFrame, which has no rows yet; call .collect\(\)",
    ),
}


@pytest.fixture(params=LEVELS)
def form(request):
    return LEVELS[request.param]


@pytest.mark.parametrize(("name", "method"), CALLS)
def test_frames_of_another_form(name, method, form):
    convert, error, message = form
    where = {**OF_ROWS, **OF_IDS}[method]
    with pytest.raises(error, match=f"^{where} {message}"):
        ask(name, method, convert(X))


def test_arguments_of_another_form(form):
    convert, error, message = form
    for name in ("history", "exclude_interactions", "candidates"):
        with pytest.raises(error, match=f"^{name} {message}"):
            fitted().recommend([1], **{name: convert(X)})
    with pytest.raises(error, match=f"^X_val {message}"):
        TwoTowerRecommender(**COLUMNS).fit(X, X_val=convert(X))
    with pytest.raises(error, match=f"^frame {message}"):
        fitted().add_items(convert(ITEMS))
    with pytest.raises(error, match=f"^item_table.* {message}"):
        TwoTowerRecommender(**COLUMNS, item_table=convert(ITEMS)).fit(X)
    with pytest.raises(error, match=message):
        EntityTable(convert(ITEMS), "item")
    with pytest.raises(error, match=f"^X {message}"):
        train_test_split_interactions(convert(X), user_column="user")
    with pytest.raises(error, match=f"^X {message}"):
        next(GlobalTimeSplit(timestamp_column="time").split(convert(X)))


def test_a_lazy_frame_is_not_encoded():
    lazy = pytest.importorskip("polars").from_pandas(ITEMS).lazy()
    with pytest.raises(TypeError, match=r"^X is a polars LazyFrame.*\.collect\(\)"):
        FeatureEncoder().fit(lazy)


# --- integers are positions ----------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "user", "item", "message"),
    [
        (
            [10, 20],
            10,
            20,
            r"user_column=10 is not a column of X.*\[10, 20\].*astype\(str\)",
        ),
        ([10, 20], 0, 20, r"item_column=20 is not a column of X.*Integers are positions"),
        ([1, 0], 0, 1, r"user_column=0 is the position of one column of X and the label"),
        ([1, 2], 0, 1, r"item_column=1 is the position of one column of X and the label"),
        ([10, 20], "10", 1, r"user_column='10' is not a column of X; the columns are \[10"),
    ],
)
def test_labels_that_are_integers(labels, user, item, message):
    frame = X[["user", "item"]].set_axis(labels, axis=1)
    for kind in (TwoTowerRecommender, EASERecommender):
        with pytest.raises(ValueError, match=message):
            kind(user_column=user, item_column=item).fit(frame)


def test_positions_of_columns_with_other_labels():
    frame = X[["user", "item"]].set_axis([10, 20], axis=1)
    model = EASERecommender().fit(frame)
    expected = EASERecommender().fit(X[["user", "item"]].to_numpy())
    assert model.recommend([1])[0].tolist() == expected.recommend([1])[0].tolist()
    with pytest.raises(ValueError, match="position of one column of X and the label"):
        model.predict(frame.set_axis([1, 0], axis=1))
    swapped = frame.set_axis([1, 0], axis=1)
    with pytest.raises(
        ValueError, match="one column of exclude_interactions and the label"
    ):
        model.recommend([1], exclude_interactions=swapped)


# --- n_recommendations is the second argument ----------------------------------------


def pipeline_of(model):
    ids = make_column_transformer(
        ("passthrough", ["user", "item", "time"]), verbose_feature_names_out=False
    )
    return make_pipeline(ids.set_output(transform="pandas"), clone(model)).fit(X)


@pytest.mark.parametrize(
    ("name", "method"), [call for call in CALLS if call.values[1] in OF_IDS]
)
@pytest.mark.parametrize("wrap", [lambda model: model, pipeline_of], ids=["", "Pipeline"])
def test_the_number_is_positional(name, method, wrap):
    query = getattr(wrap(fitted(name)), method)
    one, other = query([1, 2], 3), query([1, 2], n_recommendations=3)
    assert one[0].tolist() == other[0].tolist()
    assert one[0].shape == (2, 3)
    with pytest.raises(TypeError, match=r"takes from 2 to 3 positional arguments"):
        query([1, 2], 3, [4])
    with pytest.raises(ValueError, match="n_recommendations must be an integer"):
        query([1, 2], [4])


def test_a_misspelt_column_of_an_argument():
    rows = X[:3].rename(columns={"time": "Time"})
    with pytest.raises(ValueError, match="^history .*'Time'"):
        fitted().recommend([1], history=rows)
