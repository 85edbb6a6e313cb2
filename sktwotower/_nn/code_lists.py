"""Lists of codes that each of several processes sends to all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktwotower._nn.distributed import Ranks


class CodeLists:
    """Gathers a list of codes from each rank; their lengths differ.

    A message has room for the longest list so far, and says how many codes it has. If a
    list is longer, a second message brings the rest.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._room = 0

    def gather(self, codes: Tensor) -> list[Tensor]:
        """The lists (n,) of all ranks."""
        return self.start(codes)()

    def start(self, codes: Tensor) -> Callable[[], list[Tensor]]:
        """Start to gather the lists; the function waits for those of all ranks."""
        room = self._room
        message = codes.new_zeros(1 + room)
        message[0] = len(codes)
        message[1 : 1 + len(codes)] = codes[:room]
        wait = self.ranks.start_all_gather(message)

        def finish() -> list[Tensor]:
            found = wait()
            lengths, found = found[:, 0].tolist(), found[:, 1:]
            n_more = max(lengths) - room
            if n_more > 0:
                rest = codes.new_zeros(n_more)
                last = codes[room:]
                rest[: len(last)] = last
                found = torch.cat([found, self.ranks.all_gather(rest)], dim=1)
                self._room = max(lengths) * 9 // 8
            return [part[:n] for part, n in zip(found, lengths, strict=True)]

        return finish

    def start_tensors(self, tensors: list[Tensor]) -> Callable[[], list[list[Tensor]]]:
        """The same for some tensors (n,) in one message; floats are float32."""
        coded = [
            one.view(torch.int32) if one.is_floating_point() else one for one in tensors
        ]
        lengths = torch.tensor([len(one) for one in tensors])
        wait = self.start(torch.cat([lengths, *coded]))

        def finish() -> list[list[Tensor]]:
            found = []
            for message in wait():
                of_rank, rest = message[: len(tensors)].tolist(), message[len(tensors) :]
                found.append(
                    [
                        part.int().view(one.dtype) if one.is_floating_point() else part
                        for part, one in zip(rest.split(of_rank), tensors, strict=True)
                    ]
                )
            return found

        return finish
