"""Rows of pandas frames and series of features: selected, joined and compared by value."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.roles import Frame


def rows_at(column: pd.Series, positions: np.ndarray) -> pd.Series:
    """Values at positions, (n,); missing where the position is -1."""
    if len(positions) and positions.min() < 0:
        return column.reindex(positions).reset_index(drop=True)
    return column.iloc[positions].reset_index(drop=True)


def joined_rows(first: Frame, second: Frame) -> Any:
    """The rows of two frames, or series; an empty one does not change the dtypes."""
    parts: list[Any] = [part for part in (first, second) if len(part)]
    return pd.concat(parts, ignore_index=True)


def value_codes(column: pd.Series) -> np.ndarray:
    """Equal numbers for equal values, (n,); lists, sets, arrays and dicts by content."""
    try:
        return pd.factorize(column, use_na_sentinel=False)[0]
    except (TypeError, NotImplementedError):  # the latter for lists of Arrow
        hashable = column.astype(object).map(_hashable)
        return pd.factorize(hashable, use_na_sentinel=False)[0]


def _hashable(value: Any) -> Hashable:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_hashable(entry) for entry in value)
    if isinstance(value, dict):
        return frozenset((key, _hashable(entry)) for key, entry in value.items())
    return frozenset(value) if isinstance(value, set) else value
