"""Device and random number generators of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sktwotower._nn.distributed import Ranks


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``"auto"`` is an accelerator if there is one."""
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
    """Random number generators of one fit.

    Torch's global generators are not used: the caller may have seeded them, and fits in two
    threads would draw from the same one.

    Attributes
    ----------
    host : torch.Generator
        On the CPU: draws the order of the rows, candidates and negatives.
    common : torch.Generator
        On the CPU: draws the initial weights, views and masks, which are the same on all
        ranks. With one process it is ``host``.
    users, items : torch.Generator
        On the device of the towers: draw the dropouts of each tower. There are two, since
        the towers may run in two threads.
    """

    host: torch.Generator
    common: torch.Generator
    users: torch.Generator
    items: torch.Generator

    @classmethod
    def seeded(
        cls, seed: int, device: torch.device, ranks: Ranks | None = None
    ) -> Generators:
        """Generators that draw the same numbers for the same seed, device and ranks."""
        host = common = torch.Generator().manual_seed(seed)
        first = seed + 1
        if ranks is not None:
            first += 3 * ranks.rank
            host = torch.Generator().manual_seed(first + 2)
        return cls(
            host,
            common,
            torch.Generator(device).manual_seed(first),
            torch.Generator(device).manual_seed(first + 1),
        )
