"""The parts of a model of which each of several processes has a shard of the users."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from sktwotower._data.entities import Entities
from sktwotower._data.user_shards import codes_of_shard, users_of_shard
from sktwotower._nn.shards import Shard, whole_table
from sktwotower._persistence.checks import expect_array, expect_finite
from sktwotower._persistence.manifest import MANIFEST, Json, expect, reading
from sktwotower._persistence.records import (
    PARTS,
    Values,
    entities_of,
    records_of,
    state_of,
    state_values,
)
from sktwotower._training.state import ModelState, UserShard

# The part of what all processes know, and those of which each process writes its own.
SHARDS = "shards"
_OWN = "user", "interactions", "towers", "optimizer"
_USER_IDS = "user_tower.id_table"
_OF_SHARD = re.compile(r"\w+\.(\d+)-of-\d+(\.\w+)?")


def shard_values(
    state: ModelState, *, with_memory: bool
) -> tuple[dict[str, Values], dict[str, Values]]:
    """The values of the parts of all processes, and those of this process's users."""
    known = state.shard
    assert known is not None
    of_all = replace(state.user, entities=known.users)
    parts = state_values(replace(state, user=of_all), with_memory=with_memory)
    own: dict[str, Values] = {
        "user": {"embeddings": parts["user"].pop("embeddings")},
        "interactions": parts["interactions"] | {"numbers": known.numbers},
    }
    for part in ("towers", "optimizer"):
        own[part] = {x: y for x, y in parts[part].items() if _is_of_users(x, y)}
        parts[part] = {x: y for x, y in parts[part].items() if x not in own[part]}
    parts["interactions"] = {}
    shard = known.shard
    parts[SHARDS] = {
        "size": shard.size,
        "n_rows": state.n_rows,
        # Of the state, which also counts items that have been added since.
        "n_positives": state.n_positives,
        "n_users_of_items": state.n_users_of_items,
        "mean_user": state.mean_user,
    }
    return parts, {name_of(part, shard): values for part, values in own.items()}


def _is_of_users(name: str, value: Any) -> bool:
    """Whether a tensor has a row for each user."""
    of_users = name == _USER_IDS or name.startswith(f"{_USER_IDS}/")
    return of_users and isinstance(value, Tensor) and value.dim() > 0


def name_of(part: str, shard: Shard) -> str:
    """What the part of a shard is called."""
    return f"{part}.{shard.rank}-of-{shard.size}"


def _file_of(part: str, shard: Shard) -> str:
    return f"{name_of(part, shard)}.safetensors"


def is_of_another(name: str, rank: int | None) -> bool:
    """Whether a part or a file belongs to another shard than the one with this number."""
    found = _OF_SHARD.fullmatch(name)
    return rank is not None and found is not None and int(found[1]) != rank


def expect_parts(described: Mapping[str, Json]) -> int | None:
    """The number of shards, None without any; ArtefactError unless all parts are there."""
    wanted, size = set(PARTS), None
    if SHARDS in described:
        size = described[SHARDS].get("size")
        expect(
            type(size) is int and 1 < size < len(described),
            MANIFEST,
            f"has {size!r} shards",
        )
        wanted |= {SHARDS}
        wanted |= {name_of(part, shard) for part in _OWN for shard in _all(size)}
    expect(set(described) == wanted, MANIFEST, f"has the parts {set(described)}")
    return size


def _all(size: int) -> Iterable[Shard]:
    return [Shard(rank, size) for rank in range(size)]


def state_of_parts(
    parts: Mapping[str, Values], size: int | None, rank: int | None
) -> ModelState:
    """The state of all users, or of those of one shard.

    Parameters
    ----------
    parts : dict of str to dict
        The values of each part.
    size : int or None
        Number of shards; None: the parts are not divided.
    rank : int or None
        The shard whose parts are there; None: those of all are.

    Raises
    ------
    ArtefactError
        For values that no fit leaves.
    """
    if size is None:
        return state_of(records_of(dict(parts)))
    if rank is None:
        return state_of(records_of(_parts_of_all(parts, size)))
    return state_of(records_of_shard(parts, Shard(rank, size)))


