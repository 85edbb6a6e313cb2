"""Encoders and functions in a skops file: only trusted types are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pandas as pd

from sktwotower._persistence.manifest import ArtefactError, StoredFiles, reading
from sktwotower.utils._extra import extra

Objects = dict[str, object]
Trusted = str | type | Callable[..., object]

_PREPROCESSING = "sktwotower.preprocessing"
_SPLINE = "scipy.interpolate._bsplines.BSpline"
_SPARSE = {
    f"scipy.sparse._{name}.{name}_{kind}"
    for name in ("csc", "csr")
    for kind in ("array", "matrix")
}
# In addition to the types that skops trusts: the estimators of scikit-learn, the dtypes and
# ufuncs of NumPy, the functions of SciPy. These are records and arrays, which run no code
# of the file, and functions that only calculate. Trees (of neighbours, of forests) are not
# here, since their compiled code reads memory at positions that are in the file.
_TRUSTED = {
    f"{_PREPROCESSING}._feature_encoder.FeatureEncoder",
    f"{_PREPROCESSING}._multi_hot.MultiHotEncoder",
    f"{_PREPROCESSING}._fields.CategoryField",
    f"{_PREPROCESSING}._fields.MultiHotField",
    f"{_PREPROCESSING}._fields.NumberField",
    f"{_PREPROCESSING}._fields.VectorField",
    f"{_PREPROCESSING}._categories.CategoryIndex",
    "sktwotower.history.PooledHistory",
    "sktwotower.history.TransformerHistory",
    *(
        f"numpy.{name}"
        for name in (
            "asarray",
            "array",
            "clip",
            "dtype",
            "floating",
            "integer",
            "max",
            "mean",
            "median",
            "min",
            "nan_to_num",
            "number",
            "ravel",
            "reshape",
            "round",
            "squeeze",
            "std",
            "sum",
            "where",
        )
    ),
    # pandas 2 names them by their own modules.
    *(
        f"{function.__module__}.{function.__name__}"
        for function in (
            pd.CategoricalDtype,
            pd.to_datetime,
            pd.to_numeric,
            pd.to_timedelta,
        )
    ),
    _SPLINE,
    *_SPARSE,
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.impute._iterative._ImputerTriplet",
    "sklearn.compose._column_transformer.make_column_selector",
}


def write_objects(file: Path, objects: Objects) -> None:
    """Write a file, after a check that each object can be read again.

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
    io.dump(objects, file, compression=ZIP_DEFLATED)


def read_objects(name: str, files: StoredFiles, trusted: Iterable[str]) -> Objects:
    """The objects of a file.

    Raises
    ------
    ArtefactError
        For types that are not trusted, before anything is made or imported, and for a file
        that is much larger than its size when it is unpacked.
    """
    io, file = extra("skops.io"), files.path(name)
    with reading(file.name):
        with ZipFile(file) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
        if n_bytes > files.most_bytes:
            raise ValueError(f"{n_bytes} bytes are too much for its size")
        names = _TRUSTED.union(trusted)
        named = set(io.get_untrusted_types(file=file))
        unknown = sorted(named - names)
        if unknown:
            raise ArtefactError(
                f"The artefact holds objects of types that are not trusted: {unknown}. If "
                f"you know them and trust whoever wrote it, name them: load(path, "
                f"trusted={unknown})."
            )
        objects: Objects = dict(io.load(file, trusted=sorted(names)))
        if named & {_SPLINE, *_SPARSE}:
            _check_positions(objects)
        return objects


def _check_positions(thing: Any) -> None:
    """Raise an error for splines and sparse matrices that point outside of their arrays."""
    if isinstance(thing, str | type | FunctionType):
        return
    name = f"{type(thing).__module__}.{type(thing).__name__}"
    if name == _SPLINE:  # checked where it is made
        type(thing)(thing.t, thing.c, thing.k, thing.extrapolate)
    elif name in _SPARSE:
        thing.check_format(full_check=True)
    elif isinstance(thing, list | tuple):
        for entry in thing:
            _check_positions(entry)
    else:
        values = thing if isinstance(thing, dict) else getattr(thing, "__dict__", {})
        for entry in values.values():
            _check_positions(entry)


def type_name(named: Trusted) -> str:
    """The full name of a type or function, as skops writes it.

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
