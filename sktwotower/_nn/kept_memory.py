"""Memory of large arrays that is kept from one training step to the next.

A step over a whole catalogue makes arrays of its size. The C library takes the memory of
each from the system and gives it back afterwards, and the system clears its pages every
time. That takes as long as two passes over the array.
"""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

_FEWEST_BYTES = 2**25  # the C library keeps smaller blocks itself
_SLACK = 1.25  # a block has at most so many times the bytes that are asked for
_active = threading.local()


class KeptMemory:
    """A context in which :func:`empty_matrix` reuses the memory of earlier matrices."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._is_open = True
        self._borrowing = threading.Lock()

    def __enter__(self) -> Self:
        self._before = getattr(_active, "memory", None)
        self.share()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _active.memory = self._before
        self._is_open = False
        self._free.clear()

    def share(self) -> None:
        """Let the thread that calls this use the memory, too."""
        _active.memory = self

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


def empty_matrix(n_rows: int, n_columns: int, like: Tensor) -> Tensor:
    """A matrix without values, of the type and on the device of another tensor."""
    memory: KeptMemory | None = getattr(_active, "memory", None)
    n_bytes = n_rows * n_columns * like.element_size()
    if memory is None or like.device.type != "cpu" or n_bytes < _FEWEST_BYTES:
        return like.new_empty(n_rows, n_columns)
    lent = memory.borrow(n_bytes).untyped_storage()
    # No view, which an operator in place could not change.
    return like.new_empty(0).set_(lent, 0, (n_rows, n_columns), (n_columns, 1))
