"""Types of Arrow that few functions take, replaced by those that all take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktwotower.utils._extra import extra


def plain_type(kind: Any) -> Any:
    """The same type of Arrow without views of strings and run lengths."""
    pa = extra("pyarrow")  # there are no types of Arrow without it

    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return kind


def plain_column(values: Any) -> Any:
    """A chunked array of Arrow with its plain type."""
    pa, compute = extra("pyarrow"), extra("pyarrow.compute")

    if pa.types.is_run_end_encoded(values.type):
        values = compute.run_end_decode(values)
    kind = plain_type(values.type)
    return values if kind == values.type else values.cast(kind)


def with_plain_types(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with plain types of Arrow, and of NumPy in the machine's order of bytes."""
    columns = {}
    for position, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, np.dtype) and not dtype.isnative:
            columns[position] = frame.iloc[:, position].astype(dtype.newbyteorder("="))
        if not isinstance(dtype, pd.ArrowDtype):
            continue
        column, kind = frame.iloc[:, position], dtype.pyarrow_dtype
        if hasattr(kind, "extension_name"):
            values = column.array.__arrow_array__().to_pandas()  # as from a file
            columns[position] = values.set_axis(frame.index)
        elif plain_type(kind) != kind:
            values = plain_column(column.array.__arrow_array__())
            columns[position] = pd.Series(
                pd.arrays.ArrowExtensionArray(values), frame.index
            )
        elif "interval" in str(kind) or "list_view" in str(kind):
            # pandas makes no array of them, and casts of views of lists lose values.
            columns[position] = pd.Series(column.tolist(), frame.index, dtype=object)
    if not columns:
        return frame
    parts = [columns.get(i, frame.iloc[:, i]) for i in range(frame.shape[1])]
    return pd.concat(parts, axis=1).set_axis(frame.columns, axis=1)


def time_types(X: Any) -> dict[str, str]:
    """Dtypes of a frame's columns of times and durations in Arrow's memory, by name."""
    if not isinstance(X, pd.DataFrame):
        return {}
    return {
        str(name): str(dtype)
        for name, dtype in X.dtypes.items()
        if isinstance(dtype, pd.ArrowDtype) and dtype.kind in "mM"
    }


def as_time_type(times: pd.Series, dtype: str | None) -> pd.Series:
    """Times with such a dtype, which pandas merges with no other; others as they are."""
    if dtype is None or times.dtype.kind not in "mM":
        return times
    try:
        return times.astype(dtype)  # type: ignore[call-overload]
    except (ImportError, TypeError, ValueError):  # no pyarrow, or not such times
        return times
