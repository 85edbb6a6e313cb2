"""The model: two towers and a temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sktwotower._nn.towers import Tower

# Range of a learned temperature. Below it, a cosine of 1 is a logit above 100.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 10.0


class TwoTowers(nn.Module):
    """A user tower, an item tower, and the temperature that scales their scores.

    Parameters
    ----------
    user_tower, item_tower : Tower
        Towers of equal output width.
    temperature : float
        Divides the scores in the loss.
    learned : bool
        Whether the logarithm of the temperature is a parameter.
    tied : bool
        Whether the history field of the user tower uses the id table of the item tower. If
        embeddings have unit length, so have the vectors that are then pooled.
    """

    def __init__(
        self,
        user_tower: Tower,
        item_tower: Tower,
        temperature: float,
        *,
        learned: bool,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if tied:
            user_tower.history_table = item_tower.id_table
            user_tower.has_unit_history = user_tower.normalize
        self.user_tower = user_tower
        self.item_tower = item_tower
        self._temperature = temperature
        self.log_temperature = None
        if learned:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def tied_table(self) -> nn.Parameter | None:
        """The table that both towers use; None if each has its own."""
        table = self.item_tower.id_table
        return table if table is self.user_tower.history_table else None

    @property
    def score_items_by_items(self) -> bool:
        """Whether a score compares the id vectors of items with each other.

        This is so if both towers add up the vectors of their fields, without a layer, and
        the user tower reads the items of a history by their id vectors.
        """
        user, item = self.user_tower, self.item_tower
        reads_items = self.tied_table is not None or user.reader is not None
        return user.is_sum and item.is_sum and reads_items and item.id_table is not None

    @property
    def temperature(self) -> float | Tensor:
        """The divisor of the scores in the loss."""
        if self.log_temperature is None:
            return self._temperature
        return self.log_temperature.exp()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Clamp a learned temperature to its range.

        The parameter itself is clamped: a clamp in the loss would stop its gradient.
        """
        if self.log_temperature is not None:
            low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
            self.log_temperature.clamp_(low, high)

    def embedding_tables(self) -> Iterator[nn.Parameter]:
        """Yield the embedding tables of both towers, a tied one once."""
        for table in self.user_tower.embedding_tables():
            if table is not self.tied_table:
                yield table
        yield from self.item_tower.embedding_tables()

    def lazy_candidates(self) -> Iterator[nn.Parameter]:
        """Yield the tables that :class:`LazyTables` can step, each once.

        All rows of a dense field's table have a gradient: it is stepped as a whole.
        """
        yield from self.user_tower.looked_up_tables()
        for table in self.item_tower.looked_up_tables():
            if table is not self.tied_table:
                yield table


def average_of(towers: TwoTowers) -> AveragedModel:
    r"""A running average of the weights, which can be served in their place.

    It is updated after each epoch. With :math:`w_t` the weights after epoch :math:`t`,

    .. math:: \bar w_t = \bar w_{t-1} + \frac{4}{t + 3} (w_t - \bar w_{t-1}),

    the polynomial-decay average. Early epochs lose their influence, the average is defined
    after every epoch, and it costs one copy of the weights.

    References
    ----------
    Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J.
    Control Optim. 30(4), 1992. Shamir & Zhang, "Stochastic Gradient Descent for
    Non-smooth Optimization", ICML 2013 (the weights, with eta = 3).
    """

    def update(
        averages: Sequence[Tensor], weights: Sequence[Tensor], n_averaged: Tensor | int
    ) -> None:
        rate = 4.0 / (float(n_averaged) + 4.0)
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, rate)  # in place: tables may be most of the memory
            else:
                average.copy_(weight)

    return AveragedModel(towers, multi_avg_fn=update, use_buffers=True)
