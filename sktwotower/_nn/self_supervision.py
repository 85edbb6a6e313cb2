"""Self-supervision of the item tower: two masked views of an item are alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktwotower._nn.inputs import EntityRows, TowerInput
from sktwotower._nn.losses import softmax_loss
from sktwotower._nn.towers import Tower

# Two masks over fields, each (n_fields,) bool: what a view does not show.
Masks = tuple[Tensor, Tensor]
DrawMasks = Callable[[torch.Generator], Masks]
Views = tuple[TowerInput, Masks]  # of the same items


def random_masks(n_fields: int, *, complementary: bool) -> DrawMasks:
    """Random half masks: independent ones, or a half and its complement.

    A half is ``n_fields // 2`` fields.
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
    """A random seed field and those that say most of it in one view, the rest in the other.

    Parameters
    ----------
    dependence : Tensor of shape (n_fields, n_fields)
        How much two fields tell of each other. A view masks the ``n_fields // 2`` that
        have most in common with the seed field, itself among them.
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
    r"""Contrast between two views of the same items, with different fields masked.

    Of items drawn uniformly, view :math:`z` and view :math:`z'` go through the item tower,
    and

    .. math:: L = -\frac{1}{n} \sum_i \log
        \frac{\exp(\langle z_i, z'_i \rangle / \tau)}
             {\sum_j \exp(\langle z_i, z'_j \rangle / \tau)} .

    A masked field is a zero vector, a masked id the unknown one. So an item without
    interactions, which has nothing but its features, is what a view has shown before.

    Parameters
    ----------
    item_rows : EntityRows
        The item side's input.
    items : Tensor of shape (n_items,)
        Rows to draw from.
    n_draws : int
        Items a batch, at most: those drawn twice are one.
    draw_masks : callable
        Draws the two masks of a batch.
    weight : float
        Of this loss beside the main one.

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
        """Items of a batch, as the item tower's input, and what their views do not show."""
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
