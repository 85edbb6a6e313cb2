"""What queries are given: ids, rows, histories, candidates, and pairs to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.column_names import (
    refuse_misspelt,
    refuse_no_ids,
    refuse_row,
    refuse_unknown,
    with_index,
)
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.known_ids import (
    refuse_ids_in_index,
    warn_of_other_queries,
    warn_of_unknown,
)
from sktwotower._data.pair_forms import pairs_by_id, ungrouped
from sktwotower._data.roles import OTHER, ColumnRoles, Rows, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils._columns import (
    Column,
    as_objects,
    as_pandas,
    id_array,
    refuse_repeated_names,
    time_numbers,
    where_first,
)
from sktwotower.utils._ranges import positions_of_ranges
from sktwotower.utils._times import time_kind


@dataclass(frozen=True, eq=False)
class FrameColumns:
    """Which columns of a frame of users or items are read.

    Attributes
    ----------
    ids : sequence of str or int
        Columns that may hold the ids; the first one that is there is read.
    features : sequence of str
        The feature columns.
    known : sequence of str
        Other columns of the X of ``fit``.
    """

    ids: Sequence[Column] = ()
    features: Sequence[Column] = ()
    known: Sequence[Column] = ()

    @classmethod
    def of_ids(cls, roles: ColumnRoles, side: SideName) -> FrameColumns:
        """The column of ids that X has, if it has a name."""
        name = roles.name_of(getattr(roles, f"{side}_column"))
        return cls(() if name is None else (name,))

    @property
    def names(self) -> list[Column]:
        """All of them."""
        return [*self.ids, *self.features, *self.known]

    def read(
        self, frame: pd.DataFrame, side: SideName, *, where: str
    ) -> tuple[pd.Series | None, pd.DataFrame | None]:
        """The ids and the features of a frame; None where it has none.

        An index with the name of an id column is read like the column.

        Raises
        ------
        ValueError
            For a feature column whose name is misspelt, and for unknown columns in a frame
            without ids, where one of them may hold the ids.
        """
        refuse_repeated_names(frame, where=where)
        frame = with_index(frame, self.ids)
        refuse_misspelt(frame, self.features, [*self.ids, *self.known], where=where)
        ids = next((frame[name] for name in self.ids if name in frame.columns), None)
        names = [name for name in self.features if name in frame.columns]
        if ids is None and names and self.ids:
            refuse_unknown(
                frame, self.ids, self.features, self.known, where=where, side=side
            )
        features = frame[names].reset_index(drop=True) if names else None
        return ids, features


@dataclass(frozen=True, eq=False)
class Query:
    """The users or items that a query asks about.

    Attributes
    ----------
    ids : ndarray of shape (n_queries,)
        Their ids; without ids, the index of the frame.
    codes : ndarray of shape (n_queries,)
        Their codes; 0 for unknown ones.
    features : DataFrame of n_queries rows, or None
        Features that replace those of training.
    has_ids : bool
        Whether ``ids`` are ids.
    """

    ids: np.ndarray
    codes: np.ndarray
    features: pd.DataFrame | None = None
    has_ids: bool = True

    def __len__(self) -> int:
        return len(self.codes)


def read_query(
    X: Any,
    side: SideName,
    *,
    where: str,
    roles: ColumnRoles,
    vocabulary: Vocabulary,
    columns: FrameColumns | None = None,
    unknown: str | None = None,
) -> Query:
    """Ids, codes and features of a query.

    Parameters
    ----------
    X : array-like of shape (n_queries,), frame or 2-D array
        Ids; or rows with ids, with features, or with both; or rows laid out like the X of
        ``fit``.
    side : {"user", "item"}
        What is asked about.
    where : str
        Name of the argument, for messages.
    roles : ColumnRoles
        The columns of the X of ``fit``.
    vocabulary : Vocabulary
        The known ids.
    columns : FrameColumns, optional
        Columns that are read from a frame; None: those of the X of ``fit``.
    unknown : str, optional
        What becomes of unknown ids without features, for a warning; None: they are normal,
        and only those of another type than the known ones are warned of.

    Raises
    ------
    ValueError
        For a single row of a frame, and for columns whose meaning is not clear.
    """
    query = _read_query(X, side, where, roles, vocabulary, columns)
    if query.has_ids:
        warn_of_unknown(
            query.ids,
            query.codes,
            vocabulary,
            side=side,
            subject=f"{side} ids of {where}",
            then=unknown if query.features is None else None,
        )
    return query


def _read_query(
    X: Any,
    side: SideName,
    where: str,
    roles: ColumnRoles,
    vocabulary: Vocabulary,
    columns: FrameColumns | None,
) -> Query:
    X = as_pandas(X, where=where)
    names = [*(roles.names or ()), *(columns.names if columns is not None else ())]
    refuse_row(X, names, where=where, side=side)
    if isinstance(X, list) and X and isinstance(X[0], list | np.ndarray):
        X = as_objects(X)
    if isinstance(X, list | tuple) or np.ndim(X) != 2:
        ids = id_array(X, what=f"{side} id", where=where)
        codes = vocabulary.codes(ids)
        if isinstance(X, pd.Series):
            of_ids = FrameColumns.of_ids(roles, side) if columns is None else columns
            refuse_values_by_id(X, codes, of_ids.ids, vocabulary, where=where, side=side)
        return Query(ids, codes)
    if len(X) == 0:
        return Query(np.empty(0, dtype=object), np.empty(0, dtype=np.int32))
    named, features = None, None
    if isinstance(X, pd.DataFrame) and columns is not None:
        named, features = columns.read(X, side, where=where)
        if named is None and features is not None:
            refuse_ids_in_index(X, columns.ids, vocabulary, where=where, side=side)
            codes = np.zeros(len(X), dtype=np.int32)
            return Query(X.index.to_numpy(), codes, features, has_ids=False)
    if named is not None:
        label = f"Column {named.name!r} of {where}"
        ids = id_array(named, what=f"{side} id", where=label)
        return Query(ids, vocabulary.codes(ids), features)
    rows = roles.check(X, where=where)  # laid out like the X of fit
    ids = roles.ids(rows, f"{side}_column", where=where)
    feature_columns = roles.features(side)
    if feature_columns is not None:
        features = as_feature_frame(feature_columns.read(rows))
    return Query(ids, vocabulary.codes(ids), features)


def refuse_values_by_id(
    X: pd.Series,
    codes: np.ndarray,
    names: Sequence[Column],
    vocabulary: Vocabulary,
    *,
    where: str,
    side: SideName,
) -> None:
    """Raise ValueError for a Series whose index has the ids, and whose values have not.

    Either the index is called like a column of ids, or it has known ids and the values,
    with their ``codes``, are all unknown.
    """
    if X.name in names:
        return
    if X.index.name is not None and X.index.name in names:
        raise ValueError(
            f"{where} is a Series whose index {X.index.name!r} has the {side} ids; its "
            f"values would be taken for ids. Give {where}.index."
        )
    if not codes.any():
        refuse_ids_in_index(X, names, vocabulary, where=where, side=side)


def read_entities(
    frame: Any, side: SideName, *, where: str, columns: FrameColumns
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Ids and features of a frame with one row for each user or item.

    Raises
    ------
    ValueError
        If the frame has no column with ids, or an id twice.
    """
    frame = as_pandas(frame, where=where)
    column, features = columns.read(frame, side, where=where)
    if column is None:
        refuse_no_ids(frame, columns.ids, where=where, side=side)
    ids = id_array(column, what=f"{side} id", where=f"Column {column.name!r} of {where}")
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        rows, first = where_first(repeated)
        raise ValueError(
            f"{where} has {rows} with a duplicate id in column {column.name!r} "
            f"{first}; keep one row for each {side}."
        )
    return ids, features


