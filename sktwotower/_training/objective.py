"""What is trained against what: the parameters of the objective, checked and resolved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator

from sktwotower._nn.batch_losses import (
    Objective,
    cross_entropy_objective,
    pairwise_objective,
    softmax_objective,
)
from sktwotower._nn.batches import Batches, TrainingRows, batch_sizes, n_replayed
from sktwotower._nn.candidates import SampledNegatives, SharedCandidates
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.losses import bpr_loss, max_margin_loss
from sktwotower._nn.negatives import (
    ExplicitNegatives,
    ItemSampler,
    KnownPositives,
    Sampler,
    StreamingFrequencies,
    UnconsumedSampler,
)
from sktwotower._nn.self_supervision import DrawMasks, correlated_masks, random_masks
from sktwotower._nn.user_batches import UserBatches
from sktwotower._training.field_dependence import field_dependence

SHARED = ("in_batch", "mixed", "full", "random", "popular")
DRAWN = ("random", "unconsumed", "popular")
# Which negatives a loss takes, beside "auto".
NEGATIVES = {
    "softmax": SHARED,
    "cross_entropy": DRAWN,
    "max_margin": DRAWN,
    "bpr": DRAWN,
}
SAMPLING = ("mixed", "random", "unconsumed", "popular")  # those that n_negatives is for
# n_negatives="auto" of the losses on pairs: 1 is .006 to .015 of NDCG worse on MovieLens
# 100k, 32 no better.
DRAWS_FOR_A_ROW = 8


@dataclass(frozen=True, eq=False)
class ObjectiveSpec:
    """The estimator's parameters that say what is trained against what.

    Attributes
    ----------
    loss, negatives, n_negatives, sampling_correction, mask_known_positives, margin,
    batch_size, ssl_pattern, history_dropout
        As in :class:`~sktwotower.TwoTowerRecommender`.
    """

    loss: str
    negatives: str
    n_negatives: int | str
    sampling_correction: str | None
    mask_known_positives: bool
    margin: float
    batch_size: int
    ssl_pattern: str | None
    history_dropout: float

    @classmethod
    def of(cls, estimator: BaseEstimator) -> Self:
        """The parameters of an estimator, refused where two do not go together."""
        values: dict[str, Any] = {f.name: getattr(estimator, f.name) for f in fields(cls)}
        spec = cls(**values)
        spec.refuse()
        return spec

    def refuse(self) -> None:
        """Raise ValueError for parameters that contradict each other."""
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
        if self.history_dropout and (
            self.loss != "softmax" or self.negatives not in ("auto", "full")
        ):
            raise ValueError(
                f"history_dropout={self.history_dropout} ranks what is left out of a "
                f"history against the catalogue; loss={self.loss!r} with negatives="
                f"{self.negatives!r} does not. Set loss='softmax' and negatives='full', or "
                "history_dropout=0."
            )
        self._refuse_a_lonely_row()

    def _refuse_a_lonely_row(self) -> None:
        if self.batch_size == 1 and self.negatives == "in_batch":
            raise ValueError(
                "batch_size=1 does not go with negatives='in_batch': a batch of one row "
                "has no negative. Raise batch_size, or set negatives='full' or 'mixed'."
            )

    def learns_from_labels(self, positive: Any) -> bool:
        """Whether rows with ``y <= 0`` are rows to train on, and not only negatives."""
        return self.loss == "cross_entropy" and not positive.all()

    def resolve(self, rows: TrainingRows, items: torch.Tensor) -> Self:
        """Put what ``"auto"`` stands for in its place.

        Parameters
        ----------
        rows : TrainingRows
            All of them.
        items : Tensor of shape (n_items,)
            Items with a training row.

        Raises
        ------
        ValueError
            If there are too few items for it.
        """
        n_items, negatives = len(items), self.negatives
        if negatives == "auto" and self.learns_from_labels(rows.positive):
            negatives = "labels"
        elif negatives == "auto" and self.loss == "softmax":
            # As many candidates as a batch may have anyway; more cost time and gain nothing
            # on MovieLens 100k.
            is_affordable = n_items <= self.batch_size or self.history_dropout
            negatives = "full" if is_affordable else "in_batch"
        elif negatives == "auto":
            negatives = "unconsumed"
        if n_items < 2 and negatives != "labels":
            raise ValueError(
                f"Only 1 item of X has a positive row (n_samples = {len(rows)}), so there "
                "is nothing to rank it against: give interactions with at least 2 items."
            )
        n_negatives = self.n_negatives
        if n_negatives == "auto":
            wanted = self.batch_size if self.loss == "softmax" else DRAWS_FOR_A_ROW
            n_negatives = min(wanted, n_items)
        elif negatives in SAMPLING and int(n_negatives) > n_items:
            raise ValueError(
                f"n_negatives={n_negatives} is more than the {n_items} items that can be "
                "drawn. Lower n_negatives"
                + (", or set negatives='full'." if self.loss == "softmax" else ".")
            )
        spec = replace(self, negatives=negatives, n_negatives=n_negatives)
        spec._refuse_a_lonely_row()
        return spec

    def __str__(self) -> str:
        if self.negatives == "labels":
            return f"loss={self.loss!r}, on the labels of y alone"
        count = f", n_negatives={self.n_negatives}" if self.negatives in SAMPLING else ""
        return f"loss={self.loss!r}, negatives={self.negatives!r}{count}"

    def batches(
        self,
        rows: TrainingRows,
        items: torch.Tensor,
        *,
        n_new: int | None = None,
        frequencies: StreamingFrequencies | None = None,
        share: Callable[[int], slice] | None = None,
        given: torch.Tensor | None = None,
    ) -> Batches[Any]:
        """Batches of the rows with their candidates or negatives; for a resolved one.

        Parameters
        ----------
        rows : TrainingRows
            All of them; explicit negatives are rows of their own for labels, and
            something to rank against elsewhere.
        items : Tensor of shape (n_items,)
            Items with a training row, in ascending order.
        n_new : int, optional
            The first so many rows are new, the others have been trained before.
        frequencies : StreamingFrequencies, optional
            How often items have been in a batch so far.
        share : callable, optional
            This process's of so many groups of a batch, where several share it.
        given : Tensor of shape (n_positives,), bool, optional
            Where to write which positives are in a history, by user, for
            ``history_dropout``.
        """
        labelled = self.learns_from_labels(rows.positive)
        if rows.weights is not None:  # of the rows that batches are made of
            trained_weights = rows.weights if labelled else rows.weights[rows.positive]
            rows = replace(rows, weights=rows.weights / trained_weights.mean())
        positives = rows if rows.positive.all() else rows.take(rows.positive)
        known, explicit = None, None
        if self.mask_known_positives or not (labelled or positives is rows):
            known = KnownPositives(positives.user_rows, positives.item_rows)
        if known is not None and not labelled:
            explicit = _explicit(rows, known)
        trained = rows if labelled else positives
        n_rows = len(trained)
        if n_new is not None:
            n_new = n_new if labelled else int(rows.positive[:n_new].sum())
            n_rows = n_new + n_replayed(n_new, n_rows - n_new)
        n_batches, sizes = batch_sizes(n_rows, self.batch_size)
        n_draws = int(self.n_negatives)
        item_sampler = _item_sampler(self.negatives, positives, items)
        if self.loss == "softmax":
            candidates = SharedCandidates(
                trained,
                from_batch=self.negatives in ("in_batch", "mixed"),
                sampler=item_sampler,
                n_draws=n_draws,
                items=items,
                sizes=sizes,
                correction=self.sampling_correction,
                known=known if self.mask_known_positives else None,
                explicit=explicit,
                frequencies=frequencies,
                share=share,
            )
            if given is not None:
                return UserBatches(
                    trained,
                    candidates,
                    n_batches,
                    dropout=self.history_dropout,
                    given=given,
                )
            return Batches(trained, candidates, n_batches, n_new=n_new)
        sampler: Sampler | None = item_sampler
        masks = self.mask_known_positives
        if self.negatives == "unconsumed":
            unconsumed = UnconsumedSampler(
                items, positives.user_rows, positives.item_rows, rows.n_users
            )
            sampler, masks = unconsumed, masks and unconsumed.is_exhausted
        corrected = self.negatives == "popular" and self.sampling_correction is not None
        negatives = SampledNegatives(
            sampler,
            n_draws,
            probabilities=(
                item_sampler.probabilities if item_sampler and corrected else None
            ),
            known=known if masks else None,
            explicit=explicit,
        )
        return Batches(trained, negatives, n_batches, n_new=n_new)

    def objective(self) -> Objective[Any]:
        """Embeddings of a batch to its loss."""
        if self.loss == "softmax":
            return softmax_objective
        if self.loss == "cross_entropy":
            return cross_entropy_objective
        if self.loss == "bpr":
            return pairwise_objective(bpr_loss)
        return pairwise_objective(partial(max_margin_loss, margin=self.margin))


def _item_sampler(
    negatives: str, positives: TrainingRows, items: torch.Tensor
) -> ItemSampler | None:
    if negatives == "popular":
        return ItemSampler.popular(positives.item_rows)
    return ItemSampler(items) if negatives in ("mixed", "random") else None


def _explicit(rows: TrainingRows, known: KnownPositives) -> ExplicitNegatives | None:
    """Rows with ``y <= 0`` whose pair is no positive elsewhere."""
    if rows.positive.all():
        return None
    turned_down = rows.take(~rows.positive)
    contradicted = known.contain(turned_down.user_rows, turned_down.item_rows)
    turned_down = turned_down.take(~contradicted)
    if not len(turned_down):
        return None
    return ExplicitNegatives(
        turned_down.user_rows, turned_down.item_rows, turned_down.weights, rows.n_users
    )


def mask_drawer(
    pattern: str, item_rows: EntityRows, fields: Sequence[sp.csr_matrix]
) -> DrawMasks:
    """What draws the two masks of ``ssl_pattern``.

    Parameters
    ----------
    pattern : {"rfm", "rfm-complementary", "cfm"}
        As in :class:`~sktwotower.TwoTowerRecommender`.
    item_rows : EntityRows
        The item side's input.
    fields : sequence of csr_matrix
        The encoded fields of the items of the catalogue, in the order of the tower's.

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
