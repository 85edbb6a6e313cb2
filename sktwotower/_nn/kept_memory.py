"""Memory of large arrays that is kept from one training step to the next.

A step over a whole catalogue makes arrays of its size. The C library takes the memory of
each from the system and gives it back afterwards, and the system clears its pages every
time. That takes as long as two passes over the array.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

# Arrays of more bytes are large. The C library of Linux keeps the memory of smaller ones.
_MOST_BYTES_OF_SMALL = 2**25
_SLACK = 1.25  # a block has at most so many times the bytes that are asked for
_active = threading.local()


@contextmanager
def kept_memory() -> Iterator[KeptMemory]:
    """A context in which :func:`empty_matrix` reuses the memory of earlier matrices."""
    memory, before = KeptMemory(), getattr(_active, "memory", None)
    memory.use_here()
    try:
        yield memory
    finally:
        _active.memory = before
        memory.close()


class KeptMemory:
    """Blocks of memory, which are lent to tensors."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._is_open = True
        self._borrowing = threading.Lock()

    def use_here(self) -> None:
        """Use the memory in the thread that calls this."""
        _active.memory = self

    def close(self) -> None:
        """Free all blocks, and those that are lent as soon as they come back."""
        self._is_open = False
        self._free.clear()

    def borrow(self, n_bytes: int) -> Tensor:
        """Bytes that come back here when no tensor has them any more."""
        with self._borrowing:
            # Blocks come back at any time, at the end of the list.
            sizes = {len(block): i for i, block in enumerate(self._free)}
            fitting = [size for size in sizes if n_bytes <= size <= _SLACK * n_bytes]
            if fitting:
                block = self._free.pop(sizes[min(fitting)])
            else:
                block = torch.empty(n_bytes, dtype=torch.uint8).numpy()
                # It replaces those a little smaller, as sizes differ from step to step.
                self._free[:] = [
                    one for one in self._free if not len(one) < n_bytes <= _SLACK * len(one)
                ]
        lent = block[:n_bytes]  # which the tensor keeps alive
        weakref.finalize(lent, self._take_back, block).atexit = False
        return torch.from_numpy(lent)

    def _take_back(self, block: np.ndarray) -> None:
        if self._is_open:
            self._free.append(block)


def is_large(n_rows: int, n_columns: int, like: Tensor) -> bool:
    """Whether a matrix of the type of a tensor is large, and on the CPU."""
    n_bytes = n_rows * n_columns * like.element_size()
    return like.device.type == "cpu" and n_bytes > _MOST_BYTES_OF_SMALL


def empty_matrix(n_rows: int, n_columns: int, like: Tensor) -> Tensor:
    """A matrix without values, of the type and on the device of another tensor."""
    memory: KeptMemory | None = getattr(_active, "memory", None)
    if memory is None or not is_large(n_rows, n_columns, like):
        return like.new_empty(n_rows, n_columns)
    lent = memory.borrow(n_rows * n_columns * like.element_size()).untyped_storage()
    # No view, which an operator in place could not change.
    return like.new_empty(0).set_(lent, 0, (n_rows, n_columns), (n_columns, 1))
