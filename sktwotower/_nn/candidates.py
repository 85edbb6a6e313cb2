"""Candidates of a softmax and negatives of pairwise losses, drawn for each batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.batches import (
    CandidateSource,
    SampledBatch,
    SoftmaxBatch,
    TrainingRows,
)
from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from sktwotower._nn.negatives import ItemSampler, Sampler
from sktwotower._nn.presence import Presence
from sktwotower._nn.segments import distinct


class SharedCandidates(CandidateSource[SoftmaxBatch]):
    """Completes rows with the shared candidates of a softmax.

    Candidates are the items of the batch, drawn items, both, or the catalogue. With several
    processes they are the items of the batches and draws of all ranks.

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
    ranks : Ranks, optional
        The processes that share their candidates. Rows are this rank's, ``n_draws`` and
        ``items`` those of all.
    n_batches : int, default=1
        Batches of an epoch; used with ``ranks``.
    is_spread : bool, default=False
        Whether each of the ranks ranks the users of all against its own items. No rank has
        candidates of single rows then, such as explicit negatives.
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
        ranks: Ranks | None = None,
        n_batches: int = 1,
        is_spread: bool = False,
    ) -> None:
        self.ranks = ranks
        self.is_spread = is_spread
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
        self.presence = None
        self._is_sampled = from_batch or sampler is not None
        if correction is not None and self._is_sampled:
            self.presence = Presence(
                rows,
                from_batch=from_batch,
                sampler=sampler,
                n_draws=n_draws,
                correction=correction,
                history_dropout=history_dropout,
                whole_sequences=whole_sequences,
                are_masked=known is not None,
                frequencies=self.frequencies,
                ranks=ranks,
                n_batches=n_batches,
            )
        self._lists = None if ranks is None else CodeLists(ranks)

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
        return self.start(rows, generator, n_users)()

    def start(
        self, rows: TrainingRows, generator: torch.Generator, n_users: int | None = None
    ) -> Callable[[], SoftmaxBatch]:
        """The same, when the candidates of all ranks are there."""
        size = len(rows) if n_users is None else n_users
        wait = self._start_shared(rows.item_rows, generator)
        explicit = None
        if self.explicit is not None:
            explicit = self.explicit.draw(rows.user_rows, generator)
        return lambda: self._complete(rows, size, *wait(), explicit)

    def _complete(
        self,
        rows: TrainingRows,
        size: int,
        shared: Tensor,
        positives: Tensor,
        in_batch: Tensor,
        explicit: tuple[Tensor, Tensor, Tensor] | None,
    ) -> SoftmaxBatch:
        """A batch of the rows with what was drawn."""
        log_q = None if self.presence is None else self.presence.log_q(shared, size)
        if self.frequencies is not None:
            self.frequencies.observe(in_batch.unique())
        # The positive alone is masked: rows of one user differ in it.
        by_row = self.known is None and self._positive_per_row
        inputs, groups = _groups(rows, by_row=by_row)
        masked = self._masked(rows, shared, inputs, groups, by_row=by_row)
        positive_log_q = self._positive_log_q(rows, log_q, positives, size)
        extra_items = [] if self.positive_is_shared else [rows.item_rows]
        explicit_negatives, explicit_negative_log_q = None, None
        if explicit is not None:
            items, weights, _ = explicit
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
            if explicit is not None:
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
            is_spread=self.is_spread,
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
        if self.known is not None:
            users = torch.empty_like(inputs, dtype=rows.user_rows.dtype)
            users[groups] = rows.user_rows
            return self.known.among(users, shared)
        return _positions_of_items(shared, rows.item_rows) if by_row else None

    def _positive_log_q(
        self, rows: TrainingRows, log_q: Tensor | None, positives: Tensor, size: int
    ) -> Tensor | None:
        """``log q`` of positives that are candidates of their row alone, (b,)."""
        if not self._positive_per_row:
            return None
        if self.presence is None or log_q is None or self.correction != "logq":
            return torch.zeros(len(rows), dtype=torch.float32)
        if self.positive_is_shared:
            return log_q[positives]
        return self.presence.log_q_of_all(size)[rows.item_rows]

    def _start_shared(
        self, items: Tensor, generator: torch.Generator
    ) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
        """Start to gather shared candidates.

        The function waits for them, in ascending order, and returns also the column of each
        positive, and the items of the batches of all ranks, which a stream counts.
        """
        if not self._is_sampled:
            return lambda: (self.items, self._position[items], items)
        in_batch = items if self.from_batch else items[:0]
        draws = items[:0]
        if self.sampler is not None:
            n_draws = self.n_draws
            if self.ranks is not None:
                n_draws = self.ranks.share_of(n_draws)
            draws = self.sampler.draw(torch.zeros(1), n_draws, generator)[0]
        if self._lists is None:
            return lambda: self._distinct(in_batch, draws, len(in_batch))
        wait = self._lists.start(torch.cat([draws.to(in_batch.dtype), in_batch]))
        return lambda: self._distinct(*self._of_all(wait()), len(in_batch))

    def _distinct(
        self, in_batch: Tensor, draws: Tensor, n_first: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shared candidates, the column of each of the first ones, and those in a batch."""
        together = torch.cat([in_batch, draws])
        shared, columns = distinct(together, len(self._position))
        return shared, columns[:n_first], in_batch

    def _of_all(self, found: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Items of the batches and draws of all ranks; this rank's batch comes first."""
        ranks = self.ranks
        assert ranks is not None
        n_draws = [
            0 if self.sampler is None else ranks.share_of(self.n_draws, rank)
            for rank in range(ranks.size)
        ]
        batches = [part[n:] for part, n in zip(found, n_draws, strict=True)]
        first = batches.pop(ranks.rank)
        draws = torch.cat([part[:n] for part, n in zip(found, n_draws, strict=True)])
        return torch.cat([first, *batches]), draws


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


class SampledNegatives(CandidateSource[SampledBatch]):
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
