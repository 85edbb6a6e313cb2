"""Columns of X before a ColumnTransformer, by which the frames of queries are checked."""

from __future__ import annotations

from collections import UserList
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import FunctionTransformer

from sktwotower._data.column_names import refuse_misspelt, refuse_no_ids, with_index
from sktwotower._data.queries import FrameColumns
from sktwotower._data.roles import ColumnRoles, SideName
from sktwotower.utils._columns import Column, as_pandas, column_position
from sktwotower.utils._sklearn import column_indices, is_column_transformer


@dataclass(frozen=True, eq=False)
class SourceColumns:
    """What the columns that a recommender was fitted with are made of.

    Attributes
    ----------
    step : ColumnTransformer
        The first of those that make them.
    sources : list of list of str
        The columns before ``step`` that each column after the transformers is made of.
    roles : ColumnRoles
        What the columns after the transformers mean.
    """

    step: Any
    sources: list[list[str]]
    roles: ColumnRoles

    def refuse_unclear_rows(
        self,
        frame: pd.DataFrame,
        columns: FrameColumns,
        side: SideName,
        *,
        where: str,
        needs_ids: bool,
    ) -> None:
        """Raise ValueError for a frame of users or items that would be misread.

        Parameters
        ----------
        frame : DataFrame
            What ``step`` is going to transform, which leaves out columns of other names.
        columns : FrameColumns
            What the recommender reads from the transformed frame.
        side, where : str
            What the rows are, and the name of the argument.
        needs_ids : bool
            Whether features are not enough.
        """
        ids = self._role(f"{side}_column")
        for name in columns.ids:
            ids += self._made_of(name)
        ids = list(dict.fromkeys(ids))
        features = dict.fromkeys(
            n for name in columns.features for n in self._made_of(name)
        )
        known = self.step.feature_names_in_.tolist()
        source = FrameColumns(ids, [name for name in features if name not in ids], known)
        named, values = source.read(frame, side, where=where)
        if named is None and (needs_ids or values is None):
            refuse_no_ids(frame, ids, where=where, side=side)

    def refuse_unclear_pairs(self, frame: pd.DataFrame, *, where: str) -> None:
        """Raise ValueError for a frame of interactions that lacks ids or is misspelt."""
        ids: dict[SideName, list[str]] = {
            "user": self._role("user_column"),
            "item": self._role("item_column"),
        }
        frame = with_index(frame, [*ids["user"], *ids["item"]])
        wanted = self._role("timestamp_column")
        for features in (self.roles.user_features, self.roles.item_features):
            for position in () if features is None else features.positions:
                wanted += self.sources[position]
        known = self.step.feature_names_in_.tolist()
        refuse_misspelt(frame, dict.fromkeys(wanted), known, where=where)
        for side, names in ids.items():
            if not any(name in frame.columns for name in names):
                refuse_no_ids(frame, names, where=where, side=side)

    def of_table(self, frame: pd.DataFrame, columns: FrameColumns) -> pd.DataFrame:
        """Columns of a side table in a frame, which the transformers would leave out."""
        made, known = self._labels, self.step.feature_names_in_
        names = [name for name in columns.ids if name not in made and name not in known]
        names += [name for name in columns.features if name not in made]
        frame = with_index(frame, names)
        return frame[[name for name in dict.fromkeys(names) if name in frame.columns]]

    @property
    def _labels(self) -> list[Column]:
        """Names of the columns after the transformers, as features are called."""
        names = self.roles.feature_names
        if names is None:
            return [f"x{position}" for position in range(len(self.sources))]
        return names.tolist()

    def _role(self, role: str) -> list[str]:
        column = getattr(self.roles, role)
        if column is None:
            return []
        return list(
            self.sources[column_position(column, self.roles.names or [], role=role)]
        )

    def _made_of(self, name: Column) -> list[Any]:
        """Sources of a column after the transformers; a column of a table is its own."""
        labels = self._labels
        return self.sources[labels.index(name)] if name in labels else [name]


