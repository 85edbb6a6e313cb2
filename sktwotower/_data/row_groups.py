"""The row groups of a dataset, divided among several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sktwotower._data.arrow_files import fragments_of
from sktwotower._nn.distributed import Ranks


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Consecutive row groups of a dataset, which are scanned like a dataset.

    Attributes
    ----------
    dataset : Dataset
        What they are a part of.
    pieces : list of Fragment
        A row group of Parquet each, or a file of another format.
    n_rows : int
        Their rows.
    of_all : tuple of int
        How many pieces and rows the dataset has.
    """

    dataset: Any
    pieces: list[Any]
    n_rows: int
    of_all: tuple[int, int]

    @classmethod
    def of_rank(cls, dataset: Any, ranks: Ranks) -> RowGroups:
        """Those that a rank reads: about as many rows as the others.

        The first rank has the first ones. Of Parquet files, only what describes them is
        read here. The rows of a filtered dataset, of which Arrow does not tell the files,
        fall on one rank.
        """
        pieces = _pieces(dataset)
        n_rows, start = sum(n for _, n in pieces), 0
        own, n_own = [], 0
        for piece, n in pieces:
            middle = start + n / 2
            if n and int(middle * ranks.size / n_rows) == ranks.rank:
                own.append(piece)
                n_own += n
            start += n
        return cls(dataset, own, n_own, (len(pieces), n_rows))

    def refuse_others(self, ranks: Ranks) -> None:
        """Raise ValueError on all ranks if they have opened different datasets."""
        found = ranks.all_gather(torch.tensor(self.of_all)).tolist()
        for rank, (n, n_rows) in enumerate(found):
            if [n, n_rows] != found[0]:
                raise ValueError(
                    f"X has {found[0][0]} row groups with {found[0][1]} rows in process 0, "
                    f"and {n} with {n_rows} in process {rank}. Give all processes the same "
                    "files, of which each reads a part."
                )

    def scanner(self, **options: Any) -> _Scanner:
        """What reads them one after the other; the options are Arrow's."""
        return _Scanner(self, options)


@dataclass(frozen=True, eq=False)
class _Scanner:
    groups: RowGroups
    options: dict[str, Any]

    def to_batches(self) -> Iterator[Any]:
        """Batches of rows, in order."""
        dataset = self.groups.dataset
        for piece in self.groups.pieces:
            # A fragment may lack columns that other files have.
            schema = {} if piece is dataset else {"schema": dataset.schema}
            yield from piece.scanner(**schema, **self.options).to_batches()


def _pieces(dataset: Any) -> list[tuple[Any, int]]:
    """What is read as a whole, and its number of rows."""
    pieces: list[tuple[Any, int]] = []
    for fragment in fragments_of(dataset) or [dataset]:
        if hasattr(fragment, "split_by_row_group"):
            groups = fragment.split_by_row_group()
            pieces += [(group, group.row_groups[0].num_rows) for group in groups]
        else:
            pieces.append((fragment, fragment.count_rows()))
    return pieces
