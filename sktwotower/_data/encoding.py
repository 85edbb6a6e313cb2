"""Feature encoders: any transformer, what it is fitted on, and its output as fields."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, get_tags

from sktwotower._data.roles import Frame
from sktwotower.preprocessing import FeatureEncoder
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._sklearn import (
    is_column_transformer,
    is_frozen,
    is_pipeline,
    is_selector,
    is_union,
)
from sktwotower.utils._spelling import any_meant
from sktwotower.utils._warnings import warn

# A field is multiplied as a dense matrix if it has at least so many columns, of which at
# least this share is non-zero. Narrower fields are as fast in the bag of all sparse fields.
_DENSE_WIDTH = 16
_DENSE_SHARE = 0.5
# Largest value that a tower is given. Its square, times some thousand columns and weights,
# is still a float32.
_LARGEST = 1e12


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


def encoder_of(parameter: Encoder | None) -> Encoder:
    """The encoder that a parameter stands for, unfitted."""
    return FeatureEncoder() if parameter is None else parameter


def fit_encoder(
    encoder: Encoder | None, frame: Frame, parameter: str
) -> tuple[Encoder, Any]:
    """Fit a clone of an encoder; a FrozenEstimator is used as it is.

    Parameters
    ----------
    encoder : transformer or None
        None: a FeatureEncoder.
    frame : DataFrame or Series of n rows
        Features.
    parameter : str
        Name of the encoder's parameter, for messages.

    Returns
    -------
    encoder : fitted transformer
    encoded : matrix of shape (n, n_columns)
        The rows of the frame, as the transformer returns them.

    Raises
    ------
    ValueError
        If the encoder learns from a target y, takes a single column, or names a column that
        the frame lacks.
    """
    encoder = clone(encoder_of(encoder))
    for step in _leaves(encoder):
        if _wants_target(step):
            raise ValueError(_supervised_message(step, parameter))
    _refuse_lacking_columns(encoder, frame, parameter)
    X = encoder_input(encoder, frame)
    try:
        with _encoding(frame):
            if is_frozen(encoder):
                return encoder, encoder.transform(X)
            if hasattr(encoder, "fit_transform"):
                return encoder, encoder.fit_transform(X)
            return encoder, encoder.fit(X).transform(X)
    except (TypeError, ValueError) as error:
        # Some transformers find out when they fit.
        if "requires y to be passed" in str(error):
            raise ValueError(_supervised_message(encoder, parameter)) from error
        raise


def transformed(encoder: Encoder, frame: Frame) -> Any:
    """The rows of a frame, as a fitted transformer returns them."""
    with _encoding(frame):
        return encoder.transform(encoder_input(encoder, frame))


@contextmanager
def _encoding(frame: Frame) -> Iterator[None]:
    # Frames hold no sparse matrix, so the user's set_output is not for us.
    with config_context(transform_output="default"):
        try:
            yield
        except OverflowError as error:
            names = [
                name
                for name, column in pd.DataFrame(frame).items()
                if column.dtype == object and column.map(_is_beyond_floats).any()
            ]
            where = f"The columns {names} hold" if names else "The encoder makes"
            raise ValueError(
                f"{where} numbers that are too large for a float ({error}); clip them, or "
                "take their logarithm."
            ) from error
        except ValueError as error:
            wants_table = re.match(r"Expected (a )?2(D|-dim)", str(error))
            if wants_table is None or not isinstance(frame, pd.Series):
                raise
            raise ValueError(
                f"The encoder takes a table, but the single name {frame.name!r} gives it a "
                f"1-D column; select it by a list, features=[{frame.name!r}]."
            ) from error


def _is_beyond_floats(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > sys.float_info.max


def encoder_input(encoder: Encoder, frame: Frame) -> Frame:
    """A frame as the encoder takes it: 2-D, or its single column as 1-D.

    A column that was selected by a single name is 1-D, but for transformers of
    scikit-learn, and encoders of this package, that take a table. A table of one column is
    2-D, but for text vectorizers.

    Raises
    ------
    ValueError
        If the encoder takes a single column and the frame has several, or if one part of
        it takes a column and another one a table.
    """
    first = _first_steps(encoder)
    tables = [step for step in first if _wants_table(step)]
    if isinstance(frame, pd.Series):
        columns = [step for step in first if _wants_column(step) or not _is_known(step)]
        if tables and columns:
            raise ValueError(
                f"{type(tables[0]).__name__} takes a table and {type(columns[0]).__name__} "
                "a single column; combine them in a ColumnTransformer, which gives each "
                "its columns."
            )
        return frame.to_frame() if tables else frame
    columns = [step for step in first if _wants_column(step)]
    if not columns:
        return frame
    if frame.shape[1] == 1:
        return encoder_input(encoder, frame.iloc[:, 0])
    raise ValueError(
        f"{type(columns[0]).__name__} encodes a single column, but the table has the "
        f"features {list(frame.columns)}; pick one with EntityTable(frame, id_column, "
        "features='...') or combine encoders in a ColumnTransformer."
    )


def _first_steps(encoder: Any) -> list[Any]:
    """The transformers that are given the columns."""
    if is_frozen(encoder):
        return _first_steps(encoder.estimator)
    if is_pipeline(encoder):
        steps = [step for _, step in encoder.steps if not isinstance(step, str)]
        return _first_steps(steps[0]) if steps else []
    if is_union(encoder):
        parts = [part for _, part in encoder.transformer_list if not isinstance(part, str)]
        return [step for part in parts for step in _first_steps(part)]
    return [encoder]


def _refuse_lacking_columns(encoder: Any, frame: Frame, parameter: str) -> None:
    """Raise ValueError if a ColumnTransformer names columns that a frame lacks."""
    features = list(pd.DataFrame(frame).columns)
    for step in filter(is_column_transformer, _first_steps(encoder)):
        for _, part, columns in step.transformers:
            if isinstance(part, str) and part == "drop":
                continue
            names = columns if isinstance(columns, list) else [columns]
            lacking = [n for n in names if isinstance(n, str) and n not in features]
            if lacking:
                raise ValueError(
                    f"{parameter} names the columns {lacking}, which are no features; the "
                    f"features are {features}.{any_meant(lacking, features)}"
                )


def _is_known(step: Any) -> bool:
    """Whether the tags of a transformer say what it takes; others have the default tags."""
    return type(step).fit.__module__.startswith(("sklearn.", "sktwotower."))


def _tags(step: Any) -> Tags:
    # Transformers without tags have the default ones.
    return get_tags(step if hasattr(step, "__sklearn_tags__") else BaseEstimator())


def _wants_table(step: Any) -> bool:
    tags = _tags(step)
    return _is_known(step) and tags.input_tags.two_d_array and not tags.no_validation


def _wants_column(step: Any) -> bool:
    return not _tags(step).input_tags.two_d_array


def _leaves(encoder: Any) -> list[Any]:
    """The transformers of which an encoder is made, but for frozen ones."""
    if isinstance(encoder, str) or is_frozen(encoder):
        return []
    parts: list[Any] = []
    if is_pipeline(encoder):
        parts = [part for _, part in encoder.steps]
    elif is_union(encoder):
        parts = [part for _, part in encoder.transformer_list]
    elif is_column_transformer(encoder):
        parts = [part for _, part, _ in encoder.transformers] + [encoder.remainder]
    else:
        return [encoder]
    return [leaf for part in parts for leaf in _leaves(part)]


def _wants_target(step: Any) -> bool:
    """Whether a transformer cannot be fitted without a target y."""
    if is_selector(step):
        return hasattr(step, "score_func") or (
            hasattr(step, "estimator") and _tags(step.estimator).target_tags.required
        )
    y = signature(step.fit).parameters.get("y")
    is_first = y is not None and next(iter(signature(step.fit).parameters)) == "y"
    required = y is not None and y.default is Parameter.empty and not is_first
    return required or _tags(step).target_tags.required


def _supervised_message(step: Any, parameter: str) -> str:
    return (
        f"{parameter} cannot have a {type(step).__name__}, which learns from a target y, "
        "because features are encoded without one; use a transformer that learns from the "
        "features alone, or fit it yourself and pass it as a FrozenEstimator."
    )


def as_features(encoded: Any, parameter: str, n_rows: int) -> sp.csr_matrix:
    """The output of any transformer as a float32 CSR matrix, (n_rows, n_columns).

    Values beyond 1e12 are clipped, with a warning, because products of larger ones overflow
    in a tower, and the embedding would be zero.

    Raises
    ------
    ValueError
        If values are NaN, infinite or no numbers, or if the number of rows is another.
    """
    if is_frame(encoded):
        encoded = as_pandas(encoded).to_numpy()
    shape = encoded.shape if sp.issparse(encoded) else np.shape(encoded)
    if len(shape) != 2 or shape[0] != n_rows:
        raise ValueError(
            f"The encoder of {parameter} returned output of shape {shape} for {n_rows} "
            "rows; it must return a 2-D array or a sparse matrix with one row for each. "
            "A single name, features='...', gives it a 1-D column; a list of names gives "
            "it a frame."
        )
    try:
        with np.errstate(over="ignore"):  # found below
            matrix = sp.csr_matrix(encoded, dtype=np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"The encoder of {parameter} returned values that are not float32 numbers "
            f"({error}); encode all columns as such numbers."
        ) from error
    if not (np.abs(matrix.data) <= _LARGEST).all():
        matrix = _clipped(sp.csr_matrix(encoded, dtype=np.float64), parameter)
    matrix.sum_duplicates()
    return matrix


def _clipped(matrix: sp.csr_matrix, parameter: str) -> sp.csr_matrix:
    """A matrix with values that are not too large for a tower; refuses infinite ones."""

    def some(bad: np.ndarray) -> tuple[int, int]:  # their number, and the first row
        row = int(np.searchsorted(matrix.indptr, bad.argmax(), side="right")) - 1
        return int(bad.sum()), row

    bad = ~np.isfinite(matrix.data)
    if bad.any():
        n_bad, row = some(bad)
        raise ValueError(
            f"The encoder of {parameter} returned {n_bad} values that are NaN or "
            f"infinite (first at row {row}); impute or scale them in the encoder."
        )
    n_large, row = some(np.abs(matrix.data) > _LARGEST)
    warn(
        f"The encoder of {parameter} returned {n_large} values beyond {_LARGEST:g} (first "
        f"at row {row}), which are clipped; scale or clip them in the encoder."
    )
    matrix.data = np.clip(matrix.data, -_LARGEST, _LARGEST)
    return matrix.astype(np.float32)


def field_slices(encoder: Encoder, encoded: sp.csr_matrix) -> dict[str, slice]:
    """Columns of each field: the encoder's ``output_indices_``, else one field of all."""
    last = _last_step(encoder)
    everything = {"features": slice(0, encoded.shape[1])}
    slices: dict[str, slice] = getattr(last, "output_indices_", everything)
    return {name: part for name, part in slices.items() if part.stop > part.start}


