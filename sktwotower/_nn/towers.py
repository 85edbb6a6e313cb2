"""A tower: from input rows to embeddings, without a loss or an optimizer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktwotower._nn.attention import SequenceReader
from sktwotower._nn.functional import bag_sums, look_up, unit_length
from sktwotower._nn.inputs import EntityRows, TowerInput, TowerRows
from sktwotower._nn.layers import (
    INITIAL_SCALE,
    BatchNorm,
    Dropout,
    new_linear,
    new_shard,
    new_table,
)
from sktwotower._nn.segments import Bags, Sequences
from sktwotower._nn.shards import Shard
from sktwotower._nn.shared_bags import SharedBags

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


# Standard deviation of the initial values of features that are added to the vector of an
# id.
_ADDED_SCALE = 0.01


class Tower(nn.Module):
    """Embeds each field, concatenates the vectors, and maps them to one embedding.

    The vector of field ``f`` of entity ``e`` is the sum over the field's columns ``c`` of
    ``value[e, c] * E[c]``: a look-up for one category, a bag for several, and a linear
    projection for numbers.

    Parameters
    ----------
    rows : EntityRows
        Input rows, of which the sizes are taken; they are not stored.
    embedding_dim : int
        Width of every field's vector and of the output.
    hidden_layer_sizes : sequence of int or None
        Hidden layers between the concatenated fields and the output. Empty: one linear
        map. None: no layer; the vectors of the fields are added up.
    activation : {"relu", "gelu", "silu", "tanh"}
        Activation of the hidden layers.
    batch_norm : bool
        Whether to apply batch normalisation before each activation.
    dropout : float
        Rate at which hidden units (or, without hidden layers, inputs) are dropped.
    normalize : bool
        Whether to scale embeddings to unit length.
    id_dropout : float
        Rate at which ids are replaced by the unknown id in training. It trains the unknown
        id, and the embedding of entities by their features alone.
    n_history_items : int
        Number of rows of the history table, the unknown item included; 0: no such table.
    reader : dict, optional
        Arguments of a :class:`SequenceReader`, which reads the history in its order, from
        embeddings of the item tower.
    generator : torch.Generator
        Draws the initial weights, on the CPU.
    shard : Shard, optional
        The rows of the table of ids that are made; None: all.
    """

    def __init__(
        self,
        rows: EntityRows,
        *,
        embedding_dim: int,
        hidden_layer_sizes: Sequence[int] | None,
        activation: str,
        batch_norm: bool,
        dropout: float,
        normalize: bool,
        generator: torch.Generator,
        id_dropout: float = 0.0,
        n_history_items: int = 0,
        reader: dict[str, Any] | None = None,
        shard: Shard | None = None,
    ) -> None:
        super().__init__()
        self.dim = embedding_dim
        self.normalize = normalize
        self.id_dropout = id_dropout
        self.field_widths = rows.field_widths
        self.n_sparse_fields = len(rows.field_widths)
        self.id_table = None
        if rows.id_codes is not None and shard is not None:
            self.id_table = new_shard(rows.n_ids, embedding_dim, generator, shard)
        elif rows.id_codes is not None:
            self.id_table = new_table(rows.n_ids, embedding_dim, generator)
        self.history_table = None
        self.has_unit_history = False  # see TwoTowers
        if n_history_items:
            self.history_table = new_table(n_history_items, embedding_dim, generator)
        self.reader = None
        if reader is not None:
            self.reader = SequenceReader(embedding_dim, **reader, generator=generator)
        self.column_table = None
        self.is_sum = hidden_layer_sizes is None
        has_history = n_history_items > 0 or reader is not None
        is_added = self.is_sum and (rows.id_codes is not None or has_history)
        scale = _ADDED_SCALE if is_added else INITIAL_SCALE
        if self.n_sparse_fields:
            self.column_table = new_table(rows.n_columns, embedding_dim, generator, scale)
        self.dense_tables = nn.ParameterList(
            new_table(block.shape[1], embedding_dim, generator, scale)
            for block in rows.dense
        )
        n_fields = rows.n_fields + has_history
        # Layers have the same names with and without dropout, which may change later.
        layers: dict[str, nn.Module] = {}
        widths = [n_fields * embedding_dim, *(hidden_layer_sizes or ())]
        for i, (width_in, width_out) in enumerate(zip(widths, widths[1:], strict=False)):
            layers[f"linear_{i}"] = new_linear(width_in, width_out, generator)
            if batch_norm:
                layers[f"norm_{i}"] = BatchNorm(width_out)
            activate = ACTIVATIONS[activation]()
            if isinstance(activate, nn.ReLU):
                activate.inplace = True  # its gradient needs the output only
            layers[f"activation_{i}"] = activate
            if dropout:
                layers[f"dropout_{i}"] = Dropout(dropout)
        if dropout and not hidden_layer_sizes:
            layers["dropout"] = Dropout(dropout)
        if not self.is_sum:
            layers["output"] = new_linear(widths[-1], embedding_dim, generator)
        self.mlp = nn.Sequential(OrderedDict(layers))

    def arguments(self) -> dict[str, Any]:
        """What the tower was made with, but for ``rows``, of which it has the sizes."""
        layers = list(self.mlp)
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        kinds = {activation: name for name, activation in ACTIVATIONS.items()}
        history = self.history_table
        return {
            "embedding_dim": self.dim,
            "hidden_layer_sizes": (
                None if self.is_sum else [layer.out_features for layer in linear[:-1]]
            ),
            "activation": next(
                (kinds[type(x)] for x in layers if type(x) in kinds), "relu"
            ),
            "batch_norm": any(isinstance(layer, nn.BatchNorm1d) for layer in layers),
            "dropout": max((getattr(layer, "share", 0.0) for layer in layers), default=0.0),
            "normalize": self.normalize,
            "id_dropout": self.id_dropout,
            "n_history_items": 0 if history is None else len(history),
            "reader": None if self.reader is None else self.reader.arguments(),
        }

    def fields(
        self,
        batch: TowerInput,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Vectors of all fields, (b, n_fields, embedding_dim).

        The order is: id, history, sparse fields, dense fields. Where ``mask`` (n_fields,)
        is True, the vector is zero, or the one of the unknown id. The generator draws which
        ids are dropped in training.
        """
        assert batch.matrix is None  # only _first_layer takes it
        parts = [part[:, None] for part in self._looked_up(batch, mask, generator)]
        if self.column_table is not None:
            parts.append(self._bags(batch))
        parts += [part[:, None] for part in self._multiplied(batch)]
        fields = torch.cat(parts, dim=1)
        if mask is None:
            return fields
        hidden = mask.clone()
        if self.id_table is not None:
            hidden[0] = False  # it is the unknown id already
        hidden = hidden.to(fields.device, non_blocking=True)
        return fields.masked_fill(hidden[:, None], 0.0)

    def summands(
        self, batch: TowerInput, generator: torch.Generator | None
    ) -> list[Tensor]:
        """Vectors (b, embedding_dim) whose sum is the sum of all fields."""
        parts = self._looked_up(batch, None, generator)
        if self.column_table is not None:
            parts.append(self._bags(batch).sum(dim=1))
        return parts + self._multiplied(batch)

    def _bags(self, batch: TowerInput) -> Tensor:
        """Vectors of the sparse fields, (b, n_sparse_fields, embedding_dim)."""
        assert self.column_table is not None
        columns = batch.column_vectors
        bags = bag_sums(
            self.column_table if columns is None else columns,
            batch.columns,
            batch.offsets,
            batch.values,
        )
        return bags.unflatten(0, (-1, self.n_sparse_fields))

    def _looked_up(
        self, batch: TowerInput, mask: Tensor | None, generator: torch.Generator | None
    ) -> list[Tensor]:
        """Vectors of the id and of the history, each (b, embedding_dim)."""
        parts: list[Tensor] = []
        if self.id_table is not None and batch.id_codes is not None:
            codes = batch.id_codes
            if mask is not None:
                if mask[0]:
                    codes = torch.zeros_like(codes)
            elif self.id_dropout and self.training:
                draws = torch.rand(len(codes), generator=generator, device=codes.device)
                codes = codes * (draws >= self.id_dropout)
            ids = self.id_table if batch.id_vectors is None else batch.id_vectors
            parts.append(look_up(ids, codes))
        if self.history_table is not None and isinstance(batch.history, Bags):
            sums = self.bag_sums(batch.history)
            if isinstance(batch.history, SharedBags):
                sums = batch.history.users.add_up(sums)
            parts.append(sums)
        if self.reader is not None and isinstance(batch.history, Sequences):
            parts.append(self.reader(batch.history, generator))
        return parts

    def pooled_items(self, history: Bags) -> Tensor:
        """Vectors of the items in bags, before they are weighted, (n, embedding_dim)."""
        table = self.history_table if history.vectors is None else history.vectors
        assert table is not None
        vectors = look_up(table, history.columns)
        return unit_length(vectors) if self.has_unit_history else vectors

    def bag_sums(self, history: Bags) -> Tensor:
        """Vectors of the history field; of shared bags, what this rank's items add."""
        table = self.history_table if history.vectors is None else history.vectors
        assert table is not None
        columns = history.columns
        if self.has_unit_history:  # of the few rows of a batch, not of the whole table
            table = self.pooled_items(history)
            columns = torch.arange(len(columns), device=columns.device)
        return bag_sums(table, columns, history.offsets, history.values)

    def _multiplied(self, batch: TowerInput) -> list[Tensor]:
        """Vectors of the dense fields, each (b, embedding_dim)."""
        return [
            block @ table
            for block, table in zip(batch.dense, self.dense_tables, strict=True)
        ]

    @property
    def begins_with_a_layer(self) -> bool:
        """Whether the concatenated fields go directly into a linear layer."""
        return len(self.mlp) > 0 and isinstance(self.mlp[0], nn.Linear)

    def _is_cheaper_by_column(self, batch: TowerInput) -> bool:
        """Whether the first layer is cheaper for all columns than for the bags of a batch.

        Only in training: an embedding that is served must not depend on the batch.
        """
        return batch.matrix is not None or (
            self.training
            and batch.column_vectors is None
            and self.begins_with_a_layer
            and sum(self.field_widths) < len(batch.offsets)
        )

    def _first_layer(self, batch: TowerInput, generator: torch.Generator | None) -> Tensor:
        """Output of the first layer, (b, width), computed from projected columns.

        The layer is linear. The columns of the sparse fields are multiplied by its weights
        first, and the products are then added up for each row. This needs one product for
        each column, whatever the number of rows.
        """
        layer = self.mlp[0]
        assert isinstance(layer, nn.Linear) and self.column_table is not None
        looked_up = self._looked_up(batch, None, generator)
        multiplied = self._multiplied(batch)
        first, *of_fields, last = layer.weight.split(
            [
                len(looked_up) * self.dim,
                *[self.dim] * self.n_sparse_fields,
                len(multiplied) * self.dim,
            ],
            dim=1,
        )
        projected = [
            F.linear(columns, weight)
            for columns, weight in zip(
                self.column_table.split(self.field_widths), of_fields, strict=True
            )
        ]
        table = torch.cat(projected)
        if batch.matrix is not None:
            hidden = torch.addmm(layer.bias, batch.matrix, table)
        else:
            offsets = batch.offsets[:: self.n_sparse_fields]
            hidden = layer.bias + bag_sums(table, batch.columns, offsets, batch.values)
        for parts, weight in ((looked_up, first), (multiplied, last)):
            if parts:
                vectors = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
                hidden.addmm_(vectors, weight.T)  # no gradient needs the old value
        return hidden

    def forward(
        self,
        batch: TowerInput,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (b, embedding_dim + n_appended).

        The generator draws dropped ids and units. ``mask`` (n_fields,), on the CPU, hides
        fields; with a mask, nothing is appended.
        """
        if mask is None and self._is_cheaper_by_column(batch):
            hidden = self._through_layers(
                self._first_layer(batch, generator), generator, first=1
            )
        elif mask is None and self.is_sum:
            # Without a copy of the vectors.
            total = reduce(torch.add, self.summands(batch, generator))
            hidden = self._through_layers(total, generator)
        else:
            fields = self.fields(batch, mask, generator)
            hidden = self.combine(fields, generator, keep=mask is None)
        appended = batch.appended if mask is None else None
        if self.normalize:
            return unit_length(hidden, appended)
        return hidden if appended is None else torch.cat([hidden, appended], dim=1)

    def combine(
        self,
        fields: Tensor,
        generator: torch.Generator | None = None,
        *,
        keep: bool = True,
    ) -> Tensor:
        """Embeddings before they are scaled, (b, embedding_dim).

        ``fields`` are vectors of all fields, (b, n_fields, embedding_dim); ``keep=False``
        leaves the running statistics of batch norm as they are.
        """
        hidden = fields.sum(dim=1) if self.is_sum else fields.flatten(1)
        return self._through_layers(hidden, generator, keep=keep)

    def _through_layers(
        self,
        hidden: Tensor,
        generator: torch.Generator | None,
        *,
        first: int = 0,
        keep: bool = True,
    ) -> Tensor:
        """Output of the layers from the ``first`` one on."""
        for layer in list(self.mlp)[first:]:
            if isinstance(layer, Dropout):
                hidden = layer(hidden, generator)
            elif isinstance(layer, BatchNorm):
                hidden = layer(hidden, keep=keep)
            else:
                hidden = layer(hidden)
        return hidden

    @property
    def is_linear(self) -> bool:
        """Whether an embedding is a linear map of the fields, but for its scale."""
        return not any(type(layer) in ACTIVATIONS.values() for layer in self.mlp)

    def looked_up_tables(self) -> Iterator[nn.Parameter]:
        """Yield the tables of which a batch looks up some rows."""
        for table in (self.id_table, self.history_table, self.column_table):
            if table is not None:
                yield table

    def names_of(self, table: nn.Parameter) -> list[str]:
        """What a table is to this tower: "id", "history" or "column"; empty if nothing."""
        names = ("id", "history", "column")
        return [name for name in names if getattr(self, f"{name}_table") is table]

    def embedding_tables(self) -> Iterator[nn.Parameter]:
        """Yield the embedding tables, to which weight decay applies."""
        yield from self.looked_up_tables()
        yield from self.dense_tables

    @torch.no_grad()
    def set_unknown_id(self) -> None:
        """Set the vector of the unknown id to the mean over known ids.

        Without ``id_dropout`` no step trains the unknown id. With it, its vector is trained
        and is not changed here.
        """
        if self.id_dropout:
            return
        if self.id_table is not None and len(self.id_table) > 1:
            self.id_table[0] = self.id_table[1:].mean(0)

    @torch.inference_mode()
    def embed(self, rows: TowerRows, *, block_size: int | None = None) -> Tensor:
        """Embeddings of all rows (n_rows, embedding_dim) on the CPU, in evaluation mode.

        They are computed for blocks of rows, so that memory is bounded.
        """
        if block_size is None:  # a row of a sequence has dozens of vectors
            block_size = 8192 if self.reader is None else 1024
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        vectors = None
        for start in range(0, len(rows) or 1, block_size):
            end = min(start + block_size, len(rows))
            part = self(rows.take(torch.arange(start, end)).to(device))
            if vectors is None:  # all at once, since they may be most of the memory
                vectors = torch.empty(len(rows), part.shape[1], dtype=part.dtype)
            vectors[start:end] = part
        self.train(was_training)
        assert vectors is not None  # without rows there is an empty block
        return vectors
