"""scikit-learn's own checks, on everything public that is an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktwotower import TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder

# Excused for SGDClassifier in scikit-learn too: other rows make other batches.
STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": (
        "repeating a row changes the batches, a weight does not"
    )
}


@parametrize_with_checks(
    [
        TwoTowerRecommender(max_iter=2),
        TwoTowerRecommender(max_iter=2, hidden_layer_sizes=(8,), batch_norm=True),
    ],
    expected_failed_checks=lambda estimator: STOCHASTIC,
)
def test_recommender(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [PopularRecommender(), EASERecommender(), FeatureEncoder(), MultiHotEncoder()]
)
def test_deterministic_estimators(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [TwoTowerRecommender()])
def test_tags_skip_nothing(estimator):
    tags = estimator.__sklearn_tags__()
    assert tags.requires_fit
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.non_deterministic
