"""Warnings that name the line of the caller."""

import inspect
import os
import warnings

import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sktwotower
from sktwotower.utils._warnings import warn

# Compiled below as if it were a file of the package.
SOURCE = """
class Estimator(BaseEstimator):
    def __init__(self, parameter=0):
        self.parameter = parameter

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        with warning_context():
            self.train()
        return self

    _parameter_constraints = {}

    @torch.inference_mode(False)
    def train(self):
        warn("from fit", RuntimeWarning)

    def score(self, X, y=None):
        return 0.0

    def call(self, function):
        function()


@contextmanager
def warning_context():
    warn("from a context")
    yield
"""


def compiled():
    names = {}
    exec("from contextlib import contextmanager", names)
    exec("from sklearn.base import BaseEstimator, _fit_context", names)
    names |= {"torch": torch, "warn": warn, "__name__": "sktwotower.made_up"}
    path = os.path.join(os.path.dirname(sktwotower.__file__), "made_up.py")
    exec(compile(SOURCE, path, "exec"), names)
    return names["Estimator"]


Estimator = compiled()


def this_line():
    return inspect.currentframe().f_back.f_lineno


def places(record):
    return {(found.filename, found.lineno) for found in record}


def test_decorators_and_contexts_are_skipped():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        line = this_line() + 1
        Estimator().fit([[0]])
    assert [(str(w.message), w.category) for w in record] == [
        ("from a context", UserWarning),
        ("from fit", RuntimeWarning),
    ]
    assert places(record) == {(__file__, line)}


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline("passthrough", Estimator()),
        GridSearchCV(Estimator(), {"parameter": [0, 1]}, cv=2),
    ],
    ids=["pipeline", "grid search"],
)
def test_scikit_learn_is_skipped(model):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        line = this_line() + 1
        model.fit([[0], [1], [2]])
    assert places(record) == {(__file__, line)}


def test_a_function_that_the_package_calls_is_the_caller():
    def callback():
        return Estimator().train(), this_line()  # of its own

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        Estimator().call(callback)
    assert places(record) == {(__file__, callback.__code__.co_firstlineno + 1)}


def test_without_a_caller(monkeypatch):
    monkeypatch.setattr("sktwotower.utils._warnings._SKIPPED_FILES", ("",))
    with pytest.warns(UserWarning, match="nowhere"):
        warn("nowhere")


def test_each_line_warns_once():
    model = Estimator()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("default")
        for _ in range(3):
            model.train()
        model.train()
    assert len(record) == 2
