"""The base class of the splitters, checks of their parameters, and columns of X."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_array, indexable

from sktwotower._data.column_names import with_index
from sktwotower._data.table_ids import refuse_index_at_position
from sktwotower.utils._columns import (
    Column,
    as_pandas,
    column_position,
    id_array,
    is_frame,
    refuse_levels,
    time_numbers,
)
from sktwotower.utils._forms import refuse_lazy
from sktwotower.utils._warnings import warn

IntArray = npt.NDArray[np.intp]


class InteractionSplitter(BaseCrossValidator):
    """Base of cross-validators that read columns of X; subclasses define ``_parts``."""

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Generate the row positions of each split.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, a row each.
        y : array-like of shape (n_samples,), default=None
            Not used, but its length is checked.
        groups : object, default=None
            Ignored with a warning; exists for API compatibility.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Row positions of the training part, ascending.
        test : ndarray of shape (n_test,)
            Row positions of the test part, ascending. The two are disjoint.

        Raises
        ------
        ValueError
            If X lacks a column, an id or a timestamp is missing, timestamps are neither
            numbers nor times, or a part would be empty.
        """
        if groups is not None:
            warn(f"The groups parameter is ignored by {type(self).__name__}")
        refuse_lazy(X, where="X")
        indexable(X, y)
        return self._parts(X)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored; exist for API compatibility.

        Returns
        -------
        n_splits : int
            Number of pairs that ``split`` yields.
        """
        return self._n_splits()

    def _n_splits(self) -> int:
        return int(getattr(self, "n_splits", 1))

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        raise NotImplementedError


def check_count(name: str, value: Any, *, at_least: int = 1) -> None:
    """Raise an error unless the value is an integer of at least ``at_least``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer.")
    if value < at_least:
        raise ValueError(f"{name}={value!r} must be at least {at_least}.")


def check_fraction(name: str, value: Any) -> None:
    """Raise an error unless the value is a number between 0 and 1."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not a number.")
    if not 0 < float(value) < 1:
        raise ValueError(f"{name}={value!r} must be between 0 and 1, both excluded.")


def check_size(count_name: str, count: Any, share_name: str, share: Any) -> None:
    """Check a number of rows and a share of rows, of which at most one is given."""
    if count is not None and share is not None:
        raise ValueError(
            f"{count_name}={count!r} and {share_name}={share!r} exclude each other; give "
            "one."
        )
    if count is not None:
        check_count(count_name, count)
    if share is not None:
        check_fraction(share_name, share)


def n_of_each(n_rows: IntArray, count: int, share: float | None) -> IntArray:
    """How many of each user's ``n_rows`` to take; at least one is left, (n_users,)."""
    if share is None:
        return np.minimum(count, n_rows - 1)
    # The product can round up to n_rows for a share just below 1.
    floored = np.floor(share * n_rows).astype(n_rows.dtype)
    return np.minimum(floored, n_rows - 1)


def column_of(X: Any, column: Column, role: str) -> pd.Series:
    """The column of X that the parameter `role` names, as a Series."""
    if is_frame(X):
        X = with_index(as_pandas(X), [column])
        refuse_levels(X, where="X")
    names = list(X.columns) if hasattr(X, "columns") else None
    if names is None:
        # As objects, since NumPy would turn all values into strings if one is a string.
        X = X if hasattr(X, "dtype") else np.asarray(X, dtype=object)
        X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=0)
    if names is not None and names.count(column) > 1:
        raise ValueError(
            f"{role}={column!r} names {names.count(column)} columns of X; give a position."
        )
    position = column_position(column, names or list(range(X.shape[1])), role=role)
    cells = X.iloc if hasattr(X, "iloc") else X
    return pd.Series(cells[:, position]).reset_index(drop=True)


def codes_of(X: Any, column: Column, entity: str) -> tuple[IntArray, int]:
    """Codes of the rows' users or items by order of appearance, and how many there are."""
    ids = column_of(X, column, role := f"{entity}_column")
    refuse_index_at_position(column, ids.name, role=role)
    where = f"Column {column!r} of X"
    codes, distinct = pd.factorize(id_array(ids, what=f"{entity} id", where=where))
    return codes, len(distinct)


def times_of(X: Any, column: Column) -> tuple[npt.NDArray[Any], pd.Series]:
    """Timestamps as numbers in the same order, and the column itself."""
    times = column_of(X, column, "timestamp_column")
    return time_numbers(times, name=column), times
