"""The forms in which data comes, for messages that say what was given and what to do."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, KeysView, Mapping, Set, ValuesView
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse


def refuse_lazy(X: Any, *, where: str) -> None:
    """Raise TypeError if X is a polars LazyFrame, which has no rows yet."""
    if hasattr(X, "collect") and hasattr(X, "collect_schema"):
        raise TypeError(
            f"{where} is a polars {type(X).__name__}, which has no rows yet; call "
            ".collect() on it first."
        )


def is_scalar(X: Any) -> bool:
    """Whether X is a single value: a number, a string, bytes, None or a moment."""
    return bool(pd.api.types.is_scalar(X))


def is_empty(X: Any) -> bool:
    """Whether X has no rows, or no entries; a single value has no length."""
    if isinstance(X, str | bytes) or issparse(X) or not hasattr(X, "__len__"):
        return False
    return X.size == 0 if isinstance(X, np.ndarray) else len(X) == 0


def as_listed(X: Any) -> Any:
    """A set, a view of a dict or an iterator as a list; others as they are."""
    if isinstance(X, Set | KeysView | ValuesView | Iterator):
        return list(X)
    return X


def given(X: Any) -> str:
    """What X is, for messages."""
    X = _of_no_dimension(X)
    if X is None:
        return "None"
    if isinstance(X, str):
        return f"the string {X!r}"
    if is_scalar(X):
        return f"the single value {X!r}"
    if np.ndim(X):
        return f"a {np.ndim(X)}-D {type(X).__name__}"
    article = "an" if type(X).__name__[0].lower() in "aeio" else "a"
    return f"{article} {type(X).__name__}"


def how_to_list(X: Any) -> str:
    """What to give instead of X where a list of ids is wanted."""
    X = _of_no_dimension(X)
    if X is None:
        return "Give a list of ids."
    if is_scalar(X):
        return f"For a single one give a list of one: [{X!r}]."
    if isinstance(X, Mapping):
        return "Give a list of ids, for example list(...) of its keys."
    if isinstance(as_listed(X), list):
        return "Give a list: list(...), or sorted(...) of a set, which has no order."
    return "For a single one give a list of one."


def how_to_give_rows(X: Any) -> str:
    """What to give instead of X where rows are wanted."""
    if isinstance(X, Mapping):
        return "Make a frame of its columns: pandas.DataFrame(...)."
    if np.ndim(X) == 1 and any(np.ndim(row) == 1 for row in X):
        return "The rows are not all of one length."
    if np.ndim(X) == 1:
        return "Reshape your data: for a single row give a list of one row."
    if isinstance(as_listed(X), list):
        return "Give a list: list(...)."
    return "Give one row for each interaction."


def _of_no_dimension(X: Any) -> Any:
    """The value of an array of no dimension; others as they are."""
    return X.item() if isinstance(X, np.ndarray) and X.ndim == 0 else X


def check_bool(name: str, value: Any) -> None:
    """Raise TypeError for a flag that is not a bool: ``"no"`` would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is neither True nor False.")


def check_number(
    name: str, value: Any, low: float, high: float = sys.float_info.max
) -> float:
    """A number as a float; raise TypeError if it is none, ValueError if outside."""
    at_most = "" if high == sys.float_info.max else f" and at most {high:g}"
    wanted = f"{name} must be a finite number of at least {low:g}{at_most}; got {value!r}."
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(wanted)
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not low <= number <= high:
        raise ValueError(wanted)
    return number