def records_of_shard(parts: Mapping[str, Values], shard: Shard) -> Values:
    """The fields of the state of one shard that do not follow from others, checked.

    Raises
    ------
    ArtefactError
        For values that no fit leaves.
    """
    own = {part: parts[name_of(part, shard)] for part in _OWN}
    of_shard = {part: parts[part] | own.get(part, {}) for part in PARTS}
    numbers = of_shard["interactions"].pop("numbers", None)
    users = entities_of("user", parts["user"])
    records = records_of(of_shard, users_of_shard(users, shard))
    known = _known_of_all(parts[SHARDS], shard, users, numbers, records)
    return records | {"shard": known}


def _parts_of_all(parts: Mapping[str, Values], size: int) -> dict[str, Values]:
    """The parts of a model of all users, from those of all shards, which are emptied."""
    own = {part: [parts[name_of(part, shard)] for shard in _all(size)] for part in _OWN}
    found = {part: dict(parts[part]) for part in PARTS}
    users = entities_of("user", parts["user"])
    codes = [codes_of_shard(users, shard).astype(np.int32) for shard in _all(size)]
    with reading(_file_of("user", Shard(0, size))):
        unknown = found["user"]["unknown"]
        embeddings = np.empty((len(users), unknown.size), dtype=unknown.dtype)
        for shard, its_codes, values in zip(_all(size), codes, own["user"], strict=True):
            of_shard, shape = values.pop("embeddings"), (len(its_codes), unknown.size)
            expect_array(_file_of("user", shard), "embeddings", of_shard, shape, "f")
            embeddings[its_codes - 1] = of_shard
        found["user"]["embeddings"] = embeddings
    for part in ("towers", "optimizer"):
        with reading(_file_of(part, Shard(0, size))):
            for name in list(own[part][0]):
                found[part][name] = whole_table([values.pop(name) for values in own[part]])
    with reading(_file_of("interactions", Shard(0, size))):
        found["interactions"] = _in_order(own["interactions"], codes)
    return found


def _in_order(rows: list[Values], codes: list[np.ndarray]) -> Values:
    """The rows of all shards, with the codes of all users."""
    size, n_rows = len(rows), sum(len(values["users"]) for values in rows)
    for shard, its_codes, values in zip(_all(size), codes, rows, strict=True):
        file, shape = _file_of("interactions", shard), (len(values["users"]),)
        most = {"users": (1, len(its_codes)), "numbers": (0, n_rows - 1)}
        for name, column in values.items():
            if column is not None or rows[0][name] is not None:  # or there are no times
                kinds, between = "i" if name in most else "bif", most.get(name)
                expect_array(file, name, column, shape, kinds, between=between)
        values["users"] = its_codes[values["users"] - 1]
    numbers = np.concatenate([values.pop("numbers") for values in rows])
    is_each = np.array_equal(np.bincount(numbers), np.ones(len(numbers)))
    expect(is_each, _file_of("interactions", Shard(0, size)), "repeats numbers of rows")
    order = np.empty(len(numbers), dtype=np.int64)
    order[numbers] = np.arange(len(numbers))
    return {
        name: None if first is None else np.concatenate([one[name] for one in rows])[order]
        for name, first in rows[0].items()
    }


def _known_of_all(
    values: Values, shard: Shard, users: Entities, numbers: Any, records: Values
) -> UserShard:
    """What the model of a shard knows of all users, who are ``users``."""
    own, file = _file_of("interactions", shard), f"{SHARDS}.safetensors"
    n_rows: Any = values.get("n_rows")
    n_items = len(records["item"].entities)
    expect(type(n_rows) is int, MANIFEST, f"has {n_rows!r} rows")
    shape = (len(records["interactions"]),)
    expect_array(own, "numbers", numbers, shape, "i", between=(0, n_rows - 1))
    shapes = {
        "n_positives": (n_items + 1,),
        "n_users_of_items": (n_items,),
        "mean_user": records["user"].unknown.shape,
    }
    for name, wanted in shapes.items():
        expect(name in values, file, f"has no {name!r}")
        expect_array(file, name, values[name], wanted, "f")
    expect_finite(file, values)
    return UserShard(
        shard=shard,
        users=users,
        numbers=numbers,
        n_rows=n_rows,
        **{name: values[name] for name in shapes},
    )
