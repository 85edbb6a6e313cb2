"""Sparse rows in, embeddings out. Knows no loss and no optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktwotower._nn.functional import unit_length
from sktwotower._nn.inputs import EntityRows, TowerInput, TowerRows

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Tower(nn.Module):
    """Fields to vectors, concatenated, through an MLP, to one embedding.

    The vector of field ``f`` of entity ``e`` is the sum over the field's columns ``c`` of
    ``value[e, c] * E[c]``: a look-up for a category, a bag for several, a projection for
    numbers.

    Parameters
    ----------
    rows : EntityRows
        Gives the sizes; it is not kept.
    embedding_dim : int
        Width of every field's vector and of the output.
    hidden_layer_sizes : sequence of int or None
        Hidden layers between the concatenated fields and the output; empty: one linear
        map; None: no layer, and the fields' vectors are added up.
    activation : {"relu", "gelu", "silu", "tanh"}
        Between the layers.
    batch_norm : bool
        Normalise the batch before each activation.
    dropout : float
        Share of hidden units (or, without hidden layers, of the input) that is dropped.
    normalize : bool
        Scale the output to unit length.
    id_dropout : float
        Share of the ids that are replaced by the unknown one in training, so that it, and
        the path without an id, is trained.
    n_history_items : int
        Rows of the history table, the unknown item included; 0: no history field.
    generator : torch.Generator
        Draws the initial weights, on the CPU.
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
    ) -> None:
        super().__init__()
        self.dim = embedding_dim
        self.normalize = normalize
        self.id_dropout = id_dropout
        self.field_widths = rows.field_widths
        self.n_sparse_fields = len(rows.field_widths)
        self.id_table = None
        if rows.id_codes is not None:
            self.id_table = _table(rows.n_ids, embedding_dim, generator)
        self.history_table = None
        if n_history_items:
            self.history_table = _table(n_history_items, embedding_dim, generator)
        self.column_table = None
        if self.n_sparse_fields:
            self.column_table = _table(rows.n_columns, embedding_dim, generator)
        self.dense_tables = nn.ParameterList(
            _table(block.shape[1], embedding_dim, generator) for block in rows.dense
        )
        n_fields = rows.n_fields + (self.history_table is not None)
        layers: list[nn.Module] = []
        widths = [n_fields * embedding_dim, *(hidden_layer_sizes or ())]
        for width_in, width_out in zip(widths, widths[1:], strict=False):
            layers.append(_linear(width_in, width_out, generator))
            if batch_norm:
                layers.append(_BatchNorm(width_out))
            activate = ACTIVATIONS[activation]()
            if isinstance(activate, nn.ReLU):
                activate.inplace = True  # its gradient needs the result alone
            layers.append(activate)
            if dropout:
                layers.append(_Dropout(dropout))
        if dropout and not hidden_layer_sizes:
            layers.append(_Dropout(dropout))
        self.is_sum = hidden_layer_sizes is None
        if not self.is_sum:
            layers.append(_linear(widths[-1], embedding_dim, generator))
        self.mlp = nn.Sequential(*layers)

    def fields(
        self,
        batch: TowerInput,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One vector for each field, (b, n_fields, embedding_dim).

        The id's is first, then the history's, the sparse fields' and the dense ones'.
        Where ``mask`` (n_fields,) is True, the vector is zero, and that of the id the
        unknown one's. The generator draws which ids are dropped in training.
        """
        assert batch.matrix is None  # that is for the first layer
        parts = [part[:, None] for part in self._looked_up(batch, mask, generator)]
        if self.column_table is not None:
            columns = batch.column_vectors
            bags = F.embedding_bag(
                batch.columns,
                self.column_table if columns is None else columns,
                batch.offsets,
                mode="sum",
                per_sample_weights=batch.values,
            )
            parts.append(bags.unflatten(0, (-1, self.n_sparse_fields)))
        parts += [part[:, None] for part in self._multiplied(batch)]
        fields = torch.cat(parts, dim=1)
        if mask is None:
            return fields
        hidden = mask.clone()
        if self.id_table is not None:
            hidden[0] = False  # it has its vector already
        return fields.masked_fill(hidden.to(fields.device)[:, None], 0.0)

    def _looked_up(
        self, batch: TowerInput, mask: Tensor | None, generator: torch.Generator | None
    ) -> list[Tensor]:
        """The vectors of the id and of the history, each (b, embedding_dim)."""
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
            parts.append(F.embedding(codes, ids))
        if self.history_table is not None and batch.history is not None:
            items = batch.history.vectors
            parts.append(
                F.embedding_bag(
                    batch.history.columns,
                    self.history_table if items is None else items,
                    batch.history.offsets,
                    mode="sum",
                    per_sample_weights=batch.history.values,
                )
            )
        return parts

    def _multiplied(self, batch: TowerInput) -> list[Tensor]:
        """The vectors of the dense fields, each (b, embedding_dim)."""
        return [
            block @ table
            for block, table in zip(batch.dense, self.dense_tables, strict=True)
        ]

    @property
    def begins_with_a_layer(self) -> bool:
        """Whether nothing comes in between the fields and a linear layer."""
        return len(self.mlp) > 0 and isinstance(self.mlp[0], nn.Linear)

    def _is_cheaper_by_column(self, batch: TowerInput) -> bool:
        """Whether fewer columns than bags would go through the first layer.

        In training alone: answers do not depend on who is asked for beside.
        """
        return batch.matrix is not None or (
            self.training
            and batch.column_vectors is None
            and self.begins_with_a_layer
            and sum(self.field_widths) < len(batch.offsets)
        )

    def _first_layer(self, batch: TowerInput, generator: torch.Generator | None) -> Tensor:
        """The first layer of all fields, (b, width): a bag of columns that went through it.

        The layer is linear, so that the sum of a row's vectors times its weights is the sum
        of products, and a product is one of a column, whatever the number of rows.
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
            hidden = layer.bias + F.embedding_bag(
                batch.columns,
                table,
                batch.offsets[:: self.n_sparse_fields],
                mode="sum",
                per_sample_weights=batch.values,
            )
        for parts, weight in ((looked_up, first), (multiplied, last)):
            if parts:
                together = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
                hidden.addmm_(together, weight.T)  # no gradient needs what it was
        return hidden

    def forward(
        self,
        batch: TowerInput,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (b, embedding_dim + n_appended).

        The generator draws what is dropped, ids or units; ``mask`` (n_fields,), on the
        CPU, hides fields, and what is appended.
        """
        layers = list(self.mlp)
        if mask is None and self._is_cheaper_by_column(batch):
            hidden = self._first_layer(batch, generator)
            layers = layers[1:]
        else:
            fields = self.fields(batch, mask, generator)
            hidden = fields.sum(dim=1) if self.is_sum else fields.flatten(1)
        for layer in layers:
            if isinstance(layer, _Dropout):
                hidden = layer(hidden, generator)
            elif isinstance(layer, _BatchNorm):
                hidden = layer(hidden, keep=mask is None)
            else:
                hidden = layer(hidden)
        if self.normalize:
            hidden = unit_length(hidden)
        if batch.appended is None or mask is not None:
            return hidden
        return torch.cat([hidden, batch.appended], dim=1)

    def embedding_tables(self) -> Iterator[nn.Parameter]:
        """The parameters that are looked up rather than multiplied as a layer."""
        if self.id_table is not None:
            yield self.id_table
        if self.history_table is not None:
            yield self.history_table
        if self.column_table is not None:
            yield self.column_table
        yield from self.dense_tables

    @torch.no_grad()
    def set_unknown_id(self) -> None:
        """Give the unknown id the mean vector of the known ones.

        Without it an unknown entity would be read through a row that no step has trained.
        With ``id_dropout`` it is trained, and stays.
        """
        if self.id_dropout:
            return
        if self.id_table is not None and len(self.id_table) > 1:
            self.id_table[0] = self.id_table[1:].mean(0)

    @torch.inference_mode()
    def embed(self, rows: TowerRows, *, block_size: int = 8192) -> Tensor:
        """Embeddings of all rows (n_rows, embedding_dim) on the CPU, in inference mode."""
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        blocks = [
            self(rows.take(block).to(device)).cpu()
            for block in torch.arange(len(rows)).split(block_size)
        ]
        self.train(was_training)
        return torch.cat(blocks)


class _Dropout(nn.Module):
    """Dropout that is told where to draw from; torch's knows the global generator only."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, batch: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return batch
        draws = torch.rand(batch.shape, generator=generator, device=batch.device)
        return batch * (draws >= self.share) / (1.0 - self.share)


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm that answers a batch of one row from its running statistics.

    With ``keep=False`` the batch leaves no trace in them: half of its fields are hidden.
    """

    def forward(self, batch: Tensor, *, keep: bool = True) -> Tensor:
        if self.training and (len(batch) == 1 or not keep):
            alone = len(batch) == 1
            return F.batch_norm(
                batch,
                self.running_mean if alone else None,
                self.running_var if alone else None,
                self.weight,
                self.bias,
                training=not alone,
                eps=self.eps,
            )
        return super().forward(batch)


def _table(n_rows: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """An embedding table; small values, so that the first steps decide, not the draw."""
    return nn.Parameter(torch.randn(n_rows, width, generator=generator) * 0.1)


def _linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    """``nn.Linear`` with its usual initial weights, drawn from a generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width_in, width_out)
    bound = width_in**-0.5
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
