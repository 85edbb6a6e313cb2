"""Warnings that name the line of the caller."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import warnings
from types import FrameType
from weakref import WeakKeyDictionary

import joblib
import sklearn
import torch
from sklearn.utils.parallel import Parallel

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
# Frames of these lie between a caller and the package: decorators such as scikit-learn's
# _fit_context and torch's inference_mode, a Pipeline, the workers of a grid search.
_SKIPPED_FILES = (
    os.path.join(_PACKAGE, ""),
    *(os.path.join(package.__path__[0], "") for package in (sklearn, torch, joblib)),
    contextlib.__file__,
)

# What was said within calls of scikit-learn that run many fits, as long as they last.
_said: WeakKeyDictionary[Parallel, set[str]] = WeakKeyDictionary()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the first line of the call stack that is the caller's own.

    Lines of this package, scikit-learn, torch, joblib and ``contextlib`` are skipped, so
    that the warning shows where ``model.fit(X)`` is called.

    A search or a cross-validation in this process shows a warning once, whatever numbers it
    has for the other candidates and folds. Python would repeat it, since scikit-learn
    changes the filters of warnings for each fit.

    Parameters
    ----------
    message : str
        Text of the warning.
    category : type of Warning, default=UserWarning
        Its class.
    """
    frame, stacklevel = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED_FILES):
        frame, stacklevel = frame.f_back, stacklevel + 1
    fits = _many_fits()
    if fits is None:
        warnings.warn(message, category, stacklevel=stacklevel)
        return
    said, without_numbers = _said.setdefault(fits, set()), _without_numbers(message)
    if without_numbers not in said:
        message = f"{message} (Shown for the first fit only.)"
        warnings.warn(message, category, stacklevel=stacklevel)
        said.add(without_numbers)  # unless the warning is an error


def _many_fits() -> Parallel | None:
    """What runs the fits of the outermost search on the call stack; None: no search."""
    frame: FrameType | None = inspect.currentframe()
    found = None
    while frame is not None:
        if frame.f_code is Parallel.__call__.__code__:
            found = frame.f_locals["self"]
        frame = frame.f_back
    return found


def _without_numbers(message: str) -> str:
    """The message without numbers, except in what it quotes."""
    return re.sub(r"('[^']*')|\b\d+\b", r"\1", message)