def read_history(
    history: Any, query: Query, *, roles: ColumnRoles, items: Vocabulary
) -> InteractionCodes:
    """Further interactions of the users of a query.

    Parameters
    ----------
    history : frame, 2-D array, dict or Series
        Rows laid out like the X of ``fit``; the timestamp may be missing. Or lists of item
        ids by user id, in the order of time.
    query : Query
        The users.
    roles : ColumnRoles
        The columns of the X of ``fit``.
    items : Vocabulary
        The known items; rows with other items are dropped, with a warning.

    Returns
    -------
    InteractionCodes
        Its ``users`` are positions in the query. A user who is asked for several times has
        the rows at each position.
    """
    users, item_ids, rows = _read_sides(
        history, "user", roles=roles, where="history", ordered=True
    )
    codes = items.codes(item_ids)
    times = None
    if rows is not None and roles.has_times(rows):
        column = roles.column(rows, "timestamp_column", where="history")
        assert roles.timestamp_column is not None
        times = time_numbers(column, name=roles.timestamp_column, where="history")
        roles.time_range(time_kind(pd.Series(column)), times, where="history")
    warn_of_unknown(
        item_ids,
        codes,
        items,
        side="item",
        subject="item ids of history",
        then="are left out",
    )
    number, distinct = pd.factorize(query.ids)
    asked = Vocabulary(distinct)
    user_of = asked.codes(users) - 1
    warn_of_other_queries(users, user_of + 1, asked, "user", "history")
    kept = np.flatnonzero((codes > 0) & (user_of >= 0))
    kept = kept[np.argsort(user_of[kept], kind="stable")]
    interactions = InteractionCodes(
        user_of[kept],
        codes[kept],
        np.ones(len(kept), dtype=bool),
        None if times is None else times[kept],
    )
    counts = np.bincount(interactions.users, minlength=len(distinct))
    starts, lengths = (np.cumsum(counts) - counts)[number], counts[number]
    return replace(
        interactions.take(positions_of_ranges(starts, lengths)),
        users=np.repeat(np.arange(len(query)), lengths),
    )


