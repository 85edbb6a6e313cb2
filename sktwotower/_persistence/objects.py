"""Encoders as skops files: made of trusted types, or refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zipfile import ZIP_DEFLATED

from sktwotower._persistence.folder import ArtefactError
from sktwotower.utils._extra import extra

# Beside those that skops trusts: the estimators of scikit-learn, the dtypes and functions
# of NumPy, the functions of SciPy.
_PREPROCESSING = "sktwotower.preprocessing"
TRUSTED = (
    f"{_PREPROCESSING}._feature_encoder.FeatureEncoder",
    f"{_PREPROCESSING}._multi_hot.MultiHotEncoder",
    f"{_PREPROCESSING}._fields.CategoryField",
    f"{_PREPROCESSING}._fields.MultiHotField",
    f"{_PREPROCESSING}._fields.NumberField",
    f"{_PREPROCESSING}._fields.VectorField",
    f"{_PREPROCESSING}._categories.CategoryIndex",
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
)


def to_skops(objects: dict[str, Any]) -> bytes:
    """A file, after a look at whether it can be read again.

    Raises
    ------
    TypeError
        If one of the objects cannot be stored.
    """
    io = extra("skops.io")
    for name, thing in objects.items():
        try:
            content = io.dumps(thing)
            io.loads(content, trusted=io.get_untrusted_types(data=content))
        except Exception as error:
            raise TypeError(
                f"{name}={thing!r} cannot be stored without pickle ({error}). Use an "
                "encoder whose attributes are plain values, arrays and estimators, and "
                "functions that have a name in a module."
            ) from error
    stored: bytes = io.dumps(objects, compression=ZIP_DEFLATED)
    return stored


def from_skops(content: bytes, trusted: Iterable[Any]) -> dict[str, Any]:
    """The objects.

    Raises
    ------
    ValueError
        For types that are not trusted, before anything is made or imported.
    """
    io = extra("skops.io")
    names = {*TRUSTED, *map(type_name, trusted)}
    unknown = sorted(set(io.get_untrusted_types(data=content)) - names)
    if unknown:
        raise ArtefactError(
            f"The artefact holds objects of types that are not trusted: {unknown}. If you "
            f"know them and trust whoever wrote it, name them: load(path, "
            f"trusted={unknown})."
        )
    objects: dict[str, Any] = io.loads(content, trusted=sorted(names))
    return objects


def type_name(named: Any) -> str:
    """The full name of a type or function, as skops has it.

    Raises
    ------
    TypeError
        For anything but a name, a type or a function.
    """
    if isinstance(named, str):
        return named
    if callable(named) and hasattr(named, "__name__"):
        return f"{named.__module__}.{named.__name__}"
    raise TypeError(
        f"trusted must hold types, functions or their full names, such as "
        f"'package.module.Encoder'; got {named!r}."
    )
