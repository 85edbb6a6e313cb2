"""Random numbers of a fit, from ``random_state``."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state

from sktwotower._nn.distributed import Ranks
from sktwotower._nn.runtime import resolve_device


def numpy_random_state(
    random_state: int | np.random.RandomState | None,
    device: str | torch.device | None = None,
) -> np.random.RandomState:
    """Like scikit-learn's, but None does not draw from NumPy's global generator.

    With a device, all ranks that train on it draw the same numbers for None, too.
    """
    if random_state is not None:
        return check_random_state(random_state)
    drawn, ranks = np.random.RandomState(np.random.MT19937()), Ranks.current()
    if ranks is None or device is None:
        return drawn
    seed = drawn.randint(np.iinfo(np.int32).max)
    return np.random.RandomState(ranks.broadcast_int(seed, resolve_device(device)))
