"""Shuffled batches of interactions, each completed with candidates or negatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from sktwotower.utils import _column_store as column_store
from sktwotower.utils._bucket_sort import shuffled

# Earlier rows that partial_fit replays for each new one, at most. With fewer, weight decay
# would shrink what the earlier rows have taught.
REPLAYED = 9
# Blocks of rows that are shuffled together when there are too many rows to permute at once.
BLOCKS_OF_A_WINDOW = 64


@dataclass(frozen=True, eq=False)
class TrainingRows(column_store.Columns):
    """Interactions to train on, as indices of the rows of both sides.

    Attributes
    ----------
    user_rows, item_rows : Tensor of shape (n,)
        User and item of each interaction.
    positive : Tensor of shape (n,), bool
        False for an explicit negative.
    weights : Tensor of shape (n,) or None
        Sample weights; None: all equal.
    n_users, n_items : int
        Numbers of users and items, the unknown ones included.
    user_inputs : Tensor of shape (n,) or None
        Input rows of the user tower, where a user has several: the features or the history
        of different times. None: ``user_rows``.
    sequences : Tensor of shape (n,) or None
        Sequence that each row's history is read from; None: histories are no sequences.
    """

    user_rows: Tensor
    item_rows: Tensor
    positive: Tensor
    weights: Tensor | None
    n_users: int
    n_items: int
    user_inputs: Tensor | None = None
    sequences: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """Input rows of the user tower, (n,)."""
        return self.user_rows if self.user_inputs is None else self.user_inputs


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """The rows of one step.

    Attributes
    ----------
    user_inputs : Tensor of shape (g,)
        Input rows of the user tower to embed. Usually each occurs once and stands for a
        group of rows.
    groups : Tensor of shape (b,)
        Group of each row, an index of ``user_inputs``.
    item_rows : Tensor of shape (c,)
        Input rows of the item tower to embed. *Columns* below are indices of it.
    n_shared : int, default=0
        Number of items that all rows share, which are the first columns. With several
        processes they are the same on all ranks.
    weights : Tensor of shape (b,) or None
        Sample weights; None: all equal.
    """

    user_inputs: Tensor
    groups: Tensor
    item_rows: Tensor
    weights: Tensor | None
    n_shared: int = 0

    # Tensors that no loss needs.
    _inputs: ClassVar[tuple[str, ...]] = ("user_inputs", "item_rows")

    def __len__(self) -> int:
        return len(self.groups)

    def to(self, device: torch.device) -> Self:
        """The same batch with the tensors of the loss on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
            and field.name not in self._inputs
        }
        return replace(self, **moved)


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxBatch(Batch):
    """Rows of a softmax, whose candidates are shared except one or two of each row.

    Attributes
    ----------
    log_q : Tensor of shape (n_shared,) or None
        Log-probability of each shared candidate to be one; None: no correction.
    masked : Tensor of shape (n_masked,) or None
        Positions ``group * n_shared + column`` of the pairs that do not count, ascending.
    positives : Tensor of shape (b,)
        Column of each row's positive.
    positive_is_shared : bool
        Whether the positives are among the shared candidates.
    positive_log_q : Tensor of shape (b,) or None
        Log-probability of positives that are candidates of their row alone. None: the
        positives count as shared candidates.
    explicit_negatives : Tensor of shape (b,) or None
        Column of an explicit negative of each row's user, a candidate of that row alone.
    explicit_negative_log_q : Tensor of shape (b,) or None
        Its log-probability; ``inf`` for users without an explicit negative.
    is_spread : bool, default=False
        Whether each of several processes ranks the users of all against its own items.
    """

    log_q: Tensor | None
    masked: Tensor | None
    positives: Tensor
    positive_is_shared: bool
    positive_log_q: Tensor | None
    explicit_negatives: Tensor | None
    explicit_negative_log_q: Tensor | None
    is_spread: bool = False

    @property
    def log_q_of_positives(self) -> Tensor | None:
        """What is subtracted from the score of each row's positive, (b,)."""
        if self.positive_log_q is None and self.log_q is not None:
            return self.log_q[self.positives]
        return self.positive_log_q


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledBatch(Batch):
    """Rows of one item each, with negatives of each row.

    Attributes
    ----------
    items : Tensor of shape (b,)
        Column of each row's item.
    labels : Tensor of shape (b,)
        1 for a positive, 0 for an explicit negative.
    negatives : Tensor of shape (b, k)
        Columns of each row's negatives.
    negative_weights : Tensor of shape (b, k)
        Weight of each negative; 0 leaves it out.
    """

    items: Tensor
    labels: Tensor
    negatives: Tensor
    negative_weights: Tensor


