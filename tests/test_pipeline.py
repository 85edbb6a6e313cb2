"""Pipelines with a recommender as the last step, and a ColumnTransformer before it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline as PlainPipeline
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.history import PooledHistory
from sktwotower.metrics import make_ranking_scorer
from sktwotower.pipeline import Pipeline, make_pipeline
from tests.helpers import assert_same_answer

rng = np.random.default_rng(0)
N = 300
X = pd.DataFrame({"user": rng.integers(0, 20, N), "item": rng.integers(0, 12, N)})
X["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(N), unit="h")
X["age"] = 20.0 + 2 * X["user"]
X["genre"] = np.where(X["item"] % 2, "Comedy", "Drama")
X["note"] = "not used"


def columns():
    return ColumnTransformer(
        [
            ("ids", "passthrough", ["user", "item", "time"]),
            ("user", StandardScaler(), make_column_selector("^age$")),
            (
                "item",
                OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
                ["genre"],
            ),
            ("unused", "drop", ["note"]),
        ]
    )


PARAMETERS = {
    "embedding_dim": 4,
    "max_iter": 2,
    "history": PooledHistory(3),
    "id_dropout": 0.2,
}


@pytest.fixture(scope="module")
def by_name():
    model = TwoTowerRecommender(
        user_column="ids__user",
        item_column="ids__item",
        timestamp_column="ids__time",
        user_features=make_column_selector("^user__"),
        item_features=make_column_selector("^item__"),
        random_state=0,
        **PARAMETERS,
    )
    return make_pipeline(columns(), model).set_output(transform="pandas").fit(X)


def by_position():
    model = TwoTowerRecommender(
        user_column=0,
        item_column=1,
        timestamp_column=2,
        user_features=[3],
        item_features=slice(4, 6),
        random_state=0,
        **PARAMETERS,
    )
    return make_pipeline(columns(), model)


def test_names_and_values_survive(by_name):
    rows = by_name[:-1].transform(X)
    assert rows.columns.tolist() == [
        "ids__user",
        "ids__item",
        "ids__time",
        "user__age",
        "item__genre_Comedy",
        "item__genre_Drama",
    ]
    for name in ("user", "item", "time"):
        pd.testing.assert_series_equal(rows[f"ids__{name}"], X[name], check_names=False)
    assert by_name[-1].user_encoder_.feature_names_in_.tolist() == ["user__age"]
    assert by_name[-1].item_encoder_.feature_names_in_.tolist() == rows.columns[4:].tolist()


def test_by_position_is_the_same_model(by_name):
    """The default output is an array with ids, features and the timestamp."""
    other = by_position().fit(X)
    assert isinstance(other[:-1].transform(X), np.ndarray)
    assert other[-1].user_ids_.tolist() == by_name[-1].user_ids_.tolist()
    np.testing.assert_allclose(
        other[-1].item_embeddings_, by_name[-1].item_embeddings_, atol=1e-6
    )
    assert other.recommend([1, 2])[0].tolist() == by_name.recommend([1, 2])[0].tolist()
    assert other.recommend(X[:5])[0].tolist() == by_name.recommend(X[:5])[0].tolist()


def test_predict_and_score_are_those_of_the_last_step(by_name):
    """With frames and with arrays between the steps, also in scikit-learn's Pipeline."""
    other = by_position().fit(X)
    plain = PlainPipeline(by_position().steps).fit(X)
    weights = np.arange(N)
    y = np.arange(N) % 3
    scorer = make_ranking_scorer(["ndcg@5", "recall@3", "graded_ndcg@5"])
    for pipeline in (by_name, other, plain):
        rows = pipeline[:-1].transform(X)
        scores = pipeline.predict(X)
        assert scores.shape == (N,)
        np.testing.assert_array_equal(scores, pipeline[-1].predict(rows))
        np.testing.assert_allclose(scores, by_name.predict(X), atol=1e-5)
        assert pipeline.score(X, y) == pipeline[-1].score(rows, y)
        assert pipeline.score(X, y, sample_weight=weights) == (
            pipeline[-1].score(rows, y, weights)
        )
        assert pipeline.score(X, y) == pytest.approx(by_name.score(X, y))
        assert scorer(pipeline, X, y) == scorer(pipeline[-1], rows, y)
        assert scorer(pipeline, X, y) == pytest.approx(scorer(by_name, X, y))
    shuffled = X[X.columns[::-1]]
    np.testing.assert_array_equal(by_name.predict(shuffled), by_name.predict(X))
    np.testing.assert_array_equal(other.predict(shuffled), other.predict(X))


