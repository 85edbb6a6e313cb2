"""X, y and sample_weight as checked ids, labels, weights and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import column_or_1d

from sktwotower._data.known_ids import refuse_mixed, warn_of_unknown
from sktwotower._data.roles import ColumnRoles, Frame
from sktwotower._data.row_shares import ALL_ROWS, RowShare
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import (
    Column,
    plain_times,
    refuse_infinite_times,
    refuse_missing_times,
    time_numbers,
    where_first,
)
from sktwotower.utils._ids import kinds_of
from sktwotower.utils._sklearn import check_sample_weight
from sktwotower.utils._times import TimeRange, time_kind


@dataclass(frozen=True, eq=False)
class DedupedFeatures:
    """Features of n rows; equal rows are held once.

    Attributes
    ----------
    frame : DataFrame or Series of m rows
        The distinct features.
    positions : ndarray of shape (n,), int32
        Which row of ``frame`` each row has.
    """

    frame: Frame
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: Any) -> DedupedFeatures:
        """The features of some rows: a mask, positions or a slice."""
        return replace(self, positions=column_store.take(self.positions, rows))


@dataclass(frozen=True, eq=False)
class Interactions(column_store.Columns):
    """Checked rows of X, y and sample_weight.

    Attributes
    ----------
    users, items : ndarray of shape (n,)
        Ids; none is missing. A Categorical where X was read in blocks.
    positive : ndarray of shape (n,), bool
        ``y is None`` or ``y > 0``.
    weights : ndarray of shape (n,) or None
        Positive sample weights; rows of weight 0 are dropped.
    times : ndarray of shape (n,) or None
        Timestamps as numbers that order like them.
    user_features, item_features : DataFrame or Series of n rows, or None
        Feature columns of X. DedupedFeatures where X was read in blocks.
    labels : ndarray of shape (n,) or None
        The values of y; None: 1 everywhere.
    time_range : TimeRange or None
        Kind and range of ``times``, and of the times of training so far.
    share : RowShare
        Whether these are all rows of X, or those of one of several processes.
    """

    users: np.ndarray
    items: np.ndarray
    positive: np.ndarray
    weights: np.ndarray | None
    times: np.ndarray | None
    user_features: Frame | None = None
    item_features: Frame | None = None
    labels: np.ndarray | None = None
    time_range: TimeRange | None = None
    share: RowShare = ALL_ROWS

    def without_zero_weights(self) -> Interactions:
        """The rows with a weight above 0."""
        if self.weights is None or self.weights.all():
            return self
        return self.take(self.weights > 0)

    def take(self, rows: Any) -> Interactions:
        """The rows of a mask, of positions or of a slice."""
        return replace(super().take(rows), share=self.share.take(rows))

    def expanded(self) -> Interactions:
        """The same with one id and one row of features for each row."""
        return replace(
            self,
            users=np.asarray(self.users),
            items=np.asarray(self.items),
            user_features=_expanded(self.user_features),
            item_features=_expanded(self.item_features),
        )


def to_categorical(codes: np.ndarray, ids: np.ndarray) -> pd.Categorical:
    """Ids as a Categorical, from numbers (n,) int32; equal ids become one category."""
    numbers, distinct = pd.factorize(ids)  # Arrow has two zeros, 0.0 and -0.0
    if len(distinct) < len(ids):
        codes = column_store.take(numbers.astype(np.int32), codes)
    return pd.Categorical.from_codes(codes, pd.Index(distinct, dtype=distinct.dtype))


def codes_of(ids: Any) -> np.ndarray:
    """Equal numbers from 0 for equal ids, (n,)."""
    return ids.codes if isinstance(ids, pd.Categorical) else pd.factorize(ids)[0]


def _expanded(features: Any) -> Any:
    if isinstance(features, DedupedFeatures):
        return features.frame.iloc[features.positions].reset_index(drop=True)
    return features


def read_interactions(
    X: pd.DataFrame | np.ndarray,
    y: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    roles: ColumnRoles,
    in_blocks: bool = False,
    where: str = "X",
) -> Interactions:
    """Split X, y and sample_weight into checked columns.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
        Interactions, as :meth:`ColumnRoles.check` returns them; columns without a role are
        ignored.
    y : array-like of shape (n_samples,), optional
        A row is a positive when its y is above 0; None: all are.
    sample_weight : array-like of shape (n_samples,), optional
        Rows of weight 0 are dropped.
    roles : ColumnRoles
        Which columns are read.
    in_blocks : bool, default=False
        Whether ids and times are read in blocks of rows, because X is mapped from a file
        and may not fit into memory.
    where : str, default="X"
        Name of X, for messages.

    Raises
    ------
    ValueError
        For invalid input; the message names the column, the number of rows and the first.
        For times of another kind or unit than those of training, if ``roles`` know them.
    """
    read_ids: Callable[[Any, str], Any] = partial(roles.ids, where=where)
    if in_blocks:
        read_ids = partial(_ids_in_blocks, roles)
    users, items = read_ids(X, "user_column"), read_ids(X, "item_column")
    times, time_range = None, None
    if roles.timestamp_column is not None:
        column = roles.column(X, "timestamp_column", where=where)
        read_times = _times_in_blocks if in_blocks else time_numbers
        times = read_times(column, name=roles.timestamp_column, where=where)
        some = pd.Series(column[:1] if in_blocks else column)  # of one dtype in blocks
        time_range = roles.time_range(time_kind(some), times, where=where)
    weights = None
    if sample_weight is not None:
        weights = checked_weights(sample_weight, X)
    labels = None if y is None else _labels(y, len(X))
    positive = column_store.full(len(X), True, bool)
    if labels is not None:
        np.greater(labels, 0, out=positive)
    return Interactions(
        users,
        items,
        positive,
        weights,
        times,
        None if roles.user_features is None else roles.user_features.read(X),
        None if roles.item_features is None else roles.item_features.read(X),
        labels,
        time_range,
    ).without_zero_weights()


class FittedState(Protocol):
    """What every fitted recommender has."""

    @property
    def roles(self) -> ColumnRoles:
        """What the columns of X mean."""

    @property
    def users(self) -> Vocabulary:
        """Known users."""

    @property
    def items(self) -> Vocabulary:
        """Known items."""


def read_later(
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    *,
    known: FittedState,
    with_times: bool = False,
    where: str = "X",
) -> Interactions:
    """The checked rows of an X that comes after ``fit``; their times are not needed.

    With ``with_times=True`` they are read if they are there, and refused if they are of
    another kind or unit than those of ``fit``. Warns of ids of another type than the known
    ones. Messages call X ``where``.
    """
    roles = known.roles
    rows = roles.check(X, where=where)
    if not with_times or not roles.has_times(rows):
        roles = replace(roles, timestamp_column=None)
    interactions = read_interactions(rows, y, sample_weight, roles=roles, where=where)
    warn_of_other_kinds(interactions, roles, known, where=where)
    return interactions


def warn_of_other_kinds(
    interactions: Interactions,
    roles: ColumnRoles,
    known: FittedState,
    *,
    where: str = "X",
) -> None:
    """Warn of ids of another type than the known ones; ``roles`` name their columns."""
    for side, ids, vocabulary in (
        ("user", interactions.users, known.users),
        ("item", interactions.items, known.items),
    ):
        kinds = kinds_of(ids)
        if len(vocabulary.kinds) == 1 and kinds.keys() == vocabulary.kinds.keys():
            continue  # without a look-up
        subject = f"ids in {roles.description(f'{side}_column', where=where)}"
        codes = vocabulary.codes(ids)
        warn_of_unknown(ids, codes, vocabulary, side=side, subject=subject)


def refuse_mixed_ids(interactions: Interactions, roles: ColumnRoles) -> None:
    """Raise ValueError for a column to learn from with 100 and "100"."""
    for side, ids in (("user", interactions.users), ("item", interactions.items)):
        where = roles.description(f"{side}_column")
        distinct = interactions.share.distinct(ids)
        refuse_mixed(distinct, where=where, what=f"{side} id")


def _ids_in_blocks(roles: ColumnRoles, X: np.ndarray, role: str) -> pd.Categorical:
    """The ids of an array's column, as codes and distinct ids."""
    column = roles.column(X, role)
    # pandas has hash tables for these types; the checks below see the distinct values.
    kind: Any = column.dtype
    if kind.kind not in "mM":
        kind = np.dtype(f"{kind.kind}8" if kind.kind in "iuf" else object)
    distinct = np.empty(0, dtype=kind)
    for block in column_store.blocks(len(column)):
        new = pd.unique(column[block].astype(kind))
        distinct = pd.unique(np.concatenate([distinct, new]))
    index, codes = pd.Index(distinct), column_store.empty(len(column), np.int32)
    for block in column_store.blocks(len(column)):
        codes[block] = index.get_indexer(column[block].astype(kind))
        if codes[block].min() < 0:
            raise ValueError(
                f"X is a numpy.memmap whose {role} has changed while it was read: there "
                "are values that were not there before. Fit again, on a file that does "
                "not change."
            )
    distinct = distinct.astype(column.dtype)  # floats say how exact they are
    return to_categorical(
        codes, roles.checked_ids(distinct, role, getattr(roles, role), codes)
    )


