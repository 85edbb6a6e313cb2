"""What the Displays share: a late import of Matplotlib, axes, and checks of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from numbers import Integral
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.metrics._sources import Model, Recommender, last_estimator
from sktwotower.utils._extra import extra


def check_matplotlib(caller: str) -> None:
    """Raise ImportError, with what to install, if Matplotlib is missing."""
    extra("matplotlib", name="plot", caller=f"{caller} needs")


@contextmanager
def axes_to_draw_on(ax: Any, caller: str) -> Iterator[Any]:
    """The given axes, or new ones in a figure that is closed if drawing fails."""
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


def set_title(ax: Any, title: str) -> None:
    """Give axes a title, unless they have one, at any of its three places."""
    if not any(map(ax.get_title, ("left", "center", "right"))):
        ax.set_title(title)


def whole_ticks(axis: Any) -> None:
    """Ticks at whole numbers only."""
    ticker = import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def log_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 in each decade, written in full."""
    ticker = import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def mark_best(ax: Any, x: Any, y: Any, **style: Any) -> Any:
    """Draw a ring around the best point."""
    style = {"linestyle": "none", "marker": "o", "markerfacecolor": "none"} | style
    (ring,) = ax.plot(x, y, **style)
    return ring


def percent_ticks(axis: Any) -> None:
    """Ticks of shares as percentages."""
    ticker = import_module("matplotlib.ticker")
    axis.set_major_formatter(ticker.PercentFormatter(1.0))


def refuse(model: object, caller: str, needs: str) -> TypeError:
    """The error for a model of another kind than ``caller`` needs."""
    got = type(model).__name__
    if isinstance(model, type):
        got = f"the class {model.__name__}"
    return TypeError(f"{caller} needs {needs}; got {got}.")


def check_recommender(model: Model, caller: str) -> Recommender:
    """The recommender inside a model; an error if there is none or it is not fitted."""
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


def check_two_towers(model: Model, caller: str) -> TwoTowerRecommender:
    """The two towers inside a model; an error if there are none or they are not fitted."""
    last = last_estimator(model)
    if not isinstance(last, TwoTowerRecommender):
        needs = (
            "a fitted TwoTowerRecommender, a Pipeline that ends in one, or a fitted "
            "search over either"
        )
        raise refuse(last, caller, needs)
    check_is_fitted(last)
    return last


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless a parameter is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def named_models(
    models: Mapping[str, Model] | Iterable[Model], caller: str
) -> dict[str, Model]:
    """Models by name, checked; the models of a list have the names of their classes."""
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    elif isinstance(models, Iterable) and not isinstance(models, (str, Pipeline)):
        listed = list(models)
        names = [type(last_estimator(model)).__name__ for model in listed]
        n_models, n_named = Counter(names), Counter[str]()
        named = {}
        for name, model in zip(names, listed, strict=True):
            n_named[name] += 1
            named[f"{name} {n_named[name]}" if n_models[name] > 1 else name] = model
    else:
        raise TypeError(
            f"{caller} takes a dict of names to models, or a list of models; got "
            f"{type(models).__name__}. For a single model there is from_estimator."
        )
    if not named:
        raise ValueError(f"{caller}: models is empty.")
    for model in named.values():
        check_recommender(model, caller)
    return named


def named_model(model: Model, name: str | None, caller: str) -> dict[str, Model]:
    """A single model by its name, or by the name of its class."""
    recommender = check_recommender(model, caller)
    return {type(recommender).__name__ if name is None else name: model}
