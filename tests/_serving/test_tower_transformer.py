"""Towers as transformers of other Pipelines."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
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
    tower = model.item_tower_.set_output(transform="pandas")
    frame = tower.transform(X["item"])
    assert frame.columns.tolist() == [f"item_embedding{i}" for i in range(3)]
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
    assert plain.shape == (60, 7)
    np.testing.assert_allclose(plain[:, :3], model.user_tower_.transform(X["user"]))
    np.testing.assert_allclose(plain[:, 3:6], model.item_tower_.transform(X["item"]))
    frame = clone(towers).set_output(transform="pandas").fit_transform(X)
    assert frame.columns[0] == "user__user_embedding0"
    assert frame.index.equals(X.index)
    assert towers.fit(X).get_feature_names_out()[3] == "item__item_embedding0"


def test_in_the_pipeline_of_a_ranker(model):
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
    assert clone(tower) is tower
    assert tower.fit(X, None) is tower
    before = tower.transform(["u1"])
    assert (tower.fit_transform(["u1"]) == before).all()
    assert "3" in repr(tower) and len(repr(tower)) < 100


def test_a_tower_outlives_a_refit():
    model = TwoTowerRecommender(embedding_dim=3, max_iter=1, random_state=0).fit(X)
    tower = model.item_tower_
    before = tower.transform(X["item"])
    model.set_params(random_state=1).fit(X.iloc[::-1])
    np.testing.assert_array_equal(tower.transform(X["item"]), before)
