"""What the columns of X mean, and checks of X as a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_array

from sktwotower._data.column_names import refuse_misspelt, with_index
from sktwotower._data.table_ids import refuse_index_at_position, refuse_unnamed_features
from sktwotower.utils._arrow_types import time_types
from sktwotower.utils._columns import (
    Column,
    as_objects,
    as_pandas,
    column_position,
    id_array,
    is_dataset,
    refuse_repeated_names,
    where_first,
)
from sktwotower.utils._forms import given, how_to_give_rows
from sktwotower.utils._sklearn import check_feature_names, column_indices, feature_names
from sktwotower.utils._spelling import any_meant, meant_by
from sktwotower.utils._times import TimeRange

Frame = pd.DataFrame | pd.Series
Rows = pd.DataFrame | np.ndarray
# How the parameters ``user_features`` and ``item_features`` name columns.
Selection = str | int | list | slice | np.ndarray | Callable[[Rows], Any] | None

SideName = Literal["user", "item"]
SIDES: tuple[SideName, ...] = get_args(SideName)
OTHER: dict[SideName, SideName] = {"user": "item", "item": "user"}


@dataclass(frozen=True, eq=False)
class FeatureColumns:
    """Columns of X that are features of one side.

    Attributes
    ----------
    names : list of str
        Their names; ``x2`` for the third column of an array.
    positions : list of int
        Their positions in the X of ``fit``.
    by_name : bool
        Whether a frame has them by name, and not by position.
    single : bool
        Whether they were given as one name, so that an encoder gets a 1-D column.
    """

    names: list[str]
    positions: list[int]
    by_name: bool
    single: bool = False

    def refuse_lacking(self, X: Rows) -> None:
        """Raise ValueError if a frame to learn from lacks some of them."""
        if isinstance(X, pd.DataFrame) and self.by_name:
            lacking = [name for name in self.names if name not in X.columns]
            if lacking:
                raise ValueError(
                    f"X lacks the feature columns {lacking} that were there before; the "
                    f"columns are {list(X.columns)}."
                )

    def read(self, X: Rows) -> Frame | None:
        """The columns that X has, with a plain index; None if it has none of them."""
        if isinstance(X, np.ndarray):
            columns = zip(self.names, self.positions, strict=True)
            frame = pd.DataFrame({name: X[:, position] for name, position in columns})
            return self.checked(frame.infer_objects())
        names = self.names_in(X)
        frame = X[list(names.values())].set_axis(list(names), axis=1)
        return self.checked(frame.reset_index(drop=True))

    def names_in(self, X: pd.DataFrame) -> dict[str, Any]:
        """Name of each column that a frame has, and its label in that frame."""
        if self.by_name:
            return {name: name for name in self.names if name in X.columns}
        return {
            name: X.columns[position]
            for name, position in zip(self.names, self.positions, strict=True)
        }

    def checked(
        self, frame: pd.DataFrame, positions: np.ndarray | None = None
    ) -> Frame | None:
        """A frame of such columns as an encoder gets it; None without a column.

        ``positions`` say which of its rows each row of X has, if not its own.
        """
        for name in frame:
            column = frame[name]
            if column.dtype.kind == "f" and np.isinf(column.to_numpy(float)).any():
                rows, first = where_first(np.isinf(column.to_numpy(float)), positions)
                raise ValueError(
                    f"Column {name!r} of X has {rows} with an infinite value {first}; "
                    "replace or drop them."
                )
        if self.single:
            return frame.iloc[:, 0] if frame.shape[1] else None
        return frame if frame.shape[1] else None


@dataclass(frozen=True, eq=False)
class ColumnRoles:
    """What the columns of X mean: as ``fit`` found it, or as the caller names them.

    Attributes
    ----------
    user_column, item_column, timestamp_column : str, int or None
        Names, or positions among ``names``.
    names : list or None
        Names of the columns of the X of ``fit``, or their positions if they have no names;
        positions count among them. None: the columns of the X at hand count.
    owner : str
        Name of the estimator, for messages.
    user_features, item_features : FeatureColumns or None
        Feature columns of X, which are read if X has them.
    times : TimeRange or None
        What the timestamps of training were; None: there were none.
    arrow_times : dict
        The dtypes of columns of times that pandas had in Arrow's memory, by name.
    """

    user_column: Column = 0
    item_column: Column = 1
    timestamp_column: Column | None = None
    names: list | None = None
    owner: str = "This estimator"
    user_features: FeatureColumns | None = None
    item_features: FeatureColumns | None = None
    times: TimeRange | None = None
    arrow_times: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_fit(
        cls,
        X: Rows,
        *,
        owner: str,
        user_column: Column,
        item_column: Column,
        timestamp_column: Column | None = None,
        user_features: Selection = None,
        item_features: Selection = None,
    ) -> ColumnRoles:
        """The roles of the columns of an X to learn from.

        Parameters
        ----------
        X : DataFrame or ndarray
            Its columns; the rows are not looked at.
        owner : str
            Name of the estimator.
        user_column, item_column, timestamp_column, user_features, item_features
            As in :class:`~sktwotower.TwoTowerRecommender`.

        Raises
        ------
        ValueError
            If a column is not there, or has two roles.
        """
        if X.shape[1] < 2:
            raise ValueError(
                f"X has {X.shape[1]} feature(s), but {owner} needs at least two columns: a "
                "user id and an item id."
            )
        known = feature_names(X)
        names = list(range(X.shape[1])) if known is None else list(known)
        roles = cls(user_column, item_column, timestamp_column, names, owner)
        roles._refuse_same_column(labels_of(X))
        for role in ("user_column", "item_column"):
            column = getattr(roles, role)
            name = column if isinstance(column, str) else names[column]
            refuse_index_at_position(column, name, role=role)
        return replace(
            roles,
            user_features=roles._select(X, user_features, "user_features"),
            item_features=roles._select(X, item_features, "item_features"),
            arrow_times=time_types(X),
        )

    @property
    def feature_names(self) -> np.ndarray | None:
        """Names of the columns of ``fit``, (n_columns,) object; None without names."""
        if self.names is None or not all(isinstance(name, str) for name in self.names):
            return None
        return np.array(self.names, dtype=object)

    def features(self, side: str) -> FeatureColumns | None:
        """The feature columns of the users or the items."""
        return self.user_features if side == "user" else self.item_features

    def name_of(self, column: Column | None) -> Column | None:
        """The name of a column of ``fit``; None if it has a position only."""
        if isinstance(column, str) or column is None:
            return column
        return None if self.feature_names is None else self.feature_names[column]

    def check(self, X: Any, *, where: str = "X") -> Rows:
        """An X that comes after ``fit``, as a pandas frame or a 2-D array.

        A frame needs only the columns that are used, or has them in its index; an array
        must have as many columns as the X of ``fit``. Messages call X ``where``.
        """
        X = as_interactions(X, owner=self.owner, where=where, in_index=self.named_columns)
        self.check_columns(X, where=where)
        return X

    def check_columns(self, X: Rows, *, where: str = "X") -> None:
        """The part of :meth:`check` that does not look at rows."""
        names = self.feature_names
        if isinstance(X, pd.DataFrame) and names is not None:
            self.refuse_misspelt(X, where=where)
            return
        # scikit-learn's check asks an estimator for its name and its columns.
        estimator = type(self.owner, (), {})()
        if names is not None:
            estimator.feature_names_in_ = names
        check_feature_names(estimator, X, reset=False)
        n_columns = len(self.names or [])
        if X.shape[1] != n_columns:
            raise ValueError(
                f"{where} has {X.shape[1]} features, but {self.owner} is expecting "
                f"{n_columns} features as input."
            )

    @property
    def named_columns(self) -> list[str]:
        """Names of the columns that have a role and a name."""
        columns = (self.user_column, self.item_column, self.timestamp_column)
        return [str(name) for name in map(self.name_of, columns) if name is not None]

    def refuse_misspelt(self, X: Rows, *, where: str = "X") -> None:
        """Raise ValueError for a column that is not read because of its spelling."""
        if not isinstance(X, pd.DataFrame):
            return
        time = self.name_of(self.timestamp_column)
        names = [] if time is None else [str(time)]
        for features in (self.user_features, self.item_features):
            if features is not None and features.by_name:
                names += features.names
        refuse_misspelt(X, names, self.names or [], where=where)

    def refuse_lacking_features(self, X: Rows) -> None:
        """Raise ValueError if a frame to learn from lacks feature columns."""
        for features in (self.user_features, self.item_features):
            if features is not None:
                features.refuse_lacking(X)

    def description(self, role: str, *, where: str = "X") -> str:
        """The column of a role for messages: ``"column 'user' of X"``."""
        column = getattr(self, role)
        name = self.name_of(column)
        return f"column {column if name is None else name!r} of {where}"

    def has_times(self, X: Rows) -> bool:
        """Whether X has the timestamp column; an array has all columns."""
        if self.timestamp_column is None:
            return False
        name: Any = self.timestamp_column
        if self.names is not None and not isinstance(name, str):
            name = self.names[name]
        return isinstance(X, np.ndarray) or not isinstance(name, str) or name in X.columns

    def column(self, X: Rows, role: str, *, where: str = "X") -> Any:
        """The column of X that has a role.

        Raises
        ------
        ValueError
            If it is not there; the message calls X ``where``.
        """
        column: Column = getattr(self, role)
        names = self.names
        if names is None or self.feature_names is None:
            names = labels_of(X)
        position = column_position(column, names, role=role, where=where)
        if isinstance(X, np.ndarray):
            return X[:, position]
        if not isinstance(names[position], str) or self.feature_names is None:
            return X.iloc[:, position]
        if names[position] not in X.columns:
            raise ValueError(
                f"{where} lacks the column {names[position]!r} ({role}={column!r}) that "
                f"{self.owner} was fitted with; the columns are {list(X.columns)}."
                f"{meant_by(names[position], X.columns)}"
            )
        return X[names[position]]

    def time_range(self, kind: str, times: np.ndarray, *, where: str = "X") -> TimeRange:
        """The range of the times of training and of these, (n,).

        Raises
        ------
        ValueError
            If these are of another kind, or numbers of another unit; the message calls
            what has them ``where``.
        """
        name = self.timestamp_column
        assert name is not None
        if self.times is not None:
            self.times.refuse_others(kind, times, name=name, where=where)
        found = TimeRange.of(kind, times)
        found.refuse_mixed_units(name=name, where=where)
        return found.joined(self.times)

    def ids(self, X: Rows, role: str, *, where: str = "X") -> np.ndarray:
        """The ids in the column of X that has a role, checked."""
        column = self.column(X, role, where=where)
        name = getattr(column, "name", getattr(self, role))
        return self.checked_ids(column, role, name, where=where)

    def checked_ids(
        self,
        column: Any,
        role: str,
        name: Any,
        positions: np.ndarray | None = None,
        *,
        where: str = "X",
    ) -> np.ndarray:
        """The ids of a column of this name.

        ``positions`` say which of its values each row of X has, if not its own. Messages
        call X ``where``.
        """
        entity = role.removesuffix("_column")
        where = f"Column {name!r} of {where}"
        return id_array(column, what=f"{entity} id", where=where, positions=positions)

    def _refuse_same_column(self, names: list) -> None:
        """Raise ValueError if two roles would be read from one column."""
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

    def _select(self, X: Rows, wanted: Selection, parameter: str) -> FeatureColumns | None:
        """The columns that ``user_features`` or its like names; None without any."""
        if wanted is None:
            return None
        try:
            chosen = wanted(X) if callable(wanted) else wanted
            positions = np.atleast_1d(column_indices(X, chosen)).tolist()
        except (ValueError, IndexError, KeyError) as error:
            known = list(X.columns) if isinstance(X, pd.DataFrame) else X.shape[1]
            names = wanted if isinstance(wanted, list) else [wanted]
            raise ValueError(
                f"{parameter}={wanted!r} are not columns of X ({error}); the columns are "
                f"{known}.{any_meant(names, labels_of(X))}"
            ) from error
        names = list(self.names or [])
        if callable(wanted) or isinstance(wanted, slice):
            refuse_unnamed_features(
                [names[position] for position in positions],
                where=f"X, of which {parameter} selects columns,",
                name_them="list the features by their names",
            )
        ids = {
            column_position(getattr(self, role), names, role=role): role
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
        by_name = self.feature_names is not None
        labels = [f"x{position}" for position in positions]
        if by_name and isinstance(X, pd.DataFrame):
            labels = [X.columns[position] for position in positions]
        single = isinstance(wanted, str | Integral)
        return FeatureColumns(labels, positions, by_name, single=single)


def labels_of(X: Rows) -> list:
    """The labels of the columns of a frame; positions of those of an array."""
    return list(range(X.shape[1])) if isinstance(X, np.ndarray) else list(X.columns)


def as_interactions(
    X: Any, *, owner: str, where: str = "X", in_index: Sequence[Column | None] = ()
) -> pd.DataFrame | np.ndarray:
    """X as a pandas frame or a 2-D array with at least one row; ids may be anything.

    Levels of a frame's index that are named ``in_index`` become columns. Messages call X
    ``where``.
    """
    X = as_pandas(X, where=where)
    if isinstance(X, pd.DataFrame):
        X = with_index(X, in_index)
        refuse_repeated_names(X, where=where)
        refuse_no_rows(X.shape, owner=owner)
        return X
    if is_dataset(X):
        raise TypeError(
            f"{where} is {describe(X)}, which is read by fit and partial_fit of a "
            "TwoTowerRecommender only. Read it first, for example with "
            "pandas.read_parquet; if it is large, some of its rows at a time."
        )
    if sp.issparse(X):
        raise TypeError(
            f"Sparse data was passed for {where}, but interactions are rows of (user id, "
            "item id): dense data is required. Use a frame or .toarray()."
        )
    if isinstance(X, list | tuple):
        X = as_objects(X, where=where)
    elif hasattr(X, "__array__") and not isinstance(X, np.ndarray):
        X = np.asarray(X)
    if np.ndim(X) != 2:
        raise ValueError(
            f"{where} must be rows of (user id, item id), in two dimensions: a frame, a "
            f"2-D array or a list of rows; got {given(X)}. {how_to_give_rows(X)}"
        )
    return check_array(X, dtype=None, ensure_all_finite=False, input_name=where)


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
