"""scikit-learn's own checks, on everything public that is an estimator."""

import importlib
import pkgutil

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import sktwotower
from sktwotower import TwoTowerRecommender, history
from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.history import TransformerHistory
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder

# Excused for SGDClassifier in scikit-learn too: other rows make other batches.
STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": (
        "repeating a row changes the batches, a weight does not"
    )
}


RECOMMENDERS = [
    TwoTowerRecommender(max_iter=2),
    TwoTowerRecommender(max_iter=2, hidden_layer_sizes=(8,), batch_norm=True),
    TwoTowerRecommender(max_iter=2, history=TransformerHistory(size=3)),
]

DETERMINISTIC = [
    PopularRecommender(),
    EASERecommender(),
    ItemKNNRecommender(),
    ItemKNNRecommender(n_neighbors=1),
    FeatureEncoder(),
    MultiHotEncoder(),
]

# Checked by scikit-learn, whose class it is but for the queries.
INHERITED = {"Pipeline"}
# Parameters of a recommender, without a fit; see test_history.py.
HISTORIES = set(history.__all__)


# Numbers of a check as ids: each user has one row.
@pytest.mark.filterwarnings("ignore:The model cannot be better than the most popular")
@parametrize_with_checks(
    RECOMMENDERS,
    expected_failed_checks=lambda estimator: STOCHASTIC,
)
def test_recommender(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:.*share one column")  # numbers of a check as texts
@parametrize_with_checks(DETERMINISTIC)
def test_deterministic_estimators(estimator, check):
    check(estimator)


def test_no_public_estimator_is_left_out():
    rooms = [sktwotower] + [
        importlib.import_module(f"sktwotower.{module.name}")
        for module in pkgutil.iter_modules(sktwotower.__path__)
        if not module.name.startswith("_")
    ]
    public = [
        getattr(room, name) for room in rooms for name in getattr(room, "__all__", ())
    ]
    estimators = {
        thing.__name__
        for thing in public
        if isinstance(thing, type) and issubclass(thing, BaseEstimator)
    }
    checked = {type(estimator).__name__ for estimator in RECOMMENDERS + DETERMINISTIC}
    assert estimators == checked | INHERITED | HISTORIES


@pytest.mark.parametrize("estimator", [TwoTowerRecommender()])
def test_tags_skip_nothing(estimator):
    tags = estimator.__sklearn_tags__()
    assert tags.requires_fit
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.non_deterministic
