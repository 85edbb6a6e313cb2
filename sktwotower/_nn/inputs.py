"""Inputs of a tower: all rows of one side, and the gathered rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sktwotower._nn.segments import Bags, Sequences, segment_positions

# With at most so many columns, a matrix product is cheaper, forward and backward, than a
# look-up of the non-zeros.
FEW_COLUMNS = 128
# Largest matrix of all rows: 128 MB.
_ENTRIES_OF_A_MATRIX = 2**25


@dataclass(frozen=True, eq=False)
class TowerInput:
    """The input of a tower: ``b`` gathered rows.

    Attributes
    ----------
    id_codes : Tensor of shape (b,) or None
        Rows of the id table, 0 for unknown.
    columns, values : Tensor of shape (n_nonzero,)
        Non-zeros of the sparse fields, by row and then by field.
    offsets : Tensor of shape (b * n_sparse_fields,)
        Start of the bag of each (row, field) in ``columns``.
    dense : tuple of Tensor of shape (b, width)
        One block for each dense field.
    history : Bags or Sequences or None
        Items in the history of each row's user; None: this side has no history.
    id_vectors, column_vectors : Tensor of shape (n_vectors, width) or None
        Rows of the tables of which ``id_codes`` and ``columns`` are indices, on the device
        of the tower; None: the whole tables.
    appended : Tensor of shape (b, n_appended) or None
        Numbers that are appended to the embedding.
    matrix : Tensor of shape (b, n_columns) or None
        Sparse fields as a dense matrix, in place of ``columns`` and ``values``. Used in
        training only.
    """

    id_codes: Tensor | None
    columns: Tensor
    values: Tensor
    offsets: Tensor
    dense: tuple[Tensor, ...]
    history: Bags | Sequences | None = None
    id_vectors: Tensor | None = None
    column_vectors: Tensor | None = None
    appended: Tensor | None = None
    matrix: Tensor | None = None

    def codes(self, name: str) -> Tensor:
        """Rows to look up in the "id", "column" or "history" table."""
        if name == "history":
            assert isinstance(self.history, Bags)
            return self.history.columns
        if name == "column":
            return self.columns
        assert self.id_codes is not None
        return self.id_codes

    def with_vectors(self, name: str, codes: Tensor, vectors: Tensor) -> TowerInput:
        """The same input with codes that are indices of some vectors of the table."""
        if name == "history":
            assert isinstance(self.history, Bags)
            return replace(
                self, history=replace(self.history, columns=codes, vectors=vectors)
            )
        if name == "column":
            return replace(self, columns=codes, column_vectors=vectors)
        return replace(self, id_codes=codes, id_vectors=vectors)

    def with_items(self, vectors: Tensor) -> TowerInput:
        """The same input with embeddings of the items of its sequences."""
        assert isinstance(self.history, Sequences)
        return replace(self, history=replace(self.history, vectors=vectors))

    def to(self, device: torch.device) -> TowerInput:
        """The same input on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return TowerInput(
            id_codes=None if self.id_codes is None else move(self.id_codes),
            columns=move(self.columns),
            values=move(self.values),
            offsets=move(self.offsets),
            dense=tuple(move(block) for block in self.dense),
            history=None if self.history is None else self.history.to(device),
            id_vectors=self.id_vectors,
            column_vectors=self.column_vectors,
            appended=None if self.appended is None else move(self.appended),
            matrix=None if self.matrix is None else move(self.matrix),
        )


class TowerRows(Protocol):
    """Rows that a tower can embed, by index."""

    def __len__(self) -> int:
        """Number of rows."""

    def take(self, rows: Tensor) -> TowerInput:
        """Gather rows (b,)."""


