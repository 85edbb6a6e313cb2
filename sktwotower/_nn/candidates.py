"""Candidates of a softmax and negatives of pairwise losses, drawn for each batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

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
    user_batch_log_absence,
)
from sktwotower._nn.segments import distinct


class SharedCandidates:
    """Completes rows with the shared candidates of a softmax.

    Candidates are the items of the batch, drawn items, both, or the catalogue.

    Parameters
    ----------
    rows : TrainingRows
        The positives of all batches.
    from_batch : bool
        Whether the items of a batch are candidates.
    sampler : ItemSampler or None
        Draws further candidates. With neither, the candidates are all ``items``.
    n_draws : int
        Number of draws for a batch, with replacement.
    items : Tensor of shape (n_trained,)
        Items that have a training row, in ascending order.
    correction : {"logq", "refined"} or None
        Whether batches carry the ``log q`` of candidates. With ``"logq"``, ``q`` is the
        probability of being a candidate of a batch; with ``"refined"``, of a batch that
        has the row at hand.
    history_dropout : float, default=0.0
        Probability of a row to be a positive in batches of whole users. 0: batches are
        of rows or of sequences.
    whole_sequences : bool, default=False
        Whether batches are of sequences, with all rows that read them.
    known : KnownPositives or None
        Positives of a row's user, which are masked beside the row's own positive.
    explicit : ExplicitNegatives or None
        Source of an explicit negative for each row.
    frequencies : StreamingFrequencies or None
        How often items are in a batch, estimated over all calls of ``partial_fit`` and
        updated with each batch. None: computed from the counts of ``rows``.
    rank_slice : callable, optional
        This rank's slice of ``n`` groups, in distributed training. Only pairs of these
        groups are masked.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        from_batch: bool,
        sampler: ItemSampler | None,
        n_draws: int,
        items: Tensor,
        correction: str | None,
        history_dropout: float = 0.0,
        whole_sequences: bool = False,
        known: KnownPositives | None,
        explicit: ExplicitNegatives | None,
        frequencies: StreamingFrequencies | None = None,
        rank_slice: Callable[[int], slice] | None = None,
    ) -> None:
        self.rank_slice = rank_slice
        self.from_batch = from_batch
        self.positive_is_shared = from_batch or sampler is None
        self.sampler = sampler
        self.n_draws = n_draws
        self.items = items
        self.correction = correction
        self.known = known
        self.explicit = explicit
        self._position = torch.full((rows.n_items,), -1)  # of each item in items
        self._position[items.long()] = torch.arange(len(items))
        self.frequencies = frequencies if from_batch else None
        self._is_sampled = from_batch or sampler is not None
        self.history_dropout = history_dropout
        self.whole_sequences = whole_sequences
        self._rows = rows
        self._log_absence: dict[int, Tensor] = {}  # by the size of the batch
        self._log_q: dict[int, Tensor] = {}

    def batch(
        self, rows: TrainingRows, generator: torch.Generator, n_users: int | None = None
    ) -> SoftmaxBatch:
        """A batch of the rows with their candidates.

        Parameters
        ----------
        rows : TrainingRows
            Rows of the batch.
        generator : torch.Generator
            Draws candidates.
        n_users : int, optional
            Number of users or sequences that were drawn, in batches of whole ones.
        """
        size = len(rows) if n_users is None else n_users
        shared, positives = self._shared(rows.item_rows, generator)
        log_q = self._log_q_of(shared, size)
        if self.frequencies is not None:
            self.frequencies.observe(rows.item_rows.unique())
        # The positive alone is masked: rows of one user differ in it.
        by_row = self.known is None and self._positive_per_row
        inputs, groups = _groups(rows, by_row=by_row)
        masked = self._masked(rows, shared, inputs, groups, by_row=by_row)
        positive_log_q = self._positive_log_q(rows, log_q, positives, size)
        extra_items = [] if self.positive_is_shared else [rows.item_rows]
        explicit_negatives, explicit_negative_log_q = None, None
        if self.explicit is not None:
            items, weights, _ = self.explicit.draw(rows.user_rows, generator)
            extra_items.append(items)
            # One draw stands for all explicit negatives of the user, with any correction.
            # Without any, the weight is 0 and log q is inf.
            explicit_negative_log_q = -torch.log(weights)
        item_rows = shared
        if extra_items:
            unique, columns = torch.stack(extra_items).unique(return_inverse=True)
            item_rows, columns = torch.cat([shared, unique]), len(shared) + columns
            if not self.positive_is_shared:
                positives = columns[0]
            if self.explicit is not None:
                explicit_negatives = columns[-1]
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
            explicit_negatives=explicit_negatives,
            explicit_negative_log_q=explicit_negative_log_q,
        )

    @property
    def _positive_per_row(self) -> bool:
        """Whether a row's positive is a candidate of that row alone.

        Among the shared candidates it is then masked, together with the known positives
        of the user, or has another ``log q``, or does not occur.
        """
        refined = self.correction == "refined" and self._is_sampled
        return self.known is not None or refined or not self.positive_is_shared

    def _masked(
        self,
        rows: TrainingRows,
        shared: Tensor,
        inputs: Tensor,
        groups: Tensor,
        *,
        by_row: bool,
    ) -> Tensor | None:
        """Masked positions ``group * n_shared + column``, ascending."""
        part = slice(None)
        if self.rank_slice is not None:
            part = self.rank_slice(len(inputs))
        if self.known is not None:
            users = torch.empty_like(inputs, dtype=rows.user_rows.dtype)
            users[groups] = rows.user_rows
            return self.known.among(users[part], shared)
        return _positions_of_items(shared, rows.item_rows[part]) if by_row else None

    def _positive_log_q(
        self, rows: TrainingRows, log_q: Tensor | None, positives: Tensor, size: int
    ) -> Tensor | None:
        """``log q`` of positives that are candidates of their row alone, (b,)."""
        if not self._positive_per_row:
            return None
        if log_q is None or self.correction != "logq":
            return torch.zeros(len(rows), dtype=torch.float32)
        if self.positive_is_shared:
            return log_q[positives]
        return self._log_q[size][rows.item_rows]

    def _log_q_of(self, shared: Tensor, size: int) -> Tensor | None:
        """``log q`` of shared candidates, in a batch of ``size`` rows or users."""
        if self.correction is None or not self._is_sampled:
            return None
        if size not in self._log_q:
            self._log_absence[size] = self._log_absence_by_item(size)
            self._log_q[size] = log_presence(self._log_absence[size])
        if self.frequencies is None:
            return self._log_q[size][shared]
        of_draws = self._log_absence[size][shared]
        return log_presence(self.frequencies.log_absence(shared) + of_draws)

    def _log_absence_by_item(self, size: int) -> Tensor:
        """Log-probability of items not to be shared, but for streaming frequencies."""
        log_absence = torch.zeros(len(self._position), dtype=torch.float64)
        if self.from_batch and self.frequencies is None:
            log_absence += self._in_batch_log_absence(size)
        if self.sampler is not None:
            probabilities = self.sampler.probabilities
            of_draws = self.n_draws * torch.log1p(-probabilities)
            log_absence[: len(probabilities)] += of_draws
        return log_absence

    def _in_batch_log_absence(self, size: int) -> Tensor:
        """Log-probability of items not to be in a batch of ``size`` rows or users."""
        rows, refined = self._rows, self.correction == "refined"
        if self.whole_sequences:
            counts, n_sequences = self._sequences_of_items
            # Without a mask, other positives of the sequence are negatives, too.
            beside = refined and self.known is not None
            return in_batch_log_absence(
                counts, size, n_rows=n_sequences, beside_a_row=beside
            )
        if not self.history_dropout:
            counts = torch.bincount(rows.item_rows, minlength=rows.n_items)
            return in_batch_log_absence(counts, size, beside_a_row=refined)
        return user_batch_log_absence(
            *self._users_of_items,
            size,
            self.history_dropout,
            # Without a mask, other positives of the user are negatives, too.
            beside_a_user=refined and self.known is not None,
        )

    @cached_property
    def _users_of_items(self) -> tuple[Tensor, int]:
        """Number of users of each item, (n_items,), and of all users."""
        return _owners_of_items(self._rows, self._rows.user_rows)

    @cached_property
    def _sequences_of_items(self) -> tuple[Tensor, int]:
        """Number of sequences of each item, (n_items,), and of all sequences."""
        assert self._rows.sequences is not None
        return _owners_of_items(self._rows, self._rows.sequences)

    def _shared(self, items: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shared candidates, ascending, and the column of each positive among them."""
        if self.sampler is None:
            if self.from_batch:
                return distinct(items, len(self._position))
            return self.items, self._position[items]
        draws = self.sampler.draw(items[:1], self.n_draws, generator)[0]
        if self.from_batch:
            draws = torch.cat([items, draws])
        shared, columns = distinct(draws, len(self._position))
        return shared, columns[: len(items)]


def _owners_of_items(rows: TrainingRows, owners: Tensor) -> tuple[Tensor, int]:
    """Number of owners of each item, (n_items,), and of all owners."""
    pairs = (owners.long() * rows.n_items + rows.item_rows).unique()
    counts = torch.bincount(pairs % rows.n_items, minlength=rows.n_items)
    return counts, len((pairs // rows.n_items).unique_consecutive())


def _groups(rows: TrainingRows, *, by_row: bool) -> tuple[Tensor, Tensor]:
    """Inputs to embed, each once unless ``by_row``, and the group of each row."""
    if by_row:
        return rows.inputs, torch.arange(len(rows))
    if rows.user_inputs is None:
        return distinct(rows.user_rows, rows.n_users)
    inputs, groups = rows.user_inputs.unique(return_inverse=True)
    return inputs, groups


def _positions_of_items(shared: Tensor, items: Tensor) -> Tensor:
    """Positions ``row * n_shared + column`` of each row's item, if it is shared."""
    n_shared = len(shared)
    columns = torch.searchsorted(shared, items).clamp(max=n_shared - 1)
    is_shared = shared[columns] == items
    return torch.arange(len(items))[is_shared] * n_shared + columns[is_shared]


class SampledNegatives:
    """Completes rows with negatives of each row.

    Parameters
    ----------
    sampler : Sampler or None
        Draws negatives of the positives; None: only labels are trained.
    n_draws : int
        Number of draws for a row.
    probabilities : Tensor of shape (n_items,) or None
        Probability of each item row to be drawn. A negative then has the weight
        ``1 / (n q)``, with ``n`` the number of items that can be drawn, so that the
        expected loss is the one of uniform draws. None: all negatives weigh alike.
    known : KnownPositives or None
        Positives of a row's user, which are left out beside the row's own item.
    explicit : ExplicitNegatives or None
        Source of one more negative for each row.
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

    def batch(
        self, rows: TrainingRows, generator: torch.Generator, n_users: int | None = None
    ) -> SampledBatch:
        """A batch of the rows with their negatives."""
        users, items = rows.user_rows[:, None], rows.item_rows[:, None]
        negatives = items[:, :0]
        if self.sampler is not None:
            negatives = self.sampler.draw(rows.user_rows, self.n_draws, generator)
        weights = (rows.positive[:, None] & (negatives != items)).float()
        if self._importance is not None:
            weights *= self._importance[negatives]
        if self.known is not None and self.sampler is not None:
            weights *= ~self.known.contain(users, negatives)
        # A row with label 0 has no negatives. Its own item, of weight 0, fills the columns:
        # it is embedded anyway.
        negatives = torch.where(rows.positive[:, None], negatives, items)
        if self.explicit is not None:
            explicit, totals, counts = self.explicit.draw(rows.user_rows, generator)
            means = totals / counts.clamp(min=1)
            # The loss of a row is a mean over columns. Where the last one is empty, the
            # others count for more.
            filled = torch.where(counts > 0, 1.0, (self.n_draws + 1) / self.n_draws)
            weights = torch.cat([weights * filled[:, None], means[:, None]], dim=1)
            negatives = torch.cat([negatives, explicit[:, None]], dim=1)
        all_items = torch.cat([items, negatives], dim=1)
        item_rows, columns = distinct(all_items.flatten(), rows.n_items)
        columns = columns.view_as(all_items)
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
