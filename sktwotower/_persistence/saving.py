"""A fitted model to a directory."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._nn.towers import ACTIVATIONS, Tower
from sktwotower._persistence.folder import EXTRA, Writer
from sktwotower._persistence.frames import to_parquet
from sktwotower._persistence.objects import to_skops
from sktwotower._persistence.tensors import Arrays, to_safetensors
from sktwotower._persistence.values import encode
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._extra import extra

SIDES = ("user", "item")
TABLES = ("user_table", "item_table")
ATTRIBUTES = (
    "n_features_in_",
    "feature_names_in_",
    "n_iter_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "temperature_",
)
_PACKAGES = ("sktwotower", "torch", "sklearn", "numpy", "scipy", "pandas", *EXTRA)


def save_model(model: Any, path: Any, *, optimizer: bool = True) -> None:
    """Write a fitted model; see ``TwoTowerRecommender.save``."""
    check_is_fitted(model)
    for package in EXTRA:
        extra(package)
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if name != "sktwotower._two_tower.TwoTowerRecommender":
        raise TypeError(
            f"save stores a TwoTowerRecommender, and not a subclass of it; got {name}. Use "
            "joblib.dump for it."
        )
    writer = Writer(Path(path))
    try:
        description = _write(model, writer, optimizer)
    except BaseException:
        writer.abandon()
        raise
    writer.commit(description)


def _write(model: Any, writer: Writer, optimizer: bool) -> dict[str, Any]:
    """Write the files; what is not in them is returned."""
    parameters, objects = _parameters(model)
    for side in SIDES:
        encoder = getattr(model, f"{side}_encoder_")
        if encoder is not None:
            objects[f"{side}_encoder_"] = encoder
    writer.write("encoders.skops", to_skops(objects))
    sides = {side: _write_side(model, side, writer) for side in SIDES}
    towers = model._towers
    writer.write("weights.safetensors", to_safetensors(_arrays(towers.state_dict())))
    embeddings = {
        f"{side}_embeddings": getattr(model, f"{side}_embeddings_") for side in SIDES
    }
    embeddings |= {f"unknown_{side}": getattr(model, f"_unknown_{side}") for side in SIDES}
    writer.write("embeddings.safetensors", to_safetensors(embeddings))
    writer.write("interactions.safetensors", to_safetensors(_interactions(model)))
    frequencies = model._frequencies
    return {
        "versions": {"python": platform.python_version()}
        | {name: import_module(name).__version__ for name in _PACKAGES},
        "sizes": {
            "n_users": len(model.user_ids_),
            "n_items": len(model.item_ids_),
            "n_catalogue": len(model._catalogue),
            "n_interactions": len(model._events),
            "embedding_dim": model.item_embeddings_.shape[1],
        },
        "columns": _column_roles(model),
        "parameters": parameters,
        "attributes": {
            name: encode(getattr(model, name))
            for name in ATTRIBUTES
            if hasattr(model, name)
        },
        "feature_columns": {
            side: _feature_columns(getattr(model, f"_{side}_features")) for side in SIDES
        },
        "tables": {
            name: _write_table(getattr(model, name), name, writer) for name in TABLES
        },
        "sides": sides,
        "towers": {
            "temperature": towers._temperature,
            "learned": towers.log_temperature is not None,
            "user": architecture(towers.user_tower),
            "item": architecture(towers.item_tower),
        },
        "history_size": None if model._past is None else model._past.size,
        "optimizer": _write_optimizer(model, writer) if optimizer else None,
        "frequencies": None
        if frequencies is None
        else {"rate": frequencies.rate, "step": frequencies.step},
    }


def _parameters(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that JSON can hold, and the others, but for tables."""
    plain, objects = {}, {}
    for name, value in model.get_params(deep=False).items():
        if name in TABLES:
            continue
        try:
            plain[name] = encode(value)
        except TypeError:  # an encoder, or a callable that selects columns
            objects[name] = value
    return plain, objects


