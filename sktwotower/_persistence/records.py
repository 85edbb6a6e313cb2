"""The records of a model as values by name, and the records made of such values.

The two functions of each record stand side by side.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from sktwotower._data.column_names import with_index
from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import pair_matrix
from sktwotower._data.roles import ColumnRoles, FeatureColumns
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.negatives import StreamingFrequencies
from sktwotower._nn.resize import OptimizerState
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._persistence.folder import expect, reading
from sktwotower._training.state import ModelState, SideState, TrainingLog
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._times import TimeRange

Values = dict[str, Any]


def state_values(state: ModelState, *, with_memory: bool) -> dict[str, Values]:
    """The values of each part of a state, but for what follows from others."""
    return {
        "roles": asdict(state.roles),
        "user": side_values(state.user),
        "item": side_values(state.item),
        "towers": {"temperature": state.temperature, **towers_values(state.towers)},
        "interactions": field_values(state.interactions),
        "history": {"size": None if state.past is None else state.past.size},
        "optimizer": optimizer_values(state.optimizer, with_memory=with_memory),
        "frequencies": frequencies_values(state.frequencies),
        "log": field_values(state.log),
    }


def state_of(parts: dict[str, Values]) -> ModelState:
    """The state; seen pairs, catalogue and histories are computed."""
    user, item = side_of(parts["user"]), side_of(parts["item"])
    expect(
        user.unknown.shape == item.unknown.shape,
        "item.safetensors",
        f"has embeddings of shape {item.embeddings.shape}, where those of users have the "
        f"shape {user.embeddings.shape}",
    )
    n_users, n_items = len(user.entities), len(item.entities)
    interactions = interactions_of(parts["interactions"], n_users, n_items)
    past, size = None, parts["history"]["size"]
    if size is not None:
        past = PastItems.of(interactions, n_users, size, item.entities.id_codes)
    return ModelState(
        roles=roles_of(parts["roles"]),
        user=user,
        item=item,
        towers=towers_of(parts["towers"], user, item),
        catalogue=item.recommendable(),
        interactions=interactions,
        seen=pair_matrix(interactions.users, interactions.items, n_users, n_items),
        past=past,
        optimizer=optimizer_of(parts["optimizer"]),
        frequencies=frequencies_of(parts["frequencies"]),
        log=TrainingLog(**parts["log"]),
    )


def field_values(record: Any) -> Values:
    """The fields of a dataclass."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def parameters_values(parameters: Values) -> Values:
    """Parameters of the estimator; of an EntityTable its frame and its other arguments."""
    values = dict(parameters)
    for name, table in parameters.items():
        if isinstance(table, EntityTable):
            frame, features = table.rows, table.features
            if features is not None:
                features = features if isinstance(features, str) else list(features)
                wanted = [features] if isinstance(features, str) else features
                frame = frame[list(dict.fromkeys([table.id_column, *wanted]))]
            values |= {name: frame, f"{name}.arguments": [table.id_column, features]}
        elif is_frame(table):  # an index is not stored, and may hold the ids
            frame = as_pandas(table)
            values[name] = with_index(frame, frame.index.names)
    return values


def parameters_of(values: Values) -> Values:
    """Parameters of the estimator."""
    tables = {
        name: EntityTable(values[name], *values[f"{name}.arguments"])
        for name in values
        if f"{name}.arguments" in values
    }
    return {k: v for k, v in values.items() if not k.endswith(".arguments")} | tables


def roles_of(values: Values) -> ColumnRoles:
    """The roles of columns; ``asdict`` gives their values."""
    for name in ("user_features", "item_features"):
        if values[name] is not None:
            values[name] = FeatureColumns(**values[name])
    if values["times"] is not None:
        values["times"] = TimeRange(**values["times"])
    return ColumnRoles(**values)


def side_values(side: SideState) -> Values:
    """Users or items: the fields of both records, but for the index."""
    entities = side.entities.now()
    values = field_values(side) | field_values(entities)
    del values["entities"], values["index"]
    features = values.pop("features")
    return values | {
        "vocabulary": pd.DataFrame({"id": entities.vocabulary.ids}),
        "data": features.data,
        "indices": features.indices,
        "indptr": features.indptr,
        "n_columns": features.shape[1],
    }


