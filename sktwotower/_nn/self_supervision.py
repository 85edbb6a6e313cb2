"""Self-supervision of the item tower by contrasting two masked views of each item."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.losses import softmax_loss
from sktwotower._nn.towers import Tower

# Masks of the two views, each (n_fields,) bool; True hides a field.
Masks = tuple[Tensor, Tensor]
DrawMasks = Callable[[torch.Generator], Masks]
Views = tuple[TowerInput, Masks]  # items and the masks of their views


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

    def draw(self, generator: torch.Generator) -> Views:
        """Draw items, as input of the item tower, and the masks of their views."""
        draws = torch.randint(len(self.items), (self.n_draws,), generator=generator)
        items = self.item_rows.take(self.items[draws.unique()])
        return items, self.draw_masks(generator)

    def __call__(
        self,
        tower: Tower,
        views: Views,
        temperature: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """The weighted loss of the views of one batch of items."""
        items, masks = views
        first, second = (tower(items, generator, mask) for mask in masks)
        itself = torch.arange(len(first), device=first.device)
        loss = softmax_loss(
            first / temperature,
            second,
            first.new_zeros(len(first)),
            groups=itself,
            columns=itself,
            positive_per_row=False,
        )
        return self.weight * loss
