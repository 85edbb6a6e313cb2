"""Device and random state of a fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that a name stands for; ``"auto"`` is an accelerator if there is one."""
    if isinstance(device, torch.device) or device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (AssertionError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"device={device!r} cannot be used here ({reason}); 'auto' takes what is "
                "there, 'cpu' is always there."
            ) from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class RandomStream:
    """A random state of its own, lent to torch's global generators while in use.

    ``nn.Linear``, dropout and ``randperm`` all draw from torch's global generators.
    Between two uses those generators are the caller's: whatever a callback draws between
    two epochs neither changes the fit nor is changed by it.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(self._cuda):
            torch.random.default_generator.manual_seed(seed)
            for cuda_device in self._cuda:
                with torch.cuda.device(cuda_device):
                    torch.cuda.manual_seed(seed)
            self._states = self._read()

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._cuda)]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream inside the block, from where it last stopped."""
        with torch.random.fork_rng(self._cuda):
            torch.set_rng_state(self._states[0])
            for cuda_device, state in zip(self._cuda, self._states[1:], strict=True):
                torch.cuda.set_rng_state(state, cuda_device)
            yield
            self._states = self._read()
