"""Device and random numbers of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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


@dataclass(frozen=True, eq=False)
class Generators:
    """Random numbers of one fit.

    Torch's global generators are left alone: they are the caller's, and two fits in
    threads would take them from each other.

    Attributes
    ----------
    host : torch.Generator
        On the CPU: initial weights, the order of the rows, and what is drawn for a batch.
    users, items : torch.Generator
        Where the towers are: what each of them drops. The towers go beside each other.
    """

    host: torch.Generator
    users: torch.Generator
    items: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device, *, rank: int = 0) -> Generators:
        """Generators that draw the same numbers for the same seed and device.

        All ranks have the same batches, and what is drawn beside them is a process's own.
        """
        first = seed + 1 + 2 * rank
        return cls(
            torch.Generator().manual_seed(seed),
            torch.Generator(device).manual_seed(first),
            torch.Generator(device).manual_seed(first + 1),
        )
