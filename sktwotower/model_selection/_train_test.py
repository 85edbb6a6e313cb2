"""One split of interactions into train and test."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, indexable

from sktwotower.model_selection._base import (
    IntArray,
    check_count,
    check_fraction,
    codes_of,
    column_of,
    n_of_each,
)
from sktwotower.model_selection._split import LastInteractionsSplit
from sktwotower.model_selection._time import GlobalTimeSplit
from sktwotower.utils._columns import Column, rank_from_end
from sktwotower.utils._forms import refuse_lazy

_METHODS = ("last", "per_user", "random", "time")


def train_test_split_interactions(
    X: Any,
    y: ArrayLike | None = None,
    *,
    method: Any = "last",
    test_size: Any = 0.2,
    user_column: Column = 0,
    item_column: Column = 1,
    timestamp_column: Column | None = None,
    drop_unknown: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> list:
    """Split interactions into train and test.

    Use it for a single split; try the default first, which tests the last rows of each
    user. For cross-validation and searches use the splitters.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions, a row each.
    y : array-like of shape (n_samples,), default=None
        Split in the same way if it is given.
    method : {"last", "per_user", "random", "time"} or cross-validator, default="last"
        The rows of test:

        - ``"last"``: the last rows of each user, as in :class:`LastInteractionsSplit`.
        - ``"per_user"``: random rows of each user.
        - ``"random"``: random rows.
        - ``"time"``: the latest rows, as in :class:`GlobalTimeSplit`.
        - a cross-validator: its first split; `test_size`, `timestamp_column` and
          `random_state` are then ignored.
    test_size : float, int or timedelta, default=0.2
        A share, in (0, 1), or a number of rows: of each user for ``"last"`` and
        ``"per_user"``, of all rows for ``"random"`` and ``"time"``. ``"time"`` also takes
        a duration.
    user_column, item_column : str or int, default=0, 1
        Columns of X with the ids. Items are only read for `drop_unknown`.
    timestamp_column : str or int, default=None
        Column of X that gives the order of the rows. ``"time"`` needs it; for ``"last"``
        None means that rows are in order.
    drop_unknown : bool, default=False
        Leave out rows of test whose user or item is not in train.
    random_state : int, RandomState instance or None, default=None
        Draws the rows for ``"per_user"`` and ``"random"``.

    Returns
    -------
    parts : list
        ``[X_train, X_test]``, or ``[X_train, X_test, y_train, y_test]`` with `y`. Rows keep
        the order of X.

    Raises
    ------
    ValueError
        If the method is unknown, or the splitter refuses X or a parameter.

    See Also
    --------
    LastInteractionsSplit : A splitter for the ``cv`` of searches and cross-validation.
    sklearn.model_selection.train_test_split : Splits random rows of several arrays.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.model_selection import train_test_split_interactions
    >>> X = pd.DataFrame({
    ...     "user": ["ann", "bob", "ann", "ann", "bob"],
    ...     "item": ["x", "x", "y", "z", "z"],
    ... })
    >>> train, test = train_test_split_interactions(X, test_size=1)
    >>> test
      user item
    3  ann    z
    4  bob    z
    """
    refuse_lazy(X, where="X")
    arrays = indexable(X) if y is None else indexable(X, y)
    if hasattr(method, "split") and not isinstance(method, str):
        train, test = next(iter(method.split(X, y)))
    elif method not in _METHODS:
        raise ValueError(
            f"method={method!r} must be one of {list(_METHODS)}, or a cross-validator."
        )
    elif method == "time":
        if timestamp_column is None:
            raise ValueError("method='time' needs timestamp_column; it is None.")
        cv = GlobalTimeSplit(1, test_size=test_size, timestamp_column=timestamp_column)
        train, test = next(cv.split(X))
    else:
        is_count = isinstance(test_size, Integral)
        (check_count if is_count else check_fraction)("test_size", test_size)
        if method == "last":
            cv = LastInteractionsSplit(
                n_last=test_size if is_count else None,
                fraction=None if is_count else test_size,
                timestamp_column=timestamp_column,
                user_column=user_column,
            )
            train, test = next(cv.split(X))
        elif method == "random":
            rows = np.arange(len(column_of(X, user_column, "user_column")))
            train, test = train_test_split(
                rows, test_size=test_size, random_state=random_state
            )
        else:
            train, test = _per_user(X, test_size, is_count, user_column, random_state)
    train, test = np.sort(train), np.sort(test)
    if drop_unknown:
        for column, entity in ((user_column, "user"), (item_column, "item")):
            codes = codes_of(X, column, entity)[0]
            test = test[np.isin(codes[test], codes[train])]
    return [_take(array, rows) for array in arrays for rows in (train, test)]


def _per_user(
    X: Any, test_size: Any, is_count: bool, user_column: Column, random_state: Any
) -> tuple[IntArray, IntArray]:
    users, n_users = codes_of(X, user_column, "user")
    n_rows = np.bincount(users, minlength=n_users)
    n_tested = n_of_each(n_rows, test_size, None if is_count else test_size)
    random_order = check_random_state(random_state).permutation(len(users))
    test = rank_from_end(users, random_order) < n_tested[users]
    if not test.any():
        raise ValueError(
            f"The test part would be empty: test_size={test_size!r} of no user's rows is a "
            "row, and each user keeps one in train."
        )
    return np.flatnonzero(~test), np.flatnonzero(test)


def _take(array: Any, rows: IntArray) -> Any:
    """Some rows of a frame, array or list, in a container of the same kind."""
    if hasattr(array, "iloc"):
        return array.iloc[rows]
    if isinstance(array, list | tuple):
        return [array[row] for row in rows]
    if hasattr(array, "schema") and hasattr(array, "take"):  # a table of pyarrow
        return array.take(rows)
    return array[rows]
