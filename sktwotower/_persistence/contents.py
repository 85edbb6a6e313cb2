"""A whole model: its parameters and its state, each part by the pair that knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from sktwotower._data.histories import PastItems
from sktwotower._data.pairs import pair_matrix
from sktwotower._data.roles import ColumnRoles, FeatureColumns
from sktwotower._persistence.folder import Description, Reader, Writer
from sktwotower._persistence.objects import Objects, read_objects, write_objects
from sktwotower._persistence.parameters import read_parameters, write_parameters
from sktwotower._persistence.seen_rows import (
    read_frequencies,
    read_interactions,
    write_frequencies,
    write_interactions,
)
from sktwotower._persistence.sides import read_side, write_side
from sktwotower._persistence.values import decode, encode
from sktwotower._persistence.weights import (
    read_optimizer,
    read_towers,
    write_optimizer,
    write_towers,
)
from sktwotower._training.state import ModelState, TrainingLog
from sktwotower._two_tower import TwoTowerRecommender


def write_model(
    model: TwoTowerRecommender, writer: Writer, *, with_memory: bool
) -> Description:
    """Write the files, and describe what is not in them."""
    state, objects = model._state, Objects()
    description = {
        "parameters": write_parameters(model.get_params(deep=False), writer, objects),
        "roles": write_roles(state.roles),
        "user": write_side(state.user, writer, objects),
        "item": write_side(state.item, writer, objects),
        "towers": write_towers(state.towers, writer),
        "interactions": write_interactions(state.interactions, writer),
        "history_size": None if state.past is None else state.past.size,
        "optimizer": write_optimizer(state.optimizer, writer, with_memory=with_memory),
        "frequencies": write_frequencies(state.frequencies, writer),
        "log": write_fields(state.log),
    }
    write_objects(writer, objects)
    return description


def read_model(reader: Reader, trusted: Iterable[str]) -> TwoTowerRecommender:
    """The model; what follows from the parts of its state is computed."""
    manifest, objects = reader.manifest, read_objects(reader, trusted)
    user = read_side("user", manifest["user"], reader, objects)
    item = read_side("item", manifest["item"], reader, objects)
    users, items = user.entities, item.entities
    interactions = read_interactions(
        manifest["interactions"], reader, n_users=len(users), n_items=len(items)
    )
    past, size = None, manifest["history_size"]
    if size is not None:
        past = PastItems.of(interactions, len(users), size, items.id_codes)
    state = ModelState(
        roles=read_roles(manifest["roles"]),
        user=user,
        item=item,
        towers=read_towers(manifest["towers"], reader, users=users, items=items),
        catalogue=item.recommendable(),
        interactions=interactions,
        seen=pair_matrix(interactions.users, interactions.items, len(users), len(items)),
        past=past,
        optimizer=read_optimizer(manifest["optimizer"], reader),
        frequencies=read_frequencies(manifest["frequencies"], reader),
        log=TrainingLog(**read_fields(manifest["log"])),
    )
    parameters = read_parameters(manifest["parameters"], reader, objects)
    model = TwoTowerRecommender(**parameters)
    model._state = state
    return model


def write_roles(roles: ColumnRoles) -> Description:
    """Describe the roles of columns."""
    described = write_fields(roles, but=_FEATURES)
    for name in _FEATURES:
        columns = getattr(roles, name)
        described[name] = None if columns is None else write_fields(columns)
    return described


def read_roles(description: Description) -> ColumnRoles:
    """The roles of columns."""
    features = {name: description[name] for name in _FEATURES}
    return ColumnRoles(
        **read_fields(description, but=_FEATURES),
        **{
            name: None if columns is None else FeatureColumns(**read_fields(columns))
            for name, columns in features.items()
        },
    )


_FEATURES = ("user_features", "item_features")


def write_fields(
    record: ColumnRoles | FeatureColumns | TrainingLog, *, but: tuple[str, ...] = ()
) -> Description:
    """Describe the fields of a record of plain values."""
    names = [field.name for field in fields(record) if field.name not in but]
    return {name: encode(getattr(record, name)) for name in names}


def read_fields(description: Description, *, but: tuple[str, ...] = ()) -> Description:
    """The fields, by name."""
    return {name: decode(value) for name, value in description.items() if name not in but}
