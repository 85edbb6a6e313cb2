"""The objective: which loss, against which candidates or negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import scipy.sparse as sp
import torch
from torch import Tensor

from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.batch_losses import (
    Objective,
    cross_entropy_objective,
    pairwise_objective,
    softmax_objective,
)
from sktwotower._nn.batches import Batches, TrainingRows, batch_sizes, n_replayed
from sktwotower._nn.candidates import SampledNegatives, SharedCandidates
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from sktwotower._nn.losses import bpr_loss, max_margin_loss
from sktwotower._nn.negatives import ItemSampler, Sampler, UnconsumedSampler
from sktwotower._nn.self_supervision import DrawMasks, correlated_masks, random_masks
from sktwotower._nn.sequence_batches import SequenceBatches, most_batches
from sktwotower._nn.user_batches import UserBatches
from sktwotower._training.field_dependence import field_dependence
from sktwotower._training.settings import Settings
from sktwotower._training.totals import RowTotals

SHARED = ("in_batch", "mixed", "full", "random", "popular")
DRAWN = ("random", "unconsumed", "popular")
# Values of negatives that a loss takes, beside "auto".
NEGATIVES = {
    "softmax": SHARED,
    "cross_entropy": DRAWN,
    "max_margin": DRAWN,
    "bpr": DRAWN,
}
SAMPLING = ("mixed", "random", "unconsumed", "popular")  # those that use n_negatives


@dataclass(frozen=True)
class ObjectiveSpec:
    """Parameters of the objective.

    Attributes
    ----------
    loss, negatives, n_negatives, sampling_correction, mask_known_positives, margin, \
