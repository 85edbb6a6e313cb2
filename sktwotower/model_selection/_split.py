"""Cross-validators for interactions: who and when decide, not the row alone."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_array

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
        timestamp_column: Hashable | None = None,
        user_column: Hashable = 0,
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
            If a column is not there, a user id or a timestamp is missing, or no row
            would be held out.
        TypeError
            If the timestamps are neither numbers nor datetimes.
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
        user_codes = _user_codes(X, self.user_column)
        timestamps = None
        if self.timestamp_column is not None:
            timestamps = _timestamps(X, self.timestamp_column)
        n_rows = np.bincount(user_codes)  # (n_users,)
        from_end = _place_from_end(user_codes, timestamps)
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


def _place_from_end(user_codes: IntArray, timestamps: npt.NDArray[Any] | None) -> IntArray:
    """Return each row's place in its user's history, 0 for the user's last row.

    Equal timestamps are in row order; so is everything without timestamps.
    """
    if timestamps is None:
        order = np.argsort(user_codes, kind="stable")
    else:
        order = np.lexsort((timestamps, user_codes))  # stable; the last key is the first
    n_rows = np.bincount(user_codes)
    ends = np.repeat(np.cumsum(n_rows), n_rows)
    from_end = np.empty_like(order)
    from_end[order] = ends - 1 - np.arange(len(order))
    return from_end


def _user_codes(X: Any, user_column: Hashable) -> IntArray:
    """Return a dense code for each row's user, (n_samples,)."""
    users = _column(X, user_column, "user_column")
    _refuse_missing(users, "user id")
    codes: IntArray = pd.factorize(users)[0]
    return codes


def _timestamps(X: Any, timestamp_column: Hashable) -> npt.NDArray[Any]:
    """Return each row's timestamp as a number that sorts as the timestamp does."""
    column = _column(X, timestamp_column, "timestamp_column")
    _refuse_missing(column, "timestamp")
    if column.dtype == object:
        column = _parse_objects(column)
    if column.dtype.kind in "mM":
        # Integers, not floats: nanoseconds since 1970 do not fit in 53 bits.
        return column.astype("int64").to_numpy()
    if column.dtype.kind in "iuf":
        return column.to_numpy()
    types = ", ".join(sorted({type(value).__name__ for value in column}))
    raise TypeError(
        f"timestamp_column={timestamp_column!r} holds values of type {types}; "
        "timestamps are numbers or datetimes: convert the column, for example with "
        "pandas.to_datetime."
    )


def _parse_objects(column: pd.Series) -> pd.Series:
    """Give an object column of numbers or of datetimes its proper type."""
    kind = pd.api.types.infer_dtype(column)
    if kind in ("integer", "floating", "mixed-integer-float"):
        return pd.to_numeric(column)
    if kind in ("datetime", "datetime64", "date"):
        return pd.to_datetime(column, utc=True)  # utc: the rows may be in several zones
    return column


def _refuse_missing(column: pd.Series, what: str) -> None:
    rows = np.flatnonzero(column.isna())
    if len(rows):
        n_rows = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        raise ValueError(
            f"X has {n_rows} with a missing {what} (first at row {rows[0]}); "
            "drop them or fill them before the split."
        )


def _column(X: Any, column: Hashable, role: str) -> pd.Series:
    """Return the column of X that the parameter `role` names, as a Series."""
    names = list(X.columns) if hasattr(X, "columns") else None
    if names is None:
        # object: numpy would turn a list with one string into strings only.
        X = X if hasattr(X, "dtype") else np.asarray(X, dtype=object)
        X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=0)
    position = _position(names, X.shape[1], column, role)
    cells = X.iloc if hasattr(X, "iloc") else X
    return pd.Series(cells[:, position]).reset_index(drop=True)


def _position(names: list[Any] | None, n_columns: int, column: Any, role: str) -> int:
    if isinstance(column, Integral) and not isinstance(column, bool):
        if -n_columns <= int(column) < n_columns:
            return int(column)
        raise ValueError(
            f"{role}={column!r} is not a column of X; the positions go from 0 to "
            f"{n_columns - 1}."
        )
    if names is None:
        raise ValueError(
            f"{role}={column!r} needs an X with column names, and X is an array; "
            "give a position."
        )
    positions = [place for place, name in enumerate(names) if name == column]
    if not positions:
        raise ValueError(
            f"{role}={column!r} is not a column of X; the columns are {names}."
        )
    if len(positions) > 1:
        raise ValueError(
            f"{role}={column!r} names {len(positions)} columns of X; give a position."
        )
    return positions[0]
