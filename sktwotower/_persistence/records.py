"""The records of a model as values by name, and the records made of such values.

The two functions of each record stand side by side.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from sktwotower._data.column_names import with_index
from sktwotower._data.entities import Entities
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.pairs import pair_matrix
from sktwotower._data.roles import ColumnRoles, FeatureColumns, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import DECOUPLED, OptimizerState
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._persistence.checks import (
    expect_array,
    expect_finite,
    expect_types,
    record_of,
)
from sktwotower._persistence.manifest import MANIFEST, expect, reading
from sktwotower._training.rows import past_items
from sktwotower._training.settings import (
    HistorySettings,
    PooledSettings,
    Settings,
    TransformerSettings,
)
from sktwotower._training.state import ModelState, SideState, TrainingLog
from sktwotower.utils._columns import as_pandas, is_frame
from sktwotower.utils._times import TimeRange

Values = dict[str, Any]

PARTS = {
    *("parameters", "roles", "user", "item", "towers"),
    *("interactions", "optimizer", "frequencies", "settings", "log"),
}


def state_values(state: ModelState, *, with_memory: bool) -> dict[str, Values]:
    """The values of each part of a state, but for what follows from others."""
    return {
        "roles": asdict(state.roles),
        "user": side_values(state.user),
        "item": side_values(state.item),
        "towers": {"temperature": state.temperature, **towers_values(state.towers)},
        "interactions": field_values(state.interactions),
        "optimizer": optimizer_values(state.optimizer, with_memory=with_memory),
        "frequencies": frequencies_values(state.frequencies),
        "settings": asdict(state.settings),
        "log": field_values(state.log),
    }


def state_of(records: Values) -> ModelState:
    """The state of checked records; seen pairs, catalogue and histories are computed."""
    user, item = records["user"], records["item"]
    interactions: InteractionCodes = records["interactions"]
    n_users, n_items = len(user.entities), len(item.entities)
    history: HistorySettings | None = records["settings"].history
    past = None
    if history is not None:
        past = past_items(interactions, user.entities, item.entities, history)
        past = item.read_in(past, records["settings"].embedding_dim)
    return ModelState(
        **records,
        catalogue=item.recommendable(),
        seen=pair_matrix(interactions.users, interactions.items, n_users, n_items),
        past=past,
    )


def records_of(parts: dict[str, Values], users: Entities | None = None) -> Values:
    """The fields of a state that do not follow from others.

    Parameters
    ----------
    parts : dict of str to dict
        The values of each part.
    users : Entities, optional
        The users that the parts have vectors and rows of; None: all.

    Raises
    ------
    ArtefactError
        For values that no fit leaves.
    """
    for part in PARTS - {"parameters"}:
        expect_finite(f"{part}.safetensors", parts[part])
    user = side_of("user", parts["user"], users)
    item = side_of("item", parts["item"])
    expect(
        user.unknown.shape == item.unknown.shape,
        "item.safetensors",
        f"has embeddings of shape {item.embeddings.shape}, where those of users have the "
        f"shape {user.embeddings.shape}",
    )
    n_users, n_items = len(user.entities), len(item.entities)
    settings = settings_of(parts["settings"])
    towers = towers_of(parts["towers"], user, item)
    expect_settings(settings, towers, n_ids=int(item.entities.id_codes.max()) + 1)
    return {
        "roles": roles_of(parts["roles"]),
        "user": user,
        "item": item,
        "towers": towers,
        "interactions": interactions_of(parts["interactions"], n_users, n_items),
        "optimizer": optimizer_of(parts["optimizer"], towers),
        "frequencies": frequencies_of(parts["frequencies"], n_items),
        "settings": settings,
        "log": log_of(parts["log"]),
    }


def log_of(values: Values) -> TrainingLog:
    """How training went."""
    log: TrainingLog = record_of(TrainingLog, values, MANIFEST)
    metric, scores = log.validation_metric, log.validation_scores
    n_metrics = len(metric) if isinstance(metric, tuple) else int(metric is not None)
    expect(
        n_metrics == len(scores) and metric != (),
        MANIFEST,
        f"has {len(scores)} validation scores of {metric!r}",
    )
    return log


def field_values(record: Any) -> Values:
    """The fields of a dataclass."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def parameters_values(parameters: Values) -> Values:
    """Parameters of the estimator; of an EntityTable its frame and its other arguments."""
    values = dict(parameters)
    for name, table in parameters.items():
        if isinstance(table, EntityTable):
            frame = with_index(as_pandas(table.frame), [table.id_column])
            features = table.features
            if features is not None:
                features = features if isinstance(features, str) else list(features)
                wanted = [features] if isinstance(features, str) else features
                frame = frame[list(dict.fromkeys([table.id_column, *wanted]))]
            values |= {name: frame, f"{name}.arguments": [table.id_column, features]}
        elif is_frame(table):  # an index is not stored, but its levels with a name
            frame = as_pandas(table)
            levels = [x for x in frame.index.names if frame.index.names.count(x) == 1]
            whole = with_index(frame, levels)
            of_index = list(whole.columns[frame.shape[1] :])
            values |= {name: whole, f"{name}.index": of_index}
    return values


