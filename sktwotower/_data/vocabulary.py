"""Ids and codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.utils import _column_store as column_store

Ids = np.ndarray | pd.Categorical


class Vocabulary:
    """Ids to dense codes and back. Code 0 is unknown; codes are append-only.

    Parameters
    ----------
    ids : array-like or Categorical of shape (n,), optional
        First ids; repeated ones count once, in the order of their first appearance.
    """

    def __init__(self, ids: ArrayLike | pd.Categorical = ()) -> None:
        self._index = pd.Index(_distinct(ids))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def ids(self) -> np.ndarray:
        """Ids of the codes 1, 2, ..., (n,)."""
        return self._index.to_numpy()

    def codes(self, ids: Ids) -> np.ndarray:
        """Codes of ids, (n,) int32; 0 for those that are not known."""
        if isinstance(ids, pd.Categorical):
            return column_store.take(self.codes(ids.categories.to_numpy()), ids.codes)
        return self._index.get_indexer(pd.Index(ids)).astype(np.int32) + 1

    def extend(self, ids: Ids) -> Vocabulary:
        """A vocabulary that also has these ids; known codes stay."""
        new = _distinct(ids[self.codes(ids) == 0])
        longer = Vocabulary()
        longer._index = self._index.append(pd.Index(new)) if len(new) else self._index
        return longer


def _distinct(ids: ArrayLike | pd.Categorical) -> np.ndarray:
    """Each id once, in the order of their first appearance."""
    if isinstance(ids, pd.Categorical):
        codes = np.empty(0, dtype=ids.codes.dtype)
        for block in column_store.blocks(len(ids)):
            codes = pd.unique(np.concatenate([codes, pd.unique(ids.codes[block])]))
        return ids.categories.to_numpy()[codes]
    return pd.unique(np.asarray(ids))
