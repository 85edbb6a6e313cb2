"""Rows to shuffled batches, each with what its positives are ranked against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._bucket_sort import shuffled

# At most so many rows from before to a new one. Up to here all of them are trained again:
# what a call's decay shrinks has to be learned anew.
REPLAYED = 9
# Of many rows, an epoch permutes blocks, and shuffles the rows of so many together.
BLOCKS_OF_A_WINDOW = 64


@dataclass(frozen=True, eq=False)
class TrainingRows(column_store.Columns):
    """Interactions to train on, as rows of the two sides' inputs.

    Attributes
    ----------
    user_rows, item_rows : Tensor of shape (n,)
        Who and what.
    positive : Tensor of shape (n,), bool
        False for an explicit negative.
    weights : Tensor of shape (n,) or None
        Sample weights; None: all equal.
    n_users, n_items : int
        Users and items, the unknown ones included.
    user_inputs : Tensor of shape (n,) or None
        Rows of the user side's input, where a user has several: of other times, with
        other features or another history. None: those of ``user_rows``.
    """

    user_rows: Tensor
    item_rows: Tensor
    positive: Tensor
    weights: Tensor | None
    n_users: int
    n_items: int
    user_inputs: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """Rows of the user side's input, (n,)."""
        return self.user_rows if self.user_inputs is None else self.user_inputs


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One step's worth of rows.

    Attributes
    ----------
    user_inputs : Tensor of shape (g,)
        Rows of the user side's input to embed, each once.
    groups : Tensor of shape (b,)
        Which of them each row has.
    item_rows : Tensor of shape (c,)
        Rows of the item side's input to embed; columns count along it.
    weights : Tensor of shape (b,) or None
        Sample weights; None: all equal.
    """

    user_inputs: Tensor
    groups: Tensor
    item_rows: Tensor
    weights: Tensor | None

    # What is not one a row.
    _not_by_row: ClassVar[tuple[str, ...]] = ("user_inputs", "item_rows")

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, groups: slice) -> Self:
        """The rows of some of the groups, with all the items."""
        start, stop = groups.start, groups.stop
        rows = (self.groups >= start) & (self.groups < stop)
        taken = {
            field.name: value[rows]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
            and field.name not in self._not_by_row
        }
        taken["groups"] = taken["groups"] - start
        return replace(self, user_inputs=self.user_inputs[groups], **taken)

    def to(self, device: torch.device) -> Self:
        """The same batch with what a loss needs on another device."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
            and field.name not in Batch._not_by_row
        }
        return replace(self, **moved)


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxBatch(Batch):
    """Rows that share their candidates, but for a few of their own.

    Attributes
    ----------
    n_shared : int
        The first so many columns are candidates of every row.
    log_q : Tensor of shape (n_shared,) or None
        Log-probability of each of them to be one; None: no correction.
    masked : Tensor of shape (n_masked,) or None
        Positions ``group * n_shared + column`` of the pairs that are no candidates,
        ascending. Where several processes share the batch, groups count from the first
        one of this process's, which are the only ones.
    positives : Tensor of shape (b,)
        Column of the row's positive.
    positive_is_shared : bool
        Whether that is one of the first ``n_shared``.
    positive_log_q : Tensor of shape (b,) or None
        Of a positive that is a candidate of the row's own: its log-probability. None: it
        is one as the others are.
    turned_down : Tensor of shape (b,) or None
        Column of a further candidate of the row's own, an explicit negative.
    turned_down_log_q : Tensor of shape (b,) or None
        Its log-probability; ``inf`` where there is none.
    """

    n_shared: int
    log_q: Tensor | None
    masked: Tensor | None
    positives: Tensor
    positive_is_shared: bool
    positive_log_q: Tensor | None
    turned_down: Tensor | None
    turned_down_log_q: Tensor | None

    _not_by_row: ClassVar[tuple[str, ...]] = (*Batch._not_by_row, "log_q", "masked")


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledBatch(Batch):
    """Rows of an item each, and negatives for each of them.

    Attributes
    ----------
    items : Tensor of shape (b,)
        Column of the row's item.
    labels : Tensor of shape (b,)
        1 for a positive, 0 for an explicit negative.
    negatives : Tensor of shape (b, k)
        Columns of the row's negatives.
    negative_weights : Tensor of shape (b, k)
        How much each counts; 0 leaves it out.
    """

    items: Tensor
    labels: Tensor
    negatives: Tensor
    negative_weights: Tensor


