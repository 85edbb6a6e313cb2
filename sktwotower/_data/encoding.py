"""Feature encoders: any transformer, what it is fitted on, and its output as fields."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import get_tags

from sktwotower._data.roles import Frame
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._sklearn import is_pipeline

# A field is multiplied as a dense matrix if it has at least so many columns, of which at
# least this share is non-zero. Narrower fields are as fast in the bag of all sparse fields.
_DENSE_WIDTH = 16
_DENSE_SHARE = 0.5


class Encoder(Protocol):
    """A scikit-learn transformer."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a frame."""

    def transform(self, X: Any) -> Any:
        """Encode the rows of a frame: an array, a sparse matrix or a frame."""


class GrowingEncoder(Encoder, Protocol):
    """An encoder of this package, whose columns stay when it learns more rows.

    ``unknown_columns_`` names the column that rare and unknown values of a field share.
    """

    unknown_columns_: dict[str, int]

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from more rows."""


def fit_encoder(encoder: Encoder | None, frame: Frame) -> tuple[Encoder, Any]:
    """Fit a clone of an encoder.

    Returns
    -------
    encoder : fitted transformer
    encoded : matrix of shape (n, n_columns)
        The rows of the frame, as the transformer returns them.
    """
    encoder = clone(encoder)
    X = encoder_input(encoder, frame)
    # Frames hold no sparse matrix, so the user's set_output is not for us.
    with config_context(transform_output="default"):
        if hasattr(encoder, "fit_transform"):
            return encoder, encoder.fit_transform(X)
        return encoder, encoder.fit(X).transform(X)


def encoder_input(encoder: Encoder, frame: Frame) -> Frame:
    """A frame as the encoder takes it: text vectorizers take a column.

    Raises
    ------
    ValueError
        If the encoder takes a single column and the frame has several.
    """
    first: Any = encoder
    while is_pipeline(first):
        steps = [step for _, step in first.steps if not isinstance(step, str)]
        if not steps:  # only "passthrough"
            return frame
        first = steps[0]
    tags = get_tags(first)
    if tags.input_tags.two_d_array:
        if isinstance(frame, pd.Series) and not tags.no_validation:
            return frame.to_frame()
        return frame
    if isinstance(frame, pd.Series):
        return frame
    if frame.shape[1] == 1:
        return frame.iloc[:, 0]
    raise ValueError(
        f"{type(first).__name__} encodes a single column, but the table has the features "
        f"{list(frame.columns)}; pick one with EntityTable(frame, id_column, "
        "features='...') or combine encoders in a ColumnTransformer."
    )


def as_features(encoded: Any, parameter: str) -> sp.csr_matrix:
    """The output of any transformer as a float32 CSR matrix, (n, n_columns).

    Raises
    ------
    ValueError
        If values are NaN or infinite.
    """
    if is_frame(encoded):
        encoded = as_pandas(encoded).to_numpy()
    matrix = sp.csr_matrix(encoded, dtype=np.float32)
    if not np.isfinite(matrix.data).all():
        bad = ~np.isfinite(matrix.data)
        row = int(np.searchsorted(matrix.indptr, bad.argmax(), side="right")) - 1
        raise ValueError(
            f"The encoder of {parameter} returned {int(bad.sum())} values that are NaN or "
            f"infinite (first at row {row}); impute or scale them in the encoder."
        )
    matrix.sum_duplicates()
    return matrix


def field_slices(encoder: Encoder, encoded: sp.csr_matrix) -> dict[str, slice]:
    """Columns of each field: the encoder's ``output_indices_``, else one field of all."""
    last: Any = encoder
    while is_pipeline(last):
        last = last.steps[-1][1]
    everything = {"features": slice(0, encoded.shape[1])}
    slices: dict[str, slice] = getattr(last, "output_indices_", everything)
    return {name: part for name, part in slices.items() if part.stop > part.start}


def dense_fields(matrix: sp.csr_matrix, fields: dict[str, slice]) -> frozenset[str]:
    """Fields that are wide and mostly non-zero, to be multiplied as dense matrices."""
    dense = set()
    for name, columns in fields.items():
        block = matrix[:, columns]
        filled = block.nnz >= _DENSE_SHARE * block.shape[0] * block.shape[1]
        if filled and block.shape[1] >= _DENSE_WIDTH:
            dense.add(name)
    return frozenset(dense)
