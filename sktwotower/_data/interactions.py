"""X and y to checked ids, labels, weights and order. Bad input is refused here, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from sktwotower.utils import _column_store as memmap
from sktwotower.utils._columns import (
    Column,
    as_objects,
    as_pandas,
    column_position,
    id_array,
    is_dataset,
    is_frame,
    refuse_missing_times,
    refuse_repeated_names,
    time_numbers,
    where_first,
)
from sktwotower.utils._sklearn import (
    check_feature_names,
    check_sample_weight,
    column_indices,
)

Frame = pd.DataFrame | pd.Series


@dataclass(frozen=True, eq=False)
class DedupedFeatures:
    """Features of n rows, of which equal ones are held once.

    Attributes
    ----------
    frame : DataFrame or Series of m rows
        The features.
    places : ndarray of shape (n,), int32
        Which of them each row has.
    """

    frame: Frame
    places: np.ndarray


@dataclass(frozen=True, eq=False)
class Interactions:
    """Checked rows of X, y and sample_weight.

    Attributes
    ----------
    users, items : ndarray of shape (n,)
        Ids; nothing is missing. A Categorical where they come from files, also those that
        NumPy has mapped.
    positive : ndarray of shape (n,), bool
        ``y is None`` or ``y > 0``.
    weights : ndarray of shape (n,) or None
        Positive sample weights; rows of weight 0 have left.
    times : ndarray of shape (n,) or None
        Timestamps as numbers that order like them.
    user_features, item_features : DataFrame or Series of n rows, or None
        Feature columns that ride along. DedupedFeatures where they come from files.
    labels : ndarray of shape (n,) or None
        y as it was given; None: 1 everywhere.
    """

    users: np.ndarray
    items: np.ndarray
    positive: np.ndarray
    weights: np.ndarray | None
    times: np.ndarray | None
    user_features: Frame | None = None
    item_features: Frame | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Interactions:
        """Some of the rows: a mask or positions."""
        return Interactions(
            users=_ids_of(self.users, rows),
            items=_ids_of(self.items, rows),
            positive=memmap.take(self.positive, rows),
            weights=None if self.weights is None else memmap.take(self.weights, rows),
            times=None if self.times is None else memmap.take(self.times, rows),
            user_features=_rows_of(self.user_features, rows),
            item_features=_rows_of(self.item_features, rows),
            labels=None if self.labels is None else memmap.take(self.labels, rows),
        )

    def without_zero_weights(self) -> Interactions:
        """Without the rows that do not count."""
        if self.weights is None or self.weights.all():
            return self
        return self.take(self.weights > 0)

    def unfolded(self) -> Interactions:
        """With arrays of ids and frames of features, wherever they come from."""
        return replace(
            self,
            users=np.asarray(self.users),
            items=np.asarray(self.items),
            user_features=_unfolded(self.user_features),
            item_features=_unfolded(self.item_features),
        )


def to_categorical(codes: np.ndarray, ids: np.ndarray) -> pd.Categorical:
    """Ids by their numbers, (n,) int32; equal ones among them become one."""
    numbers, distinct = pd.factorize(ids)  # Arrow has two zeros, 0.0 and -0.0
    if len(distinct) < len(ids):
        codes = memmap.take(numbers.astype(np.int32), codes)
    return pd.Categorical.from_codes(codes, pd.Index(distinct, dtype=distinct.dtype))


def codes_of(ids: Any) -> np.ndarray:
    """Equal numbers from 0 for equal ids, (n,)."""
    return ids.codes if isinstance(ids, pd.Categorical) else pd.factorize(ids)[0]


def _ids_of(ids: Any, rows: np.ndarray) -> Any:
    if isinstance(ids, pd.Categorical):
        return pd.Categorical.from_codes(memmap.take(ids.codes, rows), dtype=ids.dtype)
    return ids[rows]


def _rows_of(features: Any, rows: np.ndarray) -> Any:
    if isinstance(features, DedupedFeatures):
        return DedupedFeatures(features.frame, memmap.take(features.places, rows))
    return None if features is None else features.iloc[rows].reset_index(drop=True)


def _unfolded(features: Any) -> Any:
    if isinstance(features, DedupedFeatures):
        return features.frame.iloc[features.places].reset_index(drop=True)
    return features


@dataclass(frozen=True, eq=False)
class FeatureColumns:
    """Columns of X that are features of one side.

    Attributes
    ----------
    names : list of str
        Their names; ``x2`` for the third column of an array.
    positions : list of int
        Where they were in the X of fit.
    by_name : bool
        Whether a frame has them by name, and not by position.
    single : bool
        Whether they were given as one name, so that an encoder gets a 1-D column.
    """

    names: list[str]
    positions: list[int]
    by_name: bool
    single: bool = False

    @classmethod
    def of(cls, estimator: BaseEstimator, X: pd.DataFrame | np.ndarray, side: str) -> Any:
        """Those that the parameter of an unfitted estimator names; None without any.

        Raises
        ------
        ValueError
            If a column is not there, or is the id of the side.
        """
        parameter = f"{side}_features"
        wanted = getattr(estimator, parameter)
        if wanted is None:
            return None
        try:
            chosen = wanted(X) if callable(wanted) else wanted
            positions = np.atleast_1d(column_indices(X, chosen)).tolist()
        except (ValueError, IndexError, KeyError) as error:
            known = list(X.columns) if isinstance(X, pd.DataFrame) else X.shape[1]
            raise ValueError(
                f"{parameter}={wanted!r} are not columns of X ({error}); the columns are "
                f"{known}."
            ) from error
        roles = Roles.of(estimator)
        ids = {
            column_position(getattr(roles, role), list(roles.names or []), role=role): role
            for role in ("user_column", "item_column")
        }
        named = [position for position in positions if position in ids]
        if named and not callable(wanted):
            raise ValueError(
                f"{parameter}={wanted!r} names the {ids[named[0]]}; ids have an embedding "
                "of their own and are no features. Leave it out."
            )
        positions = [position for position in positions if position not in ids]
        if len(set(positions)) < len(positions):
            raise ValueError(f"{parameter}={wanted!r} names a column twice.")
        if not positions:
            return None
        by_name = hasattr(estimator, "feature_names_in_")
        names = [f"x{position}" for position in positions]
        if by_name and isinstance(X, pd.DataFrame):
            names = [X.columns[position] for position in positions]
        return cls(names, positions, by_name, single=isinstance(wanted, str | Integral))

    def refuse_lacking(self, X: pd.DataFrame | np.ndarray) -> None:
        """Raise ValueError if a frame to learn from lacks some of them."""
        if isinstance(X, pd.DataFrame) and self.by_name:
            lacking = [name for name in self.names if name not in X.columns]
            if lacking:
                raise ValueError(
                    f"X lacks the feature columns {lacking} that were there before; the "
                    f"columns are {list(X.columns)}."
                )

    def read(self, X: pd.DataFrame | np.ndarray) -> Frame | None:
        """Those that X has, with a plain index; None if it has none of them."""
        if isinstance(X, np.ndarray):
            columns = zip(self.names, self.positions, strict=True)
            frame = pd.DataFrame({name: X[:, position] for name, position in columns})
            return self.checked(frame.infer_objects())
        names = self.names_in(X)
        frame = X[list(names.values())].set_axis(list(names), axis=1)
        return self.checked(frame.reset_index(drop=True))

    def names_in(self, X: pd.DataFrame) -> dict[str, Any]:
        """The names of those that a frame has, and what they are called there."""
        if self.by_name:
            return {name: name for name in self.names if name in X.columns}
        return {
            name: X.columns[position]
            for name, position in zip(self.names, self.positions, strict=True)
        }

    def checked(
        self, frame: pd.DataFrame, places: np.ndarray | None = None
    ) -> Frame | None:
        """A frame of such columns as an encoder gets it; None without a column.

        ``places`` say which of its rows each row of X has, if not its own.
        """
        for name in frame:
            column = frame[name]
            if column.dtype.kind == "f" and np.isinf(column.to_numpy(float)).any():
                rows, first = where_first(np.isinf(column.to_numpy(float)), places)
                raise ValueError(
                    f"Column {name!r} of X has {rows} with an infinite value {first}; "
                    "replace or drop them."
                )
        if self.single:
            return frame.iloc[:, 0] if frame.shape[1] else None
        return frame if frame.shape[1] else None


@dataclass(frozen=True, eq=False)
class Roles:
    """Which columns of X mean what.

    Attributes
    ----------
    user_column, item_column, timestamp_column : str, int or None
        Names, or positions among ``names``.
    names : list or None
        The columns of fit, among which positions count; None: those of the X at hand.
    owner : str
        Who reads, for messages.
    user_features, item_features : FeatureColumns or None
        Columns that are read if they are there.
    """

    user_column: Column = 0
    item_column: Column = 1
    timestamp_column: Column | None = None
    names: list | None = None
    owner: str = "This estimator"
    user_features: FeatureColumns | None = None
    item_features: FeatureColumns | None = None

    @classmethod
    def of(cls, estimator: BaseEstimator) -> Roles:
        """The roles that a fitted estimator's parameters give."""
        names = getattr(estimator, "feature_names_in_", None)
        return cls(
            user_column=estimator.user_column,
            item_column=estimator.item_column,
            timestamp_column=getattr(estimator, "timestamp_column", None),
            names=list(range(estimator.n_features_in_)) if names is None else list(names),
            owner=type(estimator).__name__,
            user_features=getattr(estimator, "_user_features", None),
            item_features=getattr(estimator, "_item_features", None),
        )

    def refuse_same_column(self) -> None:
        """Raise ValueError if two roles would be read from one column."""
        names = list(self.names or [])
        role_of: dict[int, str] = {}
        for role in ("user_column", "item_column", "timestamp_column"):
            column = getattr(self, role)
            if column is None:
                continue
            position = column_position(column, names, role=role)
            if position in role_of:
                other = role_of[position]
                raise ValueError(
                    f"{other}={getattr(self, other)!r} and {role}={column!r} are the same "
                    f"column of X, {names[position]!r}."
                )
            role_of[position] = role

    def has(self, X: pd.DataFrame | np.ndarray, role: str) -> bool:
        """Whether the column is there; an array has them all."""
        name = getattr(self, role)
        if self.names is not None and not isinstance(name, str):
            name = self.names[name]
        return isinstance(X, np.ndarray) or not isinstance(name, str) or name in X.columns

    def column(self, X: pd.DataFrame | np.ndarray, role: str) -> Any:
        """The column of X that has a role.

        Raises
        ------
        ValueError
            If it is not there.
        """
        given: Column = getattr(self, role)
        names = self.names
        if names is None:
            names = (
                list(range(X.shape[1])) if isinstance(X, np.ndarray) else list(X.columns)
            )
        position = column_position(given, names, role=role)
        if isinstance(X, np.ndarray):
            return X[:, position]
        if not isinstance(names[position], str):
            return X.iloc[:, position]
        if names[position] not in X.columns:
            raise ValueError(
                f"X lacks the column {names[position]!r} ({role}={given!r}) that "
                f"{self.owner} was fitted with; the columns are {list(X.columns)}."
            )
        return X[names[position]]

    def ids(self, X: pd.DataFrame | np.ndarray, role: str) -> np.ndarray:
        """The ids in the column of X that has a role, checked."""
        column = self.column(X, role)
        return self.checked_ids(column, role, getattr(column, "name", getattr(self, role)))

    def checked_ids(
        self, column: Any, role: str, name: Any, places: np.ndarray | None = None
    ) -> np.ndarray:
        """The ids of a column, called so, or of the values that its rows have."""
        entity = role.removesuffix("_column")
        where = f"Column {name!r} of X"
        return id_array(column, what=f"{entity} id", where=where, places=places)


