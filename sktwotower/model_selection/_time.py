"""Hold out all rows after a cut-off in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sktwotower.model_selection._base import (
    IntArray,
    InteractionSplitter,
    check_count,
    check_fraction,
    times_of,
)
from sktwotower.utils._columns import Column, time_numbers
from sktwotower.utils._times import time_kind

_DURATIONS = dt.timedelta | np.timedelta64  # a pandas.Timedelta is the first


class GlobalTimeSplit(InteractionSplitter):
    """Train on all rows before a cut-off in time, test on the rows after it.

    Use it to estimate the quality in production: no row of train is later than a row of
    test, whatever their users are. Users and items that first appear after the cut-off are
    in test and not in train. With several cut-offs each part of test is the time between
    two of them.

    Parameters
    ----------
    n_splits : int, default=3
        Number of cut-offs; ignored with `cutoffs`.
    test_size : int, float or timedelta, default=None
        Size of each test part, counted from the end: a number of rows; a share of the
        rows, in (0, 1); or a duration (``datetime.timedelta``, ``pandas.Timedelta``,
        ``numpy.timedelta64``), which needs timestamps that are datetimes or durations.
        None: ``n_samples // (n_splits + 1)`` rows.
    cutoffs : list of timestamps, default=None
        The cut-offs, in any order: numbers, or datetimes in any form that pandas reads.
        They are taken as UTC if only the timestamps of X have a time zone. Give these or
        `test_size`, not both.
    timestamp_column : str or int, default="timestamp"
        Column of X with numbers or datetimes.

    Notes
    -----
    Train holds all rows before the cut-off, so it grows from split to split. Test holds
    the rows from the cut-off up to the next cut-off or the end of X. Rows with the same
    timestamp are always in the same part, so test parts counted in rows can have a few
    rows more or fewer. Durations are counted back from the latest row of X: with 7 days,
    the last cut-off is 7 days before it.

    See Also
    --------
    LastInteractionsSplit : Holds out the last rows of each user, whatever their time is.
    sklearn.model_selection.TimeSeriesSplit : Splits by the order of the rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.model_selection import GlobalTimeSplit
    >>> X = pd.DataFrame({
    ...     "user": ["ann", "bob", "ann", "cleo", "bob", "ann"],
    ...     "item": ["x", "x", "y", "y", "z", "z"],
    ...     "day": [5, 1, 2, 3, 4, 6],
    ... })
    >>> cv = GlobalTimeSplit(2, test_size=2, timestamp_column="day")
    >>> for train, test in cv.split(X):
    ...     print(X["day"][train].tolist(), X["day"][test].tolist())
    [1, 2] [3, 4]
    [1, 2, 3, 4] [5, 6]
    >>> cv = GlobalTimeSplit(cutoffs=[4], timestamp_column="day")
    >>> next(cv.split(X))
    (array([1, 2, 3]), array([0, 4, 5]))
    """

    def __init__(
        self,
        n_splits: int = 3,
        *,
        test_size: Any = None,
        cutoffs: Any = None,
        timestamp_column: Column = "timestamp",
    ) -> None:
        check_count("n_splits", n_splits)
        if cutoffs is not None:
            if test_size is not None:
                raise ValueError(
                    f"test_size={test_size!r} and cutoffs={cutoffs!r} exclude each other; "
                    "give one."
                )
            if np.ndim(cutoffs) != 1 or not len(cutoffs):
                raise ValueError(f"cutoffs={cutoffs!r} must be a list of timestamps.")
        if isinstance(test_size, _DURATIONS):
            if not pd.Timedelta(test_size) > pd.Timedelta(0):
                raise ValueError(f"test_size={test_size!r} must be longer than nothing.")
        elif isinstance(test_size, Integral):
            check_count("test_size", test_size)
        elif test_size is not None:
            check_fraction("test_size", test_size)
        self.n_splits = n_splits
        self.test_size = test_size
        self.cutoffs = cutoffs
        self.timestamp_column = timestamp_column

    def _n_splits(self) -> int:
        return int(self.n_splits) if self.cutoffs is None else len(set(self.cutoffs))

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        times, column = times_of(X, self.timestamp_column)
        if not len(times):
            raise ValueError("X has no rows to split.")
        cutoffs = self._parsed_cutoffs(column)
        if cutoffs is None:
            cutoffs = self._counted_cutoffs(times, column)
        past = np.searchsorted(np.sort(times), cutoffs)  # rows before each cut-off
        sizes = np.diff([0, *past, len(times)])  # of the first train, of every test
        if not sizes.all():
            raise ValueError(self._empty_message(sizes, len(np.unique(times))))
        for since, until in pairwise([*cutoffs, None]):
            test = times >= since
            if until is not None:
                test &= times < until
            yield np.flatnonzero(times < since), np.flatnonzero(test)

    def _parsed_cutoffs(self, column: pd.Series) -> npt.NDArray[Any] | None:
        if self.cutoffs is None:
            return None
        cutoffs = pd.Series(list(self.cutoffs))
        kind, reason = time_kind(column), f"of dtype {column.dtype}"
        fits = pd.api.types.is_numeric_dtype(cutoffs) == (kind == "number")
        try:
            if fits and kind == "datetime":
                cutoffs = pd.to_datetime(cutoffs, utc=True)
            elif fits and kind == "duration":
                cutoffs = pd.to_timedelta(cutoffs)
        except (TypeError, ValueError) as error:
            fits, reason = False, str(error)
        if not fits or cutoffs.isna().any():
            raise ValueError(
                f"cutoffs={self.cutoffs!r} cannot be compared with the timestamps in "
                f"column {self.timestamp_column!r} ({reason})."
            )
        return np.unique(time_numbers(cutoffs, name="cutoffs"))

    def _counted_cutoffs(
        self, times: npt.NDArray[Any], column: pd.Series
    ) -> npt.NDArray[Any]:
        n_parts = np.arange(self.n_splits, 0, -1)  # test parts after each cut-off
        n = len(times)
        if isinstance(self.test_size, _DURATIONS):
            if time_kind(column) == "number":
                raise ValueError(
                    f"test_size={self.test_size!r} is a duration, but the timestamps in "
                    f"column {self.timestamp_column!r} are numbers; give a number of rows, "
                    "a share, or cutoffs."
                )
            microseconds = time_numbers(pd.Series([self.test_size]), name="test_size")
            return times.max() - n_parts * microseconds[0]
        if self.test_size is None:
            size = n // (self.n_splits + 1)
        elif isinstance(self.test_size, Integral):
            size = int(self.test_size)
        else:
            size = int(np.floor(self.test_size * n))
        if size < 1 or size * self.n_splits >= n:
            what = "" if self.test_size is None else f" of test_size={self.test_size!r}"
            raise ValueError(
                f"n_splits={self.n_splits}{what} is too much for the {n} rows of X: there "
                "must be a row in each test part and one in train."
            )
        return np.sort(times)[n - n_parts * size]

    def _empty_message(self, sizes: npt.NDArray[Any], n_times: int) -> str:
        if self.cutoffs is not None:
            which = "train" if sizes[0] == 0 else "a test"
            return (
                f"With cutoffs={self.cutoffs!r} {which} part would be empty: there must "
                "be a row before the first, from the last on, and between any two."
            )
        if sizes[0] == 0:
            return (
                f"n_splits={self.n_splits} with test_size={self.test_size!r} is too much: "
                f"no row is before the first cut-off. X has {n_times} distinct timestamps."
            )
        return (
            f"n_splits={self.n_splits} with test_size={self.test_size!r} leaves a test "
            f"part empty: X has {n_times} distinct timestamps, and rows of one timestamp "
            "stay together."
        )
