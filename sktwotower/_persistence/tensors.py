"""Named arrays in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sktwotower._persistence.folder import reading
from sktwotower.utils._extra import extra

Arrays = dict[str, np.ndarray]


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file."""
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    extra("safetensors.numpy").save_file(whole, file)


def read_arrays(file: Path) -> Arrays:
    """The arrays, which can be written to."""
    with reading(file.name):
        arrays = extra("safetensors.numpy").load_file(file)
    return {name: np.require(array, requirements="W") for name, array in arrays.items()}
