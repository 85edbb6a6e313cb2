"""Save a fitted model."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path

from sklearn.utils.validation import check_is_fitted

from sktwotower._persistence.folder import new_version
from sktwotower._persistence.objects import Objects, write_objects
from sktwotower._persistence.parts import write_part
from sktwotower._persistence.records import parameters_values, state_values
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.utils._extra import extra

EXTRA = ("safetensors", "skops", "pyarrow")  # packages of the extra ``save``
OBJECTS = "encoders.skops"
_PACKAGES = ("sktwotower", "torch", "sklearn", "numpy", "scipy", "pandas", *EXTRA)


def save_model(
    model: TwoTowerRecommender, path: str | os.PathLike, *, optimizer: bool = True
) -> None:
    """Write a fitted model; see ``TwoTowerRecommender.save``."""
    check_is_fitted(model)
    require_packages()
    if type(model) is not TwoTowerRecommender:
        raise TypeError(
            f"save stores a TwoTowerRecommender, and not a subclass of it; got "
            f"{type(model).__module__}.{type(model).__qualname__}. Use joblib.dump for it."
        )
    parts = {"parameters": parameters_values(model.get_params(deep=False))}
    parts |= state_values(model._state, with_memory=optimizer)
    objects = Objects()
    with new_version(Path(path)) as (folder, manifest):
        versions = {name: import_module(name).__version__ for name in _PACKAGES}
        manifest["versions"] = {"python": platform.python_version(), **versions}
        manifest["parts"] = {
            name: write_part(name, values, folder, objects)
            for name, values in parts.items()
        }
        write_objects(folder / OBJECTS, objects)


def require_packages() -> None:
    """Raise ImportError if a package of the extra is not installed."""
    for package in EXTRA:
        extra(package)
