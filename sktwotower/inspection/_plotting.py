"""What the Displays share: Matplotlib when it is needed, axes, and models to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sktwotower.utils._extra import extra


def check_matplotlib(caller: str) -> None:
    """Raise ImportError, saying what to install, when Matplotlib is not there."""
    extra("matplotlib", name="plot", caller=f"{caller} needs")


@contextmanager
def axes_to_draw_on(ax: Any, caller: str) -> Iterator[Any]:
    """The caller's axes, or those of a new figure, which is closed if drawing fails."""
    check_matplotlib(caller)
    if ax is not None:
        if not hasattr(ax, "get_figure"):
            raise TypeError(f"ax must be Matplotlib Axes or None; got {type(ax).__name__}.")
        yield ax
        return
    pyplot = import_module("matplotlib.pyplot")
    figure, ax = pyplot.subplots(layout="constrained")
    try:
        yield ax
    except BaseException:
        pyplot.close(figure)
        raise


def whole_ticks(axis: Any) -> None:
    """Ticks at whole numbers only."""
    ticker = import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def percent_ticks(axis: Any) -> None:
    """Shares as per cents."""
    ticker = import_module("matplotlib.ticker")
    axis.set_major_formatter(ticker.PercentFormatter(1.0))


def last_estimator(model: Any) -> Any:
    """The estimator inside fitted searches and pipelines."""
    while True:
        if isinstance(model, type):
            return model
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif isinstance(model, Pipeline):
            model = model.steps[-1][1]
        else:
            return model


def refuse(model: Any, caller: str, needs: str) -> TypeError:
    """The error for something else than what is needed."""
    is_class = isinstance(model, type)
    got = f"the class {model.__name__}" if is_class else type(model).__name__
    return TypeError(f"{caller} needs {needs}; got {got}.")


def check_recommender(model: Any, caller: str) -> Any:
    """The fitted recommender inside ``model``, or an error."""
    last = last_estimator(model)
    if isinstance(last, type) or not hasattr(last, "recommend"):
        needs = (
            "a fitted estimator with a recommend method, a Pipeline that ends in one, or a "
            "fitted search over either"
        )
        raise refuse(last, caller, needs)
    if hasattr(last, "fit"):
        check_is_fitted(last)
    return last


def named_models(models: Any, caller: str) -> dict[str, Any]:
    """Models by name: as they are called, or after their classes."""
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    elif isinstance(models, Iterable) and not isinstance(models, (str, Pipeline)):
        listed = list(models)
        names = [type(last_estimator(model)).__name__ for model in listed]
        times, so_far = Counter(names), Counter[str]()
        named = {}
        for name, model in zip(names, listed, strict=True):
            so_far[name] += 1
            named[f"{name} {so_far[name]}" if times[name] > 1 else name] = model
    else:
        raise TypeError(
            f"{caller} takes a dict of names to models, or a list of models; got "
            f"{type(models).__name__}. For a single model there is from_estimator."
        )
    if not named:
        raise ValueError(f"{caller}: models is empty.")
    return named
