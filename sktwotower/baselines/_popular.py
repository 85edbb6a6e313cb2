"""The most popular items."""

from __future__ import annotations

import datetime as dt
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.baselines._counts import CountingRecommender, Counts
from sktwotower.utils._columns import time_numbers
from sktwotower.utils._sklearn import Interval, fit_context
from sktwotower.utils._times import time_kind


class PopularRecommender(CountingRecommender):
    """Recommends the most popular items, to all users the same except for seen items.

    The score of an item is its number of positive rows (or their total weight). Use it as
    the baseline that every model must beat.

    Parameters
    ----------
    user_column, item_column : str or int, default=0, 1
        Columns of X: names, or positions.
    timestamp_column : str or int, default=None
        Column of X with numbers or datetimes, for the `window`.
    window : float or timedelta, default=None
        Count only rows at most this long before the latest positive row. Give a duration
        if timestamps are datetimes, and a number in their unit if they are numbers. Both
        ends are included. None: all rows. Older items score 0, and stay in the catalogue.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids.
    seen_ : csr_matrix of shape (n_users, n_items), bool
        Pairs of the training data.
    item_counts_ : ndarray of shape (n_items,)
        Score of each item.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, if X has any.

    See Also
    --------
    EASERecommender : A strong linear reference.
    ItemKNNRecommender : Personal recommendations from item neighbours.

    Examples
    --------
    >>> from sktwotower.baselines import PopularRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "tea"]]
    >>> item_ids, scores = PopularRecommender().fit(X).recommend(
    ...     ["ann", "dan"], n_recommendations=1)
    >>> item_ids.tolist()
    [['milk'], ['tea']]
    """

    _parameter_constraints: dict = {
        **CountingRecommender._parameter_constraints,
        "timestamp_column": [str, Integral, None],
        "window": [
            dt.timedelta,
            np.timedelta64,
            Interval(Real, 0, None, closed="left"),
            None,
        ],
    }

    def __init__(
        self,
        *,
        user_column: str | int = 0,
        item_column: str | int = 1,
        timestamp_column: str | int | None = None,
        window: float | dt.timedelta | np.timedelta64 | None = None,
    ) -> None:
        self.user_column = user_column
        self.item_column = item_column
        self.timestamp_column = timestamp_column
        self.window = window

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> PopularRecommender:
        """Count the positives of each item.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions.
        y : array-like of shape (n_samples,), default=None
            Rows with y > 0 count; None: all.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : PopularRecommender
            Fitted.
        """
        rows, roles, interactions = self._read_training(
            X, y, sample_weight, timestamp_column=self.timestamp_column
        )
        counted = interactions.positive
        if self.window is not None:
            times = interactions.times
            if times is None:
                raise ValueError(
                    f"window={self.window!r} needs timestamp_column; it is None."
                )
            column = pd.Series(roles.column(rows, "timestamp_column"))
            counted = counted & (times[counted].max() - times <= self._window(column))
        self._state = Counts.of(roles, interactions, counted)
        return self

    @property
    def item_counts_(self) -> np.ndarray:
        """Score of each item, (n_items,)."""
        return self._evaluation_source().popularity[1:]

    def _window(self, column: pd.Series) -> Any:
        """The window in the unit of checked timestamps."""
        is_duration = isinstance(self.window, dt.timedelta | np.timedelta64)
        if is_duration == (time_kind(column) == "number"):
            wanted = "a number" if is_duration else "a duration, such as a timedelta"
            raise ValueError(
                f"window={self.window!r} does not fit the timestamps in column "
                f"{self.timestamp_column!r}, of dtype {column.dtype}; give {wanted}."
            )
        if not is_duration:
            return self.window
        window = time_numbers(pd.Series([self.window]), name="window")[0]
        if window < 0:
            raise ValueError(f"window={self.window!r} must not be negative.")
        return window
