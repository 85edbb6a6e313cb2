"""Folds of rows, of users and of items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sktwotower.model_selection._base import (
    IntArray,
    InteractionSplitter,
    check_count,
    check_size,
    codes_of,
    n_of_each,
    times_of,
)
from sktwotower.utils._columns import Column, rank_from_end


class InteractionKFold(InteractionSplitter):
    """Folds of rows, with the rows of each user spread evenly at random.

    Use it for data without timestamps, if the model will serve the users of training. Any
    two folds differ by at most one row of each user, and by at most one row altogether.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    random_state : int, RandomState instance or None, default=None
        Draws the rows of each fold. An int gives the same folds at every call.
    user_column : str or int, default=0
        Column of X with the user ids.

    Notes
    -----
    A user with a single row is unknown in the fold that tests it. Rows of train can be
    later than rows of test; use :class:`LastInteractionsSplit` to test the next rows of
    each user.

    See Also
    --------
    LastInteractionsSplit : Holds out the last rows of each user.
    sklearn.model_selection.KFold : Spreads rows whatever their users are.

    Examples
    --------
    >>> from sktwotower.model_selection import InteractionKFold
    >>> X = [["ann", "x"], ["ann", "y"], ["bob", "x"], ["ann", "z"], ["bob", "y"]]
    >>> for train, test in InteractionKFold(2, random_state=0).split(X):
    ...     print([X[row][0] for row in test])
    ['ann', 'ann', 'bob']
    ['ann', 'bob']
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        random_state: int | np.random.RandomState | None = None,
        user_column: Column = 0,
    ) -> None:
        check_count("n_splits", n_splits, at_least=2)
        self.n_splits = n_splits
        self.random_state = random_state
        self.user_column = user_column

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        users, n_users = codes_of(X, self.user_column, "user")
        _check_enough(self.n_splits, len(users), "rows")
        rng = check_random_state(self.random_state)
        # Users in random order, and each user's rows in random order, go round the folds.
        user_ranks = rng.permutation(n_users)[users]
        order = np.lexsort((rng.random_sample(len(users)), user_ranks))
        fold = np.empty(len(users), dtype=np.intp)
        fold[order] = np.arange(len(users)) % self.n_splits
        for k in range(self.n_splits):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


