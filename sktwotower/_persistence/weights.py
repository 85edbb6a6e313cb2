"""Weights of the towers, and the memory of the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sktwotower._data.entities import Entities
from sktwotower._nn.resize import OptimizerState
from sktwotower._nn.towers import ACTIVATIONS, Tower
from sktwotower._nn.trainer import TwoTowers
from sktwotower._persistence.folder import Json, reading
from sktwotower._persistence.tensors import read_arrays, write_arrays

_WEIGHTS = "weights.safetensors"


def write_towers(towers: TwoTowers, folder: Path) -> dict[str, Json]:
    """Write the weights, and describe the layers that hold them."""
    weights = {name: value.numpy() for name, value in towers.state_dict().items()}
    write_arrays(folder / _WEIGHTS, weights)
    return {
        "temperature": float(towers.temperature),
        "learned": towers.log_temperature is not None,
        "tied": towers.tied_table is not None,
        "user": _describe_tower(towers.user_tower),
        "item": _describe_tower(towers.item_tower),
    }


def read_towers(
    description: dict[str, Json], folder: Path, *, users: Entities, items: Entities
) -> TwoTowers:
    """The towers, in inference mode; the entities give the sizes of their tables."""
    weights = read_arrays(folder / _WEIGHTS)
    with reading(_WEIGHTS):
        towers = TwoTowers(
            _make_tower(users, description["user"]),
            _make_tower(items, description["item"]),
            description["temperature"],
            learned=description["learned"],
            tied=description["tied"],
        )
        # Raises for a tensor that is missing or has another shape, with its name.
        towers.load_state_dict({k: torch.from_numpy(array) for k, array in weights.items()})
    return towers.eval()


def _describe_tower(tower: Tower) -> dict[str, Json]:
    """The arguments that a tower was made with."""
    layers = list(tower.mlp)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    kinds = {activation: name for name, activation in ACTIVATIONS.items()}
    history = tower.history_table
    return {
        "has_id": tower.id_table is not None,
        "embedding_dim": tower.dim,
        "hidden_layer_sizes": (
            None if tower.is_sum else [layer.out_features for layer in linear[:-1]]
        ),
        "activation": next((kinds[type(x)] for x in layers if type(x) in kinds), "relu"),
        "batch_norm": any(isinstance(layer, nn.BatchNorm1d) for layer in layers),
        "dropout": max((getattr(layer, "share", 0.0) for layer in layers), default=0.0),
        "normalize": tower.normalize,
        "id_dropout": tower.id_dropout,
        "n_history_items": 0 if history is None else len(history),
    }


def _make_tower(entities: Entities, description: dict[str, Json]) -> Tower:
    arguments = dict(description)
    rows = entities.rows(with_id=arguments.pop("has_id"))
    return Tower(rows, **arguments, generator=torch.Generator())


def optimizer_values(
    optimizer: tuple[str, OptimizerState], *, with_memory: bool
) -> dict[str, object]:
    """What is written of an optimizer."""
    name, memory = optimizer
    values: dict[str, object] = {"name": name}
    if with_memory:
        for parameter, tensors in memory.items():
            values |= {f"{parameter}/{key}": value for key, value in tensors.items()}
    return values


def optimizer_of(values: dict[str, Any]) -> tuple[str, OptimizerState]:
    """The optimizer; its memory is empty if it was not saved."""
    memory: OptimizerState = {}
    for key, value in values.items():
        parameter, _, entry = key.rpartition("/")
        if parameter:
            memory.setdefault(parameter, {})[entry] = value
    return values["name"], memory
