"""Quotas of recommendations by a feature of the items."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.entities import Entities
from sktwotower._data.feature_frames import value_codes
from sktwotower._data.pair_forms import has_lists
from sktwotower._search.greedy import Quota
from sktwotower.utils._columns import Column
from sktwotower.utils._once import once
from sktwotower.utils._spelling import did_you_mean


def read_quotas(
    max_per_group: Any,
    items: Entities,
    codes: np.ndarray,
    features: pd.DataFrame | None = None,
) -> tuple[Quota, ...]:
    """The quotas of candidates.

    Parameters
    ----------
    max_per_group : dict or None
        The largest number of items of one value in an answer, by the name of a feature.
    items : Entities
        Known items and their features.
    codes : ndarray of shape (n_candidates,)
        Codes of the candidates; 0 for unknown ones.
    features : DataFrame of n_candidates rows, optional
        Features that replace those of training.

    Raises
    ------
    TypeError
        If ``max_per_group`` is no dict.
    ValueError
        For a column that is no feature of items or has several values for an item, and
        for a number below 1.
    """
    if max_per_group is None:
        return ()
    if not isinstance(max_per_group, Mapping):
        raise TypeError(
            "max_per_group must be a dict of numbers by the name of an item feature, such "
            f"as {{'brand': 2}}; got {max_per_group!r}."
        )
    quotas = []
    for name, limit in max_per_group.items():
        _check_column(name, items)
        if not isinstance(limit, Integral) or isinstance(limit, bool) or limit < 1:
            raise ValueError(
                f"max_per_group[{name!r}] must be an integer of at least 1; got {limit!r}."
            )
        if features is None:
            groups = _known_groups(items, name)[codes]
        else:
            groups = _groups(items.column(name, codes, features))
        quotas.append(Quota(groups, int(limit)))
    return tuple(quotas)


@once
def _known_groups(items: Entities, name: Column) -> np.ndarray:
    """The group of each item code, (n_items + 1,)."""
    return _groups(items.column(name, np.arange(len(items) + 1)))


def _groups(values: pd.Series) -> np.ndarray:
    """Equal numbers for equal values, (n,); -1 for missing ones."""
    missing = values.isna()
    if has_lists(values[~missing]):
        raise ValueError(_several_values(values.name))
    return np.where(missing, -1, value_codes(values))


def _check_column(name: Any, items: Entities) -> None:
    """Raise ValueError for a column that does not put each item in one group."""
    if not items.columns:
        raise ValueError(
            f"max_per_group={name!r} needs item features, and the model has none: give "
            "item_table or item_features to fit."
        )
    if name not in items.columns:
        raise ValueError(
            f"max_per_group: the items have no feature {name!r}; their features are "
            f"{items.columns}.{did_you_mean(name, items.columns)}"
        )
    kinds = getattr(items.encoder, "kinds_", {})
    if kinds.get(name) == "multi_hot":
        raise ValueError(_several_values(name))


def _several_values(name: Any) -> str:
    return (
        f"max_per_group: feature {name!r} has several values for an item, and a quota "
        "needs one. Give the items a column with one of them, such as the first."
    )
