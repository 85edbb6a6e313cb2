"""Vectors of the users of all ranks, on each of several processes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sktwotower._nn.distributed import Shares
from sktwotower._nn.functional import unit_length
from sktwotower._nn.inputs import TowerInput
from sktwotower._nn.shared_bags import SharedBags
from sktwotower._nn.towers import Tower


class SpreadUsers(Protocol):
    """The users whom each rank ranks against its own items.

    What is sent is under way from when the object is made until :meth:`vectors`, and from
    :meth:`send` until :meth:`backward`.
    """

    def vectors(self) -> Tensor:
        """Vectors of the users of all ranks, (n, d), without a gradient."""

    def send(self, gradient: Tensor) -> None:
        """Start to send this rank's part of the gradient of these vectors."""

    def backward(self) -> None:
        """Backpropagate from the sum of the parts."""


class GatheredUsers:
    """Each rank embeds its own users, and sends their vectors.

    Parameters
    ----------
    shares : Shares
        The users of all ranks.
    own : Tensor of shape (n_own, d)
        Vectors of this rank's users.
    """

    def __init__(self, shares: Shares, own: Tensor) -> None:
        self._shares = shares
        self._own = own
        self._wait = shares.start_of_all(own.detach())

    def vectors(self) -> Tensor:
        """Vectors of the users of all ranks, (n, d), without a gradient."""
        return self._wait()

    def send(self, gradient: Tensor) -> None:
        """Start to send this rank's part of the gradient of these vectors."""
        self._wait = self._shares.start_own_sums(gradient)

    def backward(self) -> None:
        """Backpropagate from the sum of the parts."""
        self._own.backward(self._wait())


class AddedUpUsers:
    """All ranks add up their parts of all users, and scale the sums.

    A part is the items of a rank in the bags of all users, and the other fields of the
    rank's own users. Each way is one message then: with gathered users it is two, of the
    sums of bags and of vectors.

    Parameters
    ----------
    tower : Tower
        It adds up fields, without a layer.
    inputs : TowerInput
        The bags of the users of all ranks, and the other fields of this rank's users.
    temperature : float or Tensor
        Divides the vectors.
    generator : Generator
        Draws dropped ids.
    """

    def __init__(
        self,
        tower: Tower,
        inputs: TowerInput,
        temperature: float | Tensor,
        generator: torch.Generator,
    ) -> None:
        bags = inputs.history
        assert isinstance(bags, SharedBags)
        self._tower = tower
        self._ranks = bags.users.ranks
        self._temperature = temperature
        if isinstance(temperature, Tensor):
            # Every rank has the gradient of all users, and the mean over ranks is taken.
            self._temperature = temperature.detach().lerp(temperature, 1 / self._ranks.size)
        sums = tower.bag_sums(bags)
        others = tower.summands(replace(inputs, history=None), generator)
        own = reduce(torch.add, others, sums.new_zeros(bags.users.n_own, tower.dim))
        if inputs.appended is not None:
            own = torch.cat([own, inputs.appended], dim=1)
            sums = F.pad(sums, (0, inputs.appended.shape[1]))
        before = bags.users.n_before
        after = len(sums) - before - len(own)
        self._parts = sums + F.pad(own, (0, 0, before, after))
        self._wait = self._ranks.start_sum(self._parts.detach())

    def vectors(self) -> Tensor:
        """Vectors of the users of all ranks, (n, d), without a gradient."""
        self._sums = self._wait().requires_grad_()
        width = self._tower.dim
        vectors, appended = self._sums[:, :width], self._sums[:, width:]
        if self._tower.normalize:
            vectors = unit_length(vectors)
        self._vectors = torch.cat([vectors, appended], dim=1) / self._temperature
        return self._vectors.detach()

    def send(self, gradient: Tensor) -> None:
        """Start to send this rank's part of the gradient of these vectors."""
        self._wait = self._ranks.start_sum(gradient)

    def backward(self) -> None:
        """Backpropagate from the sum of the parts."""
        self._vectors.backward(self._wait())
        self._parts.backward(self._sums.grad)
