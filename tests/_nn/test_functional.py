"""Gradients by hand, against those of autograd."""

import pytest
import torch
import torch.nn.functional as F

from sktwotower._nn import functional, kept_memory
from sktwotower._nn.functional import bag_sums, look_up, pair_scores, unit_length
from sktwotower._nn.threads import SecondThread


@pytest.fixture(params=["at once", "in blocks", "in two threads"])
def blocks(request, monkeypatch, four_threads):
    """Rows are computed at once, or two at a time."""
    if request.param != "at once":
        monkeypatch.setattr(functional, "ROWS_AT_ONCE", 2)
        monkeypatch.setattr(functional, "SUMS_AT_ONCE", 2)
        monkeypatch.setattr(kept_memory, "_MOST_BYTES_OF_SMALL", 0)
    with SecondThread(wanted=request.param == "in two threads"):
        yield


def normal(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def drawn(n, *shape):
    return torch.randint(n, shape, generator=torch.Generator().manual_seed(n))


@pytest.mark.usefixtures("blocks")
def test_unit_length_is_normalize_there_and_back():
    vectors = normal(7, 5)
    assert torch.equal(unit_length(vectors), F.normalize(vectors, dim=1))
    assert torch.autograd.gradcheck(unit_length, (vectors,))


@pytest.mark.usefixtures("blocks")
def test_appended_numbers_are_not_scaled():
    vectors, appended = normal(5, 3), drawn(9, 5, 2).double()
    scaled = torch.cat([F.normalize(vectors, dim=1), appended], dim=1)
    assert torch.equal(unit_length(vectors, appended), scaled)
    assert torch.autograd.gradcheck(lambda x: unit_length(x, appended), (vectors,))


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


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("offsets", [[0, 3, 3], [0, 0, 8], [2, 5, 8]])
def test_bags_and_their_gradient(offsets):
    """Some bags are empty, some rows are in several bags or in none."""
    table, codes, weights = normal(6, 4), drawn(6, 8), normal(8).detach()
    offsets = torch.tensor(offsets)
    codes, weights = codes[offsets[0] :], weights[offsets[0] :]
    offsets = offsets - offsets[0]

    def sums(table):
        return bag_sums(table, codes, offsets, weights)

    ends = [*offsets.tolist()[1:], len(codes)]
    expected = [
        (weights[start:end, None] * table[codes[start:end]]).sum(dim=0)
        for start, end in zip(offsets.tolist(), ends, strict=True)
    ]
    torch.testing.assert_close(sums(table), torch.stack(expected))
    assert torch.autograd.gradcheck(sums, (table,))


def test_a_table_without_rows():
    table, nothing = (
        torch.zeros(0, 3, requires_grad=True),
        torch.zeros(0, dtype=torch.int64),
    )
    sums = bag_sums(table, nothing, torch.tensor([0, 0]), torch.zeros(0))
    assert torch.equal(sums, torch.zeros(2, 3))
    (sums.sum() + look_up(table, nothing).sum()).backward()
    assert table.grad.shape == (0, 3)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("n", [0, 1, 9])
def test_rows_and_their_gradient(n):
    table, codes = normal(5, 3), drawn(5, n)
    assert torch.equal(look_up(table, codes), table[codes])
    assert torch.autograd.gradcheck(lambda table: look_up(table, codes), (table,))