def source_columns(steps: Sequence[Any], roles: ColumnRoles) -> SourceColumns | None:
    """The sources of the columns after some steps; None if they are not known.

    They are known where the last of the steps are ColumnTransformers that select columns of
    frames.
    """
    found: SourceColumns | None = None
    for step in reversed(steps):
        if not is_column_transformer(step) or not hasattr(step, "feature_names_in_"):
            break
        sources = _sources_of_outputs(step)
        if found is None:
            if len(sources) != len(roles.names or []):
                return None
            found = SourceColumns(step, sources, roles)
        else:
            made_of = dict(zip(found.step.feature_names_in_, sources, strict=True))
            joined = [
                list(dict.fromkeys(source for name in names for source in made_of[name]))
                for names in found.sources
            ]
            found = replace(found, step=step, sources=joined)
    return found


def lacking_columns(step: Any, X: Any) -> list[str]:
    """Columns that a ColumnTransformer needs and a frame does not have."""
    if not is_column_transformer(step) or not hasattr(step, "feature_names_in_"):
        return []
    needed = {name for names in _columns_of_transformers(step).values() for name in names}
    lacking = needed - set(as_pandas(X).columns)
    return [name for name in step.feature_names_in_ if name in lacking]


def transformers_with_columns(step: Any, X: pd.DataFrame) -> tuple[Any, list[str]]:
    """The transformers of a ColumnTransformer that a frame has the columns for.

    A transformer that passes columns through is one of them if any column is there. The
    second result is the list of output columns that it then has for missing columns.
    """
    part = copy(step)
    part.transformers_, missing_out = [], []
    columns, names_out = _columns_of_transformers(step), step.get_feature_names_out()
    for key, transformer, selection in step.transformers_:
        is_there = np.array([name in X for name in columns.get(key, ())], dtype=bool)
        # scikit-learn replaces "passthrough" by a transformer without a function.
        passes = isinstance(transformer, FunctionTransformer) and transformer.func is None
        if is_there.any() and (passes or is_there.all()):
            part.transformers_.append((key, transformer, selection))
        if is_there.any() and passes:
            missing_out += names_out[step.output_indices_[key]][~is_there].tolist()
    return part, missing_out


def _columns_of_transformers(step: Any) -> dict[str, list[str]]:
    """Names of the input columns of each transformer that has an output."""
    names = step.feature_names_in_
    frame = pd.DataFrame(columns=names)
    found = {}
    for key, transformer, columns in step.transformers_:
        if not (isinstance(transformer, str) and transformer == "drop"):
            positions = np.atleast_1d(column_indices(frame, _plain(columns)))
            found[key] = names[positions.astype(int)].tolist()
    return {key: columns for key, columns in found.items() if columns}


def _plain(columns: Any) -> Any:
    """The list of the columns of a remainder, which scikit-learn 1.6 wraps to warn."""
    return columns.data if isinstance(columns, UserList) else columns


def _sources_of_outputs(step: Any) -> list[list[str]]:
    """The input columns that each output column of a ColumnTransformer is made of."""
    transformers = {key: transformer for key, transformer, _ in step.transformers_}
    n_outputs = max(selected.stop for selected in step.output_indices_.values())
    sources: list[list[str]] = [[] for _ in range(n_outputs)]
    for key, names in _columns_of_transformers(step).items():
        selected = step.output_indices_[key]
        one_to_one = _keeps_names(transformers[key], names)
        for number, position in enumerate(range(selected.start, selected.stop)):
            sources[position] = [names[number]] if one_to_one else names
    return sources


def _keeps_names(transformer: Any, names: list[str]) -> bool:
    """Whether each output of a fitted transformer is made of the input of its name."""
    try:
        return list(transformer.get_feature_names_out(names)) == names
    except (AttributeError, ValueError):  # it cannot say, or a step of it cannot
        return False