def test_unknown_ids_are_answered_through_a_pipeline(by_name):
    strangers = X[:4].assign(user=[900, 901, 3, 4], item=[1, 700, 701, 2])
    for pipeline in (by_name, by_position().fit(X)):
        assert np.isfinite(pipeline.predict(strangers)).all()
        assert 0 <= pipeline.score(strangers[:1]) <= 1


def test_ids_are_passed_on(by_name):
    for ids in ([3, "new"], np.array([3, 4]), pd.Series([3, 4]), (3, 4)):
        assert_same_answer(by_name.recommend(ids), by_name[-1].recommend(ids))
    assert_same_answer(
        by_name.recommend([3], candidates=[1, 2], n_recommendations=2),
        by_name[-1].recommend([3], candidates=[1, 2], n_recommendations=2),
    )
    assert_same_answer(by_name.similar_items([1]), by_name[-1].similar_items([1]))


def test_frames_of_users(by_name):
    scaled = (30 - X["age"].mean()) / X["age"].std(ddof=0)
    whole = pd.DataFrame({"user": [-1, 3], "age": [30.0, 30.0], "other": [1, 2]})
    expected = pd.DataFrame({"ids__user": [-1, 3], "user__age": [scaled] * 2})
    found = by_name.recommend(whole)
    assert found[0].tolist() == by_name[-1].recommend(expected)[0].tolist()
    np.testing.assert_allclose(found[1], by_name[-1].recommend(expected)[1], rtol=1e-5)
    # Only ids; only features, with the index as ids; all columns.
    assert_same_answer(by_name.recommend(whole[["user"]]), by_name.recommend([-1, 3]))
    ages = whole[["age"]].set_axis(["a", "b"])
    frame = by_name.recommend(ages, as_frame=True)
    assert frame["user"].unique().tolist() == ["a", "b"]
    assert_same_answer(
        by_name.recommend(X[:7]), by_name[-1].recommend(by_name[:-1].transform(X[:7]))
    )


def test_history_and_candidates(by_name):
    # The timestamp may be missing as well.
    history = pd.DataFrame({"user": [-1] * 2, "item": [4, 5]})
    renamed = history.set_axis(["ids__user", "ids__item"], axis=1)
    assert_same_answer(
        by_name.recommend([-1], history=history),
        by_name[-1].recommend([-1], history=renamed),
    )
    assert not {4, 5} & set(by_name.recommend([-1], history=history)[0][0])
    whole = X.assign(user=-1)[:2]
    assert_same_answer(
        by_name.recommend([-1], history=whole),
        by_name[-1].recommend([-1], history=by_name[:-1].transform(whole)),
    )
    assert_same_answer(
        by_name.recommend([-1], history=history[:0]), by_name.recommend([-1])
    )
    candidates = pd.DataFrame({"item": [77, 78], "genre": ["Drama", "Comedy"]})
    encoded = pd.DataFrame(
        {
            "ids__item": [77, 78],
            "item__genre_Comedy": [0.0, 1.0],
            "item__genre_Drama": [1.0, 0.0],
        }
    )
    assert_same_answer(
        by_name.recommend([1], candidates=candidates, n_recommendations=2),
        by_name[-1].recommend([1], candidates=encoded, n_recommendations=2),
    )


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object", "age"])
def test_a_mask_with_users_and_items_in_its_index(by_name, dtype):
    """Only its True entries are pairs, in a pipeline and in the step alone."""
    pairs = pd.MultiIndex.from_product([[3, 4], range(12)], names=["user", "item"])
    mask = pd.Series(np.arange(24) % 5 == 0, index=pairs)
    rows = pairs[mask].to_frame(index=False)
    if dtype == "age":  # also where the mask is called like a column of X
        mask = mask.rename(dtype)
    else:
        mask = mask.astype(dtype)
    if dtype in ("boolean", "object"):
        mask.iloc[1] = None
    options = {"exclude_seen": False}
    expected = by_name.recommend([3, 4], 12, exclude_interactions=rows, **options)
    assert (expected[1] > -np.inf).sum() == 24 - len(rows)
    assert_same_answer(
        by_name.recommend([3, 4], 12, exclude_interactions=mask, **options), expected
    )
    step = by_name[-1]
    of_step = mask.rename_axis(["ids__user", "ids__item"])
    assert_same_answer(
        step.recommend([3, 4], 12, exclude_interactions=of_step, **options), expected
    )


