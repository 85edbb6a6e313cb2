"""What queries may choose from, in the forms in which people have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.column_names import refuse_misspelt, refuse_row
from sktwotower._data.feature_frames import value_codes
from sktwotower._data.known_ids import warn_of_other_queries
from sktwotower._data.pair_forms import (
    are_lists,
    flat_lists,
    has_lists,
    pairs_by_id,
    ungrouped,
)
from sktwotower._data.queries import FrameColumns, Query, read_entities
from sktwotower._data.roles import ColumnRoles, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils._columns import as_pandas, id_array, refuse_repeated_names
from sktwotower.utils._forms import as_listed, given, how_to_list


@dataclass(frozen=True, eq=False)
class GivenCandidates:
    """The candidates that a caller names.

    Attributes
    ----------
    ids : ndarray of shape (n,)
        Their ids; for pairs with repeats.
    features : DataFrame of n rows, or None
        Features that replace those of training.
    groups : ndarray of shape (n,) or None
        Which group of queries may choose each of them; None: all queries may.
    group_of_query : ndarray of shape (n_queries,) or None
        The group of each query.
    """

    ids: np.ndarray
    features: pd.DataFrame | None = None
    groups: np.ndarray | None = None
    group_of_query: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class CandidateReader:
    """Reads the argument ``candidates`` of a query.

    Attributes
    ----------
    query : Query
        What is asked about.
    side, asked : {"user", "item"}
        What the candidates are, and what the query asks about.
    vocabulary : Vocabulary
        Known ids of the candidates' side.
    roles : ColumnRoles
        The columns of the X of ``fit``.
    columns, asked_columns : FrameColumns
        The columns that are read from a frame of candidates, and that hold the ids of
        what is asked about.
    """

    query: Query
    side: SideName
    asked: SideName
    vocabulary: Vocabulary
    roles: ColumnRoles
    columns: FrameColumns
    asked_columns: FrameColumns

    def read(self, candidates: Any) -> GivenCandidates | None:
        """The candidates; None if all of the catalogue are.

        Raises
        ------
        TypeError, ValueError
            For forms without a clear meaning.
        """
        if candidates is None:
            return None
        candidates = ungrouped(as_pandas(candidates, where="candidates"))
        names = {*(self.roles.names or ()), *self.columns.names, *self.asked_columns.names}
        refuse_row(candidates, names, where="candidates", side=self.side)
        if isinstance(candidates, pd.DataFrame):
            return self._of_frame(candidates)
        if self._are_sets_that_are_ids(candidates):
            return GivenCandidates(self._ids_for_all(list(candidates)))
        if sp.issparse(candidates):
            raise TypeError(f"{self._wanted}; got a sparse matrix.")
        if isinstance(candidates, pd.Series):
            candidates = self._lists_in_order(candidates)
        pairs = pairs_by_id(
            self._asked_for(candidates),
            self.asked_columns.ids,
            () if self.asked == self.side else self.columns.ids,
            where="candidates",
            what=(f"{self.asked} id", "candidate id"),
        )
        if pairs is not None:
            return self._of_pairs(*pairs)
        return self._of_lists(candidates)

    @property
    def _wanted(self) -> str:
        return (
            f"candidates must be {self.side} ids for all queries, one list of ids for each "
            f"query, a dict or Series of such lists by {self.asked} id, or a frame of "
            f"(user id, item id) pairs"
        )

    def _asked_for(self, candidates: Any) -> Any:
        """The entries of a dict that are asked for, if there are some."""
        if isinstance(candidates, Mapping) and self.query.ids.dtype.kind in "iuO":
            wanted = dict.fromkeys(self.query.ids.tolist())
            return {
                key: candidates[key] for key in wanted if key in candidates
            } or candidates
        return candidates

    def _lists_in_order(self, series: pd.Series) -> Any:
        """Lists in the order of the queries, if the index of a Series has no ids."""
        index, ids = series.index, self.query.ids
        if index.name is not None and index.name in self.asked_columns.ids:
            if self.asked == self.side and not has_lists(series):
                self._refuse_ids_in_index(index)
            return series
        if isinstance(index, pd.MultiIndex):
            return series
        if not has_lists(series):
            if index.name is not None and index.name in self.columns.ids:
                self._refuse_ids_in_index(index)
            if index.name is not None and index.isin(ids).any():
                raise ValueError(
                    f"candidates is a Series of ids whose index {index.name!r} has "
                    f"{self.asked} ids of the query. For the ids of each {self.asked} call "
                    f"the index like the column of X, {list(self.asked_columns.ids)}; for "
                    "ids for all give candidates.tolist()."
                )
            return series.array
        is_default = index.equals(pd.RangeIndex(len(index)))
        some_are_ids = bool(index.isin(ids).any())
        other_kind = pd.api.types.infer_dtype(index) != pd.api.types.infer_dtype(ids)
        if not some_are_ids and (is_default or other_kind):
            return series.tolist()
        if is_default and np.array_equal(index.to_numpy(), ids):
            return series.tolist()
        if some_are_ids and not is_default:
            return series
        raise ValueError(
            f"candidates is a Series of lists, and its index {index[:5].tolist()} may be "
            f"{self.asked} ids or numbers of rows. Give candidates.to_dict() for lists by "
            f"id, and candidates.tolist() for lists in the order of the queries."
        )

    def _refuse_ids_in_index(self, index: pd.Index) -> None:
        raise ValueError(
            f"candidates is a Series whose index {index.name!r} has the {self.side} ids; "
            "its values would be taken for ids. Give candidates.index."
        )

    def _of_frame(self, frame: pd.DataFrame) -> GivenCandidates:
        refuse_repeated_names(frame, where="candidates")
        names = {*self.columns.ids, *self.asked_columns.ids} - {*frame.columns}
        levels = [name for name in frame.index.names if name in names]
        if levels:
            frame = frame.reset_index(level=levels)
        of_pairs = self.asked != self.side
        ids, asked = (
            next((frame[name] for name in columns.ids if name in frame.columns), None)
            for columns in (self.columns, self.asked_columns)
        )
        if of_pairs and ids is not None and asked is not None:
            return self._of_pair_columns(frame, ids, asked)
        n_columns = len(self.roles.names or [])
        if of_pairs and ids is None and self.roles.feature_names is None:
            if frame.shape[1] == n_columns:  # laid out like the array of fit
                rows = self.roles.check(frame.to_numpy(dtype=object), where="candidates")
                sides = {
                    side: self.roles.ids(rows, f"{side}_column", where="candidates")
                    for side in (self.asked, self.side)
                }
                return self._of_pairs(sides[self.asked], sides[self.side])
        found, features = read_entities(
            frame, self.side, where="candidates", columns=self.columns
        )
        return GivenCandidates(found, features if len(found) else None)

    def _of_pair_columns(
        self, frame: pd.DataFrame, ids: pd.Series, asked: pd.Series
    ) -> GivenCandidates:
        """Pairs, and the features of the candidates if the frame has some."""
        frame = frame.reset_index(drop=True)
        known = [*self.columns.ids, *self.columns.known, *self.asked_columns.names]
        refuse_misspelt(frame, self.columns.features, known, where="candidates")
        if has_lists(ids) and not self._are_sets_that_are_ids(ids):
            frame = frame.explode([ids.name]).dropna(subset=[ids.name]).infer_objects()
            ids, asked = frame[ids.name], frame[asked.name]
        asked_ids, found = (
            id_array(
                column, what=f"{side} id", where=f"Column {column.name!r} of candidates"
            )
            for column, side in ((asked, self.asked), (ids, self.side))
        )
        names = [name for name in self.columns.features if name in frame.columns]
        if not names:
            return self._of_pairs(asked_ids, found)
        features = frame[names].reset_index(drop=True)
        values = [value_codes(column) for _, column in features.items()]
        repeats = pd.DataFrame(np.column_stack([pd.factorize(found)[0], *values]))
        rows = np.flatnonzero(
            ~repeats.duplicated()
        )  # more than items where features differ
        repeated = pd.Series(found[rows]).duplicated().to_numpy()
        if repeated.any():
            row = rows[repeated.argmax()]
            value = pd.Series(found).astype(object)[row]
            raise ValueError(
                f"candidates has several rows of {self.side} {value!r} with different "
                f"features (row {row}); the columns of features are {names}. Give each "
                f"{self.side} the same features in all rows, or leave these columns out."
            )
        return self._of_pairs(asked_ids, found, features)

    def _of_pairs(
        self, asked: np.ndarray, ids: np.ndarray, features: pd.DataFrame | None = None
    ) -> GivenCandidates:
        """Candidates of queries by their ids; queries without a pair have none."""
        group_of_query, distinct = pd.factorize(self.query.ids)
        groups = Vocabulary(distinct).codes(asked) - 1
        inside = groups >= 0
        warn_of_other_queries(
            asked, groups + 1, Vocabulary(distinct), self.asked, "candidates"
        )
        if features is not None:
            features = features[inside].reset_index(drop=True) if inside.any() else None
        return GivenCandidates(ids[inside], features, groups[inside], group_of_query)

    def _of_lists(self, candidates: Any) -> GivenCandidates:
        """Ids for all queries, or a list for each query in their order.

        A list of lists, a list of arrays and a 2-D array have one row per query. A tuple
        is an id, since it can be hashed.
        """
        is_set = isinstance(candidates, Set)
        candidates = as_listed(candidates)
        n_dimensions = 1 if isinstance(candidates, list | tuple) else np.ndim(candidates)
        if n_dimensions not in (1, 2):
            raise ValueError(
                f"{self._wanted}; got {given(candidates)}. {how_to_list(candidates)}"
            )
        rows: Sequence[Any] | np.ndarray
        if n_dimensions == 2:
            rows = np.asarray(candidates)
            self._refuse_mask(rows)
        else:
            if not has_lists(candidates):
                return GivenCandidates(self._ids_for_all(candidates))
            if is_set:
                raise ValueError(
                    "candidates is a set of sets, which has no order; give a list of one "
                    f"set for each query, or a dict of sets by {self.asked} id."
                )
            if not are_lists(candidates):
                raise ValueError(
                    "candidates mixes lists and single ids; give one list of ids for all "
                    "queries, or one list for each."
                )
            rows = [as_listed(as_pandas(row)) for row in candidates]
        if len(rows) != len(self.query):
            raise ValueError(
                f"candidates has {len(rows)} lists of ids for {len(self.query)} queries; "
                "give one for each, or a single list of ids, in one dimension, for all."
            )
        groups, ids = flat_lists(rows, what="candidate id", where="candidates")
        return GivenCandidates(ids, None, groups, np.arange(len(rows)))

    def _ids_for_all(self, candidates: Any) -> np.ndarray:
        ids = id_array(candidates, what="candidate id", where="candidates")
        self._refuse_mask(ids)
        known = self.vocabulary.ids
        if len(ids) and all(isinstance(value, tuple) for value in ids):
            if not any(isinstance(value, tuple) for value in known):
                raise ValueError(
                    "candidates is a list of tuples. A tuple is an id, and no known "
                    f"{self.side} is one; {self._wanted}."
                )
        return ids

    def _are_sets_that_are_ids(self, values: Any) -> bool:
        """Whether all values are frozen sets, where the known ids are some, too."""
        if "frozenset" not in self.vocabulary.kinds:
            return False
        if not isinstance(values, list | tuple | np.ndarray | pd.Series | Set):
            return False
        if isinstance(values, pd.Series) and values.index.name in self.asked_columns.ids:
            return False  # by the ids of the query
        return len(values) > 0 and all(isinstance(value, frozenset) for value in values)

    def _refuse_mask(self, ids: np.ndarray) -> None:
        if _are_bools(ids) and not _are_bools(self.vocabulary.ids):
            raise ValueError(
                f"candidates is a mask of shape {ids.shape}; give the ids that it chooses, "
                f"for example {self.side}_ids_[mask]."
            )


def _are_bools(ids: np.ndarray) -> bool:
    return bool(pd.api.types.infer_dtype(ids.ravel()) == "boolean")
