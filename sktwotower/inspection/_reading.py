"""Interactions for Displays, read as a scorer reads them."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.inspection._plotting import check_recommender
from sktwotower.metrics._scorer import read_rows
from sktwotower.metrics._sources import Model, Source


def read_positives(
    model: Model,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
    *,
    caller: str,
) -> tuple[Source, Interactions]:
    """The source inside a model, and the positive rows of X."""
    source, interactions = read_relevant(model, X, y, sample_weight, caller=caller)
    return source, interactions.take(interactions.positive)


def read_relevant(
    model: Model,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
    *,
    caller: str,
) -> tuple[Source, Interactions]:
    """The source inside a model, and the rows of X, some of which are positive."""
    check_recommender(model, caller)
    source, _, interactions = read_rows(
        model, X, y, sample_weight, user_column=None, item_column=None, owner=caller
    )
    if not interactions.positive.any():
        raise ValueError(
            f"{caller} has nothing to look at: no row of X is relevant (y > 0)."
        )
    return source, interactions
