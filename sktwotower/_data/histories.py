"""The users' histories: windows of items for training and for queries."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from sktwotower._nn.history_rows import HistoryRows
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.sequence_rows import SequenceRows
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._ranges import positions_of_ranges

# Item codes, and where each window starts and ends in them.
Windows = tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class InteractionCodes(column_store.Columns):
    """Interactions as codes, in the order of the rows of X.

    Attributes
    ----------
    users, items : ndarray of shape (n,), int32
        Codes.
    positive : ndarray of shape (n,), bool
        False for explicit negatives, which are not part of a history.
    times : ndarray of shape (n,) or None
        Timestamps as numbers that order like them; None: the rows are in order.
    """

    users: np.ndarray
    items: np.ndarray
    positive: np.ndarray
    times: np.ndarray | None

    def n_positives(self, n_items: int) -> np.ndarray:
        """Number of positives of each item code, (n_items + 1,) float32."""
        items = self.items[self.positive]
        return np.bincount(items, minlength=n_items + 1).astype(np.float32)


class Histories:
    """The positive items of each user, in the order of time.

    Parameters
    ----------
    interactions : InteractionCodes of n_rows rows
        All interactions. Of equal times, the earlier row comes first.
    n_users : int
        Number of known users.

    Attributes
    ----------
    items : ndarray of shape (n_positives,)
        Item codes of the positives, ordered by user and then by time.
    starts, ends : ndarray of shape (n_users + 1,)
        Where in ``items`` the history of each user code starts and ends.
    """

    def __init__(self, interactions: InteractionCodes, n_users: int) -> None:
        keys = (
            (interactions.users,)
            if interactions.times is None
            else (interactions.times, interactions.users)
        )
        order = np.lexsort(keys)  # stable; the last key is the first
        ordered = interactions.take(order)
        self._order = column_store.take(order, ordered.positive)
        self._is_causal = interactions.times is not None
        self._before = column_store.empty(len(order), np.int64)
        for block, before in _windows_end(ordered):
            self._before[order[block]] = before
        self._users, self._positive = interactions.users, interactions.positive
        self.items = column_store.take(ordered.items, ordered.positive)
        counts = np.zeros(n_users + 1, dtype=np.int64)
        for part in ordered.blocks():
            counts += np.bincount(part.users[part.positive], minlength=n_users + 1)
        self.ends = np.cumsum(counts)  # (n_users + 1,); empty for code 0
        self.starts = self.ends - counts

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """Values of the rows (n_rows,) in the order of ``items``, (n_positives,)."""
        return column_store.take(values, self._order)

    def rows_of(self, users: np.ndarray, times: np.ndarray) -> InteractionCodes:
        """The positives of distinct user codes; ``times`` are those of ``items``."""
        starts, counts = self.starts[users], self.ends[users] - self.starts[users]
        rows = positions_of_ranges(starts, counts)
        codes, positive = np.repeat(users, counts), np.ones(len(rows), dtype=bool)
        return InteractionCodes(codes, self.items[rows], positive, times[rows])

    def now(self, size: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``items`` the last ``size`` items of each user start and end."""
        return _window_starts(self.starts, self.ends, size), self.ends

    def of_users(self, users: np.ndarray) -> Histories:
        """The histories of some user codes, which become 1, 2, ...

        They are those of queries: there are no windows :meth:`at_events`.
        """
        found, codes = copy(self), np.concatenate([[0], users])
        found.starts, found.ends = self.starts[codes], self.ends[codes]
        return found

    def at_events(
        self, events: np.ndarray, size: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``items`` the window of some events starts and ends.

        With times, a window is the last ``size`` positives of the user before the event, or
        before its visit. Without, it is the last ``size`` positives of the user other than
        the event.
        """
        users, before = self._users[events], self._before[events]
        if self._is_causal:
            return _window_starts(self.starts[users], before, size), before
        starts, ends = self.now(size)
        starts, ends = starts[users], ends[users]
        # One more if the event is in the window, since it is left out.
        among = self._positive[events] & (before >= starts)
        return np.maximum(self.starts[users], starts - among), ends


def _windows_end(ordered: InteractionCodes) -> Iterator[tuple[slice, np.ndarray]]:
    """How many positives of all users come before the end of each row's window.

    Parameters
    ----------
    ordered : InteractionCodes
        Ordered by user, and by time if there are times.

    Yields
    ------
    block : slice
        Where the rows are in the order.
    before : ndarray of shape (n_rows_of_block,), int64
        For the first, third, ... row of a visit, which is the rows of a user that have one
        time, the positives before the visit; else those before the row. A model that is
        asked within a visit has to go on with it, one that is asked later has to begin the
        next: half of the rows teach the one, half the other.
    """
    n_before = n_before_visit = 0
    last = None
    for block in column_store.blocks(len(ordered)):
        positive, users = ordered.positive[block], ordered.users[block]
        before = n_before + np.cumsum(positive) - positive
        n_before += int(np.count_nonzero(positive))
        if ordered.times is not None:
            times = ordered.times[block]
            begins = np.ones(len(users), dtype=bool)
            begins[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
            begins[:1] = last != (users[0], times[0])
            # Numbers of positives only rise, so that the largest so far is the visit's own.
            before_visit = np.maximum.accumulate(np.where(begins, before, n_before_visit))
            last, n_before_visit = (users[-1], times[-1]), before_visit[-1]
            before = np.where((before - before_visit) % 2, before, before_visit)
        yield block, before


@dataclass(frozen=True, eq=False)
class PastItems:
    """Histories as the user tower reads them.

    Attributes
    ----------
    histories : Histories
        Histories of the training data.
    size : int or None
        Largest number of items in a window; None: there is no limit.
    id_codes : ndarray of shape (n_items + 1,)
        Row of the history table of each item code.
    times : ndarray of shape (n_positives,) or None
        Times of ``histories.items``.
    negatives : tuple of Histories and ndarray, or None
        The explicit negatives and their times, which are in no window. None without times.
    are_sequences : bool, default=False
        Whether the user tower reads the items in their order.
    vectors : Tensor of shape (n_items + 1, width) or None
        Embeddings of the items by code, which it reads; None in training.
    """

    histories: Histories
    size: int | None
    id_codes: np.ndarray
    times: np.ndarray | None
    negatives: tuple[Histories, np.ndarray] | None = None
    are_sequences: bool = False
    vectors: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        interactions: InteractionCodes,
        n_users: int,
        size: int | None,
        id_codes: np.ndarray,
        *,
        are_sequences: bool = False,
    ) -> Self:
        """Histories of all users from their interactions."""
        if are_sequences and interactions.times is None:
            order = column_store.arange(len(interactions))
            interactions = replace(interactions, times=order)
        histories = Histories(interactions, n_users)
        times = interactions.times
        if times is None:
            return cls(histories, size, id_codes, None)
        is_negative = ~interactions.positive
        rows = interactions.take(is_negative)
        negatives = Histories(replace(rows, positive=~rows.positive), n_users)
        of_negatives = negatives.ordered(column_store.take(times, is_negative))
        of_positives = histories.ordered(times)
        return cls(
            histories,
            size,
            id_codes,
            of_positives,
            (negatives, of_negatives),
            are_sequences,
        )

    def of_users(self, users: np.ndarray) -> PastItems:
        """What queries of some users need, whose codes become 1, 2, ..."""
        negatives = self.negatives
        if negatives is not None:
            negatives = negatives[0].of_users(users), negatives[1]
        return replace(self, histories=self.histories.of_users(users), negatives=negatives)

    def rows(
        self,
        rows: EntityRows,
        user_codes: np.ndarray,
        windows: Windows | None = None,
    ) -> HistoryRows | SequenceRows:
        """Rows with these windows, or with the current windows of their users."""
        if windows is None:
            starts, ends = self.histories.now(self.size)
            windows = self.histories.items, (starts[user_codes], ends[user_codes])
        items, (starts, ends) = windows
        each = np.arange(len(rows))
        if self.are_sequences:
            return sequence_rows(rows, each, items, each, (starts, ends), self.vectors)
        return history_rows(rows, each, items, (starts, ends), self.id_codes)

    def with_more(self, user_codes: np.ndarray, more: InteractionCodes) -> Windows | None:
        """Windows of queries with further interactions, see `windows_of_queries`.

        With times, interactions that are known already are not added. None: nothing is.
        """
        more = more.take(~self.is_known(user_codes, more))
        if not len(more):
            return None
        return windows_of_queries(self.histories, user_codes, self.size, more, self.times)

    def is_known(self, user_codes: np.ndarray, more: InteractionCodes) -> np.ndarray:
        """Which further interactions have the user, item and time of a training row, (n,).

        Without times none is: a repeat cannot be told from a row that is sent again.
        """
        is_known = np.zeros(len(more), dtype=bool)
        if more.times is None or self.times is None or self.negatives is None:
            return is_known
        more = replace(more, users=user_codes[more.users])
        for histories, times in ((self.histories, self.times), self.negatives):
            is_known |= are_among(more, histories.rows_of(np.unique(more.users), times))
        return is_known

    def before_events(
        self, rows: EntityRows, row_of: np.ndarray, items: np.ndarray, *, first: int
    ) -> HistoryRows | SequenceRows:
        """Rows of all events, each with the window at its time.

        Parameters
        ----------
        rows : EntityRows
            Ids and features of the users.
        row_of : ndarray of shape (n,)
            Which of ``rows`` each event has.
        items : ndarray of shape (n,)
            Item code of each event. Without times it is left out of the window; with
            times, it is there if the user had it before, so that repeats are learned.
        first : int
            The event that comes first. Later events follow, then those before it.
        """
        n = len(row_of)
        starts, ends = column_store.empty(n, np.int64), column_store.empty(n, np.int64)
        size = None if self.are_sequences else self.size
        for block in column_store.blocks(n):
            at = (np.arange(block.start, block.stop) + first) % n
            starts[block], ends[block] = self.histories.at_events(at, size)
        if self.are_sequences:
            assert self.size is not None
            starts += first_of_window(ends - starts, self.size)
            starts, sequence_of = np.unique(starts, return_inverse=True)
            limits, past = (starts, ends), self.histories.items
            return sequence_rows(rows, row_of, past, sequence_of, limits, None)
        left_out = items if self.times is None else None
        return history_rows(
            rows, row_of, self.histories.items, (starts, ends), self.id_codes, left_out
        )

    def to_draw_from(
        self, rows: EntityRows, row_of: np.ndarray, users: np.ndarray
    ) -> HistoryRows:
        """Rows with the whole histories of their users, from which batches draw.

        Parameters
        ----------
        rows : EntityRows
            Ids and features of the users.
        row_of, users : ndarray of shape (n,)
            Which of ``rows`` each event has, and its user code.
        """
        code_of = np.zeros(len(rows), dtype=np.int64)
        code_of[row_of] = users
        in_history = torch.ones(len(self.histories.items), dtype=torch.bool)
        windows = self.rows(rows, code_of)
        assert isinstance(windows, HistoryRows)
        return replace(windows, in_history=in_history)


def first_of_window(lengths: np.ndarray, size: int) -> np.ndarray:
    """Where windows start in histories of these lengths, (n,).

    A history is cut into windows of ``size`` items, so that the rows of a window share it.
    A row reads at most ``size`` items, and fewer at the beginning of a window.
    """
    return np.maximum(lengths - 1, 0) // size * size


def sequence_rows(
    rows: EntityRows,
    row_of: np.ndarray,
    item_codes: np.ndarray,
    sequence_of: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    vectors: torch.Tensor | None,
) -> SequenceRows:
    """Rows of the user tower that read items in their order.

    Parameters
    ----------
    rows : EntityRows
        Ids and features of the users.
    row_of, sequence_of : ndarray of shape (n,)
        Which of ``rows`` each row has, and which sequence it reads.
    item_codes : ndarray of shape (n_positives,)
        Items of the histories.
    limits : tuple of ndarray of shape (n_sequences,) and ndarray of shape (n,)
        Where in ``item_codes`` each sequence starts, and where each row stops to read.
    vectors : Tensor of shape (n_items + 1, width) or None
        Embeddings of the items.
    """
    starts, ends = limits
    return SequenceRows(
        rows,
        torch.from_numpy(row_of),
        torch.from_numpy(item_codes),
        torch.from_numpy(sequence_of),
        torch.from_numpy(np.asarray(starts, dtype=np.int64)),
        torch.from_numpy(np.asarray(ends, dtype=np.int64)),
        vectors,
    )


def history_rows(
    rows: EntityRows,
    row_of: np.ndarray,
    item_codes: np.ndarray,
    windows: tuple[np.ndarray, np.ndarray],
    id_codes: np.ndarray,
    left_out: np.ndarray | None = None,
) -> HistoryRows:
    """Rows of the user tower with windows of items.

    Parameters
    ----------
    rows : EntityRows
        Ids and features of the users.
    row_of : ndarray of shape (n,)
        Which of ``rows`` each window belongs to.
    item_codes : ndarray of shape (n_positives,)
        Items of the histories.
    windows : tuple of ndarray of shape (n,)
        Where in ``item_codes`` each window starts and ends.
    id_codes : ndarray of shape (n_items + 1,)
        Row of the history table of each item code.
    left_out : ndarray of shape (n,), optional
        Item code that is left out of each window.
    """
    starts, ends = windows
    if left_out is not None:
        left_out = column_store.take(id_codes, left_out)
    return HistoryRows(
        rows,
        torch.from_numpy(row_of),
        torch.from_numpy(column_store.take(id_codes, item_codes)),
        torch.from_numpy(np.asarray(starts, dtype=np.int64)),
        torch.from_numpy(np.asarray(ends, dtype=np.int64)),
        None if left_out is None else torch.from_numpy(left_out),
    )


def are_among(rows: InteractionCodes, known: InteractionCodes) -> np.ndarray:
    """Which rows have the user, item and time of a known row, (n,) bool."""
    both = known.followed_by(rows)
    is_new = np.arange(len(both)) >= len(known)
    assert both.times is not None
    keys = [both.users, both.items, both.times]
    order = np.lexsort((is_new, *keys))  # the last key is the first
    starts_group = np.ones(len(both), dtype=bool)
    starts_group[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    first = np.maximum.accumulate(np.where(starts_group, np.arange(len(both)), 0))
    is_known = np.empty(len(both), dtype=bool)
    is_known[order] = ~is_new[order][first]
    return is_known[len(known) :]


def _window_starts(starts: np.ndarray, ends: np.ndarray, size: int | None) -> np.ndarray:
    """Where windows of at most ``size`` items start that end at ``ends``, (n,)."""
    return starts if size is None else np.maximum(starts, ends - size)


def windows_of_queries(
    histories: Histories,
    user_codes: np.ndarray,
    size: int | None,
    more: InteractionCodes,
    times: np.ndarray | None,
) -> Windows:
    """Windows of queries with further interactions.

    Parameters
    ----------
    histories : Histories
        Histories of the training data.
    user_codes : ndarray of shape (n,)
        Users of the queries; 0 for unknown users.
    size : int or None
        Largest number of items in a window; None: there is no limit.
    more : InteractionCodes
        Interactions of the queries; its ``users`` are positions among the queries.
    times : ndarray of shape (n_positives,) or None
        Times of ``histories.items``, which are merged with those of ``more``. None: the
        interactions of ``more`` are the latest.

    Returns
    -------
    item_codes : ndarray of shape (n_items_of_queries,)
        Items of all queries.
    windows : tuple of ndarray of shape (n,)
        Where in ``item_codes`` each window starts and ends.
    """
    starts, ends = histories.now(size)
    starts, ends = starts[user_codes], ends[user_codes]
    counts = ends - starts
    queries = np.repeat(np.arange(len(user_codes)), counts)
    positions = positions_of_ranges(starts, counts)
    known = InteractionCodes(
        queries, histories.items[positions], np.ones(len(positions), dtype=bool), None
    )
    if times is not None and more.times is not None:
        known = replace(known, times=times[positions])
    both = Histories(known.followed_by(more), len(user_codes) - 1)
    return both.items, both.now(size)
