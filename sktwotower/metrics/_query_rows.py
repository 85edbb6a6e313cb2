"""Which rows of X a recommender is asked with: one for each user, or each relevant row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.interactions import Interactions
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
    keys = np.zeros(len(relevant), dtype=np.int64)
    if features is not None:
        keys = row_keys(features.iloc[relevant])
    if per_row:
        items = sorted_codes(interactions.items[relevant])[0]
        rows = relevant[np.lexsort((keys, items, users[relevant]))]
        query_of_row = np.full(len(users), -1)
        query_of_row[rows] = np.arange(len(rows))
        return QueryRows(user_ids, users, rows, query_of_row[relevant])
    if features is None:  # any row of the user
        first = np.unique(users[relevant], return_index=True)[1]
    else:
        times = None if interactions.times is None else interactions.times[relevant]
        first = _typical_rows(users[relevant], times, keys)
    rows = relevant[first]
    query_of_user = np.full(len(user_ids), -1)
    query_of_user[users[rows]] = np.arange(len(rows))
    return QueryRows(user_ids, users, rows, query_of_user[users[relevant]])


def _typical_rows(
    users: np.ndarray, times: np.ndarray | None, keys: np.ndarray
) -> np.ndarray:
    """For each user, ascending, an earliest row with the most frequent key."""
    groups = [users] if times is None else [users, times]
    frame = pd.DataFrame(dict(enumerate([*groups, keys])))
    n_same = frame.groupby(list(frame.columns))[0].transform("size").to_numpy()
    order = np.lexsort((keys, -n_same, *groups[::-1]))
    return order[np.unique(users[order], return_index=True)[1]]


def varies_within_users(interactions: Interactions) -> bool:
    """Whether relevant rows of a user have different features."""
    features = as_feature_frame(interactions.user_features)
    if features is None:
        return False
    relevant = np.flatnonzero(interactions.positive)
    users = pd.factorize(interactions.users[relevant])[0]
    keys = row_keys(features.iloc[relevant])
    return len(np.unique(np.column_stack([users, keys]), axis=0)) > len(np.unique(users))


def most_frequent(groups: np.ndarray, labels: np.ndarray, n_groups: int) -> np.ndarray:
    """The most frequent label of each group, (n_groups,) object; of ties the smallest."""
    keys = value_order(pd.Series(labels, dtype=object))
    rows = _typical_rows(groups, None, keys)
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


def row_keys(frame: pd.DataFrame) -> np.ndarray:
    """Numbers of the rows of a frame: equal for equal rows, in the order of the values."""
    keys = np.zeros(len(frame), dtype=np.int64)
    for _, column in frame.items():
        codes = value_order(column)
        keys = keys * (codes.max(initial=0) + 1) + codes
        keys = np.unique(keys, return_inverse=True)[1]  # small again
    return keys


def value_order(column: pd.Series) -> np.ndarray:
    """Numbers of values, equal for equal ones and in their order; missing ones first."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing = column.isna().to_numpy()
    values: Any = column[~missing].to_numpy()
    if values.dtype == object:
        values = np.array([_order(value) for value in values], dtype=object)
    codes = np.zeros(len(column), dtype=np.int64)
    codes[~missing] = 1 + sorted_codes(values)[0]
    return codes


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
