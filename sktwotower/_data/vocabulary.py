"""Codes of user and item ids."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._ids import (
    as_index,
    joined,
    kinds_of,
    positions_in,
    signed_where_possible,
)

Ids = np.ndarray | pd.Categorical


class Vocabulary:
    """Codes of ids.

    Codes are 1, 2, ... in the order of the ids; 0 means unknown. A code never changes
    when ids are added. Integers stay integers: int64, else uint64, else objects.

    Parameters
    ----------
    ids : array-like or Categorical of shape (n,), optional
        Ids in the order of their first appearance; repeated ids count once.

    Attributes
    ----------
    kinds : dict
        The kinds of ids, with the first id of each.
    """

    def __init__(self, ids: ArrayLike | pd.Categorical = ()) -> None:
        distinct = _distinct(ids)
        self._index = as_index(distinct)
        self.kinds = kinds_of(distinct)

    def __len__(self) -> int:
        return len(self._index)

    # skops stores arrays, and no index of pandas.
    def __getstate__(self) -> dict[str, np.ndarray]:
        return {"ids": self.ids}

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        self._index = as_index(state["ids"])
        self.kinds = kinds_of(state["ids"])

    @property
    def ids(self) -> np.ndarray:
        """Ids in the order of their codes, (n,)."""
        return self._index.to_numpy()

    def n_bytes(self) -> int:
        """Size of the ids and of the table that finds them."""
        return int(self._index.memory_usage(deep=True))

    def codes(self, ids: Ids) -> np.ndarray:
        """Codes of ids, (n,) int32; 0 for unknown ids."""
        if isinstance(ids, pd.Categorical):
            return column_store.take(self.codes(ids.categories.to_numpy()), ids.codes)
        return positions_in(self._index, ids).astype(np.int32) + 1

    def extend(self, ids: Ids) -> Vocabulary:
        """A vocabulary with further ids, whose codes come last."""
        new = _distinct(ids[self.codes(ids) == 0])
        if not len(self):
            return Vocabulary(new)
        longer = Vocabulary()
        longer._index = joined(self._index, new) if len(new) else self._index
        longer.kinds = kinds_of(new) | self.kinds
        return longer


def _distinct(ids: ArrayLike | pd.Categorical) -> np.ndarray:
    """Distinct ids in the order of their first appearance."""
    if isinstance(ids, pd.Categorical):
        return ids.categories.to_numpy()[distinct_codes(ids.codes)]
    distinct = pd.unique(np.asarray(ids))
    return signed_where_possible(distinct) if distinct.dtype.kind in "iu" else distinct


def distinct_codes(codes: np.ndarray) -> np.ndarray:
    """Distinct codes in the order of their first appearance."""
    distinct = np.empty(0, dtype=codes.dtype)
    for block in column_store.blocks(len(codes)):
        distinct = pd.unique(np.concatenate([distinct, pd.unique(codes[block])]))
    return distinct
