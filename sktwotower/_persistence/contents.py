"""A whole model: its parameters and its state, written and read part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.pairs import pair_matrix
from sktwotower._data.roles import ColumnRoles
from sktwotower._nn.negatives import StreamingFrequencies
from sktwotower._persistence.checks import expect_parts, sizes_of
from sktwotower._persistence.objects import Objects, read_objects, write_objects
from sktwotower._persistence.parts import (
    Description,
    field_values,
    read_part,
    write_part,
)
from sktwotower._persistence.weights import (
    optimizer_of,
    optimizer_values,
    read_towers,
    write_towers,
)
from sktwotower._training.state import ModelState, SideState, TrainingLog
from sktwotower._two_tower import TwoTowerRecommender

_OBJECTS = "encoders.skops"


def write_model(
    model: TwoTowerRecommender, folder: Path, *, with_memory: bool
) -> Description:
    """Write the files, and describe what is not in them."""
    state, objects = model._state, Objects()
    past = state.past
    parts = {
        "parameters": model.get_params(deep=False),
        "roles": field_values(state.roles),
        "user": _side_values(state.user),
        "item": _side_values(state.item),
        "interactions": field_values(state.interactions),
        "history": {"size": None if past is None else past.size},
        "optimizer": optimizer_values(state.optimizer, with_memory=with_memory),
        "frequencies": _frequency_values(state.frequencies),
        "log": field_values(state.log),
    }
    described = {
        name: write_part(name, values, folder, objects) for name, values in parts.items()
    }
    write_objects(folder / _OBJECTS, objects)
    return {
        "sizes": sizes_of(state.user, state.item, state.interactions),
        **described,
        "towers": write_towers(state.towers, folder),
    }


def read_model(
    manifest: Description, folder: Path, trusted: Iterable[str]
) -> TwoTowerRecommender:
    """The model; what follows from the parts of its state is computed."""
    objects = read_objects(folder / _OBJECTS, trusted)

    def values(name: str) -> dict[str, Any]:
        return read_part(name, manifest[name], folder, objects)

    user, item = SideState(**values("user")), SideState(**values("item"))
    interactions = InteractionCodes(**values("interactions"))
    expect_parts(user, item, interactions, manifest["sizes"])
    users, items = user.entities, item.entities
    past, size = None, values("history")["size"]
    if size is not None:
        past = PastItems.of(interactions, len(users), size, items.id_codes)
    state = ModelState(
        roles=ColumnRoles(**values("roles")),
        user=user,
        item=item,
        towers=read_towers(manifest["towers"], folder, users=users, items=items),
        catalogue=item.recommendable(),
        interactions=interactions,
        seen=pair_matrix(interactions.users, interactions.items, len(users), len(items)),
        past=past,
        optimizer=optimizer_of(values("optimizer")),
        frequencies=_frequencies_of(values("frequencies")),
        log=TrainingLog(**values("log")),
    )
    model = TwoTowerRecommender(**values("parameters"))
    model._state = state
    return model


def _side_values(side: SideState) -> dict[str, object]:
    """What is written of a side: all but its index, which is built again."""
    return field_values(replace(side, entities=side.entities.now()), but=("index",))


def _frequency_values(frequencies: StreamingFrequencies | None) -> dict[str, object]:
    """What is written of frequencies; nothing without any."""
    return {} if frequencies is None else dict(vars(frequencies))


def _frequencies_of(values: dict[str, Any]) -> StreamingFrequencies | None:
    """The frequencies."""
    if not values:
        return None
    frequencies = StreamingFrequencies(torch.empty(0), rate=values["rate"])
    vars(frequencies).update(values)
    return frequencies
