"""scikit-learn's tools with a recommender: that they work, or why they do not."""

import copy

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (for the import)
from sklearn.feature_selection import RFECV, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay, check_scoring
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    StratifiedKFold,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
    validation_curve,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_html_repr, resample

from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.metrics import make_ranking_scorer
from tests.helpers import make_model, make_X, needs_sklearn_1_9

X = make_X(n_rows=120)[["user", "item"]].drop_duplicates(ignore_index=True)
Y = (np.arange(len(X)) % 5 > 0).astype(int)
WEIGHTS = np.linspace(0.1, 2, len(X)) * (np.arange(len(X)) % 7 > 0)
NAMES = {"user_column": "user", "item_column": "item"}
ONE = make_ranking_scorer("ndcg@5")
TWO = make_ranking_scorer(["ndcg@5", "recall@3"])
CV = {"cv": 2, "error_score": "raise"}
GRID = {"item_column": ["item"]}  # a parameter that all have

MODELS = [
    make_model(**NAMES),
    PopularRecommender(**NAMES),
    ItemKNNRecommender(**NAMES),
    EASERecommender(**NAMES),
]
both = pytest.mark.parametrize("model", MODELS[::3], ids=lambda model: type(model).__name__)
each = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)


def search_in_pipeline(model):
    pipeline = make_pipeline(FunctionTransformer(), model)
    search = GridSearchCV(pipeline, {}, scoring=ONE, **CV).fit(X, Y)
    return ONE(search, X, Y)


def halving(model):
    search = HalvingGridSearchCV(model, GRID, scoring=ONE, min_resources=60, **CV)
    return search.fit(X, Y).best_score_


def held_out(model):
    train, test = train_test_split(X, random_state=0)
    return model.fit(train).score(test)


TOOLS = {
    "cross_val_score": lambda m: cross_val_score(m, X, scoring=ONE, **CV),
    "default scoring": lambda m: cross_val_score(m, X, **CV),
    "several metrics": lambda m: cross_validate(
        m, X, Y, scoring=TWO, return_train_score=True, **CV
    )["test_recall@3"],
    "dict of scorers": lambda m: cross_validate(
        m, X, scoring={"a": ONE, "b": make_ranking_scorer("mrr")}, **CV
    )["test_b"],
    "metric of predictions": lambda m: cross_val_score(
        m, X, Y, scoring="neg_mean_squared_error", **CV
    ),
    "stratified": lambda m: cross_val_score(
        m, X, Y, scoring=ONE, cv=StratifiedKFold(2), error_score="raise"
    ),
    "groups": lambda m: cross_val_score(
        m, X, groups=X["user"], scoring=ONE, cv=GroupKFold(2), error_score="raise"
    ),
    "weights": lambda m: cross_val_score(
        m, X, Y, scoring=ONE, params={"sample_weight": WEIGHTS}, **CV
    ),
    "cross_val_predict": lambda m: cross_val_predict(m, X, cv=2),
    "train_test_split": held_out,
    "learning_curve": lambda m: learning_curve(
        m, X, None, scoring=ONE, train_sizes=[0.5, 1.0], shuffle=True, random_state=0, **CV
    )[2],
    "validation_curve": lambda m: validation_curve(
        m, X, None, param_name="item_column", param_range=["item"], scoring=ONE, **CV
    )[1],
    "permutation_test_score": lambda m: permutation_test_score(
        m, X, Y, scoring=ONE, cv=2, n_permutations=2
    )[0],
    "GridSearchCV": lambda m: GridSearchCV(m, GRID, scoring=ONE, **CV).fit(X).best_score_,
    "search of several metrics": lambda m: (
        GridSearchCV(m, GRID, scoring=TWO, refit="recall@3", **CV).fit(X).best_score_
    ),
    "search with weights": lambda m: (
        GridSearchCV(m, GRID, scoring=ONE, **CV)
        .fit(X, Y, sample_weight=WEIGHTS)
        .best_score_
    ),
    "search that predicts": lambda m: GridSearchCV(m, GRID, **CV).fit(X).predict(X),
    "search in a pipeline": search_in_pipeline,
    "RandomizedSearchCV": lambda m: (
        RandomizedSearchCV(m, GRID, n_iter=1, scoring=ONE, **CV).fit(X).best_score_
    ),
    "HalvingGridSearchCV": halving,
    "permutation_importance": lambda m: (
        permutation_importance(m.fit(X), X, Y, scoring=ONE, n_repeats=1).importances
    ),
    "FrozenEstimator": lambda m: ONE(FrozenEstimator(m.fit(X)), X),
    "frozen in a pipeline": lambda m: make_pipeline(FrozenEstimator(m.fit(X))).predict(X),
    "Pipeline": lambda m: make_pipeline(FunctionTransformer(), m).fit(X, Y).score(X),
    "weights in a pipeline": lambda m: (
        Pipeline([("m", m)]).fit(X, Y, m__sample_weight=WEIGHTS).predict(X)
    ),
    "TransformedTargetRegressor": lambda m: (
        TransformedTargetRegressor(m, func=np.abs, inverse_func=np.abs).fit(X, Y).predict(X)
    ),
    "MultiOutputRegressor": lambda m: (
        MultiOutputRegressor(m).fit(X, np.c_[Y, Y]).predict(X)
    ),
    "BaggingRegressor of columns by position": lambda m: (
        BaggingRegressor(m.set_params(user_column=0, item_column=1), n_estimators=2)
        .fit(X, Y)
        .predict(X)
    ),
    "check_scoring": lambda m: check_scoring(m)(m.fit(X), X),
    "check_scoring with weights": lambda m: check_scoring(m, {"a": ONE})(
        m.fit(X), X, Y, sample_weight=WEIGHTS
    )["a"],
    "resample": lambda m: m.fit(resample(X, random_state=0)).score(X),
    "deepcopy": lambda m: copy.deepcopy(m.fit(X)).predict(X),
}