def test_a_transformer_with_half_its_columns_is_left_out():
    frame = X.assign(income=X["age"] ** 2)
    encoder = ColumnTransformer(
        [
            ("ids", FunctionTransformer(feature_names_out="one-to-one"), ["user", "item"]),
            ("user", StandardScaler(), ["age", "income"]),
        ]
    )
    model = TwoTowerRecommender(
        user_features=make_column_selector("^user__"),
        random_state=0,
        **PARAMETERS,
    )
    pipeline = make_pipeline("passthrough", encoder, model)
    pipeline = pipeline.set_output(transform="pandas").fit(frame)
    half = frame.loc[:3, ["user", "age"]].assign(age=99.0)
    assert_same_answer(pipeline.recommend(half), pipeline.recommend(half["user"]))
    with pytest.raises(ValueError, match="cannot transform X: The frame has nothing that"):
        pipeline.recommend(half[["age"]])
    with pytest.raises(ValueError, match="Did you mean 'income'"):
        pipeline.recommend(half.assign(incme=1.0))


@pytest.mark.parametrize(
    ("encoder", "user", "item"),
    [
        (
            ColumnTransformer(
                [
                    ("user", StandardScaler(), ["age"]),
                    ("item", OneHotEncoder(sparse_output=False), [4]),
                    ("unused", "drop", ["note", "time"]),
                ],
                remainder="passthrough",
            ),
            "remainder__user",
            -1,
        ),
        (
            ColumnTransformer(
                [
                    ("user", StandardScaler(), slice(3, 4)),
                    ("none", StandardScaler(), []),
                    ("item", OneHotEncoder(sparse_output=False), X.columns == "genre"),
                    ("ids", "passthrough", [0, 1]),
                ],
                verbose_feature_names_out=lambda key, name: (
                    name if key == "ids" else f"{key}__{name}"
                ),
            ),
            "user",
            "item",
        ),
    ],
)
@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_ways_to_name_columns(encoder, user, item, output):
    """A frame that lacks columns gets the answer of a frame with all columns."""
    if output == "polars":
        pytest.importorskip("polars")
    model = TwoTowerRecommender(
        user_column=user,
        item_column=item,
        user_features=make_column_selector("^user__"),
        item_features=make_column_selector("^item__"),
        random_state=0,
        embedding_dim=4,
        max_iter=1,
        id_dropout=0.2,
    )
    pipeline = make_pipeline(encoder, model).set_output(transform=output).fit(X)
    users = X[["age", "user"]].assign(user=-1)[5:9]
    items = X[["genre", "item"]].assign(item=[*range(200, 200 + N)])[3:7]
    rows = X.assign(user=-1)
    whole = rows[5:9], rows.assign(item=[*range(200, 200 + N)])[3:7]
    assert_same_answer(
        pipeline.recommend(users, candidates=items, n_recommendations=3),
        pipeline.recommend(whole[0], candidates=whole[1], n_recommendations=3),
        atol=1e-6,
    )


