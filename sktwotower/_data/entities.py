"""Features of a side: from tables and columns of X, encoded, to what a tower eats."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator

from sktwotower._data.encoding import (
    as_features,
    dense_fields,
    field_slices,
    fit_encoder,
    prepare,
)
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.interactions import DedupedFeatures, Frame
from sktwotower._data.vocabulary import Ids, Vocabulary
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.resize import Source
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import places_from_end


@dataclass(frozen=True, eq=False)
class Entities:
    """One side of the interactions, ready for a tower.

    Row ``r`` belongs to code ``r`` as it is now; further rows are entities as they were
    at other times.

    Attributes
    ----------
    vocabulary : Vocabulary
        Those of training first, then those that only the table has.
    id_codes : ndarray of shape (n_rows,), int32
        Rows of the id table; 0 for an entity without a training row.
    features : csr_matrix of shape (n_rows, n_columns)
        Encoded features; row 0, and that of an entity without features, is empty.
    fields : dict of str to slice
        Which columns are which field.
    dense : frozenset of str
        The fields that are multiplied as matrices.
    encoder : fitted transformer or None
        What encoded the features; None without any.
    given : DataFrame, Series or None
        The features as they were given, of the entities that have some.
    places : ndarray of shape (n + 1,)
        Row of each code in ``given``; -1 for an entity without features.
    popularity : ndarray of shape (n_rows,), float32, or None
        What ends the embedding of each row: of an item how popular it is, of a user how
        much that counts.
    """

    vocabulary: Vocabulary
    id_codes: np.ndarray
    features: sp.csr_matrix
    fields: dict[str, slice]
    dense: frozenset[str] = frozenset()
    encoder: BaseEstimator | None = None
    given: Frame | None = None
    places: np.ndarray | None = None
    popularity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def columns(self) -> list:
        """Names of the features, as they are given."""
        if self.given is None:
            return []
        if isinstance(self.given, pd.Series):
            return [self.given.name]
        return list(self.given.columns)

    @property
    def described(self) -> np.ndarray:
        """Which codes have features, (n + 1,) bool."""
        if self.places is None:
            return np.zeros(len(self) + 1, dtype=bool)
        return self.places >= 0

    def blocks(self) -> tuple[list[sp.csr_matrix], list[sp.csr_matrix]]:
        """The fields' columns, in the order of a tower's fields: as bags, as matrices."""
        sparse, dense = self.field_order()
        return (
            [self.features[:, self.fields[name]] for name in sparse],
            [self.features[:, self.fields[name]] for name in dense],
        )

    def field_order(self) -> tuple[list[str], list[str]]:
        """The fields in the order of a tower's: those that are bags, and matrices."""
        return (
            [name for name in self.fields if name not in self.dense],
            [name for name in self.fields if name in self.dense],
        )

    def rows(self, *, with_id: bool) -> EntityRows:
        """The tensors that a tower's input is gathered from."""
        n_rows = len(self.id_codes)
        sparse, wide = self.blocks()
        dense = [torch.from_numpy(block.toarray()) for block in wide]
        lengths = np.stack(
            [
                np.zeros(n_rows, dtype=np.int64),
                *(np.diff(block.indptr) for block in sparse),
            ]
        )  # (n_sparse_fields + 1, n_rows)
        bags = sp.hstack(sparse, format="csr") if sparse else self.features[:, :0]
        pointers = bags.indptr[:-1, None] + lengths.cumsum(axis=0).T
        return EntityRows(
            id_codes=torch.from_numpy(self.id_codes) if with_id else None,
            n_ids=int(self.id_codes.max(initial=0)) + 1,
            pointers=torch.from_numpy(pointers.astype(np.int64)),
            columns=torch.from_numpy(bags.indices.astype(np.int64)),
            values=torch.from_numpy(bags.data.astype(np.float32)),
            field_widths=tuple(block.shape[1] for block in sparse),
            dense=tuple(dense),
            appended=(
                None
                if self.popularity is None
                else torch.from_numpy(self.popularity[:, None])
            ),
        )

    def now(self) -> Entities:
        """Without the rows of other times."""
        n = len(self) + 1
        return replace(
            self,
            id_codes=self.id_codes[:n],
            features=self.features[:n],
            popularity=None if self.popularity is None else self.popularity[:n],
        )

    def take(self, codes: np.ndarray, given: pd.DataFrame | None = None) -> Entities:
        """Rows of these codes, with these features where some are given.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            0 for entities that are not known.
        given : DataFrame of n rows, optional
            Some of the feature columns; the others are as they were in training, or
            missing.

        Raises
        ------
        ValueError
            If the encoder cannot encode them.
        """
        features = self.features[codes]
        if given is not None and given.shape[1]:
            features = self._encode(self.complete(codes, given), given)
        return replace(
            self,
            id_codes=self.id_codes[codes],
            features=features,
            popularity=None if self.popularity is None else self.popularity[codes],
        )

    def complete(self, codes: np.ndarray, given: pd.DataFrame) -> Frame:
        """All feature columns of codes: those given, else as they were in training."""
        assert self.given is not None and self.places is not None
        before = self.given
        if isinstance(before, pd.Series):
            before = before.to_frame()
        places = self.places[codes]
        frame = {}
        for name in self.columns:
            if name in given:
                frame[name] = given[name].reset_index(drop=True)
            else:
                frame[name] = _rows_of(before[name], places)
        if isinstance(self.given, pd.Series):
            return frame[self.given.name]
        return pd.DataFrame(frame)

    def _encode(self, frame: Frame, given: pd.DataFrame) -> sp.csr_matrix:
        encoder: Any = self.encoder
        try:
            with config_context(transform_output="default"):
                encoded = encoder.transform(prepare(encoder, frame))
        except Exception as error:
            lacking = [name for name in self.columns if name not in given]
            if not lacking or not frame[lacking].isna().to_numpy().any():
                raise
            raise ValueError(
                f"The encoder cannot encode rows without {lacking}, which are neither in "
                f"the frame nor known from training: {error} Give these columns, or let "
                "the encoder impute them."
            ) from error
        return as_features(encoded, "the queries")


