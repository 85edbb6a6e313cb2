"""What ranks send each other, on threads of this process."""

import numpy as np
import pytest
import torch

from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import DenseGradients, Ranks
from tests._nn.thread_ranks import on_ranks

SIZES = [2, 3]


def test_without_a_group_there_are_no_ranks():
    assert Ranks.current() is None


def test_every_code_and_every_draw_belongs_to_one_rank():
    ranks = [Ranks(rank, 3) for rank in range(3)]
    for codes in (torch.arange(10), np.arange(10)):
        assert sum(rank.owns(codes).tolist().count(True) for rank in ranks) == 10
    for n in (0, 1, 7, 9):
        shares = [rank.share_of(n) for rank in ranks]
        assert sum(shares) == n
        assert max(shares) - min(shares) <= 1
        assert shares == [ranks[0].share_of(n, rank) for rank in range(3)]


@pytest.mark.parametrize("size", SIZES)
def test_lists_of_any_length(size):
    """Longer ones than before, shorter ones, and empty ones."""
    lengths = [[0, 0, 0], [3, 0, 1], [2, 9, 0], [1, 1, 1], [0, 40, 12]]

    def call(ranks):
        lists = CodeLists(ranks)
        return [
            [part.tolist() for part in lists.gather(torch.arange(n[ranks.rank]))]
            for n in lengths
        ]

    expected = [[list(range(n)) for n in row[:size]] for row in lengths]
    assert on_ranks(size, call) == [expected] * size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [0, 1, 8])
def test_a_gathered_vector_has_the_gradient_of_all_ranks(size, n):
    codes = torch.tensor([5, 1, 0, 4, 9, 7, 3, 13])[:n]
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    factors = torch.arange(1.0, size + 1)

    def call(ranks):
        division = ranks.divide(codes)
        assert ranks.owns(codes[division.own]).all()
        own = vectors[division.own].requires_grad_()
        gathered = division.gather(own)
        (gathered * vectors * factors[ranks.rank]).sum().backward()
        return gathered, division.own, own.grad

    gradient = torch.full_like(vectors, torch.nan)
    for gathered, positions, own in on_ranks(size, call):
        assert torch.equal(gathered, vectors)
        gradient[positions] = own
    torch.testing.assert_close(gradient, vectors * factors.sum())


@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 9])
def test_a_table_is_collected_from_its_parts(n_rows, monkeypatch):
    monkeypatch.setattr("sktwotower._nn.distributed._BLOCK", 2)
    table = torch.randn(n_rows, 2)

    def call(ranks):
        whole = torch.full_like(table, torch.nan)
        ranks.collect(table[ranks.rank :: ranks.size].clone(), whole)
        return whole

    for whole in on_ranks(3, call):
        assert torch.equal(whole, table)


def test_gradients_of_layers_are_averaged():
    """Parameters begin as on the first rank; one without a gradient has one of zero."""

    def call(ranks):
        one, other, unused = (
            torch.full(shape, float(ranks.rank), requires_grad=True)
            for shape in ((2, 3), (4,), (1,))
        )
        layers = DenseGradients(ranks, [one, other, unused])
        (one.sum() * (ranks.rank + 1)).backward()
        if ranks.rank:
            (3 * other).sum().backward()
        layers.send()
        layers.receive()
        return one, other, unused

    for one, other, unused in on_ranks(2, call):
        assert not one.any()
        assert torch.equal(one.grad, torch.full((2, 3), 1.5))
        assert torch.equal(other.grad, torch.full((4,), 1.5))
        assert torch.equal(unused.grad, torch.zeros(1))