def _write_table(table: Any, name: str, writer: Writer) -> dict[str, Any] | None:
    if table is None:
        return None
    if isinstance(table, EntityTable):
        frame = table._frame[list(dict.fromkeys([table.id_column, *table._wanted]))]
        features = table.features
        if features is not None and not isinstance(features, str):
            features = table._wanted
        holder = {"id_column": encode(table.id_column), "features": encode(features)}
    elif is_frame(table):
        frame, holder = as_pandas(table), None
    else:
        raise TypeError(
            f"{name} is of type {type(table).__name__}; save knows a DataFrame and an "
            "EntityTable."
        )
    content, description = to_parquet(frame)
    writer.write(f"{name}.parquet", content)
    return {"frame": description, "holder": holder}


def _write_side(model: Any, side: str, writer: Writer) -> dict[str, Any]:
    entities: Entities = getattr(model, f"_{side}s").now()
    content, ids = to_parquet(pd.DataFrame({"id": entities.vocabulary.ids}))
    writer.write(f"{side}_ids.parquet", content)
    features = entities.features
    arrays = {
        "id_codes": entities.id_codes,
        "data": features.data,
        "indices": features.indices,
        "indptr": features.indptr,
    }
    if entities.popularity is not None:
        arrays["popularity"] = entities.popularity
    given = None
    if entities.raw_features is not None and entities.raw_positions is not None:
        arrays["places"] = entities.raw_positions
        content, given = to_parquet(entities.raw_features)
        writer.write(f"{side}_features.parquet", content)
    writer.write(f"{side}_features.safetensors", to_safetensors(arrays))
    return {
        "ids": ids,
        "given": given,
        "n_columns": features.shape[1],
        "fields": [
            [encode(name), columns.start, columns.stop]
            for name, columns in entities.fields.items()
        ],
        "dense": [encode(name) for name in entities.fields if name in entities.dense],
    }


def _interactions(model: Any) -> Arrays:
    events, frequencies = model._events, model._frequencies
    arrays = {
        "users": events.users,
        "items": events.items,
        "positive": events.positive,
        "catalogue": model._catalogue,
    }
    if events.times is not None:
        arrays["times"] = events.times
    if frequencies is not None:
        arrays["gaps"] = frequencies.gaps.numpy()
        arrays["last"] = frequencies._last.numpy()
    return arrays


def _write_optimizer(model: Any, writer: Writer) -> str:
    name, memory = model._optimizer_memory
    arrays = {
        f"{parameter}/{key}": value.numpy()
        for parameter, values in memory.items()
        for key, value in values.items()
    }
    writer.write("optimizer.safetensors", to_safetensors(arrays))
    return str(name)


def architecture(tower: Tower) -> dict[str, Any]:
    """What a tower was made with, but for its rows."""
    layers = list(tower.mlp)
    linear = [layer for layer in layers if type(layer).__name__ == "Linear"]
    kinds = {activation: name for name, activation in ACTIVATIONS.items()}
    shares = [layer.share for layer in layers if type(layer).__name__ == "_Dropout"]
    history = tower.history_table
    return {
        "has_id": tower.id_table is not None,
        "embedding_dim": tower.dim,
        "hidden_layer_sizes": (
            None if tower.is_sum else [layer.out_features for layer in linear[:-1]]
        ),
        "activation": next((kinds[type(x)] for x in layers if type(x) in kinds), "relu"),
        "batch_norm": any(type(layer).__name__ == "_BatchNorm" for layer in layers),
        "dropout": shares[0] if shares else 0.0,
        "normalize": tower.normalize,
        "id_dropout": tower.id_dropout,
        "n_history_items": 0 if history is None else len(history),
    }


def _arrays(state: dict[str, Any]) -> Arrays:
    return {name: value.numpy() for name, value in state.items()}


def _feature_columns(columns: Any) -> Any:
    return None if columns is None else encode(asdict(columns))


def _column_roles(model: Any) -> dict[str, Any]:
    """Names or positions of the columns of X, for who reads the manifest."""
    names = getattr(model, "feature_names_in_", None)

    def name_of(column: Any) -> Any:
        return column if names is None or column is None else str(names[column])

    roles: dict[str, Any] = {}
    for role in ("user_column", "item_column", "timestamp_column"):
        column = getattr(model, role)
        roles[role] = column if isinstance(column, str) else name_of(column)
    for side in SIDES:
        features = getattr(model, f"_{side}_features")
        roles[f"{side}_features"] = [] if features is None else list(features.names)
    return roles
