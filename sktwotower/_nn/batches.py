"""Codes to shuffled batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sktwotower._nn.negatives import KnownPositives, in_batch_log_q


@dataclass(frozen=True)
class Batch:
    """One step's worth of rows.

    Attributes
    ----------
    user_rows : Tensor of shape (b,)
        Rows of the user side's input.
    item_rows : Tensor of shape (c,)
        Rows of the item side's input: the candidates, each once.
    positives : Tensor of shape (b,)
        Which candidate is the row's positive.
    log_q : Tensor of shape (c,) or None
        Log-probability of each candidate to be one; None: no correction.
    weights : Tensor of shape (b,) or None
        Sample weights; None: all equal.
    masked : Tensor of shape (n_masked,) or None
        Positions ``row * c + column`` of the pairs that are no negatives.
    """

    user_rows: Tensor
    item_rows: Tensor
    positives: Tensor
    log_q: Tensor | None
    weights: Tensor | None
    masked: Tensor | None

    def __len__(self) -> int:
        return len(self.user_rows)

    def to(self, device: torch.device) -> Batch:
        """The same batch with what a loss needs on another device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return replace(
            self,
            positives=self.positives.to(device, non_blocking=True),
            log_q=move(self.log_q),
            weights=move(self.weights),
            masked=move(self.masked),
        )


class InBatchSampler:
    """Shuffled batches whose candidates are their own unique items.

    Parameters
    ----------
    user_rows, item_rows : Tensor of shape (n_rows,)
        The positives.
    weights : Tensor of shape (n_rows,) or None
        Sample weights; their mean is 1.
    batch_size : int
        Rows of a batch at most. Batches of an epoch differ by one row at most, so that
        none is a remnant with hardly a candidate.
    corrected : bool
        Whether batches carry the ``log_q`` of their candidates.
    mask_known_positives : bool
        Whether a candidate that the row's user is known to have is masked.
    """

    def __init__(
        self,
        user_rows: Tensor,
        item_rows: Tensor,
        weights: Tensor | None,
        *,
        batch_size: int,
        corrected: bool,
        mask_known_positives: bool,
    ) -> None:
        self.user_rows = user_rows
        self.item_rows = item_rows
        self.weights = weights
        self._known = None
        if mask_known_positives:
            self._known = KnownPositives(user_rows, item_rows)
        self.n_rows = n_rows = len(user_rows)
        self.n_batches = math.ceil(n_rows / batch_size)
        # One table for each of the (at most two) sizes of tensor_split's parts.
        sizes = {math.ceil(n_rows / self.n_batches), n_rows // self.n_batches}
        counts = torch.bincount(item_rows)
        self._log_q = (
            {size: in_batch_log_q(counts, size) for size in sizes} if corrected else {}
        )

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """One pass over the rows in a new order."""
        order = torch.randperm(self.n_rows, generator=generator)
        for rows in order.tensor_split(self.n_batches):
            users = self.user_rows[rows]
            items, positives = self.item_rows[rows].unique(return_inverse=True)
            masked = None
            if self._known is not None:
                masked = self._known.among(users, items, positives)
            yield Batch(
                user_rows=users,
                item_rows=items,
                positives=positives,
                log_q=self._log_q[len(rows)][items] if self._log_q else None,
                weights=None if self.weights is None else self.weights[rows],
                masked=masked,
            )