def parameters_of(values: Values) -> Values:
    """Parameters of the estimator."""
    parameters = {}
    for name, value in values.items():
        if f"{name}.arguments" in values:
            parameters[name] = EntityTable(value, *values[f"{name}.arguments"])
        elif values.get(f"{name}.index"):
            parameters[name] = value.set_index(values[f"{name}.index"])
        elif not name.endswith((".arguments", ".index")):
            parameters[name] = value
    return parameters


def roles_of(values: Values) -> ColumnRoles:
    """The roles of columns; ``asdict`` gives their values."""
    kinds = {
        "user_features": FeatureColumns,
        "item_features": FeatureColumns,
        "times": TimeRange,
    }
    parts: Values = {
        name: record_of(kind, values[name], MANIFEST)
        for name, kind in kinds.items()
        if type(values.get(name)) is dict
    }
    return record_of(ColumnRoles, values | parts, MANIFEST)


def settings_of(values: Values) -> Settings:
    """What "auto" stood for; ``asdict`` gives the values."""
    history = values.get("history")
    if type(history) is dict:
        history = history_of(history)
    return record_of(Settings, values | {"history": history}, MANIFEST)


def history_of(values: Values) -> HistorySettings:
    """What the history was."""
    kinds: tuple[type[HistorySettings], ...] = (PooledSettings, TransformerSettings)
    kind = kinds["n_layers" in values]
    history: HistorySettings = record_of(kind, values, MANIFEST)
    size = history.size
    expect(size is None or 0 < size < 2**31, MANIFEST, f"has the history size {size!r}")
    expect(0 <= history.dropout < 1, MANIFEST, f"has the dropout {history.dropout!r}")
    if isinstance(history, TransformerSettings):
        n_layers, n_heads = history.n_layers, history.n_heads
        expect(
            n_layers > 0 < n_heads, MANIFEST, f"has {n_layers} layers of {n_heads} heads"
        )
    return history


def expect_settings(settings: Settings, towers: TwoTowers, *, n_ids: int) -> None:
    """Raise ArtefactError unless towers are what settings say they are."""
    tower, learned = towers.user_tower, towers.log_temperature is not None
    options, table, history = tower.arguments(), tower.history_table, settings.history
    sizes = options["hidden_layer_sizes"]
    reader = asdict(history) if isinstance(history, TransformerSettings) else None
    expect(
        isinstance(history, PooledSettings) == (table is not None)
        and (table is None or len(table) >= n_ids)
        and options["reader"] == reader
        and (reader is None or options["embedding_dim"] % reader["n_heads"] == 0),
        MANIFEST,
        f"has the history {settings.history!r}, which is not that of the user tower",
    )
    found = {
        "user_id_embedding": tower.id_table is not None,
        "embedding_dim": options["embedding_dim"],
        "hidden_layer_sizes": None if sizes is None else tuple(sizes),
        "temperature": "learned" if learned else towers.temperature,
    }
    for name, value in found.items():
        said = getattr(settings, name)
        expect(
            said == value,
            MANIFEST,
            f"has the {name} {said!r}, where that of the towers is {value!r}",
        )


def side_values(side: SideState) -> Values:
    """Users or items: the fields of both records, but for the index."""
    entities = side.entities.now()
    values = field_values(side) | field_values(entities)
    del values["entities"], values["index"]
    features, ids = values.pop("features"), entities.vocabulary.ids
    return values | {
        # Of the dtype of the ids: none is inferred from the objects.
        "vocabulary": pd.DataFrame({"id": pd.Series(ids, dtype=ids.dtype)}),
        "data": features.data,
        "indices": features.indices,
        "indptr": features.indptr,
        "n_columns": features.shape[1],
    }


