"""Devices, and random numbers that are nobody else's."""

import pytest
import torch

from sktwotower._nn.distributed import Ranks
from sktwotower._nn.runtime import Generators, resolve_device

CPU = torch.device("cpu")


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    generators = Generators.seeded(0, CPU)
    torch.rand(7, generator=generators.host)
    torch.randperm(7, generator=generators.items)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_leaves_drawing_alone():
    generators = Generators.seeded(5, CPU)
    parts = []
    for n in (3, 1, 4):
        parts.append(torch.rand(n, generator=generators.host))
        torch.manual_seed(99)
        torch.rand(11)  # others draw in between
    other = torch.Generator().manual_seed(5)
    expected = [torch.rand(n, generator=other) for n in (3, 1, 4)]
    assert torch.equal(torch.cat(parts), torch.cat(expected))


def test_seeds():
    def draw(seed):
        return torch.rand(5, generator=Generators.seeded(seed, CPU).host)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    draw(2**31 - 2)  # the largest that the estimator draws


def test_no_two_streams_are_one():
    """Neither of weights and dropout, nor of the towers, nor of two ranks."""
    alone, one, other = (
        Generators.seeded(0, CPU, ranks) for ranks in (None, Ranks(0, 2), Ranks(1, 2))
    )
    assert alone.common is alone.host
    streams = [one.common]
    for rank in (one, other):
        streams += [rank.host, rank.users, rank.items]
    draws = {tuple(torch.rand(5, generator=stream).tolist()) for stream in streams}
    assert len(draws) == 7
    # but all ranks have the same weights
    first = torch.rand(5, generator=alone.host)
    assert torch.equal(torch.rand(5, generator=other.common), first)


def test_fits_do_not_share():
    one, two = Generators.seeded(0, CPU), Generators.seeded(0, CPU)
    torch.rand(100, generator=one.host)
    fresh = Generators.seeded(0, CPU)
    assert torch.equal(
        torch.rand(3, generator=two.host), torch.rand(3, generator=fresh.host)
    )


def test_device():
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU
    assert isinstance(resolve_device("auto"), torch.device)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpux", ""])
def test_devices_that_are_not_there(device):
    with pytest.raises(ValueError, match=rf"device='{device}' cannot be used here"):
        resolve_device(device)