B_co = TypeVar("B_co", bound=Batch, covariant=True)


class CandidateSource(Protocol[B_co]):
    """Completes rows to a batch."""

    def batch(
        self, rows: TrainingRows, generator: torch.Generator, n_users: int | None = None
    ) -> B_co:
        """A batch of the rows with their candidates or negatives.

        ``n_users`` is the number of users or sequences that were drawn, if whole ones were.
        """

    def start(
        self, rows: TrainingRows, generator: torch.Generator, n_users: int | None = None
    ) -> Callable[[], B_co]:
        """Start what :meth:`batch` asks of other processes; the function does the rest."""
        return partial(self.batch, rows, generator, n_users)


# Rows of a batch, and the number of users or sequences that were drawn, if whole ones were.
Drawn = tuple[TrainingRows, int | None]


class Batches(Generic[B_co]):
    """Shuffled batches of rows.

    An epoch is a permutation of the rows. With more than ``ROWS_IN_MEMORY`` rows, the
    first epoch makes a shuffled copy that is mapped from files. Each epoch then permutes
    blocks of the copy, and shuffles the rows of a window of some blocks at a time. Every
    order of an epoch is equally likely, as with fewer rows. The orders of two epochs are
    not independent, since the rows of a block stay in one window.

    Parameters
    ----------
    rows : TrainingRows
        Rows of an epoch, each of which is trained once.
    source : CandidateSource
        Completes each batch.
    n_batches : int
        Batches of an epoch. Their sizes differ by at most one row, so that no last batch is
        left with few candidates.
    n_new : int, optional
        The first ``n_new`` rows are new, the others were trained before. An epoch has the
        new rows and up to ``REPLAYED`` times as many others, drawn anew in each epoch
        without replacement. None: all are new.
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

    @property
    def n_expected(self) -> float:
        """Rows of an epoch on average."""
        return self.n_rows

    def epoch(self, generator: torch.Generator) -> Iterator[B_co]:
        """Yield the batches of one epoch, in a new order."""
        for rows, n_users in self._drawn(generator):
            yield self.source.batch(rows, generator, n_users)

    def started(self, generator: torch.Generator) -> Iterator[Callable[[], B_co]]:
        """The same batches, each when what it asks of other processes is under way."""
        for rows, n_users in self._drawn(generator):
            yield self.source.start(rows, generator, n_users)

    def _drawn(self, generator: torch.Generator) -> Iterator[Drawn]:
        """Yield the rows of each batch."""
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
            yield batch, None

    def _windows(
        self, rows: TrainingRows, generator: torch.Generator
    ) -> Iterator[TrainingRows]:
        """Yield the shuffled rows of one window after the other."""
        if self._copy is None or rows is not self.rows:
            self._copy = shuffled(rows, generator)
        length = max(column_store.ROWS_AT_ONCE // BLOCKS_OF_A_WINDOW, 1)
        starts = torch.arange(0, len(rows), length)
        starts = starts[torch.randperm(len(starts), generator=generator)]
        for window in starts.split(BLOCKS_OF_A_WINDOW):
            parts = [self._copy.take(slice(k, k + length)) for k in window.tolist()]
            blocks = parts[0].followed_by(*parts[1:])
            yield blocks.take(torch.randperm(len(blocks), generator=generator))


def _cut(windows: Iterator[TrainingRows], sizes: Iterable[int]) -> Iterator[TrainingRows]:
    """Yield batches of given sizes, cut from consecutive windows."""
    left = next(windows)
    for size in sizes:
        while len(left) < size:
            left = left.followed_by(next(windows))
        yield left.take(slice(size))
        left = left.take(slice(size, None))


def n_replayed(n_new: int, n_before: int) -> int:
    """Number of earlier rows that an epoch replays beside the new ones."""
    return min(REPLAYED * n_new, n_before)


def batch_sizes(n_rows: int, batch_size: int) -> tuple[int, set[int]]:
    """Number of batches of an epoch, and the set of their one or two sizes."""
    n_batches = math.ceil(n_rows / batch_size)
    return n_batches, {math.ceil(n_rows / n_batches), n_rows // n_batches}