def side_of(name: SideName, values: Values, entities: Entities | None = None) -> SideState:
    """Users or items, whose arrays belong together; None: all that the part has."""
    file = f"{name}.safetensors"
    if entities is None:
        entities = entities_of(name, values)
    with reading(file):
        n, dim = len(entities), values["unknown"].size
    expect(values["name"] == name, MANIFEST, f"calls the {name}s {values['name']!r}")
    expect_array(file, "embeddings", values["embeddings"], (n, dim), "f")
    expect_array(file, "unknown", values["unknown"], (dim,), "f")
    own = {field.name for field in fields(SideState)} - {"entities"}
    rest = {name: x for name, x in values.items() if name in own}
    return record_of(SideState, {"entities": entities, **rest}, MANIFEST)


def entities_of(name: SideName, values: Values) -> Entities:
    """The ids of users or items, and their features."""
    file, values = f"{name}.safetensors", dict(values)
    with reading(f"{name}.vocabulary.parquet"):
        ids = values["vocabulary"]["id"].to_numpy()
        vocabulary, n = Vocabulary(ids), len(ids)
    expect(
        len(vocabulary) == n > 0, f"{name}.vocabulary.parquet", "has repeated ids, or none"
    )
    with reading(file):
        parts = tuple(values.pop(name) for name in ("data", "indices", "indptr"))
        # SciPy would make a number of anything, such as of Decimal("1e999999999").
        arrays = all(isinstance(part, np.ndarray) for part in parts)
        expect(arrays, file, "has features that are no arrays")
        features = sp.csr_matrix(parts, shape=(n + 1, values.pop("n_columns")))
        features.check_format()
    values |= {"vocabulary": vocabulary, "features": features}
    raw = values["raw_features"]
    expect_array(file, "id_codes", values["id_codes"], (n + 1,), "i", between=(0, n))
    if raw is not None:
        positions, last = values["raw_positions"], len(raw) - 1
        expect_array(file, "raw_positions", positions, (n + 1,), "i", between=(-1, last))
    if values["popularity"] is not None:
        expect_array(file, "popularity", values["popularity"], (n + 1,), "f")
    other = {field.name for field in fields(SideState)}
    entities = record_of(
        Entities, {name: x for name, x in values.items() if name not in other}, MANIFEST
    )
    expect_fields(entities)
    return entities


def expect_fields(entities: Entities) -> None:
    """Raise ArtefactError unless the fields divide the columns of the features."""
    end = 0
    for name, columns in entities.fields.items():
        is_next = (
            columns.start == end and columns.step is None and type(columns.stop) is int
        )
        expect(
            is_next and columns.stop >= end, MANIFEST, f"has the field {name!r} {columns}"
        )
        end = columns.stop
    n = entities.features.shape[1]
    expect(end == n, MANIFEST, f"has fields of {end} columns, where there are {n}")
    unknown = entities.dense - set(entities.fields)
    expect(not unknown, MANIFEST, f"has the unknown fields {sorted(unknown)}")


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
    wanted = {"temperature": float, "learned": bool, "tied": bool}
    with reading(MANIFEST):
        expect_types(wanted, {name: values[name] for name in wanted}, MANIFEST)
        expect(0 < values["temperature"] < float("inf"), MANIFEST, "has no temperature")
        arguments = [tower_arguments_of(values[side.name], side) for side in (user, item)]
        n_declared = sum(n_weights(rows, **options) for rows, options in arguments)
    n_stored = sum(weight.numel() for weight in weights.values())
    expect(
        n_declared <= n_stored,
        MANIFEST,
        f"describes towers of {n_declared} weights, where there are {n_stored}",
    )
    with reading("towers.safetensors"):
        # The weights are on no device, so that none are drawn, until they are assigned.
        with torch.device("meta"):
            both = [Tower(x, **y, generator=torch.Generator("cpu")) for x, y in arguments]
            towers = TwoTowers(
                both[0],
                both[1],
                values["temperature"],
                learned=values["learned"],
                tied=values["tied"],
            )
        for name, weight in towers.state_dict().items():
            is_same = name in weights and weights[name].dtype == weight.dtype
            expect(is_same, "towers.safetensors", f"has no {name!r} of {weight.dtype}")
        # Raises for a tensor that is missing or has another shape, with its name.
        towers.load_state_dict(weights, assign=True)
        if values["tied"]:
            towers.user_tower.history_table = towers.item_tower.id_table
    return towers.eval()