def describe_fields(encoder: Encoder, fields: dict[str, slice]) -> list[str]:
    """What each column, or each field, became: ``"genres: multi_hot, 20 columns"``."""
    last = _last_step(encoder)
    parts = {}
    if is_column_transformer(last):
        parts = {name: part for name, part, _ in last.transformers_}
    lines = []
    for name, columns in fields.items():
        part = parts.get(name, encoder)
        kinds = _kinds_of_columns(_last_step(part))
        if name in kinds and name not in parts:
            lines.append(_line(name, kinds[name], columns))
        elif kinds:  # a part of a ColumnTransformer that has several columns
            widths = _last_step(part).output_indices_
            lines += [_line(f"{name} {c}", kind, widths[c]) for c, kind in kinds.items()]
        else:
            lines.append(_line(name, _kind_of(part), columns))
    return lines


def _kinds_of_columns(step: Any) -> dict[str, str]:
    """What a FeatureEncoder made of each column; of other transformers it is not known."""
    step = step.estimator if is_frozen(step) else step
    return step.kinds_ if isinstance(step, FeatureEncoder) else {}


def _kind_of(part: Any) -> str:
    """Names of the transformers of a part, in the order in which they are applied."""
    if is_pipeline(part):
        return " + ".join(_kind_of(s) for _, s in part.steps if not isinstance(s, str))
    return type(part).__name__


def _line(name: str, kind: str, columns: slice) -> str:
    width = columns.stop - columns.start
    return f"{name}: {kind}, {width} column{'' if width == 1 else 's'}"


def _last_step(encoder: Any) -> Any:
    while is_pipeline(encoder):
        encoder = encoder.steps[-1][1]
    return encoder


def dense_fields(matrix: sp.csr_matrix, fields: dict[str, slice]) -> frozenset[str]:
    """Fields that are wide and mostly non-zero, to be multiplied as dense matrices."""
    dense = set()
    for name, columns in fields.items():
        block = matrix[:, columns]
        filled = block.nnz >= _DENSE_SHARE * block.shape[0] * block.shape[1]
        if filled and block.shape[1] >= _DENSE_WIDTH:
            dense.add(name)
    return frozenset(dense)