ssl_pattern
        As in :class:`~sktwotower.TwoTowerRecommender`.
    """

    loss: str
    negatives: str
    n_negatives: int | str
    sampling_correction: str | None
    mask_known_positives: bool
    margin: float
    ssl_pattern: str | None

    def refuse(self) -> None:
        """Raise ValueError if parameters contradict each other."""
        taken = NEGATIVES[self.loss]
        if self.negatives != "auto" and self.negatives not in taken:
            if self.loss == "softmax":
                reason = (
                    "a softmax ranks all rows against shared candidates, and what a user "
                    "does not have differs from row to row. Set negatives='random' with "
                    "mask_known_positives=True, which leaves out what the user has"
                )
            else:
                reason = (
                    "this loss compares a positive with negatives of its own. Set "
                    "negatives='unconsumed', or loss='softmax'"
                )
            raise ValueError(
                f"negatives={self.negatives!r} does not go with loss={self.loss!r}: "
                f"{reason}; {self.loss} takes {', '.join(map(repr, ('auto', *taken)))}."
            )
        if self.sampling_correction == "refined" and self.loss != "softmax":
            raise ValueError(
                f"sampling_correction='refined' does not go with loss={self.loss!r}: it is "
                "a correction of the softmax. Set sampling_correction='logq', or "
                "loss='softmax'."
            )
        if self.ssl_pattern is not None and self.loss != "softmax":
            raise ValueError(
                f"ssl_pattern={self.ssl_pattern!r} does not go with loss={self.loss!r}: "
                "self-supervision is a softmax beside a softmax. Set ssl_pattern=None, or "
                "loss='softmax'."
            )

    def learns_from_labels(self, *, all_positive: bool) -> bool:
        """Whether rows with ``y <= 0`` are trained, rather than used as negatives only."""
        return self.loss == "cross_entropy" and not all_positive

    def has_private_items(self, totals: RowTotals) -> bool:
        """Whether rows have items that are not candidates of all rows."""
        is_shared = self.loss == "softmax" and self.negatives not in DRAWN
        return not (is_shared and totals.all_positive)

    def is_spread(self, totals: RowTotals, *, by_user: bool) -> bool:
        """Whether each rank ranks the users of all ranks against its own items.

        The users' vectors are then exchanged in place of the items'. In batches of whole
        users they are fewer.
        """
        return (self.negatives == "full" or by_user) and not self.has_private_items(totals)

    def resolved(self, settings: Settings) -> Self:
        """The same objective without ``"auto"``."""
        return replace(
            self,
            negatives=settings.negatives,
            n_negatives=settings.n_negatives,
            sampling_correction=settings.sampling_correction,
        )

    def batches(
        self,
        rows: TrainingRows,
        totals: RowTotals,
        *,
        batch_size: int,
        n_new: int | None = None,
        frequencies: StreamingFrequencies | None = None,
        ranks: Ranks | None = None,
        in_history: Tensor | None = None,
        history_dropout: float = 0.0,
        is_spread: bool = False,
    ) -> Batches[Any]:
        """Batches of a resolved objective.

        Parameters
        ----------
        rows : TrainingRows
            All training rows, of this rank. Explicit negatives are trained as labels, or
            are negatives of their users' positives.
        totals : RowTotals
            Counts of the rows of all ranks.
        batch_size : int
            Rows of a batch of all ranks, at most.
        n_new : int, optional
            The first ``n_new`` rows are new, the others were trained before. None: all are
            new.
        frequencies : StreamingFrequencies, optional
            How often items are in a batch, estimated so far.
        ranks : Ranks, optional
            The processes, each of which trains its own rows.
        in_history : Tensor of shape (n_positives,), bool, optional
            With ``history_dropout``: overwritten in each epoch with the rows that are in
            histories.
        history_dropout : float, default=0.0
            Share of each user's rows that is left out of the history.
        is_spread : bool, default=False
            Whether each rank ranks the users of all ranks against its own items.

        Returns
        -------
        Batches
            Of :class:`SoftmaxBatch` or :class:`SampledBatch`, as :meth:`objective` needs.
        """
        learns_labels = self.learns_from_labels(all_positive=totals.all_positive)
        if rows.weights is not None:  # trained rows have a mean weight of 1
            weights = rows.weights if learns_labels else rows.weights[rows.positive]
            rows = replace(rows, weights=rows.weights / _mean(weights, ranks))
        counts = totals.rows_of_items if learns_labels else totals.positives_of_items
        # Those that are trained; replayed rows have other items, too.
        items = counts.nonzero()[:, 0].to(rows.item_rows.dtype)
        positives = rows if rows.positive.all() else rows.take(rows.positive)
        known, explicit = None, None
        if self.mask_known_positives or not (learns_labels or positives is rows):
            known = KnownPositives(
                positives.user_rows, positives.item_rows, positives.n_items
            )
        if known is not None and not learns_labels:
            explicit = _explicit_negatives(rows, known)
        if not self.mask_known_positives:
            known = None
        trained = rows if learns_labels else positives
        n_rows = len(trained)
        if n_new is not None:
            n_new = n_new if learns_labels else int(rows.positive[:n_new].sum())
            n_rows = n_new + n_replayed(n_new, n_rows - n_new)
        has_sequences = trained.sequences is not None
        most = most_batches(trained, n_new) if has_sequences else n_rows
        if ranks is not None:
            n_rows, most = (int(ranks.total(n)) for n in (n_rows, most))
        n_batches = min(batch_sizes(n_rows, batch_size)[0], most)
        sampler = self._item_sampler(totals, items)
        if self.loss != "softmax":
            negatives = self._sampled_negatives(positives, items, sampler, known, explicit)
            if has_sequences:
                return SequenceBatches(trained, negatives, n_batches, n_new=n_new)
            return Batches(trained, negatives, n_batches, n_new=n_new)
        candidates = SharedCandidates(
            trained,
            from_batch=self.negatives in ("in_batch", "mixed"),
            sampler=sampler,
            n_draws=int(self.n_negatives),
            items=items,
            correction=self.sampling_correction,
            history_dropout=0.0 if in_history is None else history_dropout,
            whole_sequences=has_sequences,
            known=known,
            explicit=explicit,
            frequencies=frequencies,
            ranks=ranks,
            n_batches=n_batches,
            is_spread=is_spread,
        )
        if has_sequences:
            return SequenceBatches(trained, candidates, n_batches, n_new=n_new)
        if in_history is None:
            return Batches(trained, candidates, n_batches, n_new=n_new)
        return UserBatches(
            trained,
            candidates,
            n_batches,
            dropout=history_dropout,
            in_history=in_history,
            yields_empty=ranks is not None,
        )

    def _sampled_negatives(
        self,
        positives: TrainingRows,
        items: Tensor,
        item_sampler: ItemSampler | None,
        known: KnownPositives | None,
        explicit: ExplicitNegatives | None,
    ) -> SampledNegatives:
        """The source of negatives of the losses on pairs."""
        sampler: Sampler | None = item_sampler
        probabilities = None
        if self.negatives == "unconsumed":
            sampler = unconsumed = UnconsumedSampler(
                items, positives.user_rows, positives.item_rows, positives.n_users
            )
            if not unconsumed.is_exhausted:  # it draws no known positives
                known = None
        elif self.negatives == "popular" and self.sampling_correction is not None:
            assert item_sampler is not None
            probabilities = item_sampler.probabilities
        return SampledNegatives(
            sampler,
            int(self.n_negatives),
            probabilities=probabilities,
            known=known,
            explicit=explicit,
        )

    def _item_sampler(self, totals: RowTotals, items: Tensor) -> ItemSampler | None:
        """The sampler of items that does not depend on users; None: there is none."""
        if self.negatives == "popular":
            counts = totals.positives_of_items
            popular = counts.nonzero()[:, 0]
            return ItemSampler.popular(popular.to(items.dtype), counts[popular])
        return ItemSampler(items) if self.negatives in ("mixed", "random") else None

    def objective(self) -> Objective[Any]:
        """The function from the embeddings of a batch to its loss."""
        if self.loss == "softmax":
            return softmax_objective
        if self.loss == "cross_entropy":
            return cross_entropy_objective
        if self.loss == "bpr":
            return pairwise_objective(bpr_loss)
        return pairwise_objective(partial(max_margin_loss, margin=self.margin))


def _mean(weights: Tensor, ranks: Ranks | None) -> Tensor | float:
    """Mean of the weights of all ranks."""
    if ranks is None:
        return weights.mean()
    return ranks.total(float(weights.double().sum())) / ranks.total(len(weights))


def _explicit_negatives(
    rows: TrainingRows, known: KnownPositives
) -> ExplicitNegatives | None:
    """Rows with ``y <= 0`` whose pair is not a positive in another row."""
    if rows.positive.all():
        return None
    negatives = rows.take(~rows.positive)
    contradicted = known.contain(negatives.user_rows, negatives.item_rows)
    negatives = negatives.take(~contradicted)
    if not len(negatives):
        return None
    return ExplicitNegatives(
        negatives.user_rows, negatives.item_rows, negatives.weights, rows.n_users
    )


def mask_drawer(
    pattern: str, item_rows: EntityRows, fields: Sequence[sp.csr_matrix]
) -> DrawMasks:
    """The function that draws the two masks of ``ssl_pattern``.

    Parameters
    ----------
    pattern : {"rfm", "rfm-complementary", "cfm"}
        As in :class:`~sktwotower.TwoTowerRecommender`.
    item_rows : EntityRows
        Input rows of the item tower.
    fields : sequence of csr_matrix
        Encoded fields of the items of the catalogue, in the order of the tower's fields.

    Raises
    ------
    ValueError
        If there are fewer than two fields.
    """
    n_fields = item_rows.n_fields
    if n_fields < 2:
        raise ValueError(
            f"ssl_pattern={pattern!r} masks item fields, and needs at least two; there is "
            f"{n_fields} (the id counts as one). Give item_table further features, set "
            "item_id_embedding=True, or ssl_pattern=None."
        )
    if pattern == "cfm":
        dependence = field_dependence(fields, with_id=item_rows.id_codes is not None)
        return correlated_masks(torch.from_numpy(dependence))
    return random_masks(n_fields, complementary=pattern == "rfm-complementary")
