"""Operations of matrix products, counted."""

import torch

from sktwotower._nn.products import counted_products


def test_products_by_hand():
    one, other = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5)
    total = torch.zeros(3, 5)
    with counted_products() as counter:
        product = one @ other
        assert counter.get_total_flops() == 2 * 3 * 4 * 5
        product.sum().backward()  # to one alone
        assert counter.get_total_flops() == 2 * 2 * 3 * 4 * 5
        total.addmm_(one.detach(), other)
        torch.mm(one.detach(), other, out=total)
    assert counter.get_total_flops() == 4 * 2 * 3 * 4 * 5


def test_the_threads_come_back():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with counted_products():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