@dataclass(frozen=True, eq=False)
class _FeatureRows:
    """Rows of features as they were given.

    Attributes
    ----------
    frame : DataFrame or Series of m rows
        What the encoder gets.
    codes : ndarray of shape (m,)
        The entity of each row.
    latest : ndarray of shape (n + 1,)
        The row of each code as it is now; -1 without any.
    of_interactions : ndarray of shape (n_samples,) or None
        The row of each interaction; None: that of its entity.
    """

    frame: Frame
    codes: np.ndarray
    latest: np.ndarray
    of_interactions: np.ndarray | None


def build_entities(
    ids: Ids,
    trained: np.ndarray,
    table: EntityTable | None,
    encoder: BaseEstimator | None,
    *,
    parameter: str,
    features: Frame | DedupedFeatures | None = None,
    times: np.ndarray | None = None,
    every_row: bool = False,
    before: Entities | None = None,
) -> tuple[Entities, np.ndarray, np.ndarray]:
    """Vocabulary and encoded features of one side.

    Parameters
    ----------
    ids : ndarray or Categorical of shape (n_samples,)
        Ids of all interactions, in order.
    trained : ndarray of shape (n_samples,), bool
        Rows that train; an entity with none of them keeps the unknown id code.
    table : EntityTable or None
        Features; its entities join the vocabulary.
    encoder : estimator or None
        Fitted here, as a clone, on the features: the rows of the table, or the distinct
        rows of an entity and its features in X.
    parameter : str
        The table's parameter, for messages.
    features : DataFrame, Series or DedupedFeatures of n_samples rows, optional
        Features that ride along in X.
    times : ndarray of shape (n_samples,), optional
        Says which row is the latest; None: the last.
    every_row : bool, default=False
        Whether an interaction keeps the features of its time, or has its entity's latest.
    before : Entities, optional
        To go on from: codes stay, an encoder that can grows.

    Returns
    -------
    entities : Entities
    codes : ndarray of shape (n_samples,), int32
        Of the ids.
    inputs : ndarray of shape (n_samples,)
        The row of each interaction.
    """
    vocabulary = Vocabulary(ids) if before is None else before.vocabulary.extend(ids)
    if table is not None:
        _warn_of_lacking(table, ids, before, parameter)
        vocabulary = vocabulary.extend(table.ids)
    codes = vocabulary.codes(ids)
    id_codes = _id_codes(len(vocabulary), codes, trained, before)
    rows = _feature_rows(
        vocabulary, codes, table, features, times, every_row, before, parameter
    )
    n_new = 0 if rows is None else len(rows.codes)
    if before is not None and before.given is not None:
        rows = _with_rows_of(before, rows, len(vocabulary))
    if rows is None or (rows.frame.ndim == 2 and rows.frame.shape[1] == 0):
        empty = sp.csr_matrix((len(id_codes), 0), dtype=np.float32)
        return Entities(vocabulary, id_codes, empty, {}), codes, codes
    if before is None or before.encoder is None:
        encoder, encoded = fit_encoder(encoder, rows.frame)
    else:
        encoder, encoded = _grow_encoder(before, rows, n_new)
    source = parameter if features is None else parameter.replace("_table", "_features")
    encoded = as_features(encoded, source)
    # From the order of the rows to that of the codes: who has none stays empty.
    is_latest = np.zeros(len(rows.codes), dtype=bool)
    is_latest[rows.latest[rows.latest >= 0]] = True
    older = np.empty(0, dtype=np.int64)
    if rows.of_interactions is not None:
        older = np.flatnonzero(~is_latest)
    order = np.concatenate([rows.latest, older])
    nothing = sp.csr_matrix((1, encoded.shape[1]), dtype=np.float32)
    matrix = sp.vstack([encoded, nothing], format="csr")[order]
    matrix.sort_indices()
    inputs = codes
    if rows.of_interactions is not None:
        n_inputs = len(rows.latest) + len(older)
        kind = np.int32 if n_inputs <= np.iinfo(np.int32).max else np.int64
        input_of_row = np.empty(len(rows.codes), dtype=kind)
        input_of_row[is_latest] = rows.codes[is_latest]
        input_of_row[older] = len(rows.latest) + np.arange(len(older))
        inputs = column_store.take(input_of_row, rows.of_interactions)
    fields = field_slices(encoder, encoded)
    has_features = rows.latest >= 0
    places = np.full(len(rows.latest), -1)
    places[has_features] = np.arange(int(has_features.sum()))
    entities = Entities(
        vocabulary=vocabulary,
        id_codes=np.concatenate([id_codes, id_codes[rows.codes[older]]]),
        features=matrix,
        fields=fields,
        dense=dense_fields(matrix, fields) if before is None else before.dense,
        encoder=encoder,
        given=rows.frame.iloc[rows.latest[has_features]].reset_index(drop=True),
        places=places,
    )
    return entities, codes, inputs


