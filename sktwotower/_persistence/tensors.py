"""Arrays in safetensors files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sktwotower._persistence.folder import Reader, Writer, expect, reading
from sktwotower.utils._extra import extra


def write_arrays(writer: Writer, file: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file of named arrays."""
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    writer.write(file, extra("safetensors.numpy").save(whole))


def write_tensors(writer: Writer, file: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of named tensors, which are on the CPU."""
    write_arrays(writer, file, {name: value.numpy() for name, value in tensors.items()})


class StoredArrays:
    """The arrays of a file; they can be written to."""

    def __init__(self, reader: Reader, file: str) -> None:
        self.file = file
        with reading(file):
            arrays = extra("safetensors.numpy").load(reader.read(file))
        self._arrays: dict[str, np.ndarray] = {
            name: np.require(array, requirements="W") for name, array in arrays.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def tensors(self) -> dict[str, Tensor]:
        """All of them as tensors."""
        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}

    def vector(self, name: str, kinds: str) -> np.ndarray:
        """An array of one axis, of any length."""
        length = len(self._arrays[name]) if np.ndim(self._arrays.get(name)) else 0
        return self.get(name, (length,), kinds)

    def get(
        self,
        name: str,
        shape: tuple[int, ...],
        kinds: str,
        *,
        between: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """An array of a certain shape.

        Parameters
        ----------
        name : str
            Its name.
        shape : tuple of int
            The shape that it must have.
        kinds : str
            Kinds of dtypes that are allowed, such as ``"if"``.
        between : tuple of int, optional
            Its smallest and its largest value, at most.

        Raises
        ------
        ArtefactError
            If it is not there, or is another one.
        """
        expect(name in self, self.file, f"has no array {name!r}")
        array = self._arrays[name]
        expect(
            array.shape == shape and array.dtype.kind in kinds,
            self.file,
            f"has an array {name!r} of shape {array.shape} and dtype {array.dtype}, where "
            f"the model has the shape {shape}",
        )
        if between is not None and len(array):
            smallest, largest = between
            expect(
                bool(smallest <= array.min() and array.max() <= largest),
                self.file,
                f"has values in {name!r} that are not between {smallest} and {largest}",
            )
        return array
