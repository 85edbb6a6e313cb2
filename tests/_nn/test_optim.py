"""Decay falls on embedding tables only; schedules have the values that they say."""

import pytest
import torch

from sktwotower._nn.optim import SCHEDULES, make_optimizer, make_schedule


def parameters():
    torch.manual_seed(0)
    table = torch.nn.Parameter(torch.randn(4, 3))
    layer = torch.nn.Parameter(torch.randn(3, 3))
    return table, layer


def no_gradient(*tensors):
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor)


def test_decay_only_on_tables():
    table, layer = parameters()
    before_table, before_layer = table.detach().clone(), layer.detach().clone()
    optimizer = make_optimizer([table], [table, layer], learning_rate=0.1, weight_decay=2.0)
    for _ in range(3):
        no_gradient(table, layer)
        optimizer.step()
    # decoupled: with no gradient each step is a factor of 1 - lr * decay, also of rows
    # that no batch has touched
    torch.testing.assert_close(table.detach(), before_table * 0.8**3)
    assert torch.equal(layer.detach(), before_layer)


def test_first_step_of_adam():
    table, layer = parameters()
    before = layer.detach().clone()
    optimizer = make_optimizer([table], [table, layer], learning_rate=0.1, weight_decay=0.0)
    table.grad = torch.zeros_like(table)
    layer.grad = torch.tensor([[1.0, -2.0, 3.0]] * 3)
    optimizer.step()
    # bias-corrected m / sqrt(v) of the first step is the sign of the gradient
    torch.testing.assert_close(layer.detach(), before - 0.1 * layer.grad.sign())


def test_every_parameter_is_in_exactly_one_group():
    table, layer = parameters()
    for tables in ([table], [], [table, layer]):
        optimizer = make_optimizer(
            iter(tables), iter([table, layer]), learning_rate=1.0, weight_decay=1.0
        )
        groups = optimizer.param_groups
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(ids) == sorted(map(id, [table, layer]))
        assert all(group["params"] for group in groups)
        for group in groups:
            is_table = group["params"][0] in set(tables)
            assert group["weight_decay"] == (1.0 if is_table else 0.0)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0, 0, 0]),
        ("cosine", [1, 0.8535533906, 0.5, 0.1464466094, 0, 0, 0]),
    ],
)
def test_schedule(name, factors):
    table, layer = parameters()
    optimizer = make_optimizer([table], [table, layer], learning_rate=0.4, weight_decay=1.0)
    schedule = make_schedule(optimizer, name, 4)
    rates = []
    for _ in range(7):  # also beyond the end, where more epochs than planned would go
        rates.append([group["lr"] for group in optimizer.param_groups])
        no_gradient(table, layer)
        optimizer.step()
        schedule.step()
    expected = [[0.4 * factor] * 2 for factor in factors]
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected))


def test_the_list_of_schedules():
    assert set(SCHEDULES) == {"constant", "linear", "cosine"}
    for factor in SCHEDULES.values():
        assert factor(0.0) == 1.0
