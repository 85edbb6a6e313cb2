"""Hold out the last interactions of each user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sktwotower.model_selection._base import (
    IntArray,
    InteractionSplitter,
    check_size,
    codes_of,
    n_of_each,
    times_of,
)
from sktwotower.utils._columns import Column, rank_from_end


class LastInteractionsSplit(InteractionSplitter):
    """Hold out the last interactions of each user.

    One split: train on the past of each user, test on the user's next rows. Use it if the
    model will serve the users of training. It does not split in time across users:
    training rows of one user can be later than test rows of another user.

    Parameters
    ----------
    n_last : int, default=None
        Number of rows to hold out for each user; a user with no more rows than that keeps
        one in train. None: 1, unless `fraction` is given.
    fraction : float, default=None
        In (0, 1). The last ``floor(fraction * n_rows)`` rows of each user are held out,
        which is none for users with few rows. Give this or `n_last`, not both.
    timestamp_column : str or int, default=None
        Column of X that gives the order of the rows, with numbers or datetimes. Rows with
        equal timestamps keep the order of X. None: rows are in order.
    user_column : str or int, default=0
        Column of X with the user ids.

    Notes
    -----
    A column is the name of a column of a frame, or a position in a frame or an array. An
    int is always a position.

    A user with a single row is in train only. So every user of test is in train, but not
    every user of train is in test.

    See Also
    --------
    GlobalTimeSplit : One cut-off in time for all users.
    InteractionKFold : Several folds, for data without timestamps.
    train_test_split_interactions : Returns the two parts of X and y.

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
        # Checked here, as in scikit-learn's splitters, since there is no fit.
        check_size("n_last", n_last, "fraction", fraction)
        self.n_last = n_last
        self.fraction = fraction
        self.timestamp_column = timestamp_column
        self.user_column = user_column

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        users = codes_of(X, self.user_column, "user")[0]
        times = None
        if self.timestamp_column is not None:
            times = times_of(X, self.timestamp_column)[0]
        n_rows = np.bincount(users)  # (n_users,)
        from_end = rank_from_end(users, times)
        test = from_end < self._n_held_out(n_rows)[users]
        if not test.any():
            raise ValueError(self._empty_message(n_rows))
        yield np.flatnonzero(~test), np.flatnonzero(test)

    def _n_held_out(self, n_rows: IntArray) -> IntArray:
        """How many of the `n_rows` rows of each user are held out, (n_users,)."""
        return n_of_each(n_rows, 1 if self.n_last is None else self.n_last, self.fraction)

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
