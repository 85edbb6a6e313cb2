"""What is trained against what: the parameters of the objective, checked and resolved."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator

from sktwotower._nn.batches import (
    Batches,
    SampledNegatives,
    SharedCandidates,
    TrainingRows,
    batch_sizes,
)
from sktwotower._nn.losses import bpr_loss, max_margin_loss
from sktwotower._nn.negatives import (
    ExplicitNegatives,
    ItemSampler,
    KnownPositives,
    Sampler,
    UnconsumedSampler,
)
from sktwotower._nn.objectives import (
    Objective,
    cross_entropy_objective,
    pairwise_objective,
    softmax_objective,
)

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
# "auto" ranks against the whole catalogue up to so many items, and in the batch beyond.
FULL_UP_TO = 4096
# n_negatives="auto" of the losses on pairs: 1 is .006 to .015 of NDCG worse on MovieLens
# 100k, 32 no better.
DRAWS_FOR_A_ROW = 8


@dataclass(frozen=True)
class ObjectiveSpec:
    """The estimator's parameters that say what is trained against what.

    Attributes
    ----------
    loss, negatives, n_negatives, sampling_correction, mask_known_positives, margin,
    batch_size, ssl_pattern
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

    @classmethod
    def of(cls, estimator: BaseEstimator) -> Self:
        """The parameters of an estimator, refused where two do not go together."""
        values: dict[str, Any] = {f.name: getattr(estimator, f.name) for f in fields(cls)}
        spec = cls(**values)
        spec._refuse()
        return spec

    def _refuse(self) -> None:
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
        if self.batch_size == 1 and self.negatives == "in_batch":
            raise ValueError(
                "batch_size=1 does not go with negatives='in_batch': a batch of one row "
                "has no negative. Raise batch_size, or set negatives='full' or 'random'."
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
        n_items = len(items)
        if n_items < 2:
            raise ValueError(
                "X has 1 item only (n_samples = 1 of items), and nothing to rank it "
                "against: give interactions with at least 2 items."
            )
        negatives = self.negatives
        if negatives == "auto":
            if self.loss == "softmax":
                few = n_items <= FULL_UP_TO or self.batch_size == 1
                negatives = "full" if few else "in_batch"
            else:
                negatives = "unconsumed"
                if self.learns_from_labels(rows.positive):
                    negatives = "labels"
        n_negatives = self.n_negatives
        if n_negatives == "auto":
            wanted = self.batch_size if self.loss == "softmax" else DRAWS_FOR_A_ROW
            n_negatives = min(wanted, n_items)
        elif negatives in SAMPLING and int(n_negatives) > n_items:
            raise ValueError(
                f"n_negatives={n_negatives} is more than the {n_items} items that X has. "
                "Lower n_negatives"
                + (", or set negatives='full'." if self.loss == "softmax" else ".")
            )
        return replace(self, negatives=negatives, n_negatives=n_negatives)

    def __str__(self) -> str:
        count = f", n_negatives={self.n_negatives}" if self.negatives in SAMPLING else ""
        return f"loss={self.loss!r}, negatives={self.negatives!r}{count}"

    def batches(self, rows: TrainingRows, items: torch.Tensor) -> Batches[Any]:
        """Batches of the rows with their candidates or negatives; for a resolved one.

        Parameters
        ----------
        rows : TrainingRows
            All of them; explicit negatives are rows of their own for labels, and
            something to rank against elsewhere.
        items : Tensor of shape (n_items,)
            Items with a training row, in ascending order.
        """
        positives = rows.take(rows.positive)
        known = None
        if self.mask_known_positives and self.negatives not in ("unconsumed", "labels"):
            known = KnownPositives(positives.user_rows, positives.item_rows)
        trained, explicit = positives, None
        if self.learns_from_labels(rows.positive):
            trained = rows
        elif not rows.positive.all():
            explicit = _explicit(rows, positives)
        n_batches, sizes = batch_sizes(len(trained), self.batch_size)
        n_draws = int(self.n_negatives)
        item_sampler = _item_sampler(self.negatives, positives, items)
        if self.loss == "softmax":
            return Batches(
                trained,
                SharedCandidates(
                    trained,
                    from_batch=self.negatives in ("in_batch", "mixed"),
                    sampler=item_sampler,
                    n_draws=n_draws,
                    items=items,
                    sizes=sizes,
                    correction=self.sampling_correction,
                    known=known,
                    explicit=explicit,
                ),
                n_batches,
            )
        sampler: Sampler | None = item_sampler
        if self.negatives == "unconsumed":
            sampler = UnconsumedSampler(
                items, positives.user_rows, positives.item_rows, rows.n_users
            )
        corrected = self.negatives == "popular" and self.sampling_correction is not None
        return Batches(
            trained,
            SampledNegatives(
                sampler,
                n_draws,
                probabilities=(
                    item_sampler.probabilities if item_sampler and corrected else None
                ),
                known=known,
                explicit=explicit,
            ),
            n_batches,
        )

    def objective(self) -> Objective[Any]:
        """Embeddings of a batch to its loss."""
        if self.loss == "softmax":
            return softmax_objective(refined=self.sampling_correction == "refined")
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


def _explicit(rows: TrainingRows, positives: TrainingRows) -> ExplicitNegatives | None:
    """Rows with ``y <= 0`` whose pair is no positive elsewhere."""
    turned_down = rows.take(~rows.positive)
    known = KnownPositives(positives.user_rows, positives.item_rows)
    contradicted = known.contain(turned_down.user_rows, turned_down.item_rows)
    turned_down = turned_down.take(~contradicted)
    if not len(turned_down):
        return None
    return ExplicitNegatives(
        turned_down.user_rows, turned_down.item_rows, turned_down.weights, rows.n_users
    )
