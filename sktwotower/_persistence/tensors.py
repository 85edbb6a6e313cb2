"""Arrays as safetensors and back."""

from __future__ import annotations

import numpy as np

from sktwotower.utils._extra import extra

Arrays = dict[str, np.ndarray]


def to_safetensors(arrays: Arrays) -> bytes:
    """A file."""
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    content: bytes = extra("safetensors.numpy").save(whole)
    return content


def from_safetensors(content: bytes) -> Arrays:
    """The arrays, which can be written to."""
    arrays = extra("safetensors.numpy").load(content)
    return {name: np.require(array, requirements="W") for name, array in arrays.items()}
