"""What the scripts of peers share: their configuration, their versions, and their epochs.

Python finds it beside the script that it runs; it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# An epoch is kept if its number is at least so many times that of the last one kept.
RATIO = 1.4
# The settings of `Epochs`: a folder for the vectors after epochs, and the most seconds.
EACH_EPOCH: dict[str, Any] = {"each_epoch": None, "budget": float("inf")}


def read_configuration(defaults: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of standard input, completed; exits for keys that are no settings."""
    given = json.load(sys.stdin)
    unknown = sorted(given.keys() - defaults.keys() - {"train"})
    if unknown:
        raise SystemExit(f"{unknown} are no settings; they are {['train', *defaults]}.")
    if "train" not in given:
        raise SystemExit('"train", the path of a Parquet file of interactions, is missing.')
    return {**defaults, **given}


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of installed packages."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


class BudgetSpentError(Exception):
    """Ends a fit that has taken longer than it may."""


class Epochs:
    """The seconds of a fit after some of its epochs, and files with the vectors then.

    The seconds count from the making of this object, without those of writing. The epochs
    are 1, 2, 3, 5, 7, 10, 14, 20 and so on, and the last one. Where ``each_epoch`` of the
    configuration is no folder, nothing is done.
    """

    def __init__(self, config: dict[str, Any], n_epochs: int) -> None:
        self.folder: str | None = config["each_epoch"]
        self.seconds: dict[int, float] = {}  # by the number of the epoch
        self._budget: float = config["budget"]
        self._n_epochs = n_epochs
        self._n = 0
        self._next = 1.0
        self._started = time.perf_counter()

    def end(self, write: Callable[[Path], None]) -> None:
        """Call this after each epoch; ``write`` is given a file for the vectors (.npz)."""
        if self.folder is None:
            return
        ended = time.perf_counter()
        seconds = ended - self._started
        is_over = seconds > self._budget
        self._n += 1
        if self._n >= self._next or self._n == self._n_epochs or is_over:
            write(Path(self.folder) / f"{self._n}.npz")
            self.seconds[self._n] = seconds
            self._next = RATIO * self._n
        self._started += time.perf_counter() - ended
        if is_over:
            raise BudgetSpentError
