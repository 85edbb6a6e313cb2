"""Warnings that name the line of the caller."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings

import joblib
import sklearn
import torch

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
# Frames of these lie between a caller and the package: decorators such as scikit-learn's
# _fit_context and torch's inference_mode, a Pipeline, the workers of a grid search.
_SKIPPED_FILES = (
    os.path.join(_PACKAGE, ""),
    *(os.path.join(package.__path__[0], "") for package in (sklearn, torch, joblib)),
    contextlib.__file__,
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the first line of the call stack that is the caller's own.

    Lines of this package, scikit-learn, torch, joblib and ``contextlib`` are skipped, so
    that the warning shows where ``model.fit(X)`` is called.

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
    warnings.warn(message, category, stacklevel=stacklevel)
