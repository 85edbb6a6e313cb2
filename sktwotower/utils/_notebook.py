"""The progress bar of a fit in a notebook."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sktwotower.utils._sklearn import ProgressBar, callbacks_of, is_part_of_a_fit

# Whoever is called by them is one fit of many: scikit-learn's searches and functions fit
# copies in joblib.
_MANY_FITS = frozenset({"joblib", "optuna", "distributed"})


@contextmanager
def bar_in_notebook(estimator: Any, *, wanted: bool) -> Iterator[None]:
    """Set scikit-learn's progress bar where a fit is run by a cell of a notebook.

    The bar is the last callback while the context is open, in which ``fit`` reads its
    callbacks. Without scikit-learn 1.9, rich or ipywidgets nothing happens.

    Parameters
    ----------
    estimator : estimator
        Supports callbacks.
    wanted : bool
        Whether to show a bar at all.
    """
    callbacks = callbacks_of(estimator)
    shown = (
        wanted
        and ProgressBar is not None
        and not is_part_of_a_fit(estimator)
        and not any(map(_is_progress_bar, callbacks))
        and threading.current_thread() is threading.main_thread()
        and is_notebook()
        and not _is_one_of_many()
    )
    if not shown:
        yield
        return
    estimator.set_callbacks(*callbacks, ProgressBar())
    try:
        yield
    finally:
        estimator.set_callbacks(*callbacks)


def is_notebook() -> bool:
    """Whether rich can draw a bar below a cell of a notebook."""
    if "ipykernel" not in sys.modules:
        return False
    if find_spec("rich") is None or find_spec("ipywidgets") is None:
        return False
    import rich  # it knows Jupyter, Colab and Databricks

    return rich.get_console().is_jupyter


def _is_progress_bar(callback: Any) -> bool:
    """Whether a callback is a progress bar, of whatever package, by its class' name."""
    return any("progress" in kind.__name__.lower() for kind in type(callback).__mro__)


def _is_one_of_many() -> bool:
    """Whether a package that runs many fits is on the call stack."""
    frame = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _MANY_FITS:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
