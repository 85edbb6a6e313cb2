"""Whether values that were read are of the types, shapes and ranges of their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from sktwotower._persistence.manifest import expect

RecordT = TypeVar("RecordT")


def record_of(kind: type[RecordT], values: Mapping[str, Any], file: str) -> RecordT:
    """A dataclass of values that have its names and types.

    Raises
    ------
    ArtefactError
        If a value is missing, is unknown, or has another type.
    """
    wanted = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    missing = {
        name
        for name, field in wanted.items()
        if field.default is MISSING and field.default_factory is MISSING
    } - set(values)
    unknown = set(values) - set(wanted)
    expect(not missing, file, f"lacks the values {sorted(missing)}")
    expect(not unknown, file, f"has the unknown values {sorted(map(str, unknown))}")
    expect_types(get_type_hints(kind), values, file)
    return kind(**values)


def expect_types(
    hints: Mapping[str, Any] | Callable[..., Any], values: Mapping[str, Any], file: str
) -> None:
    """Raise ArtefactError for a value that is not of the type in its annotation."""
    if not isinstance(hints, Mapping):
        hints = get_type_hints(hints)
    for name, value in values.items():
        if not _has_type(value, hints.get(name, Any)):
            what = f"a value {name!r} of the wrong type {type(value).__name__}"
            expect(False, file, f"has {what} ({str(value)[:60]})")


def _has_type(value: Any, hint: Any) -> bool:
    kind: Any = get_origin(hint)
    inner = get_args(hint)
    if kind in (Union, UnionType):
        return any(_has_type(value, option) for option in inner)
    if kind is Literal:
        return type(value) is str and value in inner
    if kind is tuple and inner[-1] is ...:
        return type(value) is tuple and all(_has_type(v, inner[0]) for v in value)
    if kind is tuple:
        return (
            type(value) is tuple
            and len(value) == len(inner)
            and all(map(_has_type, value, inner))
        )
    if kind is dict:
        return type(value) is dict and all(
            _has_type(k, inner[0]) and _has_type(v, inner[1]) for k, v in value.items()
        )
    if isinstance(kind, type):  # a list, a frozenset, a sequence
        entries: Any = value
        return isinstance(value, kind) and all(_has_type(x, inner[0]) for x in entries)
    if hint is float:
        return type(value) in (float, int)
    if hint is int:
        return type(value) is int
    return not isinstance(hint, type) or _is_instance(value, hint)


def _is_instance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol of methods
        return True


def expect_array(
    file: str,
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
    kinds: str,
    *,
    between: tuple[int, int] | None = None,
) -> None:
    """Raise ArtefactError unless an array has a shape, a kind of dtype and a range."""
    expect(
        isinstance(array, np.ndarray)
        and array.shape == shape
        and array.dtype.kind in kinds,
        file,
        f"has an array {name!r} of shape {np.shape(array)} and dtype "
        f"{getattr(array, 'dtype', None)}, where the model has the shape {shape}",
    )
    if between is not None and len(array):
        low, high = between
        expect(
            bool(low <= array.min() and array.max() <= high),
            file,
            f"has values in {name!r} that are not between {low} and {high}",
        )


def expect_finite(file: str, values: Mapping[str, Any]) -> None:
    """Raise ArtefactError for an array with a number that is not finite.

    The gap between two occurrences of an item that has not occurred is infinite.
    """
    for name, value in values.items():
        array = np.asarray(value) if hasattr(value, "numpy") else value
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            is_fine = (
                ~np.isnan(array) & (array > 0) if name == "gaps" else np.isfinite(array)
            )
            expect(
                bool(is_fine.all()), file, f"has numbers in {name!r} that are not finite"
            )
