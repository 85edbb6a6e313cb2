"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


def make_optimizer(
    embedding_tables: Iterable[nn.Parameter],
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Adam with a decoupled weight decay on the embedding tables alone.

    Decay shrinks every row of a table at every step by ``learning_rate * weight_decay``,
    so rows that are seldom seen stay near zero and leave the word to the other fields.

    Parameters
    ----------
    embedding_tables : iterable of Parameter
        Decayed.
    parameters : iterable of Parameter
        All parameters of the model; those that are no embedding table are not decayed.
    learning_rate, weight_decay : float
        As in Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """
    tables = list(embedding_tables)
    table_ids = set(map(id, tables))
    rest = [parameter for parameter in parameters if id(parameter) not in table_ids]
    groups = [
        {"params": tables, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=learning_rate, fused=True
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, name: str, n_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Scale the learning rate from step to step; after ``n_steps`` it stays at the end."""
    factor = SCHEDULES[name]
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor(min(step / n_steps, 1.0))
    )
