"""The users or the items of a model: ids, features, encoder and embeddings."""

from __future__ import annotations

from typing import Any

import pandas as pd
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._persistence.folder import Description, Reader, Writer, expect, reading
from sktwotower._persistence.frames import read_frame, write_frame
from sktwotower._persistence.objects import Objects
from sktwotower._persistence.tensors import StoredArrays, write_arrays
from sktwotower._persistence.values import decode, encode
from sktwotower._training.state import SideState


def write_side(side: SideState, writer: Writer, objects: Objects) -> Description:
    """Write a side; its fitted encoder is added to ``objects``."""
    embeddings = {"embeddings": side.embeddings, "unknown": side.unknown}
    write_arrays(writer, f"{side.name}_embeddings.safetensors", embeddings)
    return {
        "n_ids": len(side.entities),
        "embedding_dim": len(side.unknown),
        "id_columns": encode(side.id_columns),
        "trains_cold_path": side.trains_cold_path,
        **_write_entities(side.name, side.entities.now(), writer, objects),
    }


def read_side(
    name: str, description: Description, reader: Reader, objects: Objects
) -> SideState:
    """The side; its encoder is taken out of ``objects``."""
    n, dim = description["n_ids"], description["embedding_dim"]
    arrays = StoredArrays(reader, f"{name}_embeddings.safetensors")
    return SideState(
        name=name,
        id_columns=decode(description["id_columns"]),
        entities=_read_entities(name, description, reader, objects),
        embeddings=arrays.get("embeddings", (n, dim), "f"),
        unknown=arrays.get("unknown", (dim,), "f"),
        trains_cold_path=description["trains_cold_path"],
    )


def _write_entities(
    side: str, entities: Entities, writer: Writer, objects: Objects
) -> Description:
    """Write ids, features as they were given, and encoded features."""
    ids = pd.DataFrame({"id": entities.vocabulary.ids})
    write_frame(writer, f"{side}_ids.parquet", ids)
    features = entities.features
    arrays = {
        "id_codes": entities.id_codes,
        "data": features.data,
        "indices": features.indices,
        "indptr": features.indptr,
    }
    if entities.popularity is not None:
        arrays["popularity"] = entities.popularity
    if entities.raw_features is not None and entities.raw_positions is not None:
        write_frame(writer, f"{side}_features.parquet", entities.raw_features)
        arrays["positions"] = entities.raw_positions
    write_arrays(writer, f"{side}_features.safetensors", arrays)
    if entities.encoder is not None:
        objects[f"{side}_encoder_"] = entities.encoder
    return {
        "n_columns": features.shape[1],
        "fields": [
            [encode(name), columns.start, columns.stop]
            for name, columns in entities.fields.items()
        ],
        "dense": [encode(name) for name in entities.fields if name in entities.dense],
    }


def _read_entities(
    side: str, description: Description, reader: Reader, objects: Objects
) -> Entities:
    n = description["n_ids"]
    ids = read_frame(reader, f"{side}_ids.parquet")
    with reading(f"{side}_ids.parquet"):
        vocabulary = Vocabulary(ids["id"].to_numpy())
    is_whole = len(ids) == len(vocabulary) == n > 0
    expect(is_whole, f"{side}_ids.parquet", "has repeated ids, or lacks some")
    arrays = StoredArrays(reader, f"{side}_features.safetensors")
    raw: Any = None
    positions, popularity = None, None
    if f"{side}_features.parquet" in reader:
        raw = read_frame(reader, f"{side}_features.parquet")
        positions = arrays.get("positions", (n + 1,), "i", between=(-1, len(raw) - 1))
    if "popularity" in arrays:
        popularity = arrays.get("popularity", (n + 1,), "f")
    return Entities(
        vocabulary=vocabulary,
        id_codes=arrays.get("id_codes", (n + 1,), "i", between=(0, n)),
        features=_read_features(arrays, (n + 1, description["n_columns"])),
        fields={
            decode(name): slice(start, stop) for name, start, stop in description["fields"]
        },
        dense=frozenset(decode(name) for name in description["dense"]),
        encoder=objects.pop(f"{side}_encoder_", None),
        raw_features=raw,
        raw_positions=positions,
        popularity=popularity,
    )


def _read_features(arrays: StoredArrays, shape: tuple[int, int]) -> sp.csr_matrix:
    parts = (
        arrays.vector("data", "f"),
        arrays.vector("indices", "i"),
        arrays.vector("indptr", "i"),
    )
    with reading(arrays.file):
        features = sp.csr_matrix(parts, shape=shape)
        features.check_format()
    return features