def read_pairs(
    exclude_interactions: Any, query: Query, side: SideName, *, roles: ColumnRoles
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs to leave out, of those that a query asks about.

    Returns
    -------
    numbers : ndarray of shape (n_queries,)
        Number of the distinct id of each query.
    asked : ndarray of shape (n_pairs,)
        Number of the user, or item, of each pair.
    others : ndarray of shape (n_pairs,)
        Ids of the other side.
    """
    asked, others, _ = _read_sides(
        exclude_interactions, side, roles=roles, where="exclude_interactions"
    )
    numbers, distinct = pd.factorize(query.ids)
    known = Vocabulary(distinct)
    of_query = known.codes(asked) - 1
    warn_of_other_queries(asked, of_query + 1, known, side, "exclude_interactions")
    inside = of_query >= 0
    return numbers, of_query[inside], others[inside]


def _read_sides(
    X: Any, side: SideName, *, roles: ColumnRoles, where: str, ordered: bool = False
) -> tuple[np.ndarray, np.ndarray, Rows | None]:
    """Ids of a side and of the other one, and the rows if X has rows.

    X may also be lists of ids by the ids of the side.
    """
    refuse_row(X, roles.names or (), where=where, side=None)
    X = ungrouped(as_pandas(X, where=where))
    names = FrameColumns.of_ids(roles, side).ids
    if (
        isinstance(X, pd.Series)
        and X.index.name not in names
        and X.index.equals(pd.RangeIndex(len(X)))
    ):
        raise ValueError(
            f"{where} is a Series without {side} ids in its index; give rows of user and "
            f"item ids, or lists by {side} id."
        )
    pairs = pairs_by_id(
        X,
        names,
        FrameColumns.of_ids(roles, OTHER[side]).ids,
        where=where,
        what=(f"{side} id", f"{OTHER[side]} id"),
        ordered=ordered,
    )
    if pairs is not None:
        return *pairs, None
    rows = roles.check(X, where=where)
    asked = roles.ids(rows, f"{side}_column", where=where)
    return asked, roles.ids(rows, f"{OTHER[side]}_column", where=where), rows


def as_feature_frame(features: pd.DataFrame | pd.Series | None) -> pd.DataFrame | None:
    """Features as a frame; a single column becomes one."""
    return features.to_frame() if isinstance(features, pd.Series) else features
