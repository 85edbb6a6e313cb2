"""Pipelines with a recommender as the last step, and a ColumnTransformer before it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline as PlainPipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
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


PARAMETERS = {"embedding_dim": 4, "max_iter": 2, "history_size": 3, "id_dropout": 0.2}


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
            ValueError, match="lacks .*'genre'.*step 'columntransformer'.*set_output"
        ):
            pipeline.recommend(X[columns])
    # Columns that are not used may be missing.
    assert_same_answer(pipeline.recommend(X.drop(columns="note")), pipeline.recommend(X))


def test_a_frame_without_any_column_that_is_needed(by_name):
    with pytest.raises(ValueError, match=r"nothing that step.*columns are \['note'\]"):
        by_name.recommend(X[["note"]])