def check_X(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame | np.ndarray:
    """X as a pandas frame or a 2-D array, after scikit-learn's checks of its shape.

    With ``reset=True`` the number and the names of the columns are taken down. Later a
    frame needs only the columns that are used; an array must have as many as at fit.
    """
    X = as_interactions(X, owner=type(estimator).__name__)
    check_columns(estimator, X, reset=reset)
    return X


def check_columns(
    estimator: BaseEstimator, X: pd.DataFrame | np.ndarray, *, reset: bool
) -> None:
    """The part of :func:`check_X` that does not look at rows."""
    owner = type(estimator).__name__
    if reset:
        if X.shape[1] < 2:
            raise ValueError(
                f"X has {X.shape[1]} feature(s), but {owner} needs at least two columns: a "
                "user id and an item id."
            )
        validate_data(estimator, X, skip_check_array=True)
        Roles.of(estimator).refuse_same_column()
        return
    named = hasattr(estimator, "feature_names_in_")
    if isinstance(X, np.ndarray) or not named:
        check_feature_names(estimator, X, reset=False)
        if X.shape[1] != estimator.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {owner} is expecting "
                f"{estimator.n_features_in_} features as input."
            )


def as_interactions(X: Any, *, owner: str) -> pd.DataFrame | np.ndarray:
    """X as a pandas frame or a 2-D array with at least one row; ids may be anything."""
    if is_frame(X):
        frame: pd.DataFrame = as_pandas(X)
        refuse_repeated_names(frame, where="X")
        refuse_no_rows(frame.shape, owner=owner)
        return frame
    if is_dataset(X):
        raise TypeError(
            f"X is {describe(X)}, which is read by fit and partial_fit of a "
            "TwoTowerRecommender only. Read it first, for example with "
            "pandas.read_parquet; if it is large, some of its rows at a time."
        )
    if sp.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but interactions are rows of (user id, item "
            "id): dense data is required. Use a frame or X.toarray()."
        )
    if isinstance(X, list | tuple):
        X = as_objects(X)
    return check_array(X, dtype=None, ensure_all_finite=False, input_name="X")


