"""Steps by their formulas; decay falls on embedding tables only; schedules as they say."""

import math

import numpy as np
import pytest
import torch

from sktwotower._nn.optim import DECOUPLED, SCHEDULES, make_optimizer, make_schedule

NAMES = ("adamw", "adam", "adagrad", "sgd")
LEARNING_RATE, EPSILON = 0.1, 1e-8


def parameters():
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
    layer = torch.nn.Parameter(torch.randn(3, 3, generator=generator))
    return table, layer


def optimizer_of(name, table, layer, *, weight_decay=0.0, epsilon=EPSILON):
    return make_optimizer(
        name,
        [table],
        [table, layer],
        learning_rate=LEARNING_RATE,
        weight_decay=weight_decay,
        epsilon=epsilon,
    )


def gradients(step):
    """Of the table and the layer; a row of the table is seldom seen."""
    rng = np.random.RandomState(step)
    table, layer = rng.randn(4, 3), rng.randn(3, 3)
    table[1] *= step == 2
    return table, layer


def step_in_numpy(name, x, gradient, state, step, weight_decay, epsilon):
    """One step of the formula, from 1; ``state`` is changed."""
    if name == "sgd":
        return x * (1 - LEARNING_RATE * weight_decay) - LEARNING_RATE * gradient
    if name == "adamw":
        x = x * (1 - LEARNING_RATE * weight_decay)
    else:
        gradient = gradient + weight_decay * x
    if name == "adagrad":
        state["sum"] = state.get("sum", 0) + gradient**2
        return x - LEARNING_RATE * gradient / (np.sqrt(state["sum"]) + epsilon)
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    m, v = state["m"] / (1 - 0.9**step), state["v"] / (1 - 0.999**step)
    return x - LEARNING_RATE * m / (np.sqrt(v) + epsilon)