@both
@pytest.mark.filterwarnings("ignore:.* relevant pairs of X .*were seen")
@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_works(name, model):
    assert np.isfinite(TOOLS[name](clone(model))).all()


@both
@pytest.mark.filterwarnings("ignore:.*cannot be better than the most popular")
def test_pictures_and_descriptions(model, tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    pytest.importorskip("matplotlib.pyplot")  # which may warn
    curve = LearningCurveDisplay.from_estimator(model, X, None, cv=2, scoring=ONE)
    assert curve.score_name == "Ndcg@5" == curve.ax_.get_ylabel()
    number = next(
        name for name in ("embedding_dim", "regularization") if hasattr(model, name)
    )
    curve = ValidationCurveDisplay.from_estimator(
        model, X, None, param_name=number, param_range=[2, 4], cv=2, scoring=ONE
    )
    assert curve.score_name == "Ndcg@5"
    fitted = clone(model).fit(X, Y)
    PredictionErrorDisplay.from_estimator(fitted, X, Y)
    DecisionBoundaryDisplay.from_estimator(
        fitted, X, response_method="predict", grid_resolution=3
    )
    assert type(model).__name__ in estimator_html_repr(make_pipeline(model))
    assert not is_classifier(model) and not is_regressor(model)
    joblib.dump(fitted, tmp_path / "model")
    again = joblib.load(tmp_path / "model").predict(X)
    np.testing.assert_array_equal(again, fitted.predict(X))


COLUMNS = "user_column='user' is not a column of X; it has no column names"
NO_REASON_IS_MISSING = {
    "partial_dependence": (
        lambda m: partial_dependence(m.fit(X), X, ["user"]),
        "must be a fitted regressor or classifier",
    ),
    "RocCurveDisplay": (
        lambda m: RocCurveDisplay.from_estimator(m.fit(X, Y), X, Y),
        "to be a binary classifier",
    ),
    "roc_auc": (
        lambda m: cross_val_score(m, X, Y, scoring="roc_auc", **CV),
        "none of the following attributes: decision_function, predict_proba",
    ),
    "CalibratedClassifierCV": (
        lambda m: CalibratedClassifierCV(m).fit(X, Y),
        "implementing 'fit' and 'predict_proba'",
    ),
    "FixedThresholdClassifier": (
        lambda m: FixedThresholdClassifier(m).fit(X, Y),
        "implementing 'fit' and 'predict_proba'",
    ),
    "VotingRegressor": (
        lambda m: VotingRegressor([("a", m)]).fit(X, Y),
        "should be a regressor",
    ),
    "StackingRegressor": (
        lambda m: StackingRegressor([("a", m)]).fit(X, Y),
        "should be a regressor",
    ),
    "ColumnTransformer": (
        lambda m: ColumnTransformer([("m", m, ["user", "item"])]).fit(X),
        "should implement fit and transform",
    ),
    # These give the estimator an array: name the columns by position.
    "BaggingRegressor": (lambda m: BaggingRegressor(m).fit(X, Y), COLUMNS),
    "RFECV": (lambda m: RFECV(m, scoring=ONE).fit(X, Y), COLUMNS),
    "SequentialFeatureSelector": (
        lambda m: SequentialFeatureSelector(m, scoring=ONE, cv=2).fit(X, Y),
        "needs at least two columns: a user id and an item id",
    ),
}


@pytest.mark.filterwarnings("ignore:Scoring failed", "ignore:Estimator fit failed")
@both
@pytest.mark.parametrize("name", NO_REASON_IS_MISSING)
def test_a_tool_that_says_why_not(name, model):
    call, message = NO_REASON_IS_MISSING[name]
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        call(clone(model))


# --- weights -------------------------------------------------------------------------


@each
def test_weights_are_passed_alike(model):
    expected = clone(model).fit(X, Y, sample_weight=WEIGHTS)
    positional = clone(model).fit(X, Y, WEIGHTS)
    np.testing.assert_array_equal(positional.predict(X), expected.predict(X))
    assert (expected.predict(X) != clone(model).fit(X, Y).predict(X)).any()
    score = expected.score(X, Y, sample_weight=WEIGHTS)
    assert expected.score(X, Y, WEIGHTS) == score == ONE_AT_10(expected, X, Y, WEIGHTS)


ONE_AT_10 = make_ranking_scorer("ndcg@10")


@each
def test_weights_are_routed(model):
    direct = clone(model).fit(X, Y, WEIGHTS)
    with config_context(enable_metadata_routing=True):
        asks = clone(model).set_fit_request(sample_weight=True)
        asks.set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), asks)
        pipeline.fit(X, Y, sample_weight=WEIGHTS)
        np.testing.assert_array_equal(pipeline.predict(X), direct.predict(X))
        found = pipeline.score(X, Y, sample_weight=WEIGHTS)
        assert found == direct.score(X, Y, WEIGHTS)
        cross_validate(asks, X, Y, params={"sample_weight": WEIGHTS}, **CV)
        scoring = make_ranking_scorer("ndcg@5").set_score_request(sample_weight=True)
        search = GridSearchCV(asks, GRID, scoring=scoring, **CV)
        assert 0 < search.fit(X, Y, sample_weight=WEIGHTS).best_score_ < 1


# --- callbacks -----------------------------------------------------------------------


@needs_sklearn_1_9
def test_a_monitor_takes_a_scorer_of_one_metric():
    from sklearn.callback import ScoringMonitor

    logs = []
    for scoring in (ONE, make_ranking_scorer(["ndcg@5"]), {"ndcg@5": ONE}):
        monitor = ScoringMonitor(scoring=scoring)
        clone(MODELS[0]).set_callbacks(monitor).fit(X, Y, WEIGHTS)
        logs.append(monitor.get_logs().data_as_pandas)
    assert logs[0]["score"].notna().all()
    assert logs[0]["score"].tolist() == logs[1]["ndcg@5"].tolist()
    assert logs[0]["score"].tolist() == logs[2]["ndcg@5"].tolist()


def test_callbacks_before_scikit_learn_1_9():
    """What the shim says; where callbacks are, they are not of the shim."""
    if needs_sklearn_1_9.args[0]:
        with pytest.raises(ImportError, match=r"needs scikit-learn 1\.9 .* 1\.[678]"):
            MODELS[0].set_callbacks()
    else:
        assert type(MODELS[0]).set_callbacks.__module__.startswith("sklearn.callback")
