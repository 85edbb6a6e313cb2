"""Towers as transformers of other Pipelines."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from sktwotower import TwoTowerRecommender

RNG = np.random.RandomState(0)
X = pd.DataFrame(
    {"user": [f"u{i}" for i in RNG.randint(0, 8, 60)], "item": RNG.randint(0, 6, 60)}
)


@pytest.fixture(scope="module")
def model():
    return TwoTowerRecommender(embedding_dim=3, max_iter=1, random_state=0).fit(X)


def test_known_ids_have_their_embeddings(model):
    np.testing.assert_array_equal(
        model.user_tower_.transform(model.user_ids_), model.user_embeddings_
    )
    np.testing.assert_array_equal(
        model.item_tower_.transform(model.item_ids_[::-1]), model.item_embeddings_[::-1]
    )


def test_unknown_ids_share_a_vector(model):
    vectors = model.item_tower_.transform([999, "x", 2.5, model.item_ids_[0]])
    assert (vectors[0] == vectors[1]).all() and (vectors[0] == vectors[2]).all()
    assert np.isfinite(vectors).all()
    assert not (vectors[0] == vectors[3]).all()
    # predict uses the same one
    pair = pd.DataFrame({"user": ["u1"], "item": [999]})
    user = model.user_tower_.transform(["u1"])[0]
    assert model.predict(pair)[0] == pytest.approx(float(user @ vectors[0]), abs=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        pd.Series,
        lambda ids: pd.DataFrame({"any": ids}),
        lambda ids: np.array(ids)[:, None],
        lambda ids: [[i] for i in ids],
        lambda ids: pd.Series(ids, dtype="category"),
        pd.Index,
    ],
)
def test_forms(model, form):
    expected = model.user_embeddings_[:3]
    out = model.user_tower_.transform(form(model.user_ids_[:3].tolist()))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, expected)


def test_refusals(model):
    with pytest.raises(ValueError, match="array with 2 columns"):
        model.user_tower_.transform(X.to_numpy())
    with pytest.raises(ValueError, match="neither ids nor features.*'a', 'b'.*'user'"):
        model.user_tower_.transform(X.set_axis(["a", "b"], axis=1))
    with pytest.raises(ValueError, match="missing user id"):
        model.user_tower_.transform(["u1", None])


def test_set_output(model):
    """The width is embedding_dim, and one entry of popularity."""
    tower = model.item_tower_.set_output(transform="pandas")
    frame = tower.transform(X["item"])
    assert frame.columns.tolist() == [f"item_embedding{i}" for i in range(4)]
    assert frame.index.equals(X.index)
    later = X[["item"]].set_index(np.arange(100, 160))
    assert tower.transform(later).index.equals(later.index)
    # the recommender makes a new one each time: it is not changed by this
    assert isinstance(model.item_tower_.transform(X["item"]), np.ndarray)


def test_in_a_column_transformer(model):
    towers = ColumnTransformer(
        [
            ("user", model.user_tower_, ["user"]),
            ("item", model.item_tower_, "item"),
            ("number", StandardScaler(), ["item"]),
        ]
    )
    plain = clone(towers).fit_transform(X)
    assert plain.shape == (60, 9)
    np.testing.assert_allclose(plain[:, :4], model.user_tower_.transform(X["user"]))
    np.testing.assert_allclose(plain[:, 4:8], model.item_tower_.transform(X["item"]))
    frame = clone(towers).set_output(transform="pandas").fit_transform(X)
    assert frame.columns[0] == "user__user_embedding0"
    assert frame.index.equals(X.index)
    assert towers.fit(X).get_feature_names_out()[4] == "item__item_embedding0"


def test_in_the_pipeline_of_a_ranker():
    model = TwoTowerRecommender(
        history=None, embedding_dim=3, max_iter=1, random_state=0
    ).fit(X)
    y = (X["item"] % 2).to_numpy()
    towers = ColumnTransformer([("item", model.item_tower_, ["item"])])
    ranker = make_pipeline(towers, LogisticRegression())
    assert cross_val_score(ranker, X, y, cv=3).min() > 0.4
    ranker.fit(X, y)
    new = pd.DataFrame({"user": ["stranger"], "item": [12345]})
    assert ranker.predict(new).shape == (1,)
    copy = pickle.loads(pickle.dumps(ranker))
    np.testing.assert_array_equal(copy.predict_proba(X), ranker.predict_proba(X))


def test_is_fitted_and_stays_so(model):
    tower = model.user_tower_
    check_is_fitted(tower)
    same = clone(tower.set_output(transform="pandas"))
    assert same is not tower and same.embedder is tower.embedder
    tower.set_output(transform="default")
    assert isinstance(same.transform(["u1"]), pd.DataFrame)
    assert tower.fit(X, None) is tower
    before = tower.transform(["u1"])
    assert (tower.fit_transform(["u1"]) == before).all()
    assert repr(tower) == "TowerTransformer(<8 users, embedding_dim=3>)"
    nested = repr(make_pipeline(tower))
    assert "TowerTransformer(embedder=<8 users, embedding_dim=3>)" in nested


# --- scikit-learn's checks -------------------------------------------------------------

FITTED = "a tower is fitted, and fit does not look at X"
ONE_DIMENSION = "the check indexes two dimensions of an X that has one"
OF_IDS = {
    name: FITTED
    for name in (
        "check_n_features_in_after_fitting",
        "check_n_features_in",
        "check_complex_data",
        "check_estimators_empty_data_messages",
        "check_estimators_nan_inf",
        "check_estimator_sparse_tag",
        "check_fit1d",
    )
} | {
    name: ONE_DIMENSION
    for name in (
        "check_dict_unchanged",
        "check_dtype_object",  # in scikit-learn 1.6
        "check_dont_overwrite_parameters",
        "check_estimator_sparse_array",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_positive_only_tag_during_fit",  # in scikit-learn 1.6
        "check_transformer_data_not_an_array",
        "check_transformer_general",
    )
}
# With the first column of scikit-learn's X as ids, those of one dimension apply as well.
STEPS = "a Pipeline fits the steps that it was given"
OF_A_COLUMN = {
    "check_dont_overwrite_parameters": STEPS,
    "check_estimators_overwrite_params": STEPS,
    "check_fit_check_is_fitted": FITTED,
    "check_transformers_unfitted": FITTED,
}


@pytest.mark.slow
@pytest.mark.parametrize("of_a_column", [False, True])
def test_checks_of_scikit_learn(of_a_column):
    rows = [["u1", 1.5], ["u2", 2.5], ["u1", 0.0], ["u2", 1.5]]
    ids = np.array(rows, dtype=object)
    tower = TwoTowerRecommender(embedding_dim=3, max_iter=1).fit(ids).item_tower_
    estimator, expected = tower, OF_IDS
    if of_a_column:
        first = FunctionTransformer(
            partial(np.take, indices=[0], axis=1),
            validate=True,
            feature_names_out="one-to-one",
        )
        estimator, expected = make_pipeline(first, tower), OF_A_COLUMN
    results = check_estimator(
        estimator, expected_failed_checks=expected, on_fail=None, on_skip=None
    )
    status = pd.Series({result["check_name"]: result["status"] for result in results})
    assert status[status == "failed"].index.tolist() == []
    assert (status == "passed").sum() > 20
    # a check that fails for ids in one dimension passes for ids in a column
    left = [n for n, why in OF_IDS.items() if why == ONE_DIMENSION and n not in OF_A_COLUMN]
    assert not of_a_column or (status[left] == "passed").all()


def test_a_tower_outlives_a_refit():
    model = TwoTowerRecommender(embedding_dim=3, max_iter=1, random_state=0).fit(X)
    tower = model.item_tower_
    before = tower.transform(X["item"])
    model.set_params(random_state=1).fit(X.iloc[::-1])
    np.testing.assert_array_equal(tower.transform(X["item"]), before)
