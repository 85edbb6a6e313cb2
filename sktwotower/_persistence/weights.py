"""Weights of the towers, and the memory of the optimizer."""

from __future__ import annotations

import torch
from torch import nn

from sktwotower._data.entities import Entities
from sktwotower._nn.resize import OptimizerState
from sktwotower._nn.towers import ACTIVATIONS, Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._persistence.folder import Description, Reader, Writer, reading
from sktwotower._persistence.tensors import StoredArrays, write_tensors

_WEIGHTS = "weights.safetensors"
_MEMORY = "optimizer.safetensors"


def write_towers(towers: TwoTowers, writer: Writer) -> Description:
    """Write the weights, and describe the layers that hold them."""
    write_tensors(writer, _WEIGHTS, towers.state_dict())
    return {
        "temperature": float(towers.temperature),
        "learned": towers.log_temperature is not None,
        "tied": towers.tied_table is not None,
        "user": _describe_tower(towers.user_tower),
        "item": _describe_tower(towers.item_tower),
    }


def read_towers(
    description: Description, reader: Reader, *, users: Entities, items: Entities
) -> TwoTowers:
    """The towers, in inference mode; the entities give the sizes of their tables."""
    arrays = StoredArrays(reader, _WEIGHTS)
    with reading(_WEIGHTS):
        towers = TwoTowers(
            _make_tower(users, description["user"]),
            _make_tower(items, description["item"]),
            description["temperature"],
            learned=description["learned"],
            tied=description["tied"],
        )
        # Raises for a tensor that is missing or has another shape, with its name.
        towers.load_state_dict(arrays.tensors())
    return towers.eval()


def _describe_tower(tower: Tower) -> Description:
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


def _make_tower(entities: Entities, description: Description) -> Tower:
    arguments = dict(description)
    rows = entities.rows(with_id=arguments.pop("has_id"))
    return Tower(rows, **arguments, generator=torch.Generator())


def write_optimizer(
    optimizer: tuple[str, OptimizerState], writer: Writer, *, with_memory: bool
) -> str:
    """Write the memory, and return the name of the optimizer."""
    name, memory = optimizer
    if with_memory:
        tensors = {
            f"{parameter}/{key}": value
            for parameter, values in memory.items()
            for key, value in values.items()
        }
        write_tensors(writer, _MEMORY, tensors)
    return name


def read_optimizer(name: str, reader: Reader) -> tuple[str, OptimizerState]:
    """Name and memory; the memory is empty if it was not saved."""
    memory: OptimizerState = {}
    if _MEMORY in reader:
        for key, value in StoredArrays(reader, _MEMORY).tensors().items():
            parameter, _, entry = key.rpartition("/")
            memory.setdefault(parameter, {})[entry] = value
    return name, memory
