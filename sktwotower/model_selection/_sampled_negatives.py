"""Sampled negatives beside the labelled rows of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from sktwotower._data.feature_frames import value_codes
from sktwotower._data.interactions import Interactions, read_interactions
from sktwotower._data.roles import ColumnRoles, Rows, Selection, as_interactions
from sktwotower.model_selection._base import check_count
from sktwotower.utils._columns import Column, column_position, rank_from_end
from sktwotower.utils._ids import described, kinds_of
from sktwotower.utils._warnings import warn

_OWNER = "sample_negatives"


def sample_negatives(
    X: Any,
    y: ArrayLike | None = None,
    *,
    X_train: Any,
    n_negatives: int = 1,
    user_column: Column = 0,
    item_column: Column = 1,
    timestamp_column: Column | None = None,
    item_features: Selection = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Any, np.ndarray]:
    """Add negatives to labelled rows: items that their users never interacted with.

    Use it for metrics of labelled rows, such as ``"roc_gauc"``, if all rows are positives,
    on rows to score or on ``X_val`` before ``fit``. The values depend on how negatives are
    drawn: against items that are drawn uniformly, a list of the most popular items looks
    good. Prefer metrics of rankings, such as ``"ndcg@10"``, which compare with all items.

    Each positive row gets `n_negatives` copies with other items. These are drawn uniformly,
    without replacement for one row, from the items of `X_train` that the user has in no row
    of `X_train` or X, whatever its y. A copy has the item features of *its* item, which are
    those of the item's latest row in both, and everything else of the positive row: the
    user's features, the context, the time.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Rows to evaluate on, such as those of test.
    y : array-like of shape (n_samples,), default=None
        A row is a positive when its y is above 0; None: all are.
    X_train : DataFrame or array-like of shape (n_train, n_columns)
        All rows of training, laid out like X.
    n_negatives : int, default=1
        Negatives for each positive. More of them make the metric less noisy.
    user_column, item_column : str or int, default=0, 1
        Columns with the ids.
    timestamp_column : str or int, default=None
        Column that says which row of an item is its latest. None: rows are in order, and
        those of X are later.
    item_features : str, int, list, slice, mask or callable, default=None
        Columns that describe items, as in :class:`~sktwotower.TwoTowerRecommender`.
        Features in an ``item_table`` need nothing. None or ``[]``: there are none; with
        None, a column that has one value for each item is refused.
    random_state : int, RandomState instance or None, default=None
        Draws the items.

    Returns
    -------
    X : DataFrame or ndarray of shape (n_samples + n_added, n_columns)
        The rows of X, and then the negatives, in the order of their positives. A frame has
        a new index.
    y : ndarray of shape (n_samples + n_added,)
        The y of X, or 1; 0 for the negatives.

    Raises
    ------
    ValueError
        If no row is a positive, ids of X are of another type than those of `X_train`, or a
        column of item features was not named.

    Warns
    -----
    UserWarning
        If users have fewer than `n_negatives` items left; they get those that are left,
        which may be none.

    See Also
    --------
    train_test_split_interactions : Makes the two sets of rows.
    sktwotower.metrics.make_ranking_scorer : Metrics that need no negatives, and those that
        do.

    References
    ----------
    W. Krichene, S. Rendle (2020). On sampled metrics for item recommendation. KDD.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.model_selection import sample_negatives
    >>> train = pd.DataFrame({
    ...     "user": ["ann", "bob", "ann"],
    ...     "item": ["tea", "milk", "milk"],
    ...     "price": [3, 1, 2],
    ... })
    >>> test = pd.DataFrame({"user": ["bob"], "item": ["cake"], "price": [5]})
    >>> X, y = sample_negatives(
    ...     test, X_train=train, item_features=["price"], random_state=0)
    >>> X
      user  item  price
    0  bob  cake      5
    1  bob   tea      3
    >>> y
    array([1., 0.])
    """
    check_count("n_negatives", n_negatives)
    rng = check_random_state(random_state)
    named = (user_column, item_column, timestamp_column)
    train = as_interactions(X_train, owner=_OWNER, where="X_train", in_index=named)
    roles = ColumnRoles.of_fit(
        train,
        owner=_OWNER,
        user_column=user_column,
        item_column=item_column,
        timestamp_column=timestamp_column,
        item_features=item_features,
    )
    rows = roles.check(X)
    before = read_interactions(train, roles=roles, where="X_train")
    asked = read_interactions(rows, y, roles=roles)
    if not asked.positive.any():
        raise ValueError("There is nothing to draw for: no row of X is a positive (y > 0).")
    _refuse_other_kinds(before, asked)
    if item_features is None:
        _refuse_unnamed_features(train, before, roles)
    users = pd.factorize(np.concatenate([before.users, asked.users]))[0]
    items, ids = pd.factorize(np.concatenate([before.items, asked.items]))
    n_items = int(items[: len(before)].max()) + 1  # of X_train; others have later codes
    known = items < n_items
    positives = np.flatnonzero(asked.positive)
    drawn = _Drawn.of(
        users[known],
        items[known],
        users[len(before) + positives],
        n_items,
        n_negatives,
        rng,
    )
    drawn.warn(asked.users[positives], n_negatives, n_items)
    times = None
    if before.times is not None and asked.times is not None:
        times = np.concatenate([before.times, asked.times])
    is_latest = rank_from_end(items, times) == 0
    latest = np.empty(len(ids), dtype=np.int64)
    latest[items[is_latest]] = np.flatnonzero(is_latest)
    copied = np.repeat(positives, drawn.counts)
    labels = np.ones(len(asked)) if asked.labels is None else asked.labels
    return (
        _with_copies(rows, train, copied, latest[drawn.items], roles),
        np.concatenate([labels, np.zeros(len(copied), dtype=labels.dtype)]),
    )


class _Drawn:
    """Items that were drawn for rows.

    Attributes
    ----------
    items : ndarray of shape (n_drawn,)
        Their codes.
    counts : ndarray of shape (n_rows,)
        How many there are for each row.
    """

    def __init__(self, items: np.ndarray, counts: np.ndarray) -> None:
        self.items = items
        self.counts = counts

    @classmethod
    def of(
        cls,
        users: np.ndarray,
        items: np.ndarray,
        asked: np.ndarray,
        n_items: int,
        n_negatives: int,
        rng: np.random.RandomState,
    ) -> _Drawn:
        """Draw for the users of some rows from the items that are in none of their pairs.

        With the user's g-th item (from 0, ascending) having the code ``c_g``, the k-th code
        that is left is ``k`` plus the number of ``g`` with ``c_g - g <= k``.
        """
        pairs = np.unique(users.astype(np.int64) * n_items + items)
        n_users = int(max(users.max(initial=-1), asked.max(initial=-1))) + 1
        starts = np.searchsorted(pairs, np.arange(n_users + 1) * n_items)
        parts = [np.empty(0, dtype=np.int64)]
        counts = np.zeros(len(asked), dtype=np.int64)
        for row, user in enumerate(asked.tolist()):
            taken = pairs[starts[user] : starts[user + 1]] - user * n_items
            n_left = n_items - len(taken)
            counts[row] = min(n_negatives, n_left)
            places = sample_without_replacement(n_left, counts[row], random_state=rng)
            gaps = taken - np.arange(len(taken))
            parts.append(places + np.searchsorted(gaps, places, side="right"))
        return cls(np.concatenate(parts).astype(np.int64), counts)

    def warn(self, users: np.ndarray, n_negatives: int, n_items: int) -> None:
        """Say which users had too few items left; ``users`` has those of the rows."""
        has_few = self.counts < n_negatives
        if not has_few.any():
            return
        n_users, n_few, n_without = (
            len(pd.unique(users[rows]))
            for rows in (self.counts >= 0, has_few, self.counts == 0)
        )
        first = users[has_few][:1].tolist()[0]
        warn(
            f"{n_few} of the {n_users} users (first {first!r}) have fewer than "
            f"n_negatives={n_negatives} of the {n_items} items of X_train left, and get "
            f"those; {n_without} of them have none left, and get no negatives."
        )


def _with_copies(
    X: Rows, X_train: Rows, copied: np.ndarray, described_by: np.ndarray, roles: ColumnRoles
) -> Any:
    """X, and copies of its rows with the items of other rows, of X_train and then of X."""
    frame, train = pd.DataFrame(X), pd.DataFrame(X_train)
    by_name = isinstance(X, pd.DataFrame) and roles.feature_names is not None
    names = list(train.columns) if by_name else list(range(train.shape[1]))
    features = roles.item_features
    of_items = [column_position(roles.item_column, names, role="item_column")]
    of_items += [] if features is None else features.positions
    copies = frame.iloc[copied].reset_index(drop=True)
    for position in of_items:
        where = position
        if by_name:
            if names[position] not in frame:
                continue  # features of items that X lacks
            where = [*frame.columns].index(str(names[position]))
        values = pd.concat([train.iloc[:, position], frame.iloc[:, where]])
        copies.isetitem(where, values.iloc[described_by].array)
    whole = pd.concat([frame, copies], ignore_index=True)
    if isinstance(X, pd.DataFrame):
        return whole
    return whole.to_numpy(dtype=X.dtype)


def _refuse_other_kinds(before: Interactions, asked: Interactions) -> None:
    """Raise ValueError if no id of X can be one of X_train."""
    for side in ("user", "item"):
        known, given = (kinds_of(getattr(each, f"{side}s")) for each in (before, asked))
        if not known.keys() & given.keys():
            raise ValueError(
                f"The {side} ids of X are of type {described(given)}, where those of "
                f"X_train are of type {described(known)}; convert one of them."
            )


def _refuse_unnamed_features(
    X_train: Rows, before: Interactions, roles: ColumnRoles
) -> None:
    """Raise ValueError for a column that has one value for each item."""
    frame = pd.DataFrame(X_train)
    names = list(range(frame.shape[1])) if roles.names is None else roles.names
    with_role = {
        column_position(column, names, role=role)
        for role, column in (
            ("user_column", roles.user_column),
            ("item_column", roles.item_column),
            ("timestamp_column", roles.timestamp_column),
        )
        if column is not None
    }
    items = pd.factorize(before.items)[0]
    n_items = int(items.max()) + 1
    if n_items == len(items):  # each item has one row, of which all is one value
        return
    found = []
    for position in set(range(frame.shape[1])) - with_role:
        values = value_codes(frame.iloc[:, position])
        pairs = pd.DataFrame({"item": items, "value": values}).drop_duplicates()
        if len(pairs) == n_items and values.any():
            found.append(frame.columns[position])
    if found:
        raise ValueError(
            f"The columns {found} of X_train have one value for each item, so they seem to "
            "describe items: pass item_features, so that a negative has the values of its "
            "own item, or item_features=[] if they do not."
        )
