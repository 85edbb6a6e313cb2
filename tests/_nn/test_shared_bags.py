"""Bags whose items are divided among ranks have the sums and gradients of whole bags."""

import pytest
import torch

from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import Shares
from sktwotower._nn.functional import bag_sums
from sktwotower._nn.segments import Bags
from sktwotower._nn.shared_bags import SharedBags
from tests._nn.thread_ranks import on_ranks

N_ITEMS, DIM = 7, 3


def bags_of(rank, lengths):
    """Bags of the users of a rank, with weights."""
    generator = torch.Generator().manual_seed(rank)
    lengths = torch.tensor(lengths, dtype=torch.int64)
    n = int(lengths.sum())
    columns = torch.randint(N_ITEMS, (n,), generator=generator)
    values = torch.rand(n, generator=generator)
    return Bags(columns, values, lengths.cumsum(0) - lengths)


@pytest.mark.parametrize(
    "lengths", [[[3, 0], [2]], [[1], [], [4, 5]], [[0, 0], [0]]], ids=str
)
def test_sums_and_gradients(lengths):
    """Also with empty bags, and with a rank without users."""
    generator = torch.Generator().manual_seed(9)
    table = torch.randn(N_ITEMS, DIM, generator=generator)
    upstream = torch.randn(sum(map(len, lengths)), DIM, generator=generator)
    upstreams = upstream.split([len(part) for part in lengths])

    def call(ranks):
        bags = bags_of(ranks.rank, lengths[ranks.rank])
        found = CodeLists(ranks).start_tensors([bags.lengths, bags.columns, bags.values])()
        shares = Shares(ranks, [len(part) for part in lengths])
        shared = SharedBags.of(
            [torch.cat(parts) for parts in zip(*found, strict=True)], shares
        )
        assert ranks.owns(shared.columns).all()
        weights = table.clone().requires_grad_()
        partial = bag_sums(weights, shared.columns, shared.offsets, shared.values)
        sums = shares.add_up(partial)
        (sums * upstreams[ranks.rank]).sum().backward()
        return sums.detach(), weights.grad

    found = on_ranks(len(lengths), call)
    weights = table.clone().requires_grad_()
    for rank, (sums, _) in enumerate(found):
        bags = bags_of(rank, lengths[rank])
        expected = bag_sums(weights, bags.columns, bags.offsets, bags.values)
        torch.testing.assert_close(sums, expected.detach())
        (expected * upstreams[rank]).sum().backward()
    # Each rank has the gradients of its own items, and no others.
    torch.testing.assert_close(sum(gradient for _, gradient in found), weights.grad)
    for rank, (_, gradient) in enumerate(found):
        own = torch.arange(N_ITEMS) % len(lengths) == rank
        assert not gradient[~own].any()