class UserKFold(InteractionSplitter):
    """Folds of users: the users of test are not in train.

    Use it to measure how good a model is for users that it was not trained on. By default
    all rows of a user are tested. With `n_history` or `history_fraction` the first rows
    are held back as the user's history: they are in neither train nor test, and are meant
    for ``recommend(..., history=...)``; see :meth:`split_with_history`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds. Their numbers of users differ by at most one.
    n_history : int, default=None
        Number of first rows of each test user that are the history; at least one row is
        tested.
    history_fraction : float, default=None
        In (0, 1). The first ``floor(history_fraction * n_rows)`` rows of each test user are
        the history. Give this or `n_history`, not both.
    history_in_train : bool, default=False
        Put the history into train, for models that can only rank for users of training.
        The users of test are then known by these rows.
    timestamp_column : str or int, default=None
        Column of X that gives the order of the rows; None: rows are in order.
    random_state : int, RandomState instance or None, default=None
        Draws the users of each fold. An int gives the same folds at every call.
    user_column : str or int, default=0
        Column of X with the user ids.

    See Also
    --------
    ColdItemSplit : Folds of items.
    sklearn.model_selection.GroupKFold : Takes the users as `groups`; has no history.

    Examples
    --------
    >>> from sktwotower.model_selection import UserKFold
    >>> X = [["ann", "x"], ["bob", "x"], ["ann", "y"], ["bob", "y"], ["ann", "z"]]
    >>> cv = UserKFold(2, n_history=1, random_state=0)
    >>> for train, history, test in cv.split_with_history(X):
    ...     print(train, history, test)
    [0 2 4] [1] [3]
    [1 3] [0] [2 4]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        n_history: int | None = None,
        history_fraction: float | None = None,
        history_in_train: bool = False,
        timestamp_column: Column | None = None,
        random_state: int | np.random.RandomState | None = None,
        user_column: Column = 0,
    ) -> None:
        check_count("n_splits", n_splits, at_least=2)
        check_size("n_history", n_history, "history_fraction", history_fraction)
        if history_in_train and n_history is None and history_fraction is None:
            raise ValueError(
                "history_in_train=True needs n_history or history_fraction: there is no "
                "history without them."
            )
        self.n_splits = n_splits
        self.n_history = n_history
        self.history_fraction = history_fraction
        self.history_in_train = history_in_train
        self.timestamp_column = timestamp_column
        self.random_state = random_state
        self.user_column = user_column

    def split_with_history(self, X: Any) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Generate the row positions of each split, with the history apart.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, a row each.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Rows of the other users, without the history even if `history_in_train` is
            True.
        history : ndarray of shape (n_history,)
            First rows of the users of test.
        test : ndarray of shape (n_test,)
            Other rows of the users of test. The three parts are disjoint and together are
            all rows.
        """
        users, n_users = codes_of(X, self.user_column, "user")
        times = None
        if self.timestamp_column is not None:
            times = times_of(X, self.timestamp_column)[0]
        n_rows = np.bincount(users, minlength=n_users)
        n_tested = n_rows - n_of_each(n_rows, self.n_history or 0, self.history_fraction)
        is_history = rank_from_end(users, times) >= n_tested[users]
        fold = _folds(n_users, self.n_splits, "users", self.random_state)[users]
        for k in range(self.n_splits):
            yield (
                np.flatnonzero(fold != k),
                np.flatnonzero((fold == k) & is_history),
                np.flatnonzero((fold == k) & ~is_history),
            )

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        for train, history, test in self.split_with_history(X):
            if self.history_in_train:
                train = np.union1d(train, history)
            yield train, test


class ColdItemSplit(InteractionSplitter):
    """Folds of items: the items of test are not in train.

    Use it to measure how good a model is for new items. The model needs an `item_table`
    with all items, and ``id_dropout > 0`` or ``item_id_embedding=False``. Otherwise the
    items of test are not in its catalogue, and there is nothing to measure.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds. Their numbers of items differ by at most one.
    random_state : int, RandomState instance or None, default=None
        Draws the items of each fold. An int gives the same folds at every call.
    item_column : str or int, default=1
        Column of X with the item ids.

    Notes
    -----
    A user whose items are all in test is not in train either. When test is scored, the
    items of train are candidates, too; pass `candidates` to the scorer to rank the items
    of test alone.

    See Also
    --------
    UserKFold : Folds of users.

    Examples
    --------
    >>> from sktwotower.model_selection import ColdItemSplit
    >>> X = [["ann", "x"], ["ann", "y"], ["bob", "x"], ["cleo", "z"]]
    >>> for train, test in ColdItemSplit(3, random_state=0).split(X):
    ...     print([X[row][1] for row in test])
    ['z']
    ['y']
    ['x', 'x']
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        random_state: int | np.random.RandomState | None = None,
        item_column: Column = 1,
    ) -> None:
        check_count("n_splits", n_splits, at_least=2)
        self.n_splits = n_splits
        self.random_state = random_state
        self.item_column = item_column

    def _parts(self, X: Any) -> Iterator[tuple[IntArray, IntArray]]:
        items, n_items = codes_of(X, self.item_column, "item")
        fold = _folds(n_items, self.n_splits, "items", self.random_state)[items]
        for k in range(self.n_splits):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def _folds(n: int, n_splits: int, what: str, random_state: Any) -> IntArray:
    """A random fold for each of n entities, (n,)."""
    _check_enough(n_splits, n, what)
    return check_random_state(random_state).permutation(n) % n_splits


def _check_enough(n_splits: int, n: int, what: str) -> None:
    if n_splits > n:
        raise ValueError(f"n_splits={n_splits} is more than the {n} {what} of X.")