def add_entities(
    entities: Entities, ids: np.ndarray, given: pd.DataFrame
) -> tuple[Entities, np.ndarray]:
    """Entities that have no training row, or that have other features now.

    Parameters
    ----------
    entities : Entities
        Without rows of other times.
    ids : ndarray of shape (n,)
        Each once.
    given : DataFrame of n rows
        Some of the feature columns.

    Returns
    -------
    entities : Entities
    codes : ndarray of shape (n,)
        Theirs.
    """
    assert entities.given is not None and entities.places is not None
    known = entities.vocabulary.codes(ids)
    added = entities.take(known, given)
    complete = entities.complete(known, given)
    vocabulary = entities.vocabulary.extend(ids)
    codes = vocabulary.codes(ids)
    n_new = len(vocabulary) - len(entities)
    id_codes = np.pad(entities.id_codes, (0, n_new))
    places = np.pad(entities.places, (0, n_new), constant_values=-1)
    source = np.arange(len(id_codes))
    source[codes] = len(entities.id_codes) + np.arange(len(codes))
    features = sp.vstack([entities.features, added.features], format="csr")[source]
    places[codes] = len(entities.given) + np.arange(len(codes))
    everything = _concat(entities.given, complete)
    has_features = places >= 0  # rows that nobody has any longer go
    given_now = everything.iloc[places[has_features]].reset_index(drop=True)
    places[has_features] = np.arange(int(has_features.sum()))
    popularity = entities.popularity
    if popularity is not None:  # that of the unknown one
        popularity = np.append(popularity, np.repeat(popularity[:1], n_new))
    longer = replace(
        entities,
        popularity=popularity,
        vocabulary=vocabulary,
        id_codes=id_codes,
        features=features,
        given=given_now,
        places=places,
    )
    return longer, codes