def describe(X: Any) -> str:
    """A path or a dataset, for messages."""
    if isinstance(X, str | os.PathLike):
        return f"the path {os.fspath(X)!r}"
    return f"a {type(X).__name__}"


def refuse_no_rows(shape: tuple[int, int], *, owner: str) -> None:
    """Raise ValueError if there is no row."""
    if shape[0] == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is "
            f"required by {owner}."
        )


def read_interactions(
    X: pd.DataFrame | np.ndarray,
    y: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    roles: Roles,
    in_blocks: bool = False,
) -> Interactions:
    """Take X, y and sample_weight apart and refuse what is wrong in them.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
        Interactions, as :func:`check_X` returns them; columns without a role are not
        looked at.
    y : array-like of shape (n_samples,), optional
        A row is a positive when its y is above 0; None: all are.
    sample_weight : array-like of shape (n_samples,), optional
        Rows of weight 0 leave.
    roles : Roles
        Which columns are read.
    in_blocks : bool, default=False
        Whether ids and times are read some rows at a time: X is an array that is mapped
        into memory, and may not fit into it.

    Raises
    ------
    ValueError
        With the column, the count and the first row, for whatever is wrong.
    """
    read_ids: Callable[[Any, str], Any] = roles.ids
    if in_blocks:
        read_ids = partial(_ids_in_blocks, roles)
    users, items = read_ids(X, "user_column"), read_ids(X, "item_column")
    times = None
    if roles.timestamp_column is not None:
        column = roles.column(X, "timestamp_column")
        read_times = _times_in_blocks if in_blocks else time_numbers
        times = read_times(column, name=roles.timestamp_column)
    weights = None
    if sample_weight is not None:
        weights = checked_weights(sample_weight, X)
    labels = None if y is None else _labels(y, len(X))
    positive = memmap.full(len(X), True, bool)
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
    ).without_zero_weights()


