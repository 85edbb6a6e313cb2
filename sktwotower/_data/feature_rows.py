"""Feature rows of entities before encoding: from a table, from X, or from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.feature_frames import joined_rows, rows_at, value_codes
from sktwotower._data.interactions import DedupedFeatures
from sktwotower._data.roles import Frame
from sktwotower._data.row_shares import ALL_ROWS, OwnRows, RowShare
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import Column, rank_from_end


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Where the features of one side come from.

    Attributes
    ----------
    parameter : str
        Name of the table's parameter, for messages.
    table : EntityTable or None
        Side table.
    features : DataFrame, Series or DedupedFeatures of n_samples rows, or None
        Feature columns of X.
    times : ndarray of shape (n_samples,) or None
        Which row of an entity is the latest; None: the last one.
    every_row : bool
        Whether each interaction has the features of its own row, rather than the latest
        features of its entity.
    share : RowShare
        Whether these are all rows of X.
    """

    parameter: str
    table: EntityTable | None
    features: Frame | DedupedFeatures | None
    times: np.ndarray | None
    every_row: bool
    share: RowShare = ALL_ROWS

    @property
    def name(self) -> str:
        """Name of the parameter that selects the features, for messages."""
        if self.features is None:
            return self.parameter
        return self.parameter.replace("_table", "_features")

    def read(
        self, vocabulary: Vocabulary, codes: np.ndarray, before: Entities | None
    ) -> FeatureRows | None:
        """The feature rows of the entities; None without a table and columns of X.

        Parameters
        ----------
        vocabulary : Vocabulary of n entities
            Those of X and of the table.
        codes : ndarray of shape (n_samples,)
            Entity of each interaction.
        before : Entities or None
            What a value is filled from if an entity is missing in the table, or in X.

        Raises
        ------
        ValueError
            If the table and X have a column of the same name.
        """
        if self.features is not None:
            rows = self._read_columns(self.features, codes, len(vocabulary))
            if self.table is None or not _has_columns(self.table.feature_rows):
                return rows
            return _beside_table(rows, self.table, vocabulary, before, self.parameter)
        if self.table is None:
            return None
        table_codes = vocabulary.codes(self.table.ids)
        latest = np.full(len(vocabulary) + 1, -1)
        latest[table_codes] = np.arange(len(table_codes))
        return FeatureRows(self.table.feature_rows, table_codes, latest, None)

    def _read_columns(
        self, features: Frame | DedupedFeatures, codes: np.ndarray, n_entities: int
    ) -> FeatureRows:
        """The feature columns of X; rows of an entity that are equal are one."""
        if not isinstance(features, DedupedFeatures):
            features = DedupedFeatures(features, np.arange(len(codes)))
        if isinstance(self.share, OwnRows):
            read = _rows_of_users if self.every_row else _rows_of_items
            return read(self.share, features, codes, self.times, n_entities)
        is_last = rank_from_end(codes, self.times) == 0
        latest = np.full(n_entities + 1, -1)
        of_interactions = None
        varying: tuple[Column, ...] = ()
        if self.every_row:
            of_interactions, first = _distinct_rows(codes, features)
            latest[codes[is_last]] = of_interactions[is_last]
        else:
            first = np.flatnonzero(is_last)
            latest[codes[first]] = np.arange(len(first))
            of_entity = features.positions[first[latest]]
            varying = _varying(codes, features, of_entity, self.share)
        frame = features.frame.iloc[features.positions[first]].reset_index(drop=True)
        return FeatureRows(frame, codes[first], latest, of_interactions, varying)


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Feature rows of entities, before encoding.

    Attributes
    ----------
    frame : DataFrame or Series of m rows
        Input of the encoder.
    codes : ndarray of shape (m,)
        Entity of each row.
    latest : ndarray of shape (n + 1,)
        Row of each code's latest features; -1 without features.
    of_interactions : ndarray of shape (n_samples,) or None
        Row of each interaction; None: the latest row of its entity.
    varying : tuple of str or int
        Names of the features that differ among interactions of one entity, where all of
        them have its latest features.
    """

    frame: Frame
    codes: np.ndarray
    latest: np.ndarray
    of_interactions: np.ndarray | None
    varying: tuple[Column, ...] = ()

    def all_varying(self, before: Entities) -> tuple[Column, ...]:
        """What varies, also between these rows and those from before."""
        at = before.raw_positions_of(self.codes)
        both = np.flatnonzero(at >= 0)
        frame, known = pd.DataFrame(self.frame), pd.DataFrame(before.raw_features)
        changed = []
        for name in frame.columns.intersection(known.columns):
            now, then = frame[name].iloc[both], known[name].iloc[at[both]]
            values = value_codes(pd.concat([now.astype(object), then.astype(object)]))
            if (values[: len(both)] != values[len(both) :]).any():
                changed.append(name)
        return tuple(dict.fromkeys([*before.varying, *self.varying, *changed]))

    @property
    def older(self) -> np.ndarray:
        """Rows of interactions that are not the latest one of their entity."""
        if self.of_interactions is None:
            return np.empty(0, dtype=np.int64)
        is_older = np.ones(len(self.codes), dtype=bool)
        is_older[self.latest[self.latest >= 0]] = False
        return np.flatnonzero(is_older)


def with_rows_from_before(
    rows: FeatureRows | None, before: Entities, n_entities: int
) -> FeatureRows:
    """Append the rows, from before, of entities that have no new row."""
    assert before.raw_features is not None
    latest = np.full(n_entities + 1, -1) if rows is None else rows.latest.copy()
    positions = before.raw_positions_of(np.arange(n_entities + 1))
    old = np.flatnonzero((positions >= 0) & (latest < 0))
    old_frame = before.raw_features.iloc[positions[old]]
    if rows is None:
        latest[old] = np.arange(len(old))
        return FeatureRows(old_frame.reset_index(drop=True), old, latest, None)
    latest[old] = len(rows.codes) + np.arange(len(old))
    return replace(
        rows,
        frame=joined_rows(rows.frame, old_frame),
        codes=np.concatenate([rows.codes, old]),
        latest=latest,
    )


def _beside_table(
    rows: FeatureRows,
    table: EntityTable,
    vocabulary: Vocabulary,
    before: Entities | None,
    parameter: str,
) -> FeatureRows:
    """Rows with the columns of X and of the table, also of entities in one of them only.

    A value that an entity lacks is filled from before, or is missing.
    """
    frame, table_frame = pd.DataFrame(rows.frame), pd.DataFrame(table.feature_rows)
    twice = [name for name in frame.columns if name in table_frame.columns]
    if twice:
        side = parameter.removesuffix("_table")
        raise ValueError(
            f"{twice} are columns of {parameter} and of {side}_features, too; rename or "
            "drop them on one side."
        )
    n_of_X, latest = len(rows.codes), rows.latest
    table_codes = vocabulary.codes(table.ids)
    position_in_table = np.full(len(vocabulary) + 1, -1)
    position_in_table[table_codes] = np.arange(len(table_codes))
    only_table = table_codes[latest[table_codes] < 0]
    latest[only_table] = n_of_X + np.arange(len(only_table))
    codes = np.concatenate([rows.codes, only_table])
    position_in_X = np.arange(len(codes))
    position_in_X[n_of_X:] = -1

    def columns() -> Iterator[tuple[pd.Series, np.ndarray]]:
        for _, column in frame.items():
            yield column, position_in_X
        for _, column in table_frame.items():
            yield column, position_in_table[codes]

    filled = {c.name: _filled(c, at, codes, before) for c, at in columns()}
    return replace(rows, frame=pd.DataFrame(filled), codes=codes, latest=latest)


def _filled(
    column: pd.Series, positions: np.ndarray, codes: np.ndarray, before: Entities | None
) -> pd.Series:
    """Values at positions; at -1 the value that the entity had before, if any."""
    if before is not None and column.name in before.columns:
        old = before.raw_positions_of(codes)
        is_filled = (positions < 0) & (old >= 0)
        positions = np.where(is_filled, len(column) + old, positions)
        known = pd.DataFrame(before.raw_features)[column.name]
        column = joined_rows(column, known)
    return rows_at(column, positions)


def _has_columns(frame: Frame) -> bool:
    return frame.ndim == 1 or frame.shape[1] > 0


def _rows_of_users(
    share: OwnRows,
    features: DedupedFeatures,
    codes: np.ndarray,
    times: np.ndarray | None,
    n_entities: int,
) -> FeatureRows:
    """The feature columns of X in all processes, each of which has all rows of its users.

    All of them have the same distinct features.
    """
    of_interactions, first = _distinct_rows(codes, features)
    is_latest = np.zeros(len(first), dtype=bool)
    is_latest[of_interactions[rank_from_end(codes, times) == 0]] = True
    numbers, entities, positions, are_latest = share.ordered(
        first, codes[first], features.positions[first], is_latest
    )
    latest = np.full(n_entities + 1, -1)
    latest[entities[are_latest]] = np.flatnonzero(are_latest)
    place = np.searchsorted(numbers, share.numbers[first])
    frame = features.frame.iloc[positions].reset_index(drop=True)
    return FeatureRows(frame, entities, latest, place[of_interactions])


def _rows_of_items(
    share: OwnRows,
    features: DedupedFeatures,
    codes: np.ndarray,
    times: np.ndarray | None,
    n_entities: int,
) -> FeatureRows:
    """The latest features of items, whose rows are in several processes."""
    last = np.flatnonzero(rank_from_end(codes, times) == 0)
    values = [codes[last], features.positions[last]]
    if times is not None:
        values.append(times[last])
    _, entities, positions, *of_last = share.ordered(last, *values)
    is_last = rank_from_end(entities, *of_last) == 0
    entities, positions = entities[is_last], positions[is_last]
    latest = np.full(n_entities + 1, -1)
    latest[entities] = np.arange(len(entities))
    varying = _varying(codes, features, positions[latest], share)
    frame = features.frame.iloc[positions].reset_index(drop=True)
    return FeatureRows(frame, entities, latest, None, varying)


def _varying(
    codes: np.ndarray, features: DedupedFeatures, latest: np.ndarray, share: RowShare
) -> tuple[Column, ...]:
    """Names of the features of which a row differs from the latest one of its entity.

    ``latest`` is the position of each entity's latest features in their frame.
    """
    frame, varying = pd.DataFrame(features.frame), []
    for name in frame.columns:
        values = value_codes(frame[name])
        of_entity = values[latest]
        differs = any(
            (values[features.positions[block]] != of_entity[codes[block]]).any()
            for block in column_store.blocks(len(codes))
        )
        if share.any(differs):
            varying.append(name)
    return tuple(varying)


def _distinct_rows(
    codes: np.ndarray, features: DedupedFeatures
) -> tuple[np.ndarray, np.ndarray]:
    """Number of each distinct (code, features), (n_samples,), and its first row."""
    kinds = np.zeros(len(features.frame), dtype=np.int64)
    for _, column in pd.DataFrame(features.frame).items():
        values = value_codes(column)
        kinds = pd.factorize(kinds * (values.max(initial=0) + 1) + values)[0]
    keys = codes.astype(np.int64) * (kinds.max(initial=0) + 1) + kinds[features.positions]
    numbers, distinct = pd.factorize(keys)
    first = np.full(len(distinct), len(numbers))
    np.minimum.at(first, numbers, np.arange(len(numbers)))
    return numbers, first
