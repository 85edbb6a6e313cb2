"""Encoders that continue with more rows, and where the rows of larger tables come from."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import torch

from sktwotower._data.encoding import Encoder, GrowingEncoder, encoder_input, transformed
from sktwotower._data.entities import Entities
from sktwotower._data.feature_frames import value_codes
from sktwotower._data.feature_rows import FeatureRows
from sktwotower._nn.resize import RowSource
from sktwotower.utils._sklearn import is_frozen


def grow_encoder(before: Entities, rows: FeatureRows, n_new: int) -> tuple[Encoder, Any]:
    """Continue with the encoder from before.

    An encoder of this package learns the rows that have changed; others stay as they are.

    Parameters
    ----------
    before : Entities
        With a fitted encoder.
    rows : FeatureRows of m rows
        The new rows first.
    n_new : int
        How many of them are new.

    Returns
    -------
    encoder : fitted transformer
    encoded : matrix of shape (m, n_columns)
        All rows.
    """
    encoder = before.encoder
    assert encoder is not None
    if _can_grow(encoder):
        new = np.arange(len(rows.codes)) < n_new
        new &= ~_is_as_before(before, rows)
        if new.any():
            learned = encoder_input(encoder, rows.frame[new])
            encoder = deepcopy(encoder).partial_fit(learned)
    return encoder, transformed(encoder, rows.frame)


def column_source(before: Entities, now: Entities, fields: list[str]) -> RowSource:
    """Where the rows of an embedding table of some fields come from.

    New rows start from the row of unknown values, if the field has one.

    Raises
    ------
    ValueError
        If the fields are not those from before.
    """
    if list(before.fields) != list(now.fields):
        raise ValueError(
            f"Training goes on with the features that it began with, "
            f"{list(before.fields)}; now there are {list(now.fields)}."
        )
    encoder = before.encoder
    unknown = {}
    if encoder is not None and _can_grow(encoder):
        unknown = encoder.unknown_columns_
    rows, is_new, n_before = [], [], 0
    for name in fields:
        old, new = before.fields[name], now.fields[name]
        width, new_width = old.stop - old.start, new.stop - new.start
        first = n_before + unknown[name] - old.start if name in unknown else -1
        rows.append(np.arange(n_before, n_before + width))
        rows.append(np.full(new_width - width, first))
        is_new.append(np.arange(new_width) >= width)
        n_before += width
    return RowSource(
        torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(is_new))
    )


def _can_grow(encoder: Encoder) -> TypeGuard[GrowingEncoder]:
    """Whether columns of a fitted encoder keep their positions when it learns more."""
    return hasattr(encoder, "unknown_columns_") and not is_frozen(encoder)


def _is_as_before(before: Entities, rows: FeatureRows) -> np.ndarray:
    """Whether each row equals the row of its entity from before, (m,) bool.

    The encoder has counted such a row already.
    """
    positions = before.raw_positions_of(rows.codes)
    same = positions >= 0
    now, old = pd.DataFrame(rows.frame)[same], pd.DataFrame(before.raw_features)
    equal = np.ones(len(now), dtype=bool)
    for name, column in now.items():
        both = pd.concat([column, old[name].iloc[positions[same]]], ignore_index=True)
        codes = value_codes(both)
        equal &= codes[: len(now)] == codes[len(now) :]
    same[same] = equal
    return same
