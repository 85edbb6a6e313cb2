"""Self-supervision of the item tower by contrasting two masked views of each item."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sktwotower._nn.distributed import Division, Ranks
from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.softmax import softmax_loss
from sktwotower._nn.towers import Tower

# Masks of the two views, each (n_fields,) bool; True hides a field.
Masks = tuple[Tensor, Tensor]
DrawMasks = Callable[[torch.Generator], Masks]


class Views(NamedTuple):
    """Items of which two views are compared.

    Attributes
    ----------
    items : TowerInput
        The items; with several processes, those that this rank embeds.
    masks : tuple of Tensor
        Masks of the two views.
    division : Division or None
        Which rank embeds each item; None: there is one process.
    """

    items: TowerInput
    masks: Masks
    division: Division | None = None


def random_masks(n_fields: int, *, complementary: bool) -> DrawMasks:
    """Random masks of half of the fields: independent, or complementary.

    Half of the fields are ``n_fields // 2``.
    """

    def half(generator: torch.Generator) -> Tensor:
        mask = torch.zeros(n_fields, dtype=torch.bool)
        mask[torch.randperm(n_fields, generator=generator)[: n_fields // 2]] = True
        return mask

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first = half(generator)
        return first, ~first if complementary else half(generator)

    return draw


def correlated_masks(dependence: Tensor) -> DrawMasks:
    """Complementary masks, one of a random seed field and the fields closest to it.

    Parameters
    ----------
    dependence : Tensor of shape (n_fields, n_fields)
        Dependence of each two fields. The first view masks the seed field and those most
        dependent on it, ``n_fields // 2`` in all, and the second view masks the others.
    """
    n_fields = len(dependence)
    groups = torch.zeros(n_fields, n_fields, dtype=torch.bool)
    itself_first = dependence.clone().fill_diagonal_(torch.inf)
    nearest = itself_first.argsort(dim=1, descending=True, stable=True)
    groups.scatter_(1, nearest[:, : n_fields // 2], True)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(n_fields, (), generator=generator))
        return groups[seed], ~groups[seed]

    return draw


class SelfSupervision:
    r"""Contrastive loss of two views of the same items, with different fields masked.

    Items are drawn uniformly, and both views go through the item tower. With the embeddings
    :math:`z_i` and :math:`z'_i` of the views of item :math:`i`, the loss is

    .. math:: L = -\frac{1}{n} \sum_i \log
        \frac{\exp(\langle z_i, z'_i \rangle / \tau)}
             {\sum_j \exp(\langle z_i, z'_j \rangle / \tau)} .

    The vector of a masked field is zero, and of a masked id the one of the unknown id. New
    items, which have features but no interactions, thus look like a view of the training.

    Parameters
    ----------
    item_rows : EntityRows
        Input rows of the item tower.
    items : Tensor of shape (n_items,)
        Item rows to draw from.
    n_draws : int
        Number of draws for a batch. Repeated items are embedded once.
    draw_masks : callable
        Draws the two masks of a batch.
    weight : float
        Weight of this loss, which is added to the main one.

    References
    ----------
    Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021.
    """

    def __init__(
        self,
        item_rows: EntityRows,
        items: Tensor,
        *,
        n_draws: int,
        draw_masks: DrawMasks,
        weight: float,
    ) -> None:
        self.item_rows = item_rows
        self.items = items
        self.n_draws = n_draws
        self.draw_masks = draw_masks
        self.weight = weight

    def draw(self, generator: torch.Generator, ranks: Ranks | None = None) -> Views:
        """Draw items, as input of the item tower, and the masks of their views.

        Each of the ranks embeds its own items; their generators draw the same numbers.
        """
        draws = torch.randint(len(self.items), (self.n_draws,), generator=generator)
        items, division = self.items[draws.unique()], None
        if ranks is not None:
            division = ranks.divide(self.item_rows.owner_codes(items))
            items = items[division.own]
        return Views(self.item_rows.take(items), self.draw_masks(generator), division)

    def __call__(
        self,
        tower: Tower,
        views: Views,
        temperature: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """The weighted loss of the views of one batch of items.

        A rank's loss is the one of its items against all, so that the mean over the ranks
        is the loss of the batch.
        """
        items, masks, division = views
        first, second = (tower(items, generator, mask) for mask in masks)
        groups = columns = torch.arange(len(first), device=first.device)
        weight = self.weight
        if division is not None:
            columns, second = division.own.to(first.device), division.gather(second)
            weight *= division.ranks.size * len(first) / len(second)
            if not len(first):
                return 0.0 * (first.sum() + second.sum())
        loss = softmax_loss(
            first / temperature,
            second,
            first.new_zeros(len(first)),
            groups=groups,
            columns=columns,
            positive_per_row=False,
        )
        return weight * loss
