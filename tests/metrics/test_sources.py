"""The source that a recommender offers to the metrics, against its public methods."""

import numpy as np
import pandas as pd
import pytest

from sktwotower import TwoTowerRecommender
from sktwotower._data.interactions import read_interactions
from sktwotower.baselines import EASERecommender, ItemKNNRecommender, PopularRecommender
from sktwotower.metrics._sources import EvaluationSource, source_of

RNG = np.random.RandomState(0)
X = pd.DataFrame({"user": RNG.randint(0, 12, 90), "item": RNG.randint(0, 9, 90)})
NEW = pd.DataFrame({"user": [3, 99, 5], "item": [1, 2, 77]})
MODELS = {
    "two towers": TwoTowerRecommender(embedding_dim=4, max_iter=1, random_state=0),
    "EASE": EASERecommender(),
    "item-kNN": ItemKNNRecommender(),
    "popular": PopularRecommender(),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param].fit(X)


def test_what_the_source_holds(model):
    source = source_of(model)
    assert isinstance(source, EvaluationSource)
    assert source_of(source) is source
    assert source.roles.owner == type(model).__name__
    assert source.users.ids.tolist() == model.user_ids_.tolist()
    assert source.items.ids.tolist() == model.item_ids_.tolist()
    assert source.temperature == getattr(model, "temperature_", 1.0)
    rows, columns = source.seen.nonzero()
    seen = zip(model.user_ids_[rows], model.item_ids_[columns], strict=True)
    assert set(seen) == set(X.itertuples(index=False))
    assert np.isin(source.catalogue, np.arange(1, len(model.item_ids_) + 1)).all()


def test_scores_are_the_scores_of_recommend_and_predict(model):
    source = source_of(model)
    queries = read_interactions(NEW, None, None, roles=source.roles)
    np.testing.assert_allclose(source.pair_scores(queries), model.predict(NEW), rtol=1e-6)
    codes = source.catalogue[::2]
    scores = source.query_scores(queries, codes).block(slice(0, 3), slice(0, len(codes)))
    ids = source.items.ids[codes - 1]
    found, values = model.recommend(
        NEW["user"], n_recommendations=len(codes), candidates=ids, exclude_seen=False
    )
    for row in range(3):
        by_id = dict(zip(ids, scores[row], strict=True))
        expected = [by_id[item] for item in found[row]]
        np.testing.assert_allclose(values[row], expected, rtol=1e-5)


def test_item_vectors(model):
    source = source_of(model)
    vectors = source.item_vectors(np.array([2, 1]))
    if hasattr(model, "item_embeddings_"):
        # Popularity, the last entry, is no likeness.
        expected = model.item_embeddings_[[1, 0], : model.embedding_dim_]
        np.testing.assert_array_equal(vectors, expected)
    else:
        assert vectors is None


def test_an_external_recommender_is_its_own_source():
    class External:
        def recommend(self, X, *, n_recommendations, exclude_seen):
            return [[1]] * len(X)

    external = External()
    assert source_of(external) is external
    assert not isinstance(external, EvaluationSource)
