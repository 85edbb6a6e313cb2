"""The directory of a serving graph: towers, search, ids, and what the caller has to do."""

from __future__ import annotations

import json
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sktwotower._data.entities import Entities
from sktwotower._onnx.graphs import OPSET, top_k_graph, tower_graph
from sktwotower._onnx.readme import README
from sktwotower._persistence.values import encode
from sktwotower._training.state import ModelState
from sktwotower._version import __version__
from sktwotower.utils._extra import extra

FORMAT_VERSION = 1
# Beyond it weights go to a file of their own: protobuf holds no more than 2 GiB.
_EMBEDDED_BYTES = 2**30


def export(state: ModelState, path: Any, *, k: int = 100) -> None:
    """Write the graphs of a fitted model; see ``TwoTowerRecommender.export_onnx``."""
    if not isinstance(k, Integral) or k is True or k < 1:
        raise ValueError(f"k must be an integer of at least 1; got {k!r}.")
    extra("onnx", name="onnx", caller="export_onnx needs")
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "a directory with things in it" if path.is_dir() else "a file"
        raise ValueError(
            f"{path} is {what}; export_onnx writes a new directory. Give another path."
        )
    users, items, towers = state.user.entities, state.item.entities, state.towers
    past, catalogue = state.past, state.catalogue
    k = min(int(k), len(catalogue))
    path.mkdir(parents=True, exist_ok=True)
    history_codes = None if past is None else past.id_codes
    graphs = {
        "user_tower": tower_graph("user", users, towers.user_tower, history_codes),
        "item_tower": tower_graph("item", items, towers.item_tower, None),
        "top_k": top_k_graph(
            state.item.embeddings[catalogue - 1], catalogue, len(items), k
        ),
    }
    for name, graph in graphs.items():
        _write_graph(graph, path / f"{name}.onnx")
    vectors = np.vstack([state.user.unknown, state.user.embeddings])
    seen = state.seen
    of_users = {
        "vectors": vectors,
        "seen_ends": seen.indptr.astype(np.int64),  # there is no row of code 0
        "seen_items": seen.indices.astype(np.int64) + 1,
        **_features(users),
    }
    if past is not None:
        starts, ends = past.histories.now(past.size)
        lengths = ends - starts
        places = np.repeat(ends - lengths.cumsum(), lengths) + np.arange(lengths.sum())
        of_users["history_ends"] = lengths.cumsum()
        of_users["history_items"] = past.histories.items[places].astype(np.int64)
    np.savez(path / "users.npz", **of_users)
    np.savez(path / "items.npz", **_features(items))
    _write_json(path / "ids.json", {"users": _ids(users), "items": _ids(items)})
    contract = {
        "format": "sktwotower-onnx",
        "format_version": FORMAT_VERSION,
        "sktwotower": __version__,
        "opset": OPSET,
        "k": k,
        "embedding_dim": vectors.shape[1],
        "history_size": 0 if past is None else past.size,
        "user": _contract(users),
        "item": _contract(items),
    }
    _write_json(path / "contract.json", contract)
    (path / "README.md").write_text(README, encoding="utf-8")


def _ids(entities: Entities) -> list:
    return [encode(value) for value in pd.Index(entities.vocabulary.ids).tolist()]


def _features(entities: Entities) -> dict[str, np.ndarray]:
    """Encoded features of the codes: where their rows end, columns and values."""
    features: sp.csr_matrix = entities.now().features
    return {
        "feature_ends": features.indptr[1:].astype(np.int64),
        "feature_columns": features.indices.astype(np.int64),
        "feature_values": features.data,
    }


def _contract(entities: Entities) -> dict[str, Any]:
    """What the encoder of a side takes, and what its columns are."""
    names = None
    encoder: Any = entities.encoder
    if hasattr(encoder, "get_feature_names_out"):
        names = [str(name) for name in encoder.get_feature_names_out()]
    return {
        "n_ids": len(entities),
        "encoder": None if entities.encoder is None else repr(entities.encoder),
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