B_co = TypeVar("B_co", bound=Batch, covariant=True)


class CandidateSource(Protocol[B_co]):
    """What the rows of a batch are ranked against."""

    def batch(self, rows: TrainingRows, generator: torch.Generator) -> B_co:
        """The rows as a batch."""


class Batches(Generic[B_co]):
    """Shuffled batches of rows.

    An epoch is a permutation of its rows. Of more than ``ROWS_IN_MEMORY`` the first epoch
    makes a copy in a random order, which is mapped from files, and each epoch permutes
    blocks of that and shuffles a window of some blocks at a time. The order of an
    epoch is any with equal probability, as for fewer rows: that of the copy is. But from
    one epoch to another it is not independent, since rows of a block stay within a window.

    Parameters
    ----------
    rows : TrainingRows
        What an epoch goes through once.
    source : CandidateSource
        Completes each batch.
    n_batches : int
        Of an epoch. They differ by one row at most, so that none is a remnant with hardly
        a candidate.
    n_new : int, optional
        The first so many rows are new. An epoch goes through them and the others, which
        are from before; if there are very many of those, through as many as are replayed,
        drawn at random without replacement.
    """

    def __init__(
        self,
        rows: TrainingRows,
        source: CandidateSource[B_co],
        n_batches: int,
        *,
        n_new: int | None = None,
    ) -> None:
        self.rows = rows
        self.source = source
        self.n_batches = n_batches
        self._n_before = 0 if n_new is None else len(rows) - n_new
        self._copy: TrainingRows | None = None

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        n_new = len(self.rows) - self._n_before
        return n_new + n_replayed(n_new, self._n_before)

    def epoch(self, generator: torch.Generator) -> Iterator[B_co]:
        """One pass over the rows in a new order."""
        n_new = len(self.rows) - self._n_before
        rows = self.rows
        if self.n_rows < len(rows):
            drawn = torch.randperm(self._n_before, generator=generator)
            drawn = n_new + drawn[: self.n_rows - n_new]
            rows = rows.take(torch.cat([torch.arange(n_new), drawn]))
        batches: Iterable[TrainingRows]
        if column_store.is_large(len(rows)):
            smaller, n_larger = divmod(len(rows), self.n_batches)
            sizes = [smaller + (i < n_larger) for i in range(self.n_batches)]
            batches = _cut(self._windows(rows, generator), sizes)
        else:
            order = torch.randperm(len(rows), generator=generator)
            batches = map(rows.take, order.tensor_split(self.n_batches))
        for batch in batches:
            yield self.source.batch(batch, generator)

    def _windows(
        self, rows: TrainingRows, generator: torch.Generator
    ) -> Iterator[TrainingRows]:
        """Rows in memory, some of them at a time."""
        if self._copy is None or rows is not self.rows:
            self._copy = shuffled(rows, generator)
        length = max(column_store.ROWS_AT_ONCE // BLOCKS_OF_A_WINDOW, 1)
        starts = torch.arange(0, len(rows), length)
        starts = starts[torch.randperm(len(starts), generator=generator)]
        for window in starts.split(BLOCKS_OF_A_WINDOW):
            parts = [self._copy.take(slice(k, k + length)) for k in window.tolist()]
            together = parts[0].followed_by(*parts[1:])
            yield together.take(torch.randperm(len(together), generator=generator))


def _cut(windows: Iterator[TrainingRows], sizes: Iterable[int]) -> Iterator[TrainingRows]:
    """Batches of these sizes, of the rows of one window after the other."""
    left = next(windows)
    for size in sizes:
        while len(left) < size:
            left = left.followed_by(next(windows))
        yield left.take(slice(size))
        left = left.take(slice(size, None))


def n_replayed(n_new: int, n_before: int) -> int:
    """How many of the rows from before an epoch has beside the new ones."""
    return min(REPLAYED * n_new, n_before)


def batch_sizes(n_rows: int, batch_size: int) -> tuple[int, set[int]]:
    """How many batches an epoch has, and the (at most two) sizes that they have."""
    n_batches = math.ceil(n_rows / batch_size)
    return n_batches, {math.ceil(n_rows / n_batches), n_rows // n_batches}
