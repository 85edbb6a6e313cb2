"""Save a fitted model."""

from __future__ import annotations

import json
import os
import platform
from collections import ChainMap
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sktwotower._nn.distributed import own_errors
from sktwotower._nn.shards import Shard
from sktwotower._persistence.folder import new_version
from sktwotower._persistence.manifest import (
    CARD,
    OF_ANOTHER,
    ArtefactError,
    Json,
    StoredFiles,
)
from sktwotower._persistence.model_card import Table, metrics_table, model_card
from sktwotower._persistence.objects import Objects, write_objects
from sktwotower._persistence.parts import is_same, read_part, write_part
from sktwotower._persistence.records import (
    PARTS,
    Values,
    parameters_values,
    records_of,
    state_values,
)
from sktwotower._persistence.saving_group import SavingGroup
from sktwotower._persistence.shard_parts import SHARDS, records_of_shard, shard_values
from sktwotower._training.state import ModelState
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._extra import extra
from sktwotower.utils._paths import path_of

EXTRA = ("safetensors", "skops", "pyarrow")  # packages of the extra ``save``
OBJECTS = "encoders.skops"
# The values of each part by name.
Parts = dict[str, Values]
_PACKAGES = ("sktwotower", "torch", "sklearn", "numpy", "scipy", "pandas", *EXTRA)


def save_model(
    model: TwoTowerRecommender,
    path: str | os.PathLike,
    *,
    metrics: Any = None,
    optimizer: bool = True,
) -> None:
    """Write a fitted model; see ``TwoTowerRecommender.save``."""
    check_is_fitted(model)
    state, objects = model._state, Objects()
    group = SavingGroup.of(state)

    def prepare() -> tuple[Path, Table | None, Parts]:
        require_packages()
        of_user = metrics_table(metrics)
        if type(model) is not TwoTowerRecommender:
            raise TypeError(
                f"save stores a TwoTowerRecommender, and not a subclass of it; got "
                f"{type(model).__module__}.{type(model).__qualname__}. Use joblib.dump for "
                "it."
            )
        parts, own = _parts_of(state, with_memory=with_memory)
        if group.is_first:
            parameters = parameters_values(model.get_params(deep=False))
            own = {"parameters": parameters} | parts | own
        return path_of(path), of_user, own

    def write_own(folder: Path) -> dict[str, Json]:
        group.refuse_no_folder(folder)
        return {x: write_part(x, values, folder, objects) for x, values in written.items()}

    def write_rest() -> None:
        versions = {name: import_module(name).__version__ for name in _PACKAGES}
        versions = {"python": platform.python_version(), **versions}
        manifest["versions"], manifest["parts"] = versions, described
        write_objects(folder / OBJECTS, objects)
        card = model_card(
            model,
            metrics=of_user,
            versions=versions,
            n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        )
        (folder / CARD).write_text(
            card, encoding="utf-8", errors="backslashreplace", newline="\n"
        )

    with own_errors(), ExitStack() as stack:
        with_memory = group.gathered(optimizer)[0]  # the same in all processes
        place, of_user, written = group.on_all(prepare)
        opened = group.on_first(lambda: stack.enter_context(new_version(place)))
        # Processes may see the folder at another place.
        name = group.gathered(None if opened is None else opened[0].name)[0]
        folder, manifest = place / name, {} if opened is None else opened[1]
        own_parts = group.on_all(lambda: write_own(folder))
        group.on_all(lambda: _read_back(folder, own_parts, written, objects))
        described = dict(ChainMap(*group.gathered(own_parts)))
        group.on_first(write_rest)
        group.on_all(stack.close)  # the version replaces the one before


def _parts_of(state: ModelState, *, with_memory: bool) -> tuple[Parts, Parts]:
    """The parts that the first process writes, and those that each one writes."""
    if state.shard is None:
        return state_values(state, with_memory=with_memory), {}
    return shard_values(state, with_memory=with_memory)


def _read_back(folder: Path, described: Json, parts: Parts, objects: Objects) -> None:
    """Raise TypeError unless what was written loads, and equals the values of the parts."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    files = StoredFiles(folder, frozenset(sizes), sum(sizes.values()))
    try:
        read = {}
        for part, description in json.loads(json.dumps(described)).items():
            read[part] = found = read_part(part, description, files, objects)
            for name, value in parts[part].items():
                if not is_same(value, found[name]):
                    raise ArtefactError(f"{name!r} of part {part!r} is not what it was")
                if isinstance(value, np.ndarray | Tensor):
                    found[name] = value  # the same, and there is memory for it
        if SHARDS in read:  # only the first process reads what all of them know
            records_of_shard(read, Shard(0, read[SHARDS]["size"]))
        elif PARTS <= read.keys():
            records_of(read)
    except ArtefactError as error:
        reason = str(error).removesuffix(OF_ANOTHER).removesuffix(".")
        raise TypeError(
            f"The model cannot be stored: {reason}; an older one at the path is kept."
        ) from error


def require_packages() -> None:
    """Raise ImportError if a package of the extra is not installed."""
    for package in EXTRA:
        extra(package)
