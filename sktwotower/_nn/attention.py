"""A causal transformer that reads sequences of item vectors."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktwotower._nn.layers import Dropout, new_linear, new_table
from sktwotower._nn.segments import Sequences

# Width of the inner layer, in widths of its input.
_WIDENING = 4


class SequenceReader(nn.Module):
    r"""Maps the items that a row reads to one vector.

    With the vectors :math:`v_k` of the items of a sequence, positions :math:`p_k` and a
    learned vector :math:`s` in front of each sequence, the input is :math:`x_0 = s + p_0`,
    :math:`x_k = v_k + p_k`. Each layer computes, for all places at once,

    .. math::
        x \leftarrow x + \text{Attention}(\text{LayerNorm}(x)), \qquad
        x \leftarrow x + W_2 \, \text{gelu}(W_1 \, \text{LayerNorm}(x)),

    where place :math:`k` attends to the places up to :math:`k`. A row that reads :math:`k`
    items has the normalized output at place :math:`k`; without any, at the learned vector.

    Products are computed for the places of all sequences together, without padding; only
    the attention pads sequences to the longest one.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    size : int
        Largest number of items that a row reads.
    n_layers, n_heads : int
        Layers, and heads of the attention of each.
    dropout : float
        Rate at which entries of the input and of what each layer adds are dropped.
    generator : torch.Generator
        Draws the initial weights, on the CPU.
    """

    def __init__(
        self,
        dim: int,
        *,
        size: int,
        n_layers: int,
        n_heads: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.size, self.n_heads = size, n_heads
        self.start = nn.Parameter(torch.zeros(dim))
        self.positions = new_table(size + 1, dim, generator, scale=dim**-0.5)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            ReaderLayer(dim, n_heads, dropout, generator) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def arguments(self) -> dict[str, Any]:
        """What the reader was made with, but for ``dim``."""
        return {
            "size": self.size,
            "n_layers": len(self.layers),
            "n_heads": self.n_heads,
            "dropout": self.dropout.share,
        }

    def forward(self, history: Sequences, generator: torch.Generator | None) -> Tensor:
        """Vectors of the rows, (b, dim)."""
        hidden, grid, firsts = self._places(history)
        hidden = self.dropout(hidden, generator)
        for layer in self.layers:
            hidden = layer(hidden, grid, generator)
        read = firsts[history.sequence_of] + history.n_read
        output: Tensor = self.norm(hidden[read])
        return output

    @torch.no_grad()
    def attention(self, history: Sequences) -> Tensor:
        """What each place attends to.

        Shape (n_layers, n_sequences, n_heads, n_places, n_places), where ``n_places`` is
        one more than the length of the longest sequence.
        """
        was_training = self.training
        self.eval()
        hidden, grid, _ = self._places(history)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, ReaderLayer)
            weights.append(layer.weights(hidden, grid))
            hidden = layer(hidden, grid, None)
        self.train(was_training)
        return torch.stack(weights)

    def _places(self, history: Sequences) -> tuple[Tensor, Grid, Tensor]:
        """Vectors of the places of all sequences, their grid, and each first place."""
        assert history.vectors is not None
        lengths, n_items = history.lengths, len(history.items)
        numbers = torch.arange(n_items + len(lengths), device=lengths.device)
        each = numbers[: len(lengths)]
        firsts = lengths.cumsum(0) - lengths + each  # of the learned vectors in front
        owner = each.repeat_interleave(lengths, output_size=n_items)
        sequence_of = each.repeat_interleave(lengths + 1, output_size=len(numbers))
        places = numbers - firsts[sequence_of]
        vectors = F.embedding(history.items, history.vectors)
        hidden = self.positions[places]
        hidden = hidden.index_add(0, numbers[:n_items] + owner + 1, vectors)
        hidden = hidden.index_add(0, firsts, self.start.expand(len(firsts), -1))
        shape = len(lengths), history.longest + 1
        return hidden, Grid(sequence_of * shape[1] + places, shape), firsts


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the places of sequences of different lengths are in a grid.

    Attributes
    ----------
    cells : Tensor of shape (n_places_of_all,)
        The cell of each place.
    shape : tuple of int
        Number of sequences, and of places of the longest one.
    """

    cells: Tensor
    shape: tuple[int, int]

    def fill(self, values: Tensor) -> Tensor:
        """Values of the places (n_places_of_all, width) as (*shape, width); 0 elsewhere."""
        grid = values.new_zeros(self.shape[0] * self.shape[1], values.shape[1])
        return grid.index_copy(0, self.cells, values).view(*self.shape, values.shape[1])

    def read(self, grid: Tensor) -> Tensor:
        """Values (*shape, width) of the places, (n_places_of_all, width)."""
        return grid.flatten(0, 1).flatten(1).index_select(0, self.cells)


class ReaderLayer(nn.Module):
    """Attention over the places before, and a layer for each place by itself."""

    def __init__(
        self, dim: int, n_heads: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm, self.layer_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values = new_linear(dim, 3 * dim, generator)
        self.attended = new_linear(dim, dim, generator)
        self.layer = nn.Sequential(
            OrderedDict(
                wider=new_linear(dim, _WIDENING * dim, generator),
                activation=nn.GELU(),
                narrower=new_linear(_WIDENING * dim, dim, generator),
            )
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, hidden: Tensor, grid: Grid, generator: torch.Generator | None
    ) -> Tensor:
        """Vectors of all places, (n_places_of_all, dim)."""
        queries, keys, values = self._heads(hidden, grid)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        attended = self.attended(grid.read(mixed.transpose(1, 2)))
        hidden = hidden + self.dropout(attended, generator)
        return hidden + self.dropout(self.layer(self.layer_norm(hidden)), generator)

    def weights(self, hidden: Tensor, grid: Grid) -> Tensor:
        """What each place attends to, (n_sequences, n_heads, n_places, n_places)."""
        queries, keys, _ = self._heads(hidden, grid)
        scores = queries @ keys.transpose(2, 3) / keys.shape[3] ** 0.5
        is_later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return scores.masked_fill(is_later, -torch.inf).softmax(3)

    def _heads(self, hidden: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (n_sequences, n_heads, n_places, width)."""
        three = grid.fill(self.queries_keys_values(self.attention_norm(hidden)))
        three = three.unflatten(2, (3, self.n_heads, hidden.shape[-1] // self.n_heads))
        three = three.permute(2, 0, 3, 1, 4)
        queries, keys, values = three.unbind(0)
        return queries, keys, values
