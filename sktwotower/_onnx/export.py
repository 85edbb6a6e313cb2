"""The exported directory: graphs of towers and search, ids, features and a contract."""

from __future__ import annotations

import json
import os
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._data.histories import PastItems
from sktwotower._onnx.graphs import top_k_graph, tower_graph
from sktwotower._onnx.nodes import OPSET
from sktwotower._onnx.readme import README
from sktwotower._training.state import ModelState, SideState
from sktwotower._version import __version__
from sktwotower.utils._extra import extra
from sktwotower.utils._json_values import encode
from sktwotower.utils._paths import new_directory, path_of, refuse_dangling_link
from sktwotower.utils._ranges import positions_of_ranges

FORMAT_VERSION = 1
# Larger weights go to a separate file: protobuf holds at most 2 GiB.
_EMBEDDED_BYTES = 2**30


def export(state: ModelState, path: str | os.PathLike[str], *, k: int = 100) -> None:
    """Write a fitted model as graphs; see ``TwoTowerRecommender.export_onnx``."""
    if not isinstance(k, Integral) or k is True or k < 1:
        raise ValueError(f"k must be an integer of at least 1; got {k!r}.")
    extra("onnx", name="onnx", caller="export_onnx needs")
    k = min(int(k), len(state.catalogue))
    directory = path_of(path)
    _refuse_taken(directory)
    ids = {"users": _ids(state.user), "items": _ids(state.item)}
    with new_directory(directory):
        for name, graph in _graphs(state, k).items():
            _write_graph(graph, directory / f"{name}.onnx")
        np.savez(directory / "users.npz", **_user_arrays(state))
        np.savez(directory / "items.npz", **_feature_arrays(state.item.entities))
        _write_json(directory / "ids.json", ids)
        _write_json(directory / "contract.json", _contract(state, k))
        (directory / "README.md").write_text(README, encoding="utf-8")


def _refuse_taken(path: Path) -> None:
    """Raise ValueError if there is something at the path."""
    refuse_dangling_link(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "a directory with things in it" if path.is_dir() else "a file"
        raise ValueError(
            f"{path} is {what}; export_onnx writes a new directory. Give another path."
        )


def _graphs(state: ModelState, k: int) -> dict[str, Any]:
    """The ONNX models by the names of their files."""
    users, items, towers = state.user.entities, state.item.entities, state.towers
    catalogue = state.catalogue
    vectors = state.item.embeddings[catalogue - 1]
    return {
        "user_tower": tower_graph("user", users, towers.user_tower, state.past),
        "item_tower": tower_graph("item", items, towers.item_tower, None),
        "top_k": top_k_graph(vectors, catalogue, len(items), k),
    }


def _user_arrays(state: ModelState) -> dict[str, np.ndarray]:
    """Vectors, seen items, features and histories of the known users."""
    arrays = {
        "vectors": np.vstack([state.user.unknown, state.user.embeddings]),
        "seen_ends": state.seen.indptr.astype(np.int64),  # without a row for code 0
        "seen_items": state.seen.indices.astype(np.int64) + 1,
        **_feature_arrays(state.user.entities),
    }
    past = state.past
    if past is not None:
        starts, ends = past.histories.now(past.size)
        lengths = ends - starts
        positions = positions_of_ranges(starts, lengths)
        arrays["history_ends"] = lengths.cumsum()
        arrays["history_items"] = past.histories.items[positions].astype(np.int64)
    return arrays


def _feature_arrays(entities: Entities) -> dict[str, np.ndarray]:
    """Encoded features by code: the ends of the rows, columns and values."""
    features: sp.csr_matrix = entities.now().features
    return {
        "feature_ends": features.indptr[1:].astype(np.int64),
        "feature_columns": features.indices.astype(np.int64),
        "feature_values": features.data,
    }


def _ids(side: SideState) -> list:
    """Ids as JSON, in the order of their codes.

    Raises
    ------
    TypeError
        For an id of a kind that cannot be written.
    """
    ids = side.vocabulary.ids
    try:
        # As pandas lists them: Timestamps, where NumPy has integers.
        return [encode(value) for value in pd.Index(ids, dtype=ids.dtype).tolist()]
    except TypeError as error:
        raise TypeError(
            f"The {side.name} ids hold {error}, which export_onnx cannot write; make them "
            "numbers, strings or dates."
        ) from error


def _history_contract(past: PastItems) -> dict[str, Any]:
    return {"size": past.size, "in_order": past.are_sequences}


def _contract(state: ModelState, k: int) -> dict[str, Any]:
    """What a server must know about the graphs and their inputs."""
    return {
        "format": "sktwotower-onnx",
        "format_version": FORMAT_VERSION,
        "sktwotower": __version__,
        "opset": OPSET,
        "k": k,
        "embedding_dim": state.user.embeddings.shape[1],
        "history": None if state.past is None else _history_contract(state.past),
        "user": _side_contract(state.user.entities),
        "item": _side_contract(state.item.entities),
    }


def _side_contract(entities: Entities) -> dict[str, Any]:
    """The input columns of the encoder and its output columns."""
    encoder: Any = entities.encoder
    names = None
    if hasattr(encoder, "get_feature_names_out"):
        names = [str(name) for name in encoder.get_feature_names_out()]
    return {
        "n_ids": len(entities),
        "encoder": None if encoder is None else repr(encoder),
        "takes": [encode(name) for name in entities.columns],
        "n_columns": entities.features.shape[1],
        "fields": {
            str(name): [columns.start, columns.stop]
            for name, columns in entities.fields.items()
        },
        "column_names": names,
    }


def _write_graph(graph: Any, file: Path) -> None:
    onnx = extra("onnx", name="onnx", caller="export_onnx needs")
    onnx.save_model(
        graph,
        file,
        save_as_external_data=graph.ByteSize() > _EMBEDDED_BYTES,
        location=f"{file.name}.data",
    )


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