def column_source(before: Entities, now: Entities, fields: list[str]) -> Source:
    """Where the rows of a table of some fields' columns come from; new ones from unknown.

    Raises
    ------
    ValueError
        If the fields are other ones.
    """
    if list(before.fields) != list(now.fields):
        raise ValueError(
            f"Training goes on with the features that it began with, "
            f"{list(before.fields)}; now there are {list(now.fields)}."
        )
    unknown = getattr(before.encoder, "unknown_columns_", {})
    rows, is_new, n_before = [], [], 0
    for name in fields:
        old, new = before.fields[name], now.fields[name]
        width, new_width = old.stop - old.start, new.stop - new.start
        first = n_before + unknown[name] - old.start if name in unknown else -1
        rows.append(np.arange(n_before, n_before + width))
        rows.append(np.full(new_width - width, first))
        is_new.append(np.arange(new_width) >= width)
        n_before += width
    return Source(
        torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(is_new))
    )


def _warn_of_lacking(
    table: EntityTable, ids: Ids, before: Entities | None, parameter: str
) -> None:
    distinct = Vocabulary(ids).ids
    lacking = Vocabulary(table.ids).codes(distinct) == 0
    if before is not None:  # others have been described there
        lacking &= ~before.described[before.vocabulary.codes(distinct)]
    n_lacking = int(lacking.sum())
    if n_lacking:
        warnings.warn(
            f"{parameter} lacks {n_lacking} of the {len(distinct)} ids that X has; their "
            "features are taken as unknown.",
            stacklevel=7,
        )


def _id_codes(
    n: int, codes: np.ndarray, trained: np.ndarray, before: Entities | None
) -> np.ndarray:
    """Rows of the id table by code, in the order of the codes; those from before stay."""
    id_codes = np.zeros(n + 1, dtype=np.int32)
    n_before = 0
    if before is not None:
        id_codes[: len(before) + 1] = before.id_codes[: len(before) + 1]
        n_before = int(id_codes.max(initial=0))
    has_rows = np.zeros(n + 1, dtype=bool)
    for block in column_store.blocks(len(codes)):
        has_rows[codes[block][trained[block]]] = True
    new = has_rows & (id_codes == 0)
    id_codes[new] = n_before + np.arange(1, int(new.sum()) + 1)
    return id_codes


def _feature_rows(
    vocabulary: Vocabulary,
    codes: np.ndarray,
    table: EntityTable | None,
    features: Frame | DedupedFeatures | None,
    times: np.ndarray | None,
    every_row: bool,
    before: Entities | None,
    parameter: str,
) -> _FeatureRows | None:
    """Features of the table, of X, or of both side by side.

    What a row has neither from the one nor from the other is as it was before.
    """
    latest = np.full(len(vocabulary) + 1, -1)
    if features is None:
        if table is None:
            return None
        table_codes = vocabulary.codes(table.ids)
        latest[table_codes] = np.arange(len(table_codes))
        return _FeatureRows(table.feature_rows, table_codes, latest, None)
    if not isinstance(features, DedupedFeatures):
        features = DedupedFeatures(features, np.arange(len(codes)))
    is_last = places_from_end(codes, times) == 0
    of_interactions = None
    if every_row:
        of_interactions, first = _distinct_rows(codes, features)
        row_codes = codes[first]
        latest[codes[is_last]] = of_interactions[is_last]
    else:
        first = np.flatnonzero(is_last)
        row_codes = codes[first]
        latest[row_codes] = np.arange(len(first))
    frame = features.frame.iloc[features.positions[first]].reset_index(drop=True)
    if table is None or table.feature_rows.ndim == 2 and table.feature_rows.shape[1] == 0:
        return _FeatureRows(frame, row_codes, latest, of_interactions)
    table_frame = pd.DataFrame(table.feature_rows)
    frame = pd.DataFrame(frame)
    twice = [name for name in frame.columns if name in table_frame.columns]
    if twice:
        side = parameter.removesuffix("_table")
        raise ValueError(
            f"{twice} are columns of {parameter} and of {side}_features, too; rename or "
            "drop them on one side."
        )
    place_in_table = np.full(len(vocabulary) + 1, -1)
    table_codes = vocabulary.codes(table.ids)
    place_in_table[table_codes] = np.arange(len(table_codes))
    only_table = table_codes[latest[table_codes] < 0]
    latest[only_table] = len(row_codes) + np.arange(len(only_table))
    place_in_X = np.arange(len(row_codes) + len(only_table))
    place_in_X[len(row_codes) :] = -1
    row_codes = np.concatenate([row_codes, only_table])
    sides: dict[Any, tuple[pd.Series, np.ndarray]] = {}
    for name in frame.columns:
        sides[name] = frame[name], place_in_X
    for name in table_frame.columns:
        sides[name] = table_frame[name], place_in_table[row_codes]
    place_before = np.full(len(vocabulary) + 1, -1)
    known: Any = {}
    if before is not None and before.given is not None and before.places is not None:
        place_before[: len(before.places)] = before.places
        known = pd.DataFrame(before.given)
    columns = {}
    for name, (column, places) in sides.items():
        if name in known:
            old = place_before[row_codes]
            places = np.where((places < 0) & (old >= 0), len(column) + old, places)
            column = _concat(column, known[name])
        columns[name] = _rows_of(column, places)
    return _FeatureRows(pd.DataFrame(columns), row_codes, latest, of_interactions)


