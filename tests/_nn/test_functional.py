"""Gradients by hand, against those of autograd."""

import pytest
import torch
import torch.nn.functional as F

from sktwotower._nn.functional import pair_scores, unit_length


def normal(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def drawn(n, *shape):
    return torch.randint(n, shape, generator=torch.Generator().manual_seed(n))


def test_unit_length_is_normalize_there_and_back():
    vectors = normal(7, 5)
    assert torch.equal(unit_length(vectors), F.normalize(vectors, dim=1))
    assert torch.autograd.gradcheck(unit_length, (vectors,))


def test_a_zero_vector_stays_one():
    vectors = torch.zeros(2, 3, requires_grad=True)
    scaled = unit_length(vectors)
    assert torch.equal(scaled, torch.zeros(2, 3))
    scaled.sum().backward()
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("n_users, n_items, n_rows, k", [(4, 6, 9, 3), (9, 3, 5, 1)])
def test_pair_scores_and_their_gradient(n_users, n_items, n_rows, k):
    """Some users and items are there several times, some not at all."""
    users, items = normal(n_users, 5), normal(n_items, 5)
    groups, columns = drawn(n_users, n_rows), drawn(n_items, n_rows, k)
    scores = pair_scores(users, items, groups, columns)
    expected = torch.einsum("bd,bkd->bk", users[groups], items[columns])
    torch.testing.assert_close(scores, expected)
    assert torch.autograd.gradcheck(
        lambda users, items: pair_scores(users, items, groups, columns), (users, items)
    )


def test_pair_scores_of_more_items_than_16_bits_count():
    n_items = 2**16 + 3
    users, items = normal(3, 2), normal(n_items, 2)
    groups = torch.tensor([0, 2, 0])
    columns = torch.tensor([[0, n_items - 1], [2**16, 1], [n_items - 1, 2**16]])
    weights = normal(3, 2).detach()
    (pair_scores(users, items, groups, columns) * weights).sum().backward()
    expected = torch.zeros(n_items, 2, dtype=torch.float64)
    for row, group in enumerate(groups):
        for place in range(2):
            expected[columns[row, place]] += weights[row, place] * users[group].detach()
    torch.testing.assert_close(items.grad, expected)
