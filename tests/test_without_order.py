"""For rows without an order: dropout of a history, popularity_prior, no layers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import sktwotower
from sktwotower import TwoTowerRecommender
from sktwotower._nn import lazy_tables
from sktwotower._nn.candidates import SharedCandidates
from sktwotower._nn.history_rows import HistoryRows
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small, make_interactions
from sktwotower.history import PooledHistory
from sktwotower.model_selection import LastInteractionsSplit
from tests.helpers import NAMES, assert_same_answer

WHOLE = {
    **NAMES,
    "user_id_embedding": False,
    "history": PooledHistory(size=None, dropout=0.5, tied=True),
    "popularity_prior": 1.2,
    "hidden_layer_sizes": None,
    "temperature": 0.2,
    "weight_decay": 0.0,
    "learning_rate": 2e-2,
    "embedding_dim": 16,
    "batch_size": 256,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def data():
    return make_interactions(120, 60, 3000, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    return TwoTowerRecommender(**WHOLE).fit(data.interactions)


def popularity_of(model, X):
    counts = X["item_id"].value_counts().reindex(model.item_ids_, fill_value=0)
    logs = np.log1p(counts.to_numpy())
    return logs - logs[counts > 0].mean()


def test_embeddings_end_with_the_popularity(model, data):
    dim = WHOLE["embedding_dim"]
    items, users = model.item_embeddings_, model.user_embeddings_
    assert items.shape == (60, dim + 1) and users.shape == (120, dim + 1)
    expected = popularity_of(model, data.interactions)
    np.testing.assert_allclose(items[:, -1], expected, atol=1e-5)
    np.testing.assert_allclose(users[:, -1], 0.2 * 1.2, rtol=1e-6)
    for vectors in (items, users):
        np.testing.assert_allclose(np.linalg.norm(vectors[:, :-1], axis=1), 1, rtol=1e-5)


def test_the_score_is_a_cosine_and_the_popularity(model, data):
    X = data.interactions[:50]
    users = model.user_tower_.transform(X["user_id"])
    items = model.item_tower_.transform(X["item_id"])
    cosines = np.einsum("nd,nd->n", users[:, :-1], items[:, :-1])
    popularity = pd.Series(popularity_of(model, data.interactions), model.item_ids_)
    expected = cosines + 0.24 * popularity[X["item_id"]].to_numpy()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_weight_is_of_serving_alone(model, data):
    """Towers are the same whatever it is; 0 ranks by taste, a large one by popularity."""
    rankings = {}
    for weight in (0.0, 1e4):
        other = clone(model).set_params(popularity_prior=weight).fit(data.interactions)
        np.testing.assert_array_equal(
            other.item_embeddings_[:, :-1], model.item_embeddings_[:, :-1]
        )
        rankings[weight] = other.recommend(
            model.user_ids_[:1], n_recommendations=60, exclude_seen=False
        )[0][0]
    counts = data.interactions["item_id"].value_counts()
    ranked = counts.reindex(rankings[1e4], fill_value=0).to_numpy()
    popular = ranked[ranked > 0]
    assert (np.diff(popular) <= 0).all()
    assert (rankings[0.0] != rankings[1e4]).any()


def test_similarity_ignores_popularity(model):
    _, scores = model.similar_items(model.item_ids_[:5], n_recommendations=59)
    vectors = model.item_embeddings_[:, :-1]
    cosines = np.sort(vectors[:5] @ vectors.T, axis=1)[:, ::-1][:, 1:]
    np.testing.assert_allclose(scores, cosines, atol=1e-5)
    _, scores = model.similar_users(model.user_ids_[:5])
    assert scores.max() <= 1 + 1e-5


def test_same_seed_same_embeddings(model, data):
    again = clone(model).fit(data.interactions)
    np.testing.assert_array_equal(again.item_embeddings_, model.item_embeddings_)
    np.testing.assert_array_equal(again.user_embeddings_, model.user_embeddings_)


@pytest.mark.slow
def test_the_order_of_rows_does_not_matter_for_quality(model, data):
    """Rows have no order: shuffled ones make another draw, and as good a model."""
    X = data.interactions.sample(frac=1, random_state=1)
    shuffled = clone(model).fit(X)
    assert shuffled.score(X) == pytest.approx(model.score(X), abs=0.06)


def test_a_target_is_never_in_its_history(data, monkeypatch):
    """Also where pairs are repeated: each pair is either a target or in the history.

    The batches of one epoch are watched, because no answer shows them.
    """
    X = pd.concat([data.interactions, data.interactions[:500]])
    taken = []

    def spy(self, rows, take=HistoryRows.take):
        found = take(self, rows)
        if self.in_history is not None:
            ends = np.append(found.history.offsets.numpy()[1:], len(found.history.columns))
            for user, start, end in zip(
                rows.tolist(), found.history.offsets.tolist(), ends, strict=True
            ):
                taken.append((user, set(found.history.columns[start:end].tolist())))
        return found

    targets = []
    monkeypatch.setattr(HistoryRows, "take", spy)

    def watch(self, rows, *args, batch=SharedCandidates.batch):
        pairs = zip(rows.user_rows.tolist(), rows.item_rows.tolist(), strict=True)
        targets.append(list(pairs))
        return batch(self, rows, *args)

    monkeypatch.setattr(SharedCandidates, "batch", watch)
    TwoTowerRecommender(**WHOLE | {"max_iter": 1}).fit(X)
    history = dict(taken)
    assert len(history) > 100
    pairs = [pair for batch in targets for pair in batch]
    assert 0.3 < len(pairs) / len(X) < 0.7
    assert not any(item in history[user] for user, item in pairs)
    rows = X.drop_duplicates(["user_id", "item_id"])
    n_in_histories = sum(map(len, history.values()))
    assert n_in_histories + len(set(pairs)) == len(rows)


@pytest.mark.slow
def test_it_beats_popularity_on_films():
    films = load_movielens_small().interactions
    rows = films.sample(frac=1, random_state=0)
    split = LastInteractionsSplit(fraction=0.2, user_column="user_id")
    train, test = (rows.iloc[part] for part in next(split.split(rows)))
    model = TwoTowerRecommender(
        **WHOLE | {"embedding_dim": 64, "batch_size": 8192, "max_iter": 15}
    )
    whole = model.fit(train).score(test)
    popular = PopularRecommender(user_column="user_id", item_column="item_id").fit(train)
    assert whole > 1.5 * popular.score(test)


@pytest.mark.parametrize("correction", ["logq", "refined"])
@pytest.mark.parametrize("negatives", ["in_batch", "mixed", "random", "popular"])
@pytest.mark.slow
def test_sampled_negatives_are_about_as_good_as_all(data, model, negatives, correction):
    """A batch has about ten of the 120 users, and most of the 60 items."""
    X = data.interactions
    sampled = clone(model).set_params(negatives=negatives, sampling_correction=correction)
    assert sampled.fit(X).score(X) > 0.9 * model.score(X)


def test_a_new_user_is_its_history(model, data):
    """An unknown user with the history of a known one gets the same recommendations."""
    X = data.interactions
    known = X["user_id"].iloc[0]
    history = X[X["user_id"] == known].assign(user_id=-1)
    ids, scores = model.recommend([known])
    new_ids, new_scores = model.recommend([-1], history=history)
    np.testing.assert_array_equal(ids, new_ids)
    np.testing.assert_allclose(scores, new_scores, rtol=1e-5)


@pytest.mark.slow
def test_an_approximate_index_counts_popularity():
    """Popularity is of another size than the cosine, which the graph copes with."""
    pytest.importorskip("faiss")
    X = make_interactions(300, 2000, 20_000, random_state=0).interactions
    model = TwoTowerRecommender(**WHOLE | {"max_iter": 4}).fit(X)
    exact = model.recommend(model.user_ids_)
    model.build_index("HNSW16", efConstruction=60, efSearch=40)
    assert share_of_the_best(model, exact) > 0.98  # .62 where it counts as it stands
    # With little effort it finds less, so that it is the index that has answered.
    model.build_index("HNSW2", efConstruction=1, efSearch=1)
    assert share_of_the_best(model, exact) < 0.95


def share_of_the_best(model, exact):
    """How much of the exact answer the index finds; what it finds has the same scores."""
    n_found = 0
    for row in zip(*model.recommend(model.user_ids_), *exact, strict=True):
        found, expected = (pd.Series(row[i + 1], row[i]) for i in (0, 2))
        both = found.index.intersection(expected.index)
        np.testing.assert_allclose(found[both], expected[both], atol=1e-5)
        n_found += len(both)
    return n_found / exact[0].size


def test_features_that_change_from_row_to_row_and_tables(data):
    X = data.interactions.assign(hour=np.arange(len(data.interactions)) % 24)
    model = TwoTowerRecommender(
        **WHOLE | {"max_iter": 2, "id_dropout": 0.2},
        user_features=["hour"],
        item_table=data.item_table,
    ).fit(X)
    assert np.isfinite(model.user_embeddings_).all()
    assert model.recommend([1, 2])[0].shape == (2, 10)


def test_items_that_are_added_have_the_mean_popularity(data):
    model = TwoTowerRecommender(
        **WHOLE | {"id_dropout": 0.2, "max_iter": 2}, item_table=data.item_table
    ).fit(data.interactions)
    new = data.item_table[:1].assign(item_id=10_000)
    model.add_items(new)
    assert model.item_embeddings_[-1, -1] == 0
    np.testing.assert_allclose(
        model.item_tower_.transform([10_000])[0], model.item_embeddings_[-1], rtol=1e-5
    )


@pytest.mark.slow
def test_partial_fit_counts_on(model, data):
    X = data.interactions
    grown = clone(model).fit(X[:2000]).partial_fit(X[2000:])
    both = popularity_of(grown, X)
    np.testing.assert_allclose(grown.item_embeddings_[:, -1], both, atol=1e-5)
    from_nothing = clone(model).partial_fit(X[:2000])
    assert np.isfinite(from_nothing.user_embeddings_).all()


@pytest.mark.slow
def test_early_stopping_and_refit(data):
    model = TwoTowerRecommender(**WHOLE, early_stopping=True)
    model.fit(data.interactions)
    assert model.best_validation_score_ > 0


def test_explicit_negatives_are_no_history(data):
    X = data.interactions
    y = np.where(np.arange(len(X)) % 4 == 0, 0, 1)
    model = TwoTowerRecommender(**WHOLE | {"max_iter": 2}).fit(X, y)
    assert np.isfinite(model.loss_curve_).all()


def test_save_and_load(model, data, tmp_path):
    model.save(tmp_path / "model")
    loaded = sktwotower.load(tmp_path / "model")
    X = data.interactions
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    history = X[:5].assign(user_id=-1)
    assert_same_answer(
        loaded.recommend([-1, 1], history=history),
        model.recommend([-1, 1], history=history),
    )
    assert loaded.get_params()["hidden_layer_sizes"] is None
    grown, loaded = (m.partial_fit(X[:100]) for m in (clone(model).fit(X), loaded))
    np.testing.assert_allclose(loaded.item_embeddings_, grown.item_embeddings_, atol=1e-5)


def test_onnx(model, data, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model.export_onnx(tmp_path / "onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "item_tower.onnx"))
    codes = np.arange(1, len(model.item_ids_) + 1)
    (vectors,) = session.run(None, {"code": codes})
    np.testing.assert_allclose(vectors, model.item_embeddings_, atol=1e-5)
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "user_tower.onnx"))
    pairs = data.interactions.drop_duplicates(["user_id", "item_id"])
    places = [pd.Index(ids) for ids in (model.user_ids_, model.item_ids_)]
    (vectors,) = session.run(
        None,
        {
            "code": np.arange(1, len(model.user_ids_) + 1),
            "history_row": places[0].get_indexer(pairs["user_id"]),
            "history_item": places[1].get_indexer(pairs["item_id"]) + 1,
        },
    )
    np.testing.assert_allclose(vectors, model.user_embeddings_, atol=1e-5)


def test_a_tied_table_is_one(data):
    """It has the gradients of both towers, is decayed once, and grows as one."""
    model = TwoTowerRecommender(**WHOLE | {"max_iter": 2}).fit(data.interactions)
    towers = model._state.towers  # that two tables are one shows nowhere else
    assert towers.user_tower.history_table is towers.item_tower.id_table
    assert len(list(towers.embedding_tables())) == 1
    X = data.interactions[:300]
    model.partial_fit(X.assign(item_id=X["item_id"] + 40))
    towers = model._state.towers
    assert towers.user_tower.history_table is towers.item_tower.id_table
    assert len(towers.item_tower.id_table) == len(model.item_ids_) + 1
    apart = clone(model).set_params(history__tied=False).fit(data.interactions)
    towers = apart._state.towers
    assert towers.user_tower.history_table is not towers.item_tower.id_table


@pytest.mark.parametrize("negatives", ["full", "mixed"])
def test_a_large_tied_table_learns_the_same(negatives, data, monkeypatch):
    """Of a large table a step updates the rows that either tower looks up."""
    model = TwoTowerRecommender(**WHOLE | {"max_iter": 3, "negatives": negatives})
    model.set_params(n_negatives=10, batch_size=64, weight_decay=1.0)
    whole = clone(model).fit(data.interactions)
    monkeypatch.setattr(lazy_tables, "ROWS_FOR_ONE_OF_A_BATCH", 0)
    lazy = clone(model).fit(data.interactions)
    np.testing.assert_allclose(lazy.loss_curve_, whole.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(lazy.user_embeddings_, whole.user_embeddings_, atol=1e-3)
    again = clone(model).fit(data.interactions)
    np.testing.assert_array_equal(again.item_embeddings_, lazy.item_embeddings_)


def test_a_tower_without_a_layer_is_the_sum_of_its_fields(data):
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        item_table=data.item_table,
        hidden_layer_sizes=None,
        normalize=False,
        temperature=1.0,
        max_iter=1,
    ).fit(data.interactions)
    # Changes of two features, each alone, add up: nothing but a sum is in between.
    items = data.item_table[:1].assign(item_id=-1)
    number, category = (
        next(name for name in items if name.startswith(f"item_{kind}"))
        for kind in ("num", "cat")
    )
    other = data.item_table[category]
    other = other[other != items[category].iloc[0]].iloc[0]
    plain, one, two, both = (
        model.item_tower_.transform(items.assign(**changes))
        for changes in (
            {},
            {number: items[number] + 1},
            {category: other},
            {number: items[number] + 1, category: other},
        )
    )
    assert not np.allclose(one, plain, atol=1e-4) and not np.allclose(two, plain, atol=1e-4)
    np.testing.assert_allclose(both - plain, (one - plain) + (two - plain), atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"timestamp_column": "timestamp"}, "orders them; set dropout=0"),
        ({"loss": "bpr"}, "Set loss='softmax', or dropout=0"),
        ({"negatives": "in_batch", "batch_size": 20}, "single one, who has no negative"),
        ({"temperature": "learned"}, "popularity_prior=1.2 is in units"),
        (
            {
                "history": PooledHistory(tied=True),
                "item_id_embedding": False,
                "loss": "bpr",
            },
            "pools the ids of the item tower",
        ),
        (
            {"history": PooledHistory(dropout=1.0)},
            "'dropout' parameter of PooledHistory must be a float",
        ),
        ({"popularity_prior": -1}, "'popularity_prior' parameter"),
    ],
)
def test_refused(data, parameters, message):
    X = data.interactions.assign(timestamp=np.arange(len(data.interactions)))
    with pytest.raises(ValueError, match=message):
        TwoTowerRecommender(**WHOLE | parameters).fit(X)
