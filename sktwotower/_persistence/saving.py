"""Save a fitted model."""

from __future__ import annotations

import json
import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from sktwotower._persistence.folder import new_version
from sktwotower._persistence.manifest import (
    CARD,
    OF_ANOTHER,
    ArtefactError,
    Json,
    StoredFiles,
)
from sktwotower._persistence.model_card import metrics_table, model_card
from sktwotower._persistence.objects import Objects, write_objects
from sktwotower._persistence.parts import is_same, read_part, write_part
from sktwotower._persistence.records import parameters_values, records_of, state_values
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._extra import extra
from sktwotower.utils._paths import path_of

EXTRA = ("safetensors", "skops", "pyarrow")  # packages of the extra ``save``
OBJECTS = "encoders.skops"
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
    require_packages()
    of_user = metrics_table(metrics)
    if type(model) is not TwoTowerRecommender:
        raise TypeError(
            f"save stores a TwoTowerRecommender, and not a subclass of it; got "
            f"{type(model).__module__}.{type(model).__qualname__}. Use joblib.dump for it."
        )
    parts = {"parameters": parameters_values(model.get_params(deep=False))}
    parts |= state_values(model._state, with_memory=optimizer)
    objects = Objects()
    with new_version(path_of(path)) as (folder, manifest):
        versions = {name: import_module(name).__version__ for name in _PACKAGES}
        manifest["versions"] = {"python": platform.python_version(), **versions}
        manifest["parts"] = {
            name: write_part(name, values, folder, objects)
            for name, values in parts.items()
        }
        write_objects(folder / OBJECTS, objects)
        _read_back(folder, manifest["parts"], parts, objects)
        card = model_card(
            model,
            metrics=of_user,
            versions=manifest["versions"],
            n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        )
        (folder / CARD).write_text(
            card, encoding="utf-8", errors="backslashreplace", newline="\n"
        )


def _read_back(
    folder: Path, described: Json, parts: dict[str, dict[str, Any]], objects: Objects
) -> None:
    """Raise TypeError unless what was written loads, and equals the values of the parts."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    files = StoredFiles(folder, frozenset(sizes), sum(sizes.values()))
    try:
        read = {
            name: read_part(name, part, files, objects)
            for name, part in json.loads(json.dumps(described)).items()
        }
        for part, values in parts.items():
            for name, value in values.items():
                if not is_same(value, read[part][name]):
                    raise ArtefactError(f"{name!r} of part {part!r} is not what it was")
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
