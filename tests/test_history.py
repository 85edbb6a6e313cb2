"""The parameter ``history``: an object, None or "auto"."""

import copy
import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils import estimator_html_repr

import sktwotower
from sktwotower import TwoTowerRecommender, history
from sktwotower.history import PooledHistory
from tests.helpers import assert_same_answer, make_model, make_X, same_embeddings

X = make_X()
TIMES = {"user_column": "user", "item_column": "item", "timestamp_column": "time"}
NO_TIMES = TIMES | {"timestamp_column": None}


# --- the object --------------------------------------------------------------------------


@pytest.mark.parametrize("name", history.__all__)
def test_a_history_is_parameters_and_nothing_else(name):
    kind = getattr(history, name)
    one = kind()
    assert isinstance(one, BaseEstimator) and not hasattr(one, "fit")
    assert set(kind._parameter_constraints) == set(one.get_params())
    assert list(one.get_params()) == sorted(inspect.signature(kind).parameters)
    assert "fit" not in repr(one) and kind.__name__ in estimator_html_repr(one)


def test_copies_and_shows_itself():
    one = PooledHistory(size=None, dropout=0.5, tied=True)
    assert repr(one) == "PooledHistory(dropout=0.5, size=None, tied=True)"
    assert repr(PooledHistory()) == "PooledHistory()"
    other = clone(one)
    assert other is not one and other.get_params() == one.get_params()
    assert other.set_params(size=3).size == 3 and one.size is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 0}, "The 'size' parameter of PooledHistory must be an int in the range"),
        ({"size": 2.5}, "The 'size' parameter of PooledHistory must be an int"),
        ({"dropout": 1.0}, "The 'dropout' parameter of PooledHistory must be a float"),
        ({"dropout": -0.1}, "The 'dropout' parameter of PooledHistory must be a float"),
        ({"tied": "yes"}, "The 'tied' parameter of PooledHistory must be an instance of"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_wrong_parameters_are_refused_in_fit(parameters, message, method):
    model = make_model(**TIMES, history=PooledHistory(**parameters))
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(X)


@pytest.mark.parametrize(
    ("wrong", "end"),
    [
        (PooledHistory, "Got the class PooledHistory; make an object of it: PooledHist"),
        (20, r"such as PooledHistory\(size=20\). Got 20\."),
        (True, r"Got True\."),
        ("pooled", r"such as PooledHistory\(size=20\). Got 'pooled'\."),
        ({"size": 20}, r"Got {'size': 20}\."),
        (int, r"Got <class 'int'>\."),
        (np.arange(3), r"Got array\(\[0, 1, 2\]\)\."),
    ],
    ids=str,
)
def test_other_things_are_refused(wrong, end):
    model = make_model(**TIMES, history=wrong)
    message = f"The 'history' parameter of TwoTowerRecommender must be .*{end}"
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    with pytest.raises(TypeError, match=end):
        model.partial_fit(X)


def test_the_flat_parameters_are_gone():
    for name in ("history_size", "history_dropout", "tie_history"):
        with pytest.raises(TypeError, match=name):
            TwoTowerRecommender(**{name: 1})


# --- as a parameter ----------------------------------------------------------------------


def test_nested_parameters_are_reached():
    model = make_model(**TIMES, history=PooledHistory(size=5))
    model.set_params(history__size=3, history__tied=True)
    assert model.history.get_params() == {"size": 3, "dropout": 0.0, "tied": True}
    with pytest.raises(ValueError, match="Invalid parameter 'length' for estimator Pooled"):
        model.set_params(history__length=3)


def test_a_clone_has_a_history_of_its_own():
    model = make_model(**TIMES, history=PooledHistory(size=5))
    other = clone(model).set_params(history__size=2)
    assert model.history.size == 5 and other.history.size == 2


def test_a_grid_search_tunes_it():
    rows = X.drop_duplicates(["user", "item"])
    grid = {"history__size": [1, None], "history__tied": [False, True]}
    search = GridSearchCV(make_model(**TIMES, history=PooledHistory()), grid, cv=2)
    best = search.fit(rows).best_params_
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.history_.size == best["history__size"]
    assert search.best_estimator_.history_.tied == best["history__tied"]
    words = {"history": [None, "auto", PooledHistory(size=2)]}
    search = GridSearchCV(make_model(**TIMES), words, cv=2).fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fit_reads_it_and_changes_nothing_of_it():
    past = PooledHistory(size=np.int8(3))
    before = copy.deepcopy(past.__dict__)
    model = make_model(**TIMES, history=past).fit(X)
    assert model.history is past and past.__dict__ == before
    assert model.history_ is not past and repr(model.history_) == "PooledHistory(size=3)"


def test_what_is_set_after_fit_counts_in_the_next_fit():
    model = make_model(**TIMES, history=PooledHistory(size=3)).fit(X)
    answers = model.recommend([0, 1, 2])
    later = X[:4].assign(time=1000)
    with_history = model.recommend([0, 1, 2], history=later)
    model.set_params(history__size=1)
    model.history_.set_params(size=1)  # a copy
    assert_same_answer(model.recommend([0, 1, 2]), answers)
    assert_same_answer(model.recommend([0, 1, 2], history=later), with_history)
    assert model.history_.size == 3
    model.set_params(history=None)
    assert_same_answer(model.recommend([0, 1, 2], history=later), with_history)
    assert model.fit(X).history_ is None


def test_no_limit_is_a_limit_that_is_never_reached():
    for times in (TIMES, NO_TIMES):
        whole = make_model(**times, history=PooledHistory(size=None)).fit(X)
        many = make_model(**times, history=PooledHistory(size=len(X))).fit(X)
        assert same_embeddings(whole, many)
        few = make_model(**times, history=PooledHistory(size=2)).fit(X)
        assert not same_embeddings(whole, few)
    assert whole.history_.size is None


def test_the_diagram_shows_it():
    model = make_model(**TIMES, history=PooledHistory(size=7))
    assert "history: PooledHistory(size=7)" in estimator_html_repr(model)
    assert "history: auto" in estimator_html_repr(make_model(**TIMES))
    assert "history: None" in estimator_html_repr(make_model(**TIMES, history=None).fit(X))
    chosen = "history: PooledHistory(dropout=0.5, size=None, tied=True)"
    assert chosen in estimator_html_repr(make_model(**NO_TIMES).fit(X))


@pytest.mark.parametrize(
    "past", [None, "auto", PooledHistory(size=3), PooledHistory(size=None, tied=True)]
)
def test_it_is_saved_and_loaded(past, tmp_path):
    pytest.importorskip("skops")
    model = make_model(**TIMES, history=past).fit(X)
    model.save(tmp_path / "model")
    loaded = sktwotower.load(tmp_path / "model")
    assert repr(loaded.get_params()) == repr(model.get_params())
    assert repr(loaded.history_) == repr(model.history_)
    later = X[:9].assign(time=1000)
    assert_same_answer(
        loaded.recommend([0, 99], history=later), model.recommend([0, 99], history=later)
    )
    loaded.partial_fit(later)
    assert same_embeddings(loaded, model.partial_fit(later))


# --- going on ----------------------------------------------------------------------------


def test_an_equal_object_is_no_change():
    model = make_model(**TIMES, history=PooledHistory(size=3)).fit(X)
    model.set_params(history=PooledHistory(size=3)).partial_fit(X[:10])
    with pytest.raises(ValueError, match=r"history cannot change .* and is PooledHistory"):
        model.set_params(history=PooledHistory(size=3, tied=True)).partial_fit(X[:10])
    with pytest.raises(ValueError, match=r"it was PooledHistory\(size=3\) and is None"):
        model.set_params(history=None).partial_fit(X[:10])


def test_the_size_may_change():
    model = make_model(**TIMES, history=PooledHistory(size=3)).fit(X)
    model.set_params(history__size=1).partial_fit(X[:10])
    assert model.history_.size == 1


@pytest.mark.parametrize("warm_start", [False, True])
def test_auto_goes_on_with_the_history_of_the_towers(warm_start):
    """Whatever the further rows would have chosen."""
    without_order = X.assign(time=1)
    for first, then in ((X, without_order), (without_order, X)):
        model = make_model(**TIMES, warm_start=warm_start).fit(first)
        chosen = repr(model.history_)
        whole = "PooledHistory(dropout=0.5, size=None, tied=True)"
        assert chosen == ("PooledHistory()" if first is X else whole)
        model = model.fit(then) if warm_start else model.partial_fit(then)
        assert repr(model.history_) == chosen


def test_auto_is_no_change_of_a_history_that_was_given():
    model = make_model(**TIMES, history=PooledHistory(size=3)).fit(X)
    model.set_params(history="auto").partial_fit(X[:10])
    assert model.history_.size == 3
