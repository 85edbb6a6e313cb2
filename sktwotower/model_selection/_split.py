"""Cross-validators for interactions: who and when decide, not the row alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_array

from sktwotower.utils._columns import (
    Column,
    column_position,
    id_array,
    places_from_end,
    time_numbers,
)

IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


class LastInteractionsSplit(BaseCrossValidator):
    """Hold out the last interactions of each user.

    One split: train on a user's past, test on what the same user did next. Use it where
    a model will serve the users that it was trained on. It is not a split in time
    across users: a user's training rows may be later than another user's test rows.

    Parameters
    ----------
    n_last : int, default=None
        Number of rows held out per user; a user with no more rows than that keeps one
        in train. None means 1 unless `fraction` is given.
    fraction : float, default=None
        In (0, 1). Each user's ``floor(fraction * n_rows)`` last rows are held out, so
        a user with few rows may have none. Not together with `n_last`.
    timestamp_column : str or int, default=None
        Column of X that gives the order: numbers or datetimes. Of two equal timestamps
        the later row is later. None: the order of the rows.
    user_column : str or int, default=0
        Column of X with the user ids.

    Notes
    -----
    A column is a name of a frame, or a position in a frame or an array; an int is
    always a position.

    A user never loses all rows: a user with a single row is in train only. Hence not
    every user of train is in test, but every user of test is in train.

    See Also
    --------
    sklearn.model_selection.TimeSeriesSplit : One order for all rows, no users.
    sklearn.model_selection.GroupKFold : Tests on users that are not in train.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.model_selection import LastInteractionsSplit
    >>> X = pd.DataFrame({
    ...     "user": ["ann", "bob", "ann", "ann", "cleo", "bob"],
    ...     "item": ["x", "x", "y", "z", "y", "z"],
    ...     "time": [3, 1, 1, 2, 5, 2],
    ... })
    >>> cv = LastInteractionsSplit(timestamp_column="time", user_column="user")
    >>> cv
    LastInteractionsSplit(fraction=None, n_last=None, timestamp_column='time',
               user_column='user')
    >>> train, test = next(cv.split(X))
    >>> train, test
    (array([1, 2, 3, 4]), array([0, 5]))
    """

    def __init__(
        self,
        *,
        n_last: int | None = None,
        fraction: float | None = None,
        timestamp_column: Column | None = None,
        user_column: Column = 0,
    ) -> None:
        # At construction, as scikit-learn's splitters do: they have no fit to do it in.
        _check_size(n_last, fraction)
        self.n_last = n_last
        self.fraction = fraction
        self.timestamp_column = timestamp_column
        self.user_column = user_column

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Generate the indices of the one split.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, a row each.
        y : array-like of shape (n_samples,), default=None
            Not used, but its length is checked.
        groups : object, default=None
            Ignored, with a warning; exists for API compatibility.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Row positions of the training part, ascending.
        test : ndarray of shape (n_test,)
            Row positions of the test part, ascending. The two are disjoint and together
            all rows.

        Raises
        ------
        ValueError
            If a column is not there, a user id or a timestamp is missing, timestamps are
            neither numbers nor times, or no row would be held out.
        """
        if groups is not None:
            warnings.warn(
                f"The groups parameter is ignored by {type(self).__name__}",
                UserWarning,
                stacklevel=2,
            )
        splits: Iterator[tuple[IntArray, IntArray]] = super().split(X, y)
        return splits

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits, which is 1.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored; exist for API compatibility.

        Returns
        -------
        n_splits : int
            Always 1.
        """
        return 1

    def _iter_test_masks(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[BoolArray]:
        users = _column(X, self.user_column, "user_column")
        where = f"Column {self.user_column!r} of X"
        user_codes = pd.factorize(id_array(users, what="user id", where=where))[0]
        times = None
        if self.timestamp_column is not None:
            column = _column(X, self.timestamp_column, "timestamp_column")
            times = time_numbers(column, name=self.timestamp_column)
        n_rows = np.bincount(user_codes)  # (n_users,)
        from_end = places_from_end(user_codes, times)
        test = from_end < self._n_held_out(n_rows)[user_codes]
        if not test.any():
            raise ValueError(self._empty_message(n_rows))
        yield test

    def _n_held_out(self, n_rows: IntArray) -> IntArray:
        """Return how many of a user's `n_rows` rows are held out, (n_users,)."""
        if self.fraction is None:
            return np.minimum(1 if self.n_last is None else self.n_last, n_rows - 1)
        # The product can round up to n_rows for a fraction just below 1.
        floored = np.floor(self.fraction * n_rows).astype(n_rows.dtype)
        return np.minimum(floored, n_rows - 1)

    def _empty_message(self, n_rows: IntArray) -> str:
        if not len(n_rows):
            return "The test part would be empty: X has no rows."
        if self.fraction is None:
            return (
                "The test part would be empty: no user of X has more than one row, and "
                "each keeps one in train."
            )
        return (
            f"The test part would be empty: fraction={self.fraction!r} of the "
            f"{n_rows.max()} rows of the user with most rows is less than one row."
        )


def _check_size(n_last: Any, fraction: Any) -> None:
    if n_last is not None and fraction is not None:
        raise ValueError(
            f"n_last={n_last!r} and fraction={fraction!r} exclude each other; give one."
        )
    if n_last is not None:
        if not isinstance(n_last, Integral) or isinstance(n_last, bool):
            raise TypeError(f"n_last={n_last!r} is not an integer.")
        if n_last < 1:
            raise ValueError(f"n_last={n_last!r} must be at least 1.")
    if fraction is not None:
        if not isinstance(fraction, Real) or isinstance(fraction, bool):
            raise TypeError(f"fraction={fraction!r} is not a number.")
        if not 0 < float(fraction) < 1:
            raise ValueError(
                f"fraction={fraction!r} must be between 0 and 1, both excluded."
            )


def _column(X: Any, column: Column, role: str) -> pd.Series:
    """Return the column of X that the parameter `role` names, as a Series."""
    names = list(X.columns) if hasattr(X, "columns") else None
    if names is None:
        # object: numpy would turn a list with one string into strings only.
        X = X if hasattr(X, "dtype") else np.asarray(X, dtype=object)
        X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=0)
    if names is not None and names.count(column) > 1:
        raise ValueError(
            f"{role}={column!r} names {names.count(column)} columns of X; give a position."
        )
    position = column_position(column, names or list(range(X.shape[1])), role=role)
    cells = X.iloc if hasattr(X, "iloc") else X
    return pd.Series(cells[:, position]).reset_index(drop=True)
