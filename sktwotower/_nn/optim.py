"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

DECAY_OF_EPOCH = 0.96  # of the exponential schedule

# Factor of the learning rate, by the progress in [0, 1] and the number of past epochs.
SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "constant": lambda progress, epochs: 1.0,
    "linear": lambda progress, epochs: 1.0 - progress,
    "cosine": lambda progress, epochs: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "exponential": lambda progress, epochs: DECAY_OF_EPOCH**epochs,
}

# Whether weight decay is decoupled from the gradient: it then shrinks a table by
# learning_rate * weight_decay a step. Elsewhere it is an L2 penalty's gradient, and what it
# does depends on the size of the others.
DECOUPLED = {"adamw": True, "sgd": True, "adam": False, "adagrad": False}

# State of an optimizer by the name of the parameter.
OptimizerState = dict[str, dict[str, Tensor]]

# State of an optimizer that has the shape of the parameter.
MOMENTS: dict[str, tuple[str, ...]] = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adagrad": ("sum",),
    "sgd": (),
}

# weight_decay="auto", at a constant learning rate: the tables shrink by a factor of exp(-4)
# in an epoch, and by at most 3 % in a step.
_SHRINKAGE_OF_EPOCH = 4.0
_SHRINKAGE_OF_STEP = 0.03


def auto_weight_decay(name: str, learning_rate: float, n_batches: int) -> float:
    """A weight decay that shrinks tables as much in long epochs as in short ones.

    It is 0 for all optimizers but adamw, whose steps do not depend on the size of
    gradients. The decay would dominate the steps of sgd, and the L2 penalty of adam and
    adagrad needs values of another scale.
    """
    if name != "adamw":
        return 0.0
    return min(_SHRINKAGE_OF_EPOCH / n_batches, _SHRINKAGE_OF_STEP) / learning_rate


def make_optimizer(
    name: str,
    embedding_tables: Iterable[nn.Parameter],
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    epsilon: float,
) -> torch.optim.Optimizer:
    """Make an optimizer that applies weight decay to the embedding tables only.

    Weight decay keeps rarely trained rows of a table near zero, so that other fields, such
    as features, dominate there. Layers, biases, norms and the temperature are not decayed.

    Parameters
    ----------
    name : {"adamw", "adam", "adagrad", "sgd"}
        ``adamw`` decouples the decay (Loshchilov & Hutter, "Decoupled Weight Decay
        Regularization", ICLR 2019), for ``sgd`` (without momentum) it makes no
        difference, ``adam`` and ``adagrad`` add ``weight_decay`` times the table to the
        gradient.
    embedding_tables : iterable of Parameter
        Parameters with weight decay.
    parameters : iterable of Parameter
        All parameters, the tables included.
    learning_rate, weight_decay : float
        Step size and strength of the decay.
    epsilon : float
        Added to the denominator of adamw, adam and adagrad.
    """
    tables = list(embedding_tables)
    table_ids = set(map(id, tables))
    rest = [parameter for parameter in parameters if id(parameter) not in table_ids]
    groups = [
        {"params": tables, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, eps=epsilon, fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=learning_rate, eps=epsilon, fused=True)
    if name == "adagrad":
        return torch.optim.Adagrad(groups, lr=learning_rate, eps=epsilon)
    return torch.optim.SGD(groups, lr=learning_rate)


def make_schedule(
    optimizer: torch.optim.Optimizer,
    name: str,
    *,
    n_epochs: int,
    n_batches: int,
    warmup_fraction: float = 0.0,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Schedule the learning rate of each step; it is constant after ``n_epochs``.

    During the first ``warmup_fraction`` of the steps, the rate is also multiplied by a
    factor that rises linearly to 1.
    """
    factor = SCHEDULES[name]
    n_steps = n_epochs * n_batches
    n_warmup = math.ceil(warmup_fraction * n_steps)

    def scale(step: int) -> float:
        step = min(step, n_steps)
        warmup = min((step + 1) / n_warmup, 1.0) if n_warmup else 1.0
        return warmup * factor(step / n_steps, step // n_batches)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
