"""Where bags start: the singular vectors of the normalized pairs, against NumPy."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from sktwotower import TwoTowerRecommender
from sktwotower._training import training
from sktwotower._training.spectral_start import spectral_vectors
from sktwotower.datasets import make_interactions
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import train_test_split_interactions
from tests._nn.thread_ranks import on_ranks
from tests.helpers import NAMES


def random_pairs(n_users, n_items, density, seed=0):
    rng = np.random.default_rng(seed)
    return sp.csr_matrix(rng.random((n_users, n_items)) < density)


def test_vectors_are_those_of_a_dense_decomposition():
    pairs = random_pairs(40, 25, 0.2)
    dense = pairs.toarray().astype(float)
    scaled = dense / np.sqrt(
        np.maximum(dense.sum(1, keepdims=True) * dense.sum(0, keepdims=True), 1e-9)
    )
    _, values, directions = np.linalg.svd(scaled)
    expected = (directions * values[:, None]).T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = spectral_vectors(pairs, 25, seed=0)
    assert found.dtype == np.float32
    # Singular vectors have a sign each; inner products have not.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dim", [3, 25])
def test_ranks_that_have_the_rows_of_some_users_find_the_same_vectors(size, dim):
    generator = np.random.default_rng(1)
    tastes = generator.integers(3, size=(60, 1)) == np.arange(25) % 3  # three directions
    pairs = sp.csr_matrix(generator.random((60, 25)) < np.where(tastes, 0.6, 0.1))
    expected = spectral_vectors(pairs, dim, seed=0)

    def call(ranks):
        of_others = ~ranks.owns(np.arange(60))
        own = pairs.tolil()
        own[of_others] = False
        return spectral_vectors(own.tocsr(), dim, 0, ranks)

    found = on_ranks(size, call)
    for vectors in found:
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, found[0])
        # With few vectors, both are as close as a few iterations come.
        np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=0.01)


def test_an_item_without_a_user_has_no_direction():
    pairs = random_pairs(30, 10, 0.3).tolil()
    pairs[:, 4] = False
    found = spectral_vectors(pairs.tocsr(), 5, seed=0)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, np.arange(10) != 4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 20), (20, 3), (1, 4), (4, 1)])
def test_fewer_singular_values_than_dimensions(shape):
    found = spectral_vectors(sp.csr_matrix(np.ones(shape, dtype=bool)), 16, seed=0)
    assert found.shape == (shape[1], min(shape))
    assert np.isfinite(found).all()


@pytest.fixture(scope="module")
def data():
    return make_interactions(300, 120, 6000, random_state=0)


def first_table(X, monkeypatch, **parameters):
    """A fitted model, and the item vectors of each training before its first step."""
    tables = []
    start = training.start_from_spectrum

    def record(tower, *others):
        start(tower, *others)
        tables.append(tower.id_table.detach().clone())

    monkeypatch.setattr(training, "start_from_spectrum", record)
    model = TwoTowerRecommender(**NAMES, max_iter=1, random_state=0, **parameters).fit(X)
    return model, tables


def test_items_start_beside_those_that_they_are_with(data, monkeypatch):
    model, (table,) = first_table(data.interactions, monkeypatch)
    vectors = torch.nn.functional.normalize(table[1:], dim=1).numpy()
    pairs = pd.crosstab(data.interactions["user_id"], data.interactions["item_id"]) > 0
    pairs = sp.csr_matrix(pairs[model.item_ids_].to_numpy())
    expected = spectral_vectors(pairs, 256, seed=0)
    own = (vectors[:, : expected.shape[1]] * expected).sum(1)
    other = (vectors[:, : expected.shape[1]] * np.roll(expected, 1, axis=0)).sum(1)
    assert own.min() > 0.8 > 0.5 > other.max()


def test_rows_held_out_do_not_enter(data, monkeypatch):
    """What early stopping validates on has no part in where training starts."""
    X = data.interactions
    seen = []
    monkeypatch.setattr(
        training, "start_from_spectrum", lambda t, c, rows, s, ranks: seen.append(len(rows))
    )
    model = TwoTowerRecommender(**NAMES, random_state=0, max_iter=1, early_stopping=True)
    model.set_params(refit=False, validation_fraction=0.2).fit(X)
    assert seen[0] == pytest.approx(0.8 * len(X), rel=0.05)


def test_what_goes_on_does_not_start_again(data, monkeypatch):
    model, tables = first_table(data.interactions, monkeypatch)
    model.partial_fit(data.interactions[:50])
    model.set_params(warm_start=True).fit(data.interactions)
    assert len(tables) == 1


def test_neither_a_layer_nor_an_untied_history_has_it(data, monkeypatch):
    for parameters in ({"hidden_layer_sizes": ()}, {"history": None}):
        _, tables = first_table(data.interactions, monkeypatch, **parameters)
        assert tables == []


def test_one_epoch_is_worth_more(data, monkeypatch):
    train, test = train_test_split_interactions(data.interactions, random_state=0)
    scorer = make_ranking_scorer("ndcg@10", user_column="user_id", item_column="item_id")
    model = TwoTowerRecommender(**NAMES, max_iter=1, random_state=0)
    with_start = scorer(model.fit(train), test)
    monkeypatch.setattr(training, "start_from_spectrum", lambda *arguments: None)
    assert with_start > 1.1 * scorer(model.fit(train), test)
