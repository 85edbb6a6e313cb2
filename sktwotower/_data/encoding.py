"""Any transformer as a feature encoder: what it is fed, and what it returns as fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags

from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._sklearn import is_pipeline

# A field whose rows are mostly non-zero is multiplied as a matrix from this width on;
# below it the bag that all sparse fields share is as fast.
_DENSE_WIDTH = 16
_DENSE_SHARE = 0.5


def fit_encoder(encoder: BaseEstimator | None, frame: Any) -> tuple[Any, Any]:
    """A fitted clone of an encoder, and the rows of a frame as it encodes them."""
    encoder = clone(encoder)
    food = prepare(encoder, frame)
    with config_context(transform_output="default"):  # frames hold no sparse matrix
        if hasattr(encoder, "fit_transform"):
            return encoder, encoder.fit_transform(food)
        return encoder, encoder.fit(food).transform(food)


def dense_fields(matrix: sp.csr_matrix, fields: dict[str, slice]) -> frozenset[str]:
    """Fields that are wide and mostly filled, and so multiplied as matrices."""
    dense = set()
    for name, columns in fields.items():
        block = matrix[:, columns]
        filled = block.nnz >= _DENSE_SHARE * block.shape[0] * block.shape[1]
        if filled and block.shape[1] >= _DENSE_WIDTH:
            dense.add(name)
    return frozenset(dense)


def prepare(encoder: BaseEstimator, frame: Any) -> Any:
    """What an encoder wants to eat: a text vectorizer takes a column, not a frame."""
    first = encoder
    while is_pipeline(first):
        steps = [step for _, step in first.steps if not isinstance(step, str)]
        if not steps:  # only "passthrough"
            return frame
        first = steps[0]
    tags = get_tags(first)
    if tags.input_tags.two_d_array:
        one_column = isinstance(frame, pd.Series) and not tags.no_validation
        return frame.to_frame() if one_column else frame
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
    """What any transformer returns, as a finite float32 CSR matrix."""
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


def field_slices(encoder: BaseEstimator, encoded: sp.csr_matrix) -> dict[str, slice]:
    """Named groups of columns: an encoder's own ``output_indices_``, else one group."""
    last = encoder
    while is_pipeline(last):
        last = last.steps[-1][1]
    everything = {"features": slice(0, encoded.shape[1])}
    slices: dict[str, slice] = getattr(last, "output_indices_", everything)
    return {name: part for name, part in slices.items() if part.stop > part.start}