def test_add_items():
    pipeline = by_position().set_output(transform="pandas")
    pipeline = pipeline.set_params(
        twotowerrecommender__user_features=["user__age"],
        twotowerrecommender__item_features=make_column_selector("^item__"),
    ).fit(X)
    new = pd.DataFrame({"item": [100], "genre": ["Drama"]})
    assert pipeline.add_items(new) is pipeline
    assert 100 in pipeline[-1].item_ids_
    assert 100 in pipeline.recommend([1], n_recommendations=20)[0]


def test_partial_fit_keeps_the_earlier_steps():
    pipeline = by_position()
    with pytest.raises(NotFittedError):
        pipeline.partial_fit(X)
    pipeline.fit(X)
    mean = pipeline[0].named_transformers_["user"].mean_.copy()
    more = X[:50].assign(user=99, age=1000.0)
    assert pipeline.partial_fit(more, sample_weight=np.ones(50), n_epochs=1) is pipeline
    assert pipeline[0].named_transformers_["user"].mean_ == mean
    assert 99 in pipeline[-1].user_ids_
    assert pipeline[-1].n_iter_ == 3


def test_in_a_search():
    encoder = ColumnTransformer([("ids", "passthrough", ["user", "item"])])
    pipeline = Pipeline([("ids", encoder), ("model", TwoTowerRecommender(max_iter=1))])
    search = GridSearchCV(pipeline, {"model__embedding_dim": [2, 4]}, cv=2)
    search.fit(X.drop_duplicates(["user", "item"]))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.recommend([1, 2])[0].shape == (2, 10)


def test_two_dimensional_arrays_and_lists():
    rows = X[["note", "user", "item"]].to_numpy()
    encoder = ColumnTransformer([("ids", "passthrough", [1, 2])])
    pipeline = make_pipeline(encoder, PopularRecommender()).fit(rows)
    expected = pipeline.recommend(X["user"][:4])
    assert_same_answer(pipeline.recommend(rows[:4]), expected)
    assert_same_answer(pipeline.recommend(rows[:4].tolist()), expected)
    assert pipeline.recommend(rows[:0])[0].shape == (0, 10)


def test_methods_are_those_of_the_last_step():
    pipeline = make_pipeline(PopularRecommender())
    assert hasattr(pipeline, "recommend")
    for name in ("similar_items", "add_items", "partial_fit"):
        assert not hasattr(pipeline, name)
    with pytest.raises(AttributeError, match="has no attribute 'add_items'"):
        pipeline.add_items(X)
    assert not hasattr(make_pipeline("passthrough"), "recommend")
    assert hasattr(make_pipeline(TwoTowerRecommender()), "add_items")
    with pytest.raises(NotFittedError):
        pipeline.recommend([1])
    assert pipeline.fit(X).recommend([1])[0].shape == (1, 10)


def test_still_a_pipeline_of_scikit_learn():
    pipeline = make_pipeline(columns(), TwoTowerRecommender(), verbose=True)
    assert isinstance(pipeline, PlainPipeline)
    assert type(clone(pipeline)) is type(pipeline[:1]) is Pipeline
    assert clone(pipeline).verbose
    assert repr(pipeline).startswith("Pipeline(steps=[('columntransformer'")


