"""Two-tower recommendation as a scikit-learn estimator on a PyTorch core."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sktwotower._version import __version__

if TYPE_CHECKING:
    from sktwotower._data.entity_table import EntityTable
    from sktwotower._persistence.loading import load
    from sktwotower._two_tower import TwoTowerRecommender

__all__ = ["EntityTable", "TwoTowerRecommender", "__version__", "load"]

_MODULES = {
    "EntityTable": "sktwotower._data.entity_table",
    "TwoTowerRecommender": "sktwotower._two_tower",
    "load": "sktwotower._persistence.loading",
}
_ROOMS = (
    "base",
    "baselines",
    "datasets",
    "history",
    "inspection",
    "metrics",
    "model_selection",
    "pipeline",
    "preprocessing",
)


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: torch takes seconds."""
    if name in _ROOMS:
        return import_module(f"sktwotower.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'sktwotower' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
