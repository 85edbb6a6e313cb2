"""What the scripts of peers share: the configuration they read, and the versions they say.

Python finds it beside the script that it runs; it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any


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
