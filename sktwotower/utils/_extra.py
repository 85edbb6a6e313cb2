"""Optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def extra(module: str, *, name: str = "save", caller: str = "save and load need") -> Any:
    """A module of an optional package.

    Parameters
    ----------
    module : str
        As it is imported.
    name : str
        The extra that has it.
    caller : str
        Who needs it, with the verb, for the message.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} {module.partition('.')[0]}; install it with "
            f"pip install 'sktwotower[{name}]'."
        ) from error