class Halve(BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X[["user", "item"]]


def test_other_steps_need_all_their_columns():
    pipeline = make_pipeline(Halve(), PopularRecommender()).fit(X)
    assert_same_answer(pipeline.recommend(X[:3]), pipeline.recommend(X["user"][:3]))
    with pytest.raises(KeyError, match="item"):
        pipeline.recommend(X[["user"]])


def test_a_frame_that_lacks_columns_without_names():
    pipeline = by_position().fit(X)
    for columns in (["user", "age"], ["user"]):
        with pytest.raises(
            ValueError,
            match="^Step 'columntransformer' .* X: .*lacks .*'genre'.*set_output",
        ):
            pipeline.recommend(X[columns])
    # Columns that are not used may be missing.
    assert_same_answer(pipeline.recommend(X.drop(columns="note")), pipeline.recommend(X))


def test_a_frame_without_any_column_that_is_needed(by_name):
    for frame in (X[["note"]], X[["item", "genre"]]):
        message = rf"^X has no column with user ids \('user'\).*{frame.columns.tolist()[0]}"
        with pytest.raises(ValueError, match=message):
            by_name.recommend(frame)


TEAMS = pd.DataFrame({"user": range(20), "team": ["red", "blue"] * 10})


def prefixed_or_not(prefix, **parameters):
    """A pipeline, and the names of its columns in front of the model by those of X."""
    encoder = columns().set_params(verbose_feature_names_out=prefix)
    name = {
        "user": "ids__user",
        "item": "ids__item",
        "time": "ids__time",
        "age": "user__age",
        "Comedy": "item__genre_Comedy",
        "Drama": "item__genre_Drama",
    }
    if not prefix:
        name = {key: value.partition("__")[2] for key, value in name.items()}
    model = TwoTowerRecommender(
        user_column=name["user"],
        item_column=name["item"],
        timestamp_column=name["time"],
        user_features=[name["age"]],
        item_features=[name["Comedy"], name["Drama"]],
        random_state=0,
        **{**PARAMETERS, "max_iter": 1, "user_table": TEAMS, **parameters},
    )
    return make_pipeline(encoder, model).set_output(transform="pandas").fit(X), name


@pytest.fixture(scope="module", params=[True, False], ids=["prefix", "no prefix"])
def with_table(request):
    return prefixed_or_not(request.param)


def frame(**values):
    return pd.DataFrame({name: [value] for name, value in values.items()})


@pytest.mark.parametrize("form", ["pandas", "polars"])
@pytest.mark.parametrize(
    ("method", "query", "message"),
    [
        (
            "recommend",
            frame(userId=7, age=27.0),
            r"^X has no column with user ids \('user'\) but has \['userId'\].*"
            "Did you mean 'user'",
        ),
        ("recommend", frame(usr=7, team="red"), "^X has no .*mean 'user'"),
        (
            "recommend",
            frame(shoe=7, age=27.0),
            r"^X has no .*has \['shoe'\], which are not columns",
        ),
        ("recommend", frame(user=999, agee=27.0), "^X lacks the column 'age'.*'agee'"),
        ("recommend", frame(user=999, taem="red"), "^X lacks the column 'team'.*'taem'"),
        ("recommend", frame(userId=7), "^X has no .*Did you mean 'user' by 'userId'"),
        ("similar_users", frame(userId=7, age=27.0), "^user_ids has no .*mean 'user'"),
        ("similar_items", frame(item=99, gnere="Drama"), "^item_ids lacks .*mean 'genre'"),
        ("similar_items", frame(itemId=9, genre="Drama"), "^item_ids has .*mean 'item'"),
        ("recommend_users", frame(item=99, gnere="Drama"), "^item_ids lacks .*'genre'"),
        (
            "recommend_users",
            frame(user=1),
            r"^item_ids has no column with item ids \('item'",
        ),
        ("add_items", frame(item=99, gnere="Drama"), "^frame lacks .*mean 'genre'"),
        ("add_items", frame(genre="Drama"), r"^frame has no column with item ids \('item'"),
    ],
)
def test_frames_are_refused_by_the_names_of_their_columns(
    with_table, method, query, message, form
):
    if form == "polars":
        query = pytest.importorskip("polars").from_pandas(query)
    with pytest.raises(ValueError, match=message) as caught:
        getattr(with_table[0], method)(query)
    assert "__" not in str(caught.value)  # the names are those of the caller


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("candidates", frame(item=99, gnere="Drama"), "^candidates lacks .*mean 'genre'"),
        ("candidates", frame(itemId=99, genre="Drama"), "^candidates has no .*'item'"),
        ("candidates", frame(genre="Drama"), "^candidates has no column with item ids"),
        ("history", frame(userId=1, item=2), "^history has no .*mean 'user' by 'userId'"),
        ("history", frame(user=1, item=2, tmie=3), "^history lacks .*mean 'time'"),
        ("history", frame(user=1, item=2, Age=3.0), "^history lacks .*mean 'age'"),
        ("exclude_interactions", frame(user=1, itemId=2), "^exclude_.* by 'itemId'"),
    ],
)
def test_arguments_are_refused_by_the_names_of_their_columns(
    with_table, argument, value, message
):
    with pytest.raises(ValueError, match=message) as caught:
        with_table[0].recommend([1], **{argument: value})
    assert "__" not in str(caught.value)


