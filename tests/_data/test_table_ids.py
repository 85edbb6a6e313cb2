"""The ids of a side table without a column of their name: understood or refused."""

import io
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktwotower import EntityTable
from sktwotower.baselines import PopularRecommender
from sktwotower.model_selection import LastInteractionsSplit, sample_negatives
from tests.helpers import make_model, same_embeddings

RNG = np.random.RandomState(0)
X = pd.DataFrame({"user": np.arange(200) % 12, "item": RNG.permutation(200) % 20})
NAMES = {"user_column": "user", "item_column": "item"}
N = np.arange(20)
MOVIES = pd.DataFrame({"movieId": N[::-1], "genre": ["a", "b"] * 10})
FILMS = MOVIES.rename(columns={"movieId": "film"})


def fit(table, X=X, **names):
    names = names or NAMES
    return make_model(**names, item_table=table, max_iter=1).fit(X)


def read_again(table):
    return pd.read_csv(io.StringIO(table.to_csv()))


CLEAN = {
    "like an id": MOVIES,
    "a word": FILMS,
    "other numbers": MOVIES.assign(price=7 * N + 100),
    "broken numbers": MOVIES.assign(price=N + 0.5),
    "some of the same numbers": FILMS.assign(price=N + 5),
    "repeated numbers": FILMS.assign(price=N // 2),
    "a flag": FILMS.assign(is_new=N > 3),
    "lists": FILMS.assign(tags=[["x"], ["x", "y"]] * 10),
    "missing": MOVIES.assign(imdb=[np.nan, *range(19)]),
    "in another order": MOVIES[::-1],
    "in the index, too": MOVIES.set_index("movieId", drop=False),
}


@pytest.mark.parametrize("table", CLEAN)
def test_the_first_column_has_the_ids(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit(CLEAN[table])
    expected = fit(EntityTable(CLEAN[table], CLEAN[table].columns[0]))
    assert same_embeddings(model, expected)


DOUBTFUL = {
    "number": (MOVIES.assign(rank=N), "'movieId', is taken .*'rank'. would do as well"),
    "word": (FILMS.assign(rank=N), "'film', is taken for the ids, and .'rank'. would"),
    "index": (FILMS.set_index(N[::-1] // 2 + 10 * (N % 2)), "'film', is .*'the index'"),
}


@pytest.mark.parametrize("table", DOUBTFUL)
def test_another_column_would_do_as_well(table):
    table, message = DOUBTFUL[table]
    with pytest.warns(UserWarning, match=message):
        fit(table)


@pytest.mark.parametrize(
    ("table", "first"),
    [
        (read_again(MOVIES), "Unnamed: 0"),
        (MOVIES.reset_index(), "index"),
        (MOVIES.set_index([N, N]).reset_index(), "level_0"),
        (read_again(MOVIES).rename(columns={"Unnamed: 0": ""}), ""),
    ],
)
def test_an_index_that_was_written(table, first):
    message = f"^item_table has no id column 'item' .* begins with the column '{first}'"
    with pytest.raises(ValueError, match=message):
        fit(table)
    with pytest.raises(ValueError, match="^item_table begins with the column"):
        fit(table, X.to_numpy(), user_column=0, item_column=1)
    fit(EntityTable(table, "movieId", features=["genre"]))
    fit(EntityTable(table, first, features=["genre"]))


def twice_written(table):
    return read_again(read_again(table))


def of_parquet(table):
    return table.assign(__index_level_0__=N)


ITEMS = MOVIES.rename(columns={"movieId": "item"})
UNNAMED = {
    "first": (read_again(ITEMS), "Unnamed: 0"),
    "last": (read_again(ITEMS)[["item", "genre", "Unnamed: 0"]], "Unnamed: 0"),
    "twice": (twice_written(ITEMS), "Unnamed: 0.1"),
    "parquet": (of_parquet(ITEMS), "__index_level_0__"),
    "no name": (ITEMS.assign(**{"": N}), ""),
}


@pytest.mark.parametrize("kind", UNNAMED)
def test_an_index_is_no_feature(kind):
    table, name = UNNAMED[kind]
    message = (
        rf"^item_table has the column '{re.escape(name)}', which would be a feature .*"
        r"index_col=0\), use drop\(columns=\['.*'\]\)"
    )
    chooses = make_column_transformer((OneHotEncoder(), ["genre"]))
    others = make_column_transformer((OneHotEncoder(), ["genre"]), remainder="passthrough")
    by_dtype = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number"))
    )
    for encoder in (None, others, by_dtype, make_pipeline(others, "passthrough")):
        for given in (table, EntityTable(table, "item")):
            model = make_model(**NAMES, item_table=given, item_encoder=encoder)
            with pytest.raises(ValueError, match=message):
                model.fit(X)
    for encoder in (chooses, make_pipeline(chooses, StandardScaler(with_mean=False))):
        make_model(**NAMES, item_table=table, item_encoder=encoder, max_iter=1).fit(X)
    model = fit(EntityTable(table, "item", features=["genre", name]))
    assert name in model.item_encoder_.kinds_
    assert [*fit(table.drop(columns=UNNAMED_IN[kind])).item_encoder_.kinds_] == ["genre"]


UNNAMED_IN = {kind: [name] for kind, (_, name) in UNNAMED.items()}
UNNAMED_IN["twice"] = ["Unnamed: 0.1", "Unnamed: 0"]


@pytest.mark.parametrize("name", ["Unnamed: price", "unnamed: 0", "index", "level_0"])
def test_other_names_are_features(name):
    assert name in fit(ITEMS.assign(**{name: N})).item_encoder_.kinds_


def test_an_index_in_X():
    rows = read_again(X)
    message = "^user_column=0 is the column 'Unnamed: 0' of X, .*drop.columns=..Unnamed: 0"
    calls = [
        lambda X, **names: make_model(max_iter=1).set_params(**names).fit(X),
        lambda X, **names: PopularRecommender(**names).fit(X),
        lambda X, user_column=0, **_: list(
            LastInteractionsSplit(user_column=user_column).split(X)
        ),
        lambda X, **names: sample_negatives(X, X_train=X, random_state=0, **names),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(rows)
        call(rows, **NAMES)
        call(rows[["user", "item", "Unnamed: 0"]])
    with pytest.warns(UserWarning, match="each user has one row"):  # as it is named
        fit(None, rows, user_column="Unnamed: 0", item_column="item")
    options = {**NAMES, "max_iter": 1}
    for chosen in (make_column_selector(dtype_include="number"), slice(0, 1)):
        with pytest.raises(ValueError, match="user_features selects columns, has the colu"):
            make_model(**options, user_features=chosen).fit(rows)
    make_model(**options, user_features=["Unnamed: 0"]).fit(rows)


PRICED = MOVIES.assign(price=N + 5)
BETTER = {
    "two ids": (MOVIES.assign(imdbId=N), {"movieId": 20, "imdbId": 20}),
    "price": (PRICED[["price", "movieId", "genre"]], {"price": 15, "movieId": 20}),
    "rank": (MOVIES.assign(rank=N)[["rank", "movieId"]], {"rank": 20, "movieId": 20}),
    "a word": (PRICED.set_axis(["film", "genre", "price"], axis=1)[["price", "film"]], {}),
    "title": (
        MOVIES.assign(title=[f"Film {n}" for n in N])[["title", "movieId"]],
        {"title": 0, "movieId": 20},
    ),
    "index": (
        PRICED.set_index("movieId").rename_axis(None)[["price", "genre"]],
        {"price": 15, "the index": 20},
    ),
    "index of another name": (
        PRICED.set_index("movieId")[["price", "genre"]],
        {"price": 15, "the index": 20},
    ),
}


@pytest.mark.parametrize("table", BETTER)
def test_another_column_looks_more_like_the_ids(table):
    table, found = BETTER[table]
    message = (
        r"^item_table has no column that is called like .*of the 20 ids of X they have "
    )
    with pytest.raises(ValueError, match=message) as caught:
        fit(table)
    assert str(found or "{'price': 15, 'film': 20}") in str(caught.value)


def test_strings_in_an_index_without_a_name():
    rows = X.astype({"item": str})
    table = FILMS.assign(title=FILMS["film"].map("Film {}".format)).astype({"film": str})
    table = table.set_index("film")[["title", "genre"]]
    with pytest.raises(ValueError, match="'title': 0, 'the index': 20"):
        fit(table.rename_axis(None), rows)
    fit(table[["genre"]].rename_axis("item"), rows)