def _tower_values(tower: Tower) -> Values:
    return {"with_id": tower.id_table is not None, **tower.arguments()}


def tower_arguments_of(values: Values, side: SideState) -> tuple[EntityRows, Values]:
    """Arguments of a tower: rows of which only the sizes are right, and the others."""
    expect_types(Tower.__init__, values, MANIFEST)
    options, entities = dict(values), side.entities
    with_id = options.pop("with_id")
    none, (sparse, dense) = torch.empty(0), entities.field_order()
    widths = {name: x.stop - x.start for name, x in entities.fields.items()}
    rows = EntityRows(
        id_codes=none if with_id else None,
        n_ids=int(entities.id_codes.max(initial=0)) + 1,
        pointers=none,
        columns=none,
        values=none,
        field_widths=tuple(widths[name] for name in sparse),
        dense=tuple(torch.empty(0, widths[name]) for name in dense),
    )
    return rows, options


def n_weights(
    rows: EntityRows,
    *,
    embedding_dim: int,
    hidden_layer_sizes: list[int] | None,
    n_history_items: int,
    reader: dict[str, Any] | None,
    **_: Any,
) -> int:
    """Number of weights of the tables and layers of a tower, before it is made."""
    n_ids = 0 if rows.id_codes is None else rows.n_ids
    n_rows = n_ids + n_history_items + rows.n_columns + sum(x.shape[1] for x in rows.dense)
    n = n_rows * embedding_dim
    if hidden_layer_sizes is not None:
        n_fields = rows.n_fields + (n_history_items > 0 or reader is not None)
        widths = [n_fields * embedding_dim, *hidden_layer_sizes, embedding_dim]
        n += sum(before * after for before, after in pairwise(widths))
    if reader is not None:  # tables of places, and four squares and two times four a layer
        n += embedding_dim * (reader["size"] + 12 * reader["n_layers"] * embedding_dim)
    return n


def interactions_of(values: Values, n_users: int, n_items: int) -> InteractionCodes:
    """Rows of known users and items."""
    file = "interactions.safetensors"
    rows = record_of(InteractionCodes, values, file)
    shape = (len(rows.positive),)
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


def optimizer_of(values: Values, towers: TwoTowers) -> tuple[str, OptimizerState]:
    """Name and memory; the memory is empty if it was not saved."""
    memory: OptimizerState = {}
    shapes = {name: weight.shape for name, weight in towers.state_dict().items()}
    for name, tensor in values.items():
        parameter, _, key = name.rpartition("/")
        if parameter:
            is_step = isinstance(tensor, Tensor) and tensor.ndim == 0
            expect(
                is_step or getattr(tensor, "shape", None) == shapes.get(parameter, 0),
                "optimizer.safetensors",
                f"has a {name!r} that does not belong to the towers",
            )
            memory.setdefault(parameter, {})[key] = tensor
    expect(values.get("name") in DECOUPLED, MANIFEST, "has no name of an optimizer")
    return values["name"], memory


def frequencies_values(frequencies: StreamingFrequencies | None) -> Values:
    """The attributes of frequencies; nothing without frequencies."""
    return {} if frequencies is None else dict(vars(frequencies))


def frequencies_of(values: Values, n_items: int) -> StreamingFrequencies | None:
    """The frequencies."""
    if not values:
        return None
    wanted = {"rate": float, "step": int, "gaps": Tensor, "_last": Tensor}
    with reading(MANIFEST):
        expect_types(wanted, {name: values[name] for name in wanted}, MANIFEST)
    frequencies = StreamingFrequencies(torch.empty(0), rate=values["rate"])
    frequencies.gaps, frequencies._last = values["gaps"], values["_last"]
    frequencies.step = values["step"]
    gaps, last = frequencies.gaps.numpy(), frequencies._last.numpy()
    expect(
        0 < frequencies.rate <= 1 and frequencies.step >= 0 and gaps.size <= n_items + 1,
        "frequencies.safetensors",
        f"has {gaps.size} gaps of {n_items} items",
    )
    expect_array("frequencies.safetensors", "gaps", gaps, (gaps.size,), "f")
    expect_array("frequencies.safetensors", "_last", last, (gaps.size,), "f")
    return frequencies