def _ids_in_blocks(roles: Roles, X: np.ndarray, role: str) -> pd.Categorical:
    """The ids of an array's column, as codes and distinct ids."""
    column = roles.column(X, role)
    # Values that pandas has hash tables for; the checks are those of the distinct ones.
    kind: Any = column.dtype
    if kind.kind not in "mM":
        kind = np.dtype(f"{kind.kind}8" if kind.kind in "iuf" else object)
    distinct = np.empty(0, dtype=kind)
    for block in memmap.blocks(len(column)):
        new = pd.unique(column[block].astype(kind))
        distinct = pd.unique(np.concatenate([distinct, new]))
    index, codes = pd.Index(distinct), memmap.empty(len(column), np.int32)
    for block in memmap.blocks(len(column)):
        codes[block] = index.get_indexer(column[block].astype(kind))
    return to_categorical(
        codes, roles.checked_ids(distinct, role, getattr(roles, role), codes)
    )


def _times_in_blocks(column: np.ndarray, *, name: Column) -> np.ndarray:
    missing = memmap.empty(len(column), bool)
    for block in memmap.blocks(len(column)):
        missing[block] = pd.isna(column[block])
    refuse_missing_times(missing, name=name)
    first, *others = memmap.blocks(len(column))
    numbers = time_numbers(column[first], name=name)
    times = memmap.empty(len(column), numbers.dtype)
    times[first] = numbers
    for block in others:
        times[block] = time_numbers(column[block], name=name)
    return times


def checked_weights(sample_weight: ArrayLike, X: Any) -> np.ndarray:
    """Weights of the rows of X, not all of them 0."""
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
    given: np.ndarray = column_or_1d(y, warn=True)
    if len(given) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n} rows, "
            f"y has {len(given)}."
        )
    return checked_labels(label_numbers(given))


def label_numbers(y: ArrayLike) -> np.ndarray:
    """Labels as float64."""
    try:
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Unknown label type: y must hold numbers, above 0 for a positive "
            f"interaction ({error})."
        ) from error


def checked_labels(labels: np.ndarray) -> np.ndarray:
    """Labels of which none is missing or infinite."""
    missing = np.isnan(labels)
    if missing.any():
        rows, first = where_first(missing)
        raise ValueError(f"Input y contains NaN: {rows} {first}; drop or fill them.")
    if np.isinf(labels).any():
        rows, first = where_first(np.isinf(labels))
        raise ValueError(f"Input y contains infinity: {rows} {first}.")
    return labels
