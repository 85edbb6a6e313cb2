"""Counts the floating-point operations of matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sktwotower._nn.threads import settled_n_threads


@contextmanager
def counted_products() -> Iterator[FlopCounterMode]:
    """A context in which torch counts the operations of matrix products by their shapes.

    They are counted forward and backward, a multiplication and an addition as two. Torch
    counts those of one thread, so that an epoch gets no second one.
    """
    n_threads = settled_n_threads()
    # It leaves out those that are added in place.
    in_place = {torch.ops.aten.addmm_: _product}
    torch.set_num_threads(1)
    try:
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            yield counter
    finally:
        torch.set_num_threads(n_threads)


def _product(total: Any, one: tuple[int, int], other: tuple[int, int], **_: Any) -> int:
    """Operations of ``total += one @ other``, from the shapes."""
    return 2 * one[0] * one[1] * other[1]