def test_audiences_are_chosen_by_the_names_of_columns(with_table):
    with pytest.raises(ValueError, match="^candidates lacks .*mean 'age'"):
        with_table[0].recommend_users([1], candidates=frame(user=99, agee=27.0))


@pytest.mark.parametrize("where", ["X", "item_ids", "user_ids"])
def test_a_row_is_no_list_of_ids(with_table, where):
    method = {"X": "recommend", "item_ids": "similar_items", "user_ids": "similar_users"}
    row = X.iloc[0]
    for values in (
        row,
        row[["user", "age"]],
        TEAMS.iloc[0],
        *row.to_frame().T.itertuples(),
    ):
        with pytest.raises(ValueError, match=rf"^{where} is a (single row|named tuple)"):
            getattr(with_table[0], method[where])(values)
    with pytest.raises(ValueError, match=r"^X is a single row"):
        by_position().fit(X).recommend(row)


def test_columns_of_a_side_table_are_passed_on(with_table):
    pipeline, name = with_table
    age = (30 - X["age"].mean()) / X["age"].std(ddof=0)
    given = pd.DataFrame({"user": [-1, 3], "age": [30.0, 30.0], "team": ["red", "red"]})
    encoded = given.assign(age=age).rename(columns=name)
    for names in (["team"], ["user", "team"], ["age", "team"], ["user", "age", "team"]):
        for asked in (given[names], given[names].set_axis([5, 5])):
            expected = pipeline[-1].recommend(encoded[[name.get(n, n) for n in names]])
            assert_same_answer(pipeline.recommend(asked), expected, atol=1e-6)
    stranger = frame(user=-1, team="red"), frame(user=-1, team="blue")
    scores = [pipeline.recommend(asked, n_recommendations=12)[1] for asked in stranger]
    assert np.abs(scores[0] - scores[1]).max() > 1e-6
    assert_same_answer(
        pipeline.recommend_users([1], candidates=given[["user", "team"]]),
        pipeline[-1].recommend_users(
            [1], candidates=given[["user", "team"]].rename(columns=name)
        ),
    )


def test_the_id_column_of_a_side_table():
    teams = EntityTable(TEAMS.rename(columns={"user": "uid"}), "uid")
    pipeline, _ = prefixed_or_not(True, user_table=teams)
    by_id = pipeline.recommend([3])
    assert_same_answer(pipeline.recommend(frame(uid=3)), by_id)
    assert_same_answer(pipeline.recommend(teams.frame.iloc[[3]]), by_id, atol=1e-6)
    asked = teams.frame.iloc[[3]].set_index("uid")
    assert_same_answer(pipeline.recommend(asked), by_id, atol=1e-6)
    with pytest.raises(ValueError, match=r"user ids \('user' or 'uid'\)"):
        pipeline.recommend(frame(userId=3, age=27.0))


