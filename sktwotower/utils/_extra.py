"""Optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def extra(module: str, *, name: str = "save", caller: str = "save and load need") -> Any:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Name of the module.
    name : str
        Name of the extra that installs it.
    caller : str
        Subject and verb of the message: ``"save and load need"``.

    Raises
    ------
    ImportError
        If the package is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} {module.partition('.')[0]}; install it with "
            f"pip install 'sktwotower[{name}]'."
        ) from error