@dataclass(frozen=True, eq=False)
class EntityRows:
    """All input rows of one side.

    The tensors are on the CPU, so that the size of a gathered batch is known without
    synchronising with an accelerator. Gathered batches are moved there.

    Attributes
    ----------
    id_codes : Tensor of shape (n_rows,) or None
        Row of the id table of each input row; None: this side has no id field.
    n_ids : int
        Number of rows of the id table, the unknown id included.
    pointers : Tensor of shape (n_rows, n_sparse_fields + 1)
        Starts of the fields of each row in ``columns`` and ``values``, and the end of the
        last field.
    columns, values : Tensor of shape (n_nonzero,)
        Non-zeros of the sparse fields.
    field_widths : tuple of int
        Number of columns of each sparse field.
    dense : tuple of Tensor of shape (n_rows, width)
        One block for each dense field.
    appended : Tensor of shape (n_rows, n_appended) or None
        Numbers that are appended to the embedding.
    matrix : Tensor of shape (n_rows, n_columns) or None
        Sparse fields as a dense matrix, which is gathered in place of their non-zeros.
    """

    id_codes: Tensor | None
    n_ids: int
    pointers: Tensor
    columns: Tensor
    values: Tensor
    field_widths: tuple[int, ...]
    dense: tuple[Tensor, ...] = ()
    appended: Tensor | None = None
    matrix: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pointers)

    @property
    def n_fields(self) -> int:
        """Number of fields, the id included."""
        has_id = self.id_codes is not None
        return has_id + len(self.field_widths) + len(self.dense)

    @property
    def n_columns(self) -> int:
        """Number of columns of all sparse fields."""
        return sum(self.field_widths)

    @property
    def is_narrow(self) -> bool:
        """Whether the sparse fields have few columns and fit into a dense matrix."""
        return (
            0 < self.n_columns <= FEW_COLUMNS
            and len(self) * self.n_columns <= _ENTRIES_OF_A_MATRIX
        )

    def owner_codes(self, rows: Tensor) -> Tensor:
        """What the owner of each row (b,) among the ranks depends on.

        It is the row of the id table, so that an id belongs to the owner of its vector.
        """
        return rows if self.id_codes is None else self.id_codes.index_select(0, rows)

    def with_matrix(self) -> EntityRows:
        """The same rows with the sparse fields as a dense matrix."""
        _, lengths, positions = self._segments(self.pointers)
        row_starts = torch.arange(len(self)).repeat_interleave(lengths) * self.n_columns
        matrix = self.values.new_zeros(len(self) * self.n_columns)
        entries = row_starts + self.columns[positions]
        matrix.index_add_(0, entries, self.values[positions])
        return replace(self, matrix=matrix.view(len(self), self.n_columns))

    def head(self, n_rows: int) -> EntityRows:
        """The first ``n_rows`` rows."""
        return replace(
            self,
            id_codes=None if self.id_codes is None else self.id_codes[:n_rows],
            pointers=self.pointers[:n_rows],
            dense=tuple(block[:n_rows] for block in self.dense),
            appended=None if self.appended is None else self.appended[:n_rows],
            matrix=None if self.matrix is None else self.matrix[:n_rows],
        )

    def take(self, rows: Tensor) -> TowerInput:
        """Gather rows (b,), without a Python loop."""
        matrix, columns, values = None, self.columns[:0], self.values[:0]
        offsets = self.pointers.new_empty(0)
        if self.matrix is not None:
            matrix = self.matrix.index_select(0, rows)
        elif self.field_widths:
            pointers = self.pointers.index_select(0, rows)  # (b, n_sparse_fields + 1)
            starts, lengths, positions = self._segments(pointers)
            columns = self.columns.index_select(0, positions)
            values = self.values.index_select(0, positions)
            shift = lengths.cumsum(0) - lengths - starts  # from old to new positions
            offsets = (pointers[:, :-1] + shift[:, None]).reshape(-1)
        return TowerInput(
            id_codes=None if self.id_codes is None else self.id_codes.index_select(0, rows),
            columns=columns,
            values=values,
            offsets=offsets,
            dense=tuple(block.index_select(0, rows) for block in self.dense),
            appended=None if self.appended is None else self.appended.index_select(0, rows),
            matrix=matrix,
        )

    @staticmethod
    def _segments(pointers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Starts of rows, their numbers of non-zeros, and positions of all non-zeros."""
        starts = pointers[:, 0]
        lengths = pointers[:, -1] - starts
        return starts, lengths, segment_positions(starts, lengths)
