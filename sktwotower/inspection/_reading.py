"""Interactions as a scorer reads them, for Displays."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from sktwotower._data.interactions import Interactions
from sktwotower.inspection._plotting import check_recommender
from sktwotower.metrics._scorer import read_rows


def read_for(
    model: Any,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    *,
    caller: str,
) -> tuple[Any, Interactions]:
    """The recommender inside ``model``, and the positive rows of X as it reads them."""
    check_recommender(model, caller)
    recommender, _, interactions = read_rows(
        model, X, y, sample_weight, user_column=None, item_column=None, owner=caller
    )
    if not interactions.positive.any():
        raise ValueError(
            f"{caller} has nothing to look at: no row of X is relevant (y > 0)."
        )
    return recommender, interactions.take(interactions.positive)
