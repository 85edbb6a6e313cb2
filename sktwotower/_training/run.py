"""What a training has while it runs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch

from sktwotower._data.histories import PastItems
from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.lazy_tables import LookedUpTables
from sktwotower._nn.two_towers import TwoTowers


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training under way.

    Attributes
    ----------
    epochs : generator of float
        Trains for an epoch and yields its mean loss.
    served, trained : TwoTowers
        The average of the weights, and the weights; without an average they are the same.
    optimizer : Optimizer
        Steps the trained towers.
    tables : LookedUpTables
        Tables that the optimizer does not step.
    frequencies : StreamingFrequencies or None
        How often items have been in a batch.
    past : PastItems or None
        Histories from the rows of this process that train; None without a history field.
    """

    epochs: Generator[float, None, None]
    served: TwoTowers
    trained: TwoTowers
    optimizer: torch.optim.Optimizer
    tables: LookedUpTables
    frequencies: StreamingFrequencies | None
    past: PastItems | None