def side_of(values: Values) -> SideState:
    """Users or items, whose arrays belong together."""
    file = f"{values['name']}.safetensors"
    ids = values["vocabulary"]["id"].to_numpy()
    vocabulary, n, dim = Vocabulary(ids), len(ids), values["unknown"].size
    expect(
        len(vocabulary) == n > 0,
        f"{values['name']}.vocabulary.parquet",
        "has repeated ids, or none",
    )
    with reading(file):
        parts = tuple(values.pop(name) for name in ("data", "indices", "indptr"))
        features = sp.csr_matrix(parts, shape=(n + 1, values.pop("n_columns")))
        features.check_format()
    values |= {"vocabulary": vocabulary, "features": features}
    raw = values["raw_features"]
    expect_array(file, "embeddings", values["embeddings"], (n, dim), "f")
    expect_array(file, "unknown", values["unknown"], (dim,), "f")
    expect_array(file, "id_codes", values["id_codes"], (n + 1,), "i", between=(0, n))
    if raw is not None:
        positions, last = values["raw_positions"], len(raw) - 1
        expect_array(file, "raw_positions", positions, (n + 1,), "i", between=(-1, last))
    if values["popularity"] is not None:
        expect_array(file, "popularity", values["popularity"], (n + 1,), "f")
    entities = {field.name: values.pop(field.name) for field in fields(Entities)}
    return SideState(entities=Entities(**entities), **values)


def towers_values(towers: TwoTowers) -> Values:
    """Weights, and the arguments of the modules that have them but for the temperature."""
    return {
        "learned": towers.log_temperature is not None,
        "tied": towers.tied_table is not None,
        "user": _tower_values(towers.user_tower),
        "item": _tower_values(towers.item_tower),
        **towers.state_dict(),
    }


def towers_of(values: Values, user: SideState, item: SideState) -> TwoTowers:
    """The towers in inference mode; the entities give the sizes of their tables."""
    weights = {name: x for name, x in values.items() if isinstance(x, Tensor)}
    with reading("towers.safetensors"):
        user_tower, item_tower = (
            Tower(
                side.entities.rows(with_id=values[side.name].pop("with_id")),
                **values[side.name],
                generator=torch.Generator(),
            )
            for side in (user, item)
        )
        towers = TwoTowers(
            user_tower,
            item_tower,
            values["temperature"],
            learned=values["learned"],
            tied=values["tied"],
        )
        # Raises for a tensor that is missing or has another shape, with its name.
        towers.load_state_dict(weights)
    return towers.eval()


def _tower_values(tower: Tower) -> Values:
    return {"with_id": tower.id_table is not None, **tower.arguments()}


def interactions_of(values: Values, n_users: int, n_items: int) -> InteractionCodes:
    """Rows of known users and items."""
    file, shape = "interactions.safetensors", (len(values["positive"]),)
    rows = InteractionCodes(**values)
    expect_array(file, "users", rows.users, shape, "i", between=(1, n_users))
    expect_array(file, "items", rows.items, shape, "i", between=(1, n_items))
    expect_array(file, "positive", rows.positive, shape, "b")
    if rows.times is not None:
        expect_array(file, "times", rows.times, shape, "if")
    return rows


def optimizer_values(optimizer: tuple[str, OptimizerState], *, with_memory: bool) -> Values:
    """Name and memory of the optimizer, or its name."""
    name, memory = optimizer
    tensors = {
        f"{parameter}/{key}": tensor
        for parameter, entries in memory.items()
        for key, tensor in entries.items()
    }
    return {"name": name} | (tensors if with_memory else {})


def optimizer_of(values: Values) -> tuple[str, OptimizerState]:
    """Name and memory; the memory is empty if it was not saved."""
    memory: OptimizerState = {}
    for name, tensor in values.items():
        parameter, _, key = name.rpartition("/")
        if parameter:
            memory.setdefault(parameter, {})[key] = tensor
    return values["name"], memory


def frequencies_values(frequencies: StreamingFrequencies | None) -> Values:
    """The attributes of frequencies; nothing without frequencies."""
    return {} if frequencies is None else dict(vars(frequencies))


def frequencies_of(values: Values) -> StreamingFrequencies | None:
    """The frequencies."""
    if not values:
        return None
    frequencies = StreamingFrequencies(torch.empty(0), rate=values["rate"])
    frequencies.gaps, frequencies._last = values["gaps"], values["_last"]
    frequencies.step = values["step"]
    gaps, last = frequencies.gaps.numpy(), frequencies._last.numpy()
    expect_array("frequencies.safetensors", "gaps", gaps, (gaps.size,), "f")
    expect_array("frequencies.safetensors", "_last", last, (gaps.size,), "f")
    return frequencies


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
        array.shape == shape and array.dtype.kind in kinds,
        file,
        f"has an array {name!r} of shape {array.shape} and dtype {array.dtype}, where the "
        f"model has the shape {shape}",
    )
    if between is not None and len(array):
        low, high = between
        expect(
            bool(low <= array.min() and array.max() <= high),
            file,
            f"has values in {name!r} that are not between {low} and {high}",
        )
