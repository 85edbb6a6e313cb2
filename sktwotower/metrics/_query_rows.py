"""Which rows of X a recommender is asked with: one for each user, or each relevant row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.feature_frames import value_codes
from sktwotower._data.interactions import Interactions, codes_of
from sktwotower._data.queries import as_feature_frame


@dataclass(frozen=True, eq=False)
class QueryRows:
    """Queries of an evaluation, in an order that does not depend on the order of rows.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        Users of all rows, in the order of their ids.
    users : ndarray of shape (n_rows,)
        Position in ``user_ids`` of each row's user.
    rows : ndarray of shape (n_queries,)
        The row whose user and features are asked with.
    query_of_pair : ndarray of shape (n_pairs,)
        The query of each relevant row.
    """

    user_ids: np.ndarray
    users: np.ndarray
    rows: np.ndarray
    query_of_pair: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def user_of_query(self) -> np.ndarray:
        """Position in ``user_ids`` of each query's user, (n_queries,)."""
        return self.users[self.rows]


def query_rows(interactions: Interactions, *, per_row: bool) -> QueryRows:
    """One query for each user with a relevant row, or for each relevant row.

    A user is asked with the features of the earliest relevant row, because later ones are
    not known at that time. Among rows of the same time, or of unknown times, the features
    that most of them have are taken, of equally frequent ones the smallest.
    """
    users, user_ids = sorted_codes(interactions.users)
    relevant = np.flatnonzero(interactions.positive)
    features = as_feature_frame(interactions.user_features)
    if features is not None:
        features = features.iloc[relevant]
    if per_row:
        items = sorted_codes(interactions.items[relevant])[0]
        keys = keys_in_groups(features, [users[relevant], items])
        rows = relevant[np.lexsort((keys, items, users[relevant]))]
        query_of_row = np.full(len(users), -1)
        query_of_row[rows] = np.arange(len(rows))
        return QueryRows(user_ids, users, rows, query_of_row[relevant])
    times = None if interactions.times is None else interactions.times[relevant]
    rows = relevant[_asked_rows(users[relevant], times, features)]
    query_of_user = np.full(len(user_ids), -1)
    query_of_user[users[rows]] = np.arange(len(rows))
    return QueryRows(user_ids, users, rows, query_of_user[users[relevant]])


def _asked_rows(
    users: np.ndarray, times: np.ndarray | None, features: pd.DataFrame | None
) -> np.ndarray:
    """For each user, ascending, an earliest row with the most frequent features."""
    if features is None:  # any row of the user
        return np.unique(users, return_index=True)[1]
    rows = np.arange(len(users))
    if times is not None:
        first = pd.Series(times).groupby(users).transform("min").to_numpy()
        rows = np.flatnonzero(times == first)
    keys = keys_in_groups(features.iloc[rows], [users[rows]])
    return rows[_typical_rows(users[rows], keys)]


def _typical_rows(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """For each group, ascending, a row with the most frequent key, of ties the smallest."""
    both = pd.factorize(groups * (keys.max(initial=0) + 1) + keys)[0]
    n_same = np.bincount(both)[both]
    order = np.lexsort((keys, -n_same, groups))
    return order[np.unique(groups[order], return_index=True)[1]]


def varies_within_users(interactions: Interactions) -> bool:
    """Whether relevant rows of a user have different features."""
    relevant = np.flatnonzero(interactions.positive)
    features = as_feature_frame(interactions.user_features)
    if features is not None:
        features = features.iloc[relevant]
    users = codes_of(interactions.users[relevant])
    return bool(keys_in_groups(features, [users]).any())


def keys_in_groups(
    features: pd.DataFrame | None, groups: Sequence[np.ndarray]
) -> np.ndarray:
    """Numbers that order the rows of a group by their features, (n,); 0 if all are equal.

    Only rows that share their group are read, and of them only columns that vary there.
    """
    frame = pd.DataFrame(dict(enumerate(groups)))
    keys = np.zeros(len(frame), dtype=np.int64)
    shared = np.flatnonzero(frame.duplicated(keep=False))
    if features is None or not len(shared):
        return keys
    number = frame.iloc[shared].groupby(list(frame.columns)).ngroup().to_numpy()
    member = np.empty(number.max() + 1, dtype=np.int64)
    member[number] = np.arange(len(number))
    columns = {}
    for position in range(features.shape[1]):
        column = features.iloc[shared, position]
        codes = value_codes(column)
        if (codes != codes[member[number]]).any():
            columns[position] = _order_of_codes(column, codes)
    keys[shared] = _joint_codes(columns.values(), len(shared))
    return keys


def most_frequent(groups: np.ndarray, labels: np.ndarray, n_groups: int) -> np.ndarray:
    """The most frequent label of each group, (n_groups,) object; of ties the smallest."""
    keys = value_order(pd.Series(labels, dtype=object))
    rows = _typical_rows(groups, keys)
    chosen = np.full(n_groups, None, dtype=object)
    chosen[groups[rows]] = labels[rows]
    return chosen


def sorted_codes(ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of ids in their order, and the distinct ids; mixed types have some order."""
    codes, distinct = pd.factorize(np.asarray(ids))
    try:
        order = np.argsort(distinct, kind="stable")
    except TypeError:
        order = np.array(sorted(range(len(distinct)), key=lambda n: _order(distinct[n])))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes], distinct[order]


def _joint_codes(columns: Iterable[np.ndarray], n_rows: int) -> np.ndarray:
    """Numbers of rows of several columns of numbers, (n_rows,), in their order."""
    keys = np.zeros(n_rows, dtype=np.int64)
    for codes in columns:
        keys = keys * (codes.max(initial=0) + 1) + codes
        keys = pd.factorize(keys, sort=True)[0]  # small again
    return keys


def value_order(column: pd.Series) -> np.ndarray:
    """Numbers of values, equal for equal ones and in their order; missing ones first."""
    return _order_of_codes(column, value_codes(column))


def _order_of_codes(column: pd.Series, codes: np.ndarray) -> np.ndarray:
    """The same from numbers of equal values; only distinct values are compared."""
    member = np.empty(codes.max(initial=-1) + 1, dtype=np.int64)
    member[codes] = np.arange(len(codes))
    column = column.iloc[member]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing = column.isna().to_numpy()
    values: Any = column[~missing].to_numpy()
    if values.dtype == object:
        values = np.array([_order(value) for value in values], dtype=object)
    order = np.zeros(len(member), dtype=np.int64)
    order[~missing] = 1 + sorted_codes(values)[0]
    return order[codes]


def _order(value: Any) -> str:
    """A text that is equal for equal values, whatever they are."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(map(_order, value))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = list(map(_order, value))
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return repr(value)