def test_epsilon_is_not_that_of_tensorflow():
    """TensorFlow adds it to the root of the second moment before its correction.

    These are the numbers of the page for users of LibRecommender.
    """
    rate, gradient, epsilon = 1e-3, 1e-5, 1e-5
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make_optimizer(
        "adam", [], [x], learning_rate=rate, weight_decay=0.0, epsilon=epsilon
    )
    x.grad = torch.full_like(x, gradient)
    optimizer.step()
    assert -x.item() == pytest.approx(5.0e-4, rel=1e-6)
    m, root = 0.1 * gradient, math.sqrt(0.001) * gradient  # after one step, uncorrected
    in_tensorflow = rate * math.sqrt(0.001) / 0.1 * m / (root + epsilon)
    assert in_tensorflow == pytest.approx(3.1e-5, rel=0.02)
    corrected = rate * gradient / (gradient + epsilon / math.sqrt(0.001))
    assert in_tensorflow == pytest.approx(corrected, rel=1e-9)  # as if 32 times as large


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight_decay", [0.0, 2.0])
@pytest.mark.parametrize("epsilon", [1e-8, 0.5])
def test_steps_in_numpy(name, weight_decay, epsilon):
    table, layer = parameters()
    optimizer = optimizer_of(name, table, layer, weight_decay=weight_decay, epsilon=epsilon)
    expected = [table.detach().double().numpy(), layer.detach().double().numpy()]
    states = [{}, {}]
    for step in (1, 2, 3, 4):
        of_step = gradients(step)
        for place, parameter in enumerate((table, layer)):
            parameter.grad = torch.from_numpy(of_step[place]).float()
            expected[place] = step_in_numpy(
                name,
                expected[place],
                of_step[place],
                states[place],
                step,
                weight_decay if place == 0 else 0.0,
                epsilon,
            )
        optimizer.step()
        np.testing.assert_allclose(table.detach(), expected[0], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(layer.detach(), expected[1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_decay_without_a_gradient(name):
    """Decoupled, a step is a factor of 1 - lr * decay; elsewhere the first is lr long."""
    table, layer = parameters()
    before_table, before_layer = table.detach().clone(), layer.detach().clone()
    optimizer = optimizer_of(name, table, layer, weight_decay=2.0)
    table.grad, layer.grad = torch.zeros_like(table), torch.zeros_like(layer)
    optimizer.step()
    expected = before_table * 0.8
    if not DECOUPLED[name]:
        expected = before_table - LEARNING_RATE * before_table.sign()
    torch.testing.assert_close(table.detach(), expected)
    assert torch.equal(layer.detach(), before_layer)


def test_the_list_of_optimizers():
    assert set(DECOUPLED) == set(NAMES)
    assert {name for name, decoupled in DECOUPLED.items() if decoupled} == {"adamw", "sgd"}


@pytest.mark.parametrize("name", ["adamw", "adam", "adagrad"])
def test_epsilon_tames_small_gradients(name):
    """A huge one is what the step is divided by."""
    table, layer = parameters()
    torch.nn.init.zeros_(layer)
    optimizer = optimizer_of(name, table, layer, epsilon=1e6)
    table.grad, layer.grad = torch.zeros_like(table), torch.ones_like(layer)
    optimizer.step()
    np.testing.assert_allclose(layer.detach(), -LEARNING_RATE / (1 + 1e6), rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adam", "adagrad"])
def test_the_first_step_is_the_sign_of_the_gradient(name):
    table, layer = parameters()
    before = layer.detach().clone()
    optimizer = optimizer_of(name, table, layer)
    table.grad = torch.zeros_like(table)
    layer.grad = torch.tensor([[1.0, -2.0, 3.0]] * 3)
    optimizer.step()
    torch.testing.assert_close(layer.detach(), before - 0.1 * layer.grad.sign())


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_exactly_one_group(name):
    table, layer = parameters()
    for tables in ([table], [], [table, layer]):
        optimizer = make_optimizer(
            name,
            iter(tables),
            iter([table, layer]),
            learning_rate=1.0,
            weight_decay=1.0,
            epsilon=EPSILON,
        )
        groups = optimizer.param_groups
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(ids) == sorted(map(id, [table, layer]))
        assert all(group["params"] for group in groups)
        for group in groups:
            is_table = group["params"][0] in set(tables)
            assert group["weight_decay"] == (1.0 if is_table else 0.0)


# Schedules


def rates(name, n_steps, *, n_epochs, n_batches, warmup_fraction=0.0):
    """Factors of the learning rate, step by step; both groups have the same."""
    table, layer = parameters()
    optimizer = optimizer_of("sgd", table, layer, weight_decay=1.0)
    schedule = make_schedule(
        optimizer,
        name,
        n_epochs=n_epochs,
        n_batches=n_batches,
        warmup_fraction=warmup_fraction,
    )
    factors = []
    for _ in range(n_steps):
        of_groups = {group["lr"] for group in optimizer.param_groups}
        assert len(of_groups) == 1
        factors.append(of_groups.pop() / LEARNING_RATE)
        table.grad, layer.grad = torch.zeros_like(table), torch.zeros_like(layer)
        optimizer.step()
        schedule.step()
    return factors


HALF = math.sqrt(1 / 2)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("linear", [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("cosine", [1, (2 + 3**0.5) / 4, 0.75, 0.5, 0.25, (2 - 3**0.5) / 4]),
        ("exponential", [1, 1, 0.96, 0.96, 0.96**2, 0.96**2]),
    ],
)
def test_schedule(name, factors):
    """Three epochs of two batches."""
    assert rates(name, 6, n_epochs=3, n_batches=2) == pytest.approx(factors)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.5])
def test_after_the_end_a_schedule_stays(name, warmup_fraction):
    """Where more epochs than planned go."""
    options = dict(n_epochs=3, n_batches=2, warmup_fraction=warmup_fraction)
    beyond = rates(name, 20, **options)[6:]
    assert beyond == pytest.approx([beyond[0]] * 14)
    if name in ("linear", "cosine"):
        assert beyond[0] == pytest.approx(0, abs=1e-12)


def test_the_exponential_schedule_falls_from_epoch_to_epoch():
    factors = rates("exponential", 50, n_epochs=10, n_batches=5)
    assert factors == pytest.approx([0.96**epoch for epoch in range(10) for _ in range(5)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_linearly_on_top(name):
    """A quarter of 8 steps, rounded up."""
    options = dict(n_epochs=4, n_batches=2)
    plain = rates(name, 8, **options)
    found = rates(name, 8, warmup_fraction=0.25, **options)
    assert found == pytest.approx([plain[0] / 2, *plain[1:]])
    found = rates(name, 8, warmup_fraction=0.3, **options)
    assert found == pytest.approx([plain[0] / 3, plain[1] * 2 / 3, *plain[2:]])
    assert rates(name, 8, warmup_fraction=0.01, **options) == pytest.approx(plain)


def test_the_list_of_schedules():
    assert set(SCHEDULES) == {"constant", "linear", "cosine", "exponential"}
    for factor in SCHEDULES.values():
        assert factor(0.0, 0) == 1.0