def test_honest_frames_are_answered(with_table):
    """Further columns beside ids, and whatever part of X there is."""
    pipeline, _ = with_table
    ids = pipeline.recommend([3])
    for more in ({"rating": 5}, {"item": 1, "genre": "Drama", "note": "?"}, {"time": 1}):
        assert_same_answer(pipeline.recommend(frame(user=3, **more)), ids)
    for query in (frame(age=30.0), frame(age=30.0, item=1, note="?"), frame(team="red")):
        assert pipeline.recommend(query)[0].shape == (1, 10)
    history = frame(user=3, item=5, rating=2)
    assert_same_answer(
        pipeline.recommend([3], history=history), pipeline.recommend([3], history={3: [5]})
    )
    candidates = X.assign(rating=5).drop_duplicates("item")
    assert pipeline.recommend(X[:2], candidates=candidates)[0].shape == (2, 10)


def test_steps_around_the_transformer():
    """Two transformers in a row; a step before them sees the frame first."""
    both = ColumnTransformer(
        [
            ("all", "passthrough", ["user", "item"]),
            ("scaled", make_plain_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        ]
    )
    ids = ColumnTransformer(
        [
            ("row", "passthrough", ["all__user", "all__item"]),
            ("rest", "passthrough", ["scaled__age"]),
        ]
    )
    model = TwoTowerRecommender(
        user_column="row__all__user",
        item_column="row__all__item",
        user_features=["rest__scaled__age"],
        random_state=0,
        **{**PARAMETERS, "max_iter": 1},
    )
    steps = (FunctionTransformer(), both, ids, model)
    pipeline = make_pipeline(*steps).set_output(transform="pandas").fit(X)
    with pytest.raises(ValueError, match=r"user ids \('user'\) but has .*mean 'user'"):
        pipeline.recommend(frame(userId=7, age=27.0))
    with pytest.raises(ValueError, match="Did you mean 'age'"):
        pipeline.recommend(frame(user=7, agee=27.0))
    assert_same_answer(pipeline.recommend(frame(user=7, rating=1)), pipeline.recommend([7]))


@pytest.mark.parametrize("argument", ["X", "history", "exclude_interactions"])
def test_rows_without_names_are_refused_by_argument(with_table, argument):
    for rows in ([[1, 2]], X[:2].to_numpy(), X[:2].to_numpy().tolist()):
        with pytest.raises(ValueError, match=rf"^{argument} has rows .*Give a frame with"):
            with_table[0].recommend(**{"X": [1], argument: rows})


def test_what_a_transformer_cannot_take_is_refused_by_argument(with_table):
    pipeline, _ = with_table
    with pytest.raises(ValueError, match="^Step 'columntransformer' .* candidates: "):
        pipeline.recommend([1], candidates=frame(item=99, genre=["Drama", "Comedy"]))
    with pytest.raises(ValueError, match="^Step 'columntransformer' .* X: could not"):
        pipeline.recommend(frame(user=1, age="old"))


def test_lists_by_id(with_table):
    pipeline, _ = with_table
    lists = pd.Series([[4, 5]], index=pd.Index([3], name="user"), name="item")
    for values in (lists, X[X["user"] == 3].groupby("user")["item"]):
        for argument in ("history", "exclude_interactions"):
            expected = pipeline[-1].recommend([3], **{argument: values})
            assert_same_answer(pipeline.recommend([3], **{argument: values}), expected)


def test_an_array_between_the_steps_has_no_names():
    """A frame of candidates would be read as lists of ids."""
    pipeline = by_position().set_params(twotowerrecommender__user_table=TEAMS).fit(X)
    with pytest.raises(ValueError, match="^candidates is a frame .*set_output"):
        pipeline.recommend([1], candidates=X[:1])
    with pytest.raises(ValueError, match=r"^X is a frame .*'team'\].*set_output"):
        pipeline.recommend(X[:1].assign(team="red"))
    with pytest.raises(ValueError, match="^X has no column with user ids .*mean 'user'"):
        pipeline.recommend(X[:1].rename(columns={"user": "userId"}))
