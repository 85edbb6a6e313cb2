"""Dtypes of pandas as JSON and back; nothing else is made from JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._persistence.manifest import Json
from sktwotower.utils._extra import extra
from sktwotower.utils._json_values import decode, encode, zone_name

Dtype = Any  # a NumPy dtype or an extension dtype
_KINDS_OF_NUMPY = "biufmMO"


def encode_dtype(dtype: Dtype) -> Json:
    """What JSON can hold of a dtype, for :func:`decode_dtype`.

    Categorical dtypes have values; a column of such a dtype is described as a whole.

    Raises
    ------
    TypeError
        For a dtype that would not come back as it is.
    """
    for kind, (of_kind, to_json, _) in _KINDS.items():
        if isinstance(dtype, of_kind):
            content = {kind: to_json(dtype)}
            if decode_dtype(content) == dtype:
                return content
            break
    raise TypeError(f"dtype {dtype}")


def decode_dtype(content: Json) -> Dtype:
    """The dtype that :func:`encode_dtype` was given.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    ((kind, value),) = content.items()
    if kind not in _KINDS:
        raise ValueError(f"a dtype of the unknown kind {kind!r}")
    of_kind, _, from_json = _KINDS[kind]
    dtype = from_json(value)
    if not isinstance(dtype, of_kind):
        raise ValueError(f"the dtype {dtype} is not of the kind {kind!r}")
    return dtype


def _from_numpy(text: str) -> np.dtype:
    dtype = np.dtype(text)
    if dtype.kind not in _KINDS_OF_NUMPY:
        raise ValueError(f"a column of dtype {dtype}")
    return dtype


def _string_dtype(content: list) -> pd.StringDtype:
    storage, is_nan = content
    options = {"na_value": np.nan} if is_nan else {}
    return pd.StringDtype(storage, **options)


def _interval(dtype: pd.IntervalDtype) -> list:
    return [None if dtype.subtype is None else encode_dtype(dtype.subtype), dtype.closed]


def _interval_dtype(content: list) -> pd.IntervalDtype:
    subtype, closed = content
    return pd.IntervalDtype(None if subtype is None else decode_dtype(subtype), closed)


def _sparse(dtype: pd.SparseDtype) -> list:
    return [encode_dtype(dtype.subtype), encode(dtype.fill_value)]


def _sparse_dtype(content: list) -> pd.SparseDtype:
    subtype, fill_value = content
    return pd.SparseDtype(decode_dtype(subtype), decode(fill_value))


def _arrow(dtype: pd.ArrowDtype) -> str:
    schema = extra("pyarrow").schema([("column", dtype.pyarrow_dtype)])
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _arrow_dtype(content: str) -> pd.ArrowDtype:
    arrow, ipc = extra("pyarrow"), extra("pyarrow.ipc")
    schema = ipc.read_schema(arrow.py_buffer(base64.b64decode(content)))
    return pd.ArrowDtype(schema.field(0).type)


# By name: a type, its dtypes as JSON, and the dtypes from JSON.
_KINDS: dict[str, tuple[Any, Callable[[Any], Json], Callable[[Any], Dtype]]] = {
    "numpy": (np.dtype, lambda dtype: dtype.str, _from_numpy),
    "string": (
        pd.StringDtype,
        lambda dtype: [dtype.storage, dtype.na_value is not pd.NA],
        _string_dtype,
    ),
    "zoned": (
        pd.DatetimeTZDtype,
        lambda dtype: [dtype.unit, zone_name(dtype.tz)],
        lambda content: pd.DatetimeTZDtype(*content),
    ),
    "interval": (pd.IntervalDtype, _interval, _interval_dtype),
    "sparse": (pd.SparseDtype, _sparse, _sparse_dtype),
    "arrow": (pd.ArrowDtype, _arrow, _arrow_dtype),
    "period": (pd.PeriodDtype, str, pd.api.types.pandas_dtype),
    "nullable": (
        (
            pd.BooleanDtype,
            *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
            *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
            *(pd.Float32Dtype, pd.Float64Dtype),
        ),
        str,
        pd.api.types.pandas_dtype,
    ),
}