def _with_rows_of(before: Entities, rows: _FeatureRows | None, n: int) -> _FeatureRows:
    """The rows and, of entities that are not among them, those from before."""
    assert before.given is not None and before.places is not None
    latest = np.full(n + 1, -1) if rows is None else rows.latest.copy()
    old = np.flatnonzero((before.places >= 0) & (latest[: len(before.places)] < 0))
    old_frame = before.given.iloc[before.places[old]]
    if rows is None:
        latest[old] = np.arange(len(old))
        return _FeatureRows(old_frame.reset_index(drop=True), old, latest, None)
    latest[old] = len(rows.codes) + np.arange(len(old))
    return replace(
        rows,
        frame=_concat(rows.frame, old_frame),
        codes=np.concatenate([rows.codes, old]),
        latest=latest,
    )


def _distinct_rows(
    codes: np.ndarray, features: DedupedFeatures
) -> tuple[np.ndarray, np.ndarray]:
    """Number of each (code, features) among the distinct ones, and their first rows."""
    kinds = np.zeros(len(features.frame), dtype=np.int64)
    for _, column in pd.DataFrame(features.frame).items():
        values = _value_codes(column)
        kinds = pd.factorize(kinds * (values.max(initial=0) + 1) + values)[0]
    keys = codes.astype(np.int64) * (kinds.max(initial=0) + 1) + kinds[features.positions]
    numbers, distinct = pd.factorize(keys)
    first = np.full(len(distinct), len(numbers))
    np.minimum.at(first, numbers, np.arange(len(numbers)))
    return numbers, first


def _value_codes(column: pd.Series) -> np.ndarray:
    """Equal numbers for equal values; lists and arrays by their values."""
    try:
        return pd.factorize(column, use_na_sentinel=False)[0]
    except TypeError:
        return pd.factorize(column.map(_key), use_na_sentinel=False)[0]


def _key(value: Any) -> Any:
    """Something that can be hashed, equal for equal lists, sets and arrays."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_key(entry) for entry in value)
    return frozenset(value) if isinstance(value, set) else value


def _concat(first: Any, second: Any) -> Any:
    """Rows of two frames or series; an empty one has no say in the dtypes."""
    return pd.concat([part for part in (first, second) if len(part)], ignore_index=True)


def _rows_of(column: pd.Series, places: np.ndarray) -> pd.Series:
    """Values at places; missing at -1."""
    if len(places) and places.min() < 0:
        return column.reindex(places).reset_index(drop=True)
    return column.iloc[places].reset_index(drop=True)


def _grow_encoder(before: Entities, rows: _FeatureRows, n_new: int) -> tuple[Any, Any]:
    """The encoder from before, and all rows; one of this package learns the new rows."""
    encoder: Any = before.encoder
    if hasattr(encoder, "unknown_columns_"):
        new = np.arange(len(rows.codes)) < n_new
        new &= ~_is_as_before(before, rows)
        if new.any():
            encoder = deepcopy(encoder).partial_fit(rows.frame[new])
    with config_context(transform_output="default"):
        return encoder, encoder.transform(prepare(encoder, rows.frame))


def _is_as_before(before: Entities, rows: _FeatureRows) -> np.ndarray:
    """Which rows are what their entity had before, and so have been counted."""
    assert before.places is not None
    places = np.full(len(rows.latest), -1)
    places[: len(before.places)] = before.places
    places = places[rows.codes]
    same = places >= 0
    now, old = pd.DataFrame(rows.frame)[same], pd.DataFrame(before.given)
    equal = np.ones(len(now), dtype=bool)
    for name, column in now.items():
        both = pd.concat([column, old[name].iloc[places[same]]], ignore_index=True)
        codes = _value_codes(both)
        equal &= codes[: len(now)] == codes[len(now) :]
    same[same] = equal
    return same
