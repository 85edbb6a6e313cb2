"""What the rows of a batch are ranked against, put beside them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktwotower._nn.batches import SampledBatch, SoftmaxBatch, TrainingRows
from sktwotower._nn.negatives import (
    ExplicitNegatives,
    ItemSampler,
    KnownPositives,
    Sampler,
    StreamingFrequencies,
    in_batch_log_absence,
    log_presence,
)
from sktwotower._nn.segments import distinct


class SharedCandidates:
    """Candidates of a softmax: the batch's own items, draws, both, or the catalogue.

    Parameters
    ----------
    rows : TrainingRows
        The positives.
    from_batch : bool
        Whether the unique items of the batch are candidates.
    sampler : ItemSampler or None
        Draws more of them. With neither, every item is a candidate.
    n_draws : int
        How often it draws for a batch, with replacement.
    items : Tensor of shape (n_trained,)
        Items that have a training row, in ascending order.
    sizes : set of int
        Sizes of the batches.
    correction : {"logq", "refined"} or None
        Whether batches carry the ``log q`` of candidates: the probability to be one of a
        batch, or to be one of a batch in which the row at hand is.
    known : KnownPositives or None
        What is masked beside the row's own positive.
    explicit : ExplicitNegatives or None
        One of the user's is a candidate of the row.
    frequencies : StreamingFrequencies or None
        What is known of how often items are in a batch, if the rows are not all the data
        that there is; it goes on with the batches. None: the rows say it.
    share : callable, optional
        This process's of so many groups, where several share a batch: what is masked is
        found for these alone.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        from_batch: bool,
        sampler: ItemSampler | None,
        n_draws: int,
        items: Tensor,
        sizes: set[int],
        correction: str | None,
        known: KnownPositives | None,
        explicit: ExplicitNegatives | None,
        frequencies: StreamingFrequencies | None = None,
        share: Callable[[int], slice] | None = None,
    ) -> None:
        self.share = share
        self.from_batch = from_batch
        self.positive_is_shared = from_batch or sampler is None
        self.sampler = sampler
        self.n_draws = n_draws
        self.items = items
        self.correction = correction
        self.known = known
        self.explicit = explicit
        self._place = torch.full((rows.n_items,), -1)  # an item's place among the items
        self._place[items.long()] = torch.arange(len(items))
        self.frequencies = frequencies if from_batch else None
        self._log_absence: dict[int, Tensor] = {}  # by the size of the batch
        self._log_q: dict[int, Tensor] = {}
        if correction is not None and (from_batch or sampler is not None):
            counts = torch.bincount(rows.item_rows, minlength=rows.n_items)
            refined = correction == "refined"
            for size in sizes:
                log_absence = torch.zeros(rows.n_items, dtype=torch.float64)
                if from_batch and frequencies is None:
                    log_absence += in_batch_log_absence(counts, size, beside_a_row=refined)
                if sampler is not None:
                    drawable = slice(len(sampler.probabilities))
                    log_absence[drawable] += n_draws * torch.log1p(-sampler.probabilities)
                self._log_absence[size] = log_absence
                self._log_q[size] = log_presence(log_absence)

    def batch(self, rows: TrainingRows, generator: torch.Generator) -> SoftmaxBatch:
        """The rows as a batch."""
        shared, positives = self._shared(rows.item_rows, generator)
        log_q = self._log_q_of(shared, len(rows))
        if self.frequencies is not None:
            self.frequencies.observe(rows.item_rows.unique())
        by_row = self.known is None and self._positive_is_own
        inputs, groups = _groups(rows, by_row=by_row)
        masked, some = None, slice(None)
        if self.share is not None:
            some = self.share(len(inputs))
        if self.known is not None:
            users = torch.empty_like(inputs, dtype=rows.user_rows.dtype)
            users[groups] = rows.user_rows
            masked = self.known.among(users[some], shared)
        elif by_row:
            masked = _pairs(shared, rows.item_rows[some])
        positive_log_q = None
        if self._positive_is_own:
            positive_log_q = torch.zeros(len(rows), dtype=torch.float32)
            if log_q is not None and self.correction == "logq":
                positive_log_q = (
                    log_q[positives]
                    if self.positive_is_shared
                    else self._log_q[len(rows)][rows.item_rows]
                )
        own = [] if self.positive_is_shared else [rows.item_rows]
        turned_down_log_q = None
        if self.explicit is not None:
            items, turned_down_log_q = self._turned_down(rows.user_rows, generator)
            own.append(items)
        item_rows, turned_down = shared, None
        if own:
            unique, places = torch.stack(own).unique(return_inverse=True)
            item_rows, places = torch.cat([shared, unique]), len(shared) + places
            if not self.positive_is_shared:
                positives = places[0]
            if self.explicit is not None:
                turned_down = places[-1]
        return SoftmaxBatch(
            user_inputs=inputs,
            groups=groups,
            item_rows=item_rows,
            weights=rows.weights,
            n_shared=len(shared),
            log_q=log_q,
            masked=masked,
            positives=positives,
            positive_is_shared=self.positive_is_shared,
            positive_log_q=positive_log_q,
            turned_down=turned_down,
            turned_down_log_q=turned_down_log_q,
        )

    @property
    def _positive_is_own(self) -> bool:
        """Whether a positive is no candidate of the other rows of its user.

        It is masked with what the user is known to have, or is not corrected as they are.
        """
        refined = self.correction == "refined" and bool(self._log_q)
        return self.known is not None or refined or not self.positive_is_shared

    def _log_q_of(self, shared: Tensor, size: int) -> Tensor | None:
        """Of the shared candidates of a batch of this size; None: no correction."""
        log_q = self._log_q.get(size)
        if log_q is None:
            return None
        if self.frequencies is None:
            return log_q[shared]
        of_draws = self._log_absence[size][shared]
        return log_presence(self.frequencies.log_absence(shared) + of_draws)

    def _turned_down(
        self, users: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """An explicit negative of each user, and its ``log q``; ``inf`` without one.

        It stands for all that the user has, whatever the correction of the others.
        """
        assert self.explicit is not None
        items, totals, _ = self.explicit.draw(users, generator)
        return items, -torch.log(totals)

    def _shared(self, items: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Unique shared candidates, ascending, and where the positives are among them."""
        if self.sampler is None:
            if self.from_batch:
                return distinct(items, len(self._place))
            return self.items, self._place[items]
        draws = self.sampler.draw(items[:1], self.n_draws, generator)[0]
        if self.from_batch:
            draws = torch.cat([items, draws])
        shared, places = distinct(draws, len(self._place))
        return shared, places[: len(items)]


def _groups(rows: TrainingRows, *, by_row: bool) -> tuple[Tensor, Tensor]:
    """Inputs to embed, each once unless ``by_row``, and which of them each row has."""
    if by_row:
        return rows.inputs, torch.arange(len(rows))
    if rows.user_inputs is None:
        return distinct(rows.user_rows, rows.n_users)
    inputs, groups = rows.user_inputs.unique(return_inverse=True)
    return inputs, groups


def _pairs(shared: Tensor, items: Tensor) -> Tensor:
    """Positions ``row * n_shared + column`` of each row's item where it is shared."""
    n_shared = len(shared)
    columns = torch.searchsorted(shared, items).clamp(max=n_shared - 1)
    hit = shared[columns] == items
    return torch.arange(len(items))[hit] * n_shared + columns[hit]


class SampledNegatives:
    """Negatives of its own for each row.

    Parameters
    ----------
    sampler : Sampler or None
        Draws them for the positives; None: there are only the labels.
    n_draws : int
        How many for a row.
    probabilities : Tensor of shape (n_items,) or None
        By item row, that of being drawn: a negative counts ``1 / (n q)``, with ``n`` the
        number of items that can be drawn, so that the loss is on average that of uniform
        draws. None: all count alike.
    known : KnownPositives or None
        What is left out beside the row's own item.
    explicit : ExplicitNegatives or None
        One of the user's is a further negative of the row.
    """

    def __init__(
        self,
        sampler: Sampler | None,
        n_draws: int,
        *,
        probabilities: Tensor | None,
        known: KnownPositives | None,
        explicit: ExplicitNegatives | None,
    ) -> None:
        self.sampler = sampler
        self.n_draws = n_draws if sampler is not None else 0
        self.known = known
        self.explicit = explicit
        self._importance = None
        if probabilities is not None:
            n_drawable = int((probabilities > 0).sum())
            self._importance = (1.0 / (n_drawable * probabilities)).float()

    def batch(self, rows: TrainingRows, generator: torch.Generator) -> SampledBatch:
        """The rows as a batch."""
        users, items = rows.user_rows[:, None], rows.item_rows[:, None]
        negatives = items[:, :0]
        if self.sampler is not None:
            negatives = self.sampler.draw(rows.user_rows, self.n_draws, generator)
        weights = (rows.positive[:, None] & (negatives != items)).float()
        if self._importance is not None:
            weights *= self._importance[negatives]
        if self.known is not None and self.sampler is not None:
            weights *= ~self.known.contain(users, negatives)
        # A label of 0 has no negatives: its own item, which is there anyway.
        negatives = torch.where(rows.positive[:, None], negatives, items)
        if self.explicit is not None:
            turned_down, totals, counts = self.explicit.draw(rows.user_rows, generator)
            means = totals / counts.clamp(min=1)
            # The loss is a mean over the columns, also where the last one is empty.
            filled = torch.where(counts > 0, 1.0, (self.n_draws + 1) / self.n_draws)
            weights = torch.cat([weights * filled[:, None], means[:, None]], dim=1)
            negatives = torch.cat([negatives, turned_down[:, None]], dim=1)
        together = torch.cat([items, negatives], dim=1)
        item_rows, columns = distinct(together.flatten(), rows.n_items)
        columns = columns.view_as(together)
        inputs, groups = _groups(rows, by_row=False)
        return SampledBatch(
            user_inputs=inputs,
            groups=groups,
            item_rows=item_rows,
            weights=rows.weights,
            items=columns[:, 0],
            labels=rows.positive.float(),
            negatives=columns[:, 1:],
            negative_weights=weights,
        )
