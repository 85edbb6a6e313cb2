"""Parameters of the estimator: plain values, tables, and encoders or functions."""

from __future__ import annotations

from collections.abc import Mapping

from sktwotower._data.entity_table import EntityTable
from sktwotower._persistence.folder import Description, Reader, Writer
from sktwotower._persistence.frames import read_frame, write_frame
from sktwotower._persistence.objects import Objects
from sktwotower._persistence.values import decode, encode
from sktwotower.utils._columns import as_pandas, is_frame

_TABLES = ("user_table", "item_table")


def write_parameters(
    parameters: Mapping[str, object], writer: Writer, objects: Objects
) -> Description:
    """Describe plain values, write tables, and add all others to ``objects``."""
    description = {}
    for name, value in parameters.items():
        if name in _TABLES:
            description[name] = _write_table(name, value, writer)
            continue
        try:
            description[name] = encode(value)
        except TypeError:  # an encoder, or a callable that selects columns
            objects[name] = value
    return description


def read_parameters(
    description: Description, reader: Reader, objects: Objects
) -> dict[str, object]:
    """The parameters; ``objects`` are those that are neither plain nor tables."""
    parameters = {
        name: _read_table(name, value, reader) if name in _TABLES else decode(value)
        for name, value in description.items()
    }
    return parameters | objects


def _write_table(name: str, table: object, writer: Writer) -> Description | None:
    """Write a frame, and describe the EntityTable around it, if there is one."""
    if table is None:
        return None
    description: Description = {"file": f"{name}.parquet", "entity_table": None}
    if isinstance(table, EntityTable):
        frame, features = as_pandas(table.frame), table.features
        if features is not None:
            features = features if isinstance(features, str) else list(features)
            names = [features] if isinstance(features, str) else features
            frame = frame[list(dict.fromkeys([table.id_column, *names]))]
        description["entity_table"] = {
            "id_column": encode(table.id_column),
            "features": encode(features),
        }
    elif is_frame(table):
        frame = as_pandas(table)
    else:
        raise TypeError(
            f"{name} is of type {type(table).__name__}; save knows a DataFrame and an "
            "EntityTable."
        )
    write_frame(writer, description["file"], frame)
    return description


def _read_table(name: str, description: Description | None, reader: Reader) -> object:
    """The frame, or the EntityTable."""
    if description is None:
        return None
    frame = read_frame(reader, f"{name}.parquet")
    holder = description["entity_table"]
    if holder is None:
        return frame
    return EntityTable(frame, **{key: decode(value) for key, value in holder.items()})
