"""A part of a model: values by name, described in the manifest, with files for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktwotower._persistence.frames import is_same_frame, read_frame, write_frame
from sktwotower._persistence.manifest import MANIFEST, Json, StoredFiles, expect, reading
from sktwotower._persistence.objects import Objects
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._extra import extra
from sktwotower.utils._json_values import decode, encode

# Values are described by what JSON can hold, or by one of these.
_ARRAY, _TENSOR, _FRAME, _OBJECT = (
    {"stored": kind} for kind in ("array", "tensor", "frame", "object")
)


def write_part(
    part: str, values: Mapping[str, Any], folder: Path, objects: Objects
) -> dict[str, Json]:
    """Write values of all kinds, and describe them.

    Parameters
    ----------
    part : str
        What the files are called.
    values : dict
        Arrays and tensors, which go to one file; frames, each of which has a file;
        objects, such as encoders, which are added to ``objects``; and plain values, which
        are in the description.
    folder : Path
        The folder of all files.
    objects : dict
        The objects of all parts.
    """
    described, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and _is_plain(value.dtype):
            described[name], arrays[name] = _ARRAY, value
        elif isinstance(value, Tensor):
            described[name], arrays[name] = _TENSOR, value.numpy()
        elif isinstance(value, pd.Series) or is_frame(value):
            described[name] = _FRAME
            frame = value if isinstance(value, pd.Series) else as_pandas(value)
            write_frame(folder / f"{part}.{name}.parquet", frame)
        else:
            try:
                described[name] = encode(value)
            except TypeError:  # an encoder, or a callable that selects columns
                described[name] = _OBJECT
                objects[_object_name(part, name)] = value
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    if whole:
        extra("safetensors.numpy").save_file(whole, folder / f"{part}.safetensors")
    return described


def read_part(
    part: str, described: Mapping[str, Json], files: StoredFiles, objects: Objects
) -> dict[str, Any]:
    """Read the values that :func:`write_part` described.

    Raises
    ------
    ArtefactError
        If a file has other content.
    """
    arrays, file = {}, f"{part}.safetensors"
    if _ARRAY in described.values() or _TENSOR in described.values():
        path = files.path(file)
        with reading(file):
            # It compares the shapes with the size of the file.
            arrays = extra("safetensors.numpy").load_file(path)
    values: dict[str, Any] = {}
    for name, description in described.items():
        if description in (_ARRAY, _TENSOR):
            expect(name in arrays, file, f"has no array {name!r}")
            array = np.require(arrays[name], requirements="W")
            values[name] = array if description == _ARRAY else torch.from_numpy(array)
        elif description == _FRAME:
            path = files.path(f"{part}.{name}.parquet")
            values[name] = read_frame(path, max_bytes=files.most_bytes)
        elif description == _OBJECT:
            stored = _object_name(part, name)
            expect(stored in objects, MANIFEST, f"names an object {stored!r}")
            values[name] = objects[stored]
        else:
            with reading(MANIFEST):
                values[name] = decode(description)
    return values


def is_same(one: Any, other: Any) -> bool:
    """Whether a value that was read equals the one that was written."""
    if isinstance(one, np.ndarray | Tensor):
        mine, theirs = np.asarray(one), np.asarray(other)
        if type(one) is not type(other) or mine.dtype != theirs.dtype:
            return False
        return np.array_equal(mine, theirs) or np.array_equal(mine, theirs, equal_nan=True)
    if isinstance(one, pd.Series) or is_frame(one):
        return is_same_frame(one if isinstance(one, pd.Series) else as_pandas(one), other)
    return one is other or encode(one) == encode(other)


def _is_plain(dtype: np.dtype) -> bool:
    """Whether safetensors has the dtype."""
    return dtype.kind in "biuf" and dtype.isnative and dtype.itemsize <= 8


def _object_name(part: str, name: str) -> str:
    """What users know an object by: a parameter, or a fitted attribute."""
    return name if part == "parameters" else f"{part}_{name}_"
