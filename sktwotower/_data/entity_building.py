"""Entities from ids and features: of a whole training set, or added one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.encoder_growth import grow_encoder
from sktwotower._data.encoding import (
    Encoder,
    as_features,
    dense_fields,
    field_slices,
    fit_encoder,
)
from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable, guessed_frame
from sktwotower._data.feature_frames import joined_rows
from sktwotower._data.feature_rows import FeatureRows, FeatureSource, with_rows_from_before
from sktwotower._data.interactions import DedupedFeatures
from sktwotower._data.known_ids import refuse_other_kinds
from sktwotower._data.roles import Frame
from sktwotower._data.row_shares import ALL_ROWS, RowShare
from sktwotower._data.table_ids import compare_with_other_columns
from sktwotower._data.vocabulary import Ids, Vocabulary
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._warnings import warn


def build_entities(
    ids: Ids,
    trained: np.ndarray,
    table: EntityTable | None,
    encoder: Encoder | None,
    *,
    parameter: str,
    features: Frame | DedupedFeatures | None = None,
    times: np.ndarray | None = None,
    every_row: bool = False,
    before: Entities | None = None,
    share: RowShare = ALL_ROWS,
) -> tuple[Entities, np.ndarray, np.ndarray]:
    """Build the entities of one side of the interactions.

    Parameters
    ----------
    ids : ndarray or Categorical of shape (n_samples,)
        Ids of all interactions, in order.
    trained : ndarray of shape (n_samples,), bool
        Rows that are trained. Entities without such a row keep the unknown id code.
    table : EntityTable or None
        Side table; its entities join the vocabulary.
    encoder : estimator or None
        A clone of it is fitted on the features: the rows of the table, or the distinct
        pairs of an entity and its features in X. None: a FeatureEncoder.
    parameter : str
        Name of the table's parameter, for messages.
    features : DataFrame, Series or DedupedFeatures of n_samples rows, optional
        Feature columns of X.
    times : ndarray of shape (n_samples,), optional
        Which row of an entity is the latest; None: the last one.
    every_row : bool, default=False
        Whether each interaction has the features of its own row, rather than the latest
        features of its entity.
    before : Entities, optional
        Entities of the training that is continued. Their codes stay, and an encoder of
        this package learns the new rows.
    share : RowShare, optional
        Whether these are all interactions, or those of one of several processes, each of
        which has all interactions of its users. The entities are the same in all.

    Returns
    -------
    entities : Entities
    codes : ndarray of shape (n_samples,), int32
        Code of each interaction's entity.
    inputs : ndarray of shape (n_samples,)
        Row of each interaction in ``entities.features``.

    Raises
    ------
    ValueError
        If features cannot be encoded, or if an encoder has none.
    """
    vocabulary = vocabulary_of(ids, before, share)
    if table is not None:
        distinct = Vocabulary(share.distinct(ids)).ids
        _check_ids_of_table(table, distinct, before, vocabulary, parameter)
        vocabulary = vocabulary.extend(table.ids)
    codes = vocabulary.codes(ids)
    id_codes = table_rows(len(vocabulary), codes, trained, before, share)
    source = FeatureSource(parameter, table, features, times, every_row, share)
    rows = source.read(vocabulary, codes, before)
    n_new = 0 if rows is None else len(rows.codes)
    varying = () if rows is None else rows.varying
    if before is not None and before.raw_features is not None:
        if rows is not None and not every_row:
            varying = rows.all_varying(before)
        rows = with_rows_from_before(rows, before, len(vocabulary))
        if rows.frame.ndim == 2:  # the encoder may depend on the order
            rows = replace(rows, frame=rows.frame[before.columns])
    if rows is None or (rows.frame.ndim == 2 and rows.frame.shape[1] == 0):
        _refuse_idle_encoder(encoder, parameter)
        empty = sp.csr_matrix((len(id_codes), 0), dtype=np.float32)
        return Entities(vocabulary, id_codes, empty, {}), codes, codes
    if before is None or before.encoder is None:
        name = parameter.replace("_table", "_encoder")
        encoder, encoded = fit_encoder(encoder, rows.frame, name)
    else:
        encoder, encoded = grow_encoder(before, rows, n_new)
    encoded = as_features(encoded, source.name, len(rows.codes))
    matrix, inputs = _in_order_of_codes(encoded, rows)
    fields = field_slices(encoder, encoded)
    raw_positions = _numbered(rows.latest >= 0)
    entities = Entities(
        vocabulary=vocabulary,
        id_codes=np.concatenate([id_codes, id_codes[rows.codes[rows.older]]]),
        features=matrix,
        fields=fields,
        dense=dense_fields(matrix, fields) if before is None else before.dense,
        encoder=encoder,
        raw_features=rows.frame.iloc[rows.latest[raw_positions >= 0]].reset_index(
            drop=True
        ),
        raw_positions=raw_positions,
        varying=varying,
    )
    return entities, codes, codes if inputs is None else inputs


def add_entities(
    entities: Entities, ids: np.ndarray, features: pd.DataFrame
) -> tuple[Entities, np.ndarray]:
    """Add entities without a training row, or replace the features of known ones.

    Parameters
    ----------
    entities : Entities
        Without rows of earlier times.
    ids : ndarray of shape (n,)
        Distinct ids.
    features : DataFrame of n rows
        Some of the feature columns.

    Returns
    -------
    entities : Entities
    codes : ndarray of shape (n,)
        Codes of the ids.
    """
    assert entities.raw_features is not None and entities.raw_positions is not None
    known = entities.vocabulary.codes(ids)
    added = entities.take(known, features)
    complete = entities.complete(known, features)
    vocabulary = entities.vocabulary.extend(ids)
    codes = vocabulary.codes(ids)
    n_new = len(vocabulary) - len(entities)
    id_codes = np.pad(entities.id_codes, (0, n_new))
    positions = np.pad(entities.raw_positions, (0, n_new), constant_values=-1)
    source = np.arange(len(id_codes))
    source[codes] = len(entities.id_codes) + np.arange(len(codes))
    encoded = sp.vstack([entities.features, added.features], format="csr")[source]
    positions[codes] = len(entities.raw_features) + np.arange(len(codes))
    everything = joined_rows(entities.raw_features, complete)
    has_features = positions >= 0  # rows that were replaced are dropped
    popularity = entities.popularity
    if popularity is not None:  # new entities have the popularity of unknown ones
        popularity = np.append(popularity, np.repeat(popularity[:1], n_new))
    longer = replace(
        entities,
        popularity=popularity,
        vocabulary=vocabulary,
        id_codes=id_codes,
        features=encoded,
        raw_features=everything.iloc[positions[has_features]].reset_index(drop=True),
        raw_positions=_numbered(has_features),
    )
    return longer, codes


def _refuse_idle_encoder(encoder: Encoder | None, parameter: str) -> None:
    """Raise ValueError if an encoder is given, but no features."""
    if encoder is not None:
        side = parameter.removesuffix("_table")
        raise ValueError(
            f"{side}_encoder={encoder!r} has nothing to encode: {parameter} has no column "
            f"of features, and {side}_features names no column of X. Give it one of them, "
            f"or set {side}_encoder=None."
        )


def _check_ids_of_table(
    table: EntityTable,
    distinct: np.ndarray,
    before: Entities | None,
    known: Vocabulary,
    parameter: str,
) -> None:
    """Refuse a table of other ids than the known ones; warn of those that it lacks."""
    guessed = guessed_frame(table)
    if guessed is not None and before is None:
        compare_with_other_columns(guessed, table.id_column, distinct, parameter=parameter)
    where = f"column {table.id_column!r} of {parameter}"
    name_it = ", or name the id column with EntityTable(frame, id_column)"
    refuse_other_kinds(table.ids, known, where=where, what="id", or_else=name_it)
    lacking = Vocabulary(table.ids).codes(distinct) == 0
    if before is not None:  # features from before are kept
        lacking &= ~before.described[before.vocabulary.codes(distinct)]
    n_lacking = int(lacking.sum())
    if n_lacking == len(distinct) and not known.codes(table.ids).any():
        raise ValueError(
            f"{parameter} has none of the {n_lacking} ids that X has: its ids, in column "
            f"{table.id_column!r}, begin with {table.ids[:3].tolist()}, those of X with "
            f"{distinct[:3].tolist()}. Name the id column with EntityTable(frame, "
            "id_column), or give features of the ids of X."
        )
    if n_lacking:
        warn(
            f"{parameter} lacks {n_lacking} of the {len(distinct)} ids that X has; their "
            "features are taken as unknown."
        )


def vocabulary_of(ids: Ids, before: Entities | None, share: RowShare) -> Vocabulary:
    """The ids from before, and then those of all interactions."""
    distinct = share.distinct(ids)
    return Vocabulary(distinct) if before is None else before.vocabulary.extend(distinct)


def table_rows(
    n_entities: int,
    codes: np.ndarray,
    trained: np.ndarray,
    before: Entities | None,
    share: RowShare,
) -> np.ndarray:
    """Row of the id table of each code, (n_entities + 1,); rows from before stay."""
    id_codes = np.zeros(n_entities + 1, dtype=np.int32)
    n_before = 0
    if before is not None:
        id_codes[: len(before) + 1] = before.id_codes[: len(before) + 1]
        n_before = int(id_codes.max(initial=0))
    has_rows = np.zeros(n_entities + 1, dtype=bool)
    for block in column_store.blocks(len(codes)):
        has_rows[codes[block][trained[block]]] = True
    new = share.any(has_rows) & (id_codes == 0)
    id_codes[new] = n_before + np.arange(1, int(new.sum()) + 1)
    return id_codes


def _in_order_of_codes(
    encoded: sp.csr_matrix, rows: FeatureRows
) -> tuple[sp.csr_matrix, np.ndarray | None]:
    """Encoded rows by code, then those of earlier times.

    Returns
    -------
    features : csr_matrix of shape (n_rows, n_columns)
        Rows of entities without features are empty.
    inputs : ndarray of shape (n_samples,) or None
        Row of each interaction; None: the row of its entity's code.
    """
    older = rows.older
    empty = sp.csr_matrix((1, encoded.shape[1]), dtype=np.float32)  # at position -1
    order = np.concatenate([rows.latest, older])
    features = sp.vstack([encoded, empty], format="csr")[order]
    features.sort_indices()
    if rows.of_interactions is None:
        return features, None
    kind = np.int32 if len(order) <= np.iinfo(np.int32).max else np.int64
    input_of_row = rows.codes.astype(kind)
    input_of_row[older] = len(rows.latest) + np.arange(len(older))
    return features, column_store.take(input_of_row, rows.of_interactions)


def _numbered(mask: np.ndarray) -> np.ndarray:
    """Consecutive numbers from 0 where a mask is True, else -1; (n,)."""
    return np.where(mask, np.cumsum(mask) - 1, -1)