def _times_in_blocks(column: np.ndarray, *, name: Column, where: str) -> np.ndarray:
    missing = column_store.empty(len(column), bool)
    for block in column_store.blocks(len(column)):
        missing[block] = pd.isna(column[block])
    refuse_missing_times(missing, name=name, where=where)
    kind = plain_times(column[:1], name=name, where=where).dtype
    times = column_store.empty(len(column), kind)
    for block in column_store.blocks(len(column)):
        times[block] = plain_times(column[block], name=name, where=where)
    refuse_infinite_times(times, name=name, where=where)
    return times


def checked_weights(sample_weight: ArrayLike, X: Any) -> np.ndarray:
    """Weights of the rows of X, not all of them 0."""
    try:
        np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"sample_weight must hold numbers ({error}).") from error
    weights: np.ndarray = check_sample_weight(sample_weight, X, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def _labels(y: ArrayLike, n: int) -> np.ndarray:
    if isinstance(y, str):
        raise ValueError(
            f"y={y!r} can name a column only where X is a path or a Dataset; give the "
            "labels themselves, for example X.pop(y)."
        )
    try:
        given: np.ndarray = column_or_1d(y, warn=True)
    except NotImplementedError as error:  # a type of Arrow that NumPy does not know
        raise ValueError(f"Unknown label type: y must hold numbers ({error}).") from error
    if len(given) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n} rows, "
            f"y has {len(given)}."
        )
    return checked_labels(label_numbers(given))


def label_numbers(y: ArrayLike) -> np.ndarray:
    """Labels as float64."""
    dtype: Any = getattr(y, "dtype", None)
    if getattr(dtype, "kind", "f") in "mM":
        raise ValueError(
            "Unknown label type: y must hold numbers, above 0 for a positive interaction; "
            f"got {dtype}."
        )
    try:
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Unknown label type: y must hold numbers, above 0 for a positive "
            f"interaction ({error})."
        ) from error


def checked_labels(labels: np.ndarray) -> np.ndarray:
    """The labels; raise ValueError if one is missing or infinite."""
    missing = np.isnan(labels)
    if missing.any():
        rows, first = where_first(missing)
        raise ValueError(f"Input y contains NaN: {rows} {first}; drop or fill them.")
    if np.isinf(labels).any():
        rows, first = where_first(np.isinf(labels))
        raise ValueError(f"Input y contains infinity: {rows} {first}.")
    return labels
