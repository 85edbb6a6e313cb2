"""Parts of a model: values by name, described in the manifest, with files for the rest.

Each kind of value is stored by one function and restored by the function below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.roles import FeatureColumns, Frame
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._persistence.folder import Json, expect, reading
from sktwotower._persistence.frames import read_frame, write_frame
from sktwotower._persistence.objects import Objects
from sktwotower._persistence.tensors import Arrays, read_arrays, write_arrays
from sktwotower._persistence.values import decode, encode
from sktwotower.utils._columns import as_pandas, is_frame

Description = dict[str, Json]


def write_part(
    name: str, values: Mapping[str, object], folder: Path, objects: Objects
) -> Description:
    """Write a part.

    Parameters
    ----------
    name : str
        What its files are called.
    values : dict
        Arrays, tensors, frames, records, plain values and objects.
    folder : Path
        The folder of all files.
    objects : dict
        Objects that skops has to store are added to it, by the names that users know.

    Returns
    -------
    dict of str to JSON
        What :func:`read_part` turns into the values again.
    """
    part = _Part(name, folder, objects)
    described = {key: part.store(key, value) for key, value in values.items()}
    if part.arrays:
        write_arrays(part.array_file, part.arrays)
    return described


def read_part(
    name: str, described: Description, folder: Path, objects: Objects
) -> dict[str, Any]:
    """Read a part; its objects are taken out of ``objects``."""
    part = _Part(name, folder, objects)
    if part.array_file.exists():
        part.arrays = read_arrays(part.array_file)
    return {key: part.restore(key, value) for key, value in described.items()}


def field_values(record: Any, *, but: tuple[str, ...] = ()) -> dict[str, object]:
    """The fields of a dataclass by name, but for some."""
    names = [entry.name for entry in fields(record) if entry.name not in but]
    return {name: getattr(record, name) for name in names}


@dataclass
class _Part:
    """Names of files, and the arrays of a part."""

    name: str
    folder: Path
    objects: Objects
    arrays: Arrays = field(default_factory=dict)

    @property
    def array_file(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def frame_file(self, key: str) -> Path:
        return self.folder / f"{self.name}_{_last(key)}.parquet"

    def object_name(self, key: str) -> str:
        is_fitted = self.name != "parameters"
        return f"{self.name}_{_last(key)}_" if is_fitted else key

    def store(self, key: str, value: Any) -> Json:
        for name, (is_of_kind, store, _) in _KINDS.items():
            if is_of_kind(value):
                return {name: store(self, key, value)}
        try:
            return encode(value)
        except TypeError:  # an encoder, or a callable that selects columns
            self.objects[self.object_name(key)] = value
            return {"object": None}

    def restore(self, key: str, described: Json) -> Any:
        if isinstance(described, dict) and len(described) == 1:
            name, content = next(iter(described.items()))
            if name == "object":
                return self.objects.pop(self.object_name(key))
            if name in _KINDS:
                return _KINDS[name][2](self, key, content)
        return decode(described)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _store_array(part: _Part, key: str, array: np.ndarray) -> None:
    part.arrays[key] = array


def _restore_array(part: _Part, key: str, _: None = None) -> np.ndarray:
    expect(key in part.arrays, part.array_file.name, f"has no array {key!r}")
    return part.arrays[key]


def _store_tensor(part: _Part, key: str, tensor: Tensor) -> None:
    _store_array(part, key, tensor.numpy())


def _restore_tensor(part: _Part, key: str, _: None) -> Tensor:
    return torch.from_numpy(_restore_array(part, key))


def _store_matrix(part: _Part, key: str, matrix: sp.csr_matrix) -> list[int]:
    for name in ("data", "indices", "indptr"):
        _store_array(part, f"{key}.{name}", getattr(matrix, name))
    return list(matrix.shape)


def _restore_matrix(part: _Part, key: str, shape: list[int]) -> sp.csr_matrix:
    parts = (_restore_array(part, f"{key}.{n}") for n in ("data", "indices", "indptr"))
    with reading(part.array_file.name):
        matrix = sp.csr_matrix(tuple(parts), shape=tuple(shape))
        matrix.check_format()
    return matrix


def _store_frame(part: _Part, key: str, frame: Frame) -> None:
    write_frame(part.frame_file(key), frame if _is_column(frame) else as_pandas(frame))


def _restore_frame(part: _Part, key: str, _: None = None) -> Any:
    return read_frame(part.frame_file(key))


def _store_vocabulary(part: _Part, key: str, vocabulary: Vocabulary) -> None:
    _store_frame(part, key, pd.DataFrame({"id": vocabulary.ids}))


def _restore_vocabulary(part: _Part, key: str, _: None) -> Vocabulary:
    ids = _restore_frame(part, key)
    with reading(part.frame_file(key).name):
        return Vocabulary(ids["id"].to_numpy())


def _store_table(part: _Part, key: str, table: EntityTable) -> list:
    frame, features = as_pandas(table.frame), table.features
    if features is not None:
        features = features if isinstance(features, str) else list(features)
        wanted = [features] if isinstance(features, str) else features
        frame = frame[list(dict.fromkeys([table.id_column, *wanted]))]
    _store_frame(part, key, frame)
    return [encode(table.id_column), encode(features)]


def _restore_table(part: _Part, key: str, arguments: list) -> EntityTable:
    return EntityTable(_restore_frame(part, key), *decode(arguments))


def _store_record(part: _Part, key: str, record: object) -> Description:
    values = field_values(record)
    return {name: part.store(f"{key}.{name}", value) for name, value in values.items()}


def _restore_record(kind: type, part: _Part, key: str, described: Description) -> Any:
    values = {name: part.restore(f"{key}.{name}", v) for name, v in described.items()}
    return kind(**values)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _is_column(value: object) -> bool:
    return isinstance(value, pd.Series)


def _is_table(value: object) -> bool:
    return _is_column(value) or is_frame(value)


def _is(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


# By name: which values are of a kind, what stores them, and what restores them. All other
# values are plain, or objects.
_KINDS: dict[str, tuple[Callable[[Any], bool], Callable, Callable]] = {
    "stored array": (_is_array, _store_array, _restore_array),
    "tensor": (_is(Tensor), _store_tensor, _restore_tensor),
    "matrix": (sp.issparse, _store_matrix, _restore_matrix),
    "frame": (_is_table, _store_frame, _restore_frame),
    "ids": (_is(Vocabulary), _store_vocabulary, _restore_vocabulary),
    "table": (_is(EntityTable), _store_table, _restore_table),
    "entities": (_is(Entities), _store_record, partial(_restore_record, Entities)),
    "columns": (
        _is(FeatureColumns),
        _store_record,
        partial(_restore_record, FeatureColumns),
    ),
}
