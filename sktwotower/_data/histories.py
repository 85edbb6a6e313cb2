"""The users' histories: windows of items for training and for queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from sktwotower._nn.history_rows import HistoryRows
from sktwotower._nn.inputs import EntityRows
from sktwotower.utils import _column_store as column_store

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
        # Number of positives before each row in the order by user and time.
        self._before = column_store.empty(len(order), np.int64)
        n_before = 0
        for block in column_store.blocks(len(order)):
            positive = ordered.positive[block]
            self._before[order[block]] = n_before + np.cumsum(positive) - positive
            n_before += int(np.count_nonzero(positive))
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

    def now(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``items`` the last ``size`` items of each user start and end."""
        return np.maximum(self.starts, self.ends - size), self.ends

    def at_events(self, events: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``items`` the window of some events starts and ends.

        With times, a window is the last ``size`` positives of the user before the event.
        Without, it is the last ``size`` positives of the user other than the event.
        """
        users, before = self._users[events], self._before[events]
        if self._is_causal:
            return np.maximum(self.starts[users], before - size), before
        starts, ends = self.now(size)
        starts, ends = starts[users], ends[users]
        # One more if the event is in the window, since it is left out.
        among = self._positive[events] & (before >= starts)
        return np.maximum(self.starts[users], starts - among), ends


@dataclass(frozen=True, eq=False)
class PastItems:
    """Histories as the user tower reads them.

    Attributes
    ----------
    histories : Histories
        Histories of the training data.
    size : int
        Largest number of items in a window.
    id_codes : ndarray of shape (n_items + 1,)
        Row of the history table of each item code.
    times : ndarray of shape (n_positives,) or None
        Times of ``histories.items``.
    """

    histories: Histories
    size: int
    id_codes: np.ndarray
    times: np.ndarray | None

    @classmethod
    def of(
        cls, interactions: InteractionCodes, n_users: int, size: int, id_codes: np.ndarray
    ) -> Self:
        """Histories of all users from their interactions."""
        histories = Histories(interactions, n_users)
        times = interactions.times
        if times is not None:
            times = histories.ordered(times)
        return cls(histories, size, id_codes, times)

    def rows(
        self,
        rows: EntityRows,
        user_codes: np.ndarray,
        windows: Windows | None = None,
    ) -> HistoryRows:
        """Rows with these windows, or with the current windows of their users."""
        if windows is None:
            starts, ends = self.histories.now(self.size)
            windows = self.histories.items, (starts[user_codes], ends[user_codes])
        items, limits = windows
        return history_rows(rows, np.arange(len(rows)), items, limits, self.id_codes)

    def with_more(self, user_codes: np.ndarray, more: InteractionCodes) -> Windows:
        """Windows of queries with further interactions, see `windows_of_queries`."""
        return windows_of_queries(self.histories, user_codes, self.size, more, self.times)

    def before_events(
        self, rows: EntityRows, row_of: np.ndarray, items: np.ndarray, *, first: int
    ) -> HistoryRows:
        """Rows of all events, each with the window at its time.

        Parameters
        ----------
        rows : EntityRows
            Ids and features of the users.
        row_of : ndarray of shape (n,)
            Which of ``rows`` each event has.
        items : ndarray of shape (n,)
            Item code of each event, which is left out of its window.
        first : int
            The event that comes first. Later events follow, then those before it.
        """
        n = len(row_of)
        starts, ends = column_store.empty(n, np.int64), column_store.empty(n, np.int64)
        for block in column_store.blocks(n):
            at = (np.arange(block.start, block.stop) + first) % n
            starts[block], ends[block] = self.histories.at_events(at, self.size)
        return history_rows(
            rows, row_of, self.histories.items, (starts, ends), self.id_codes, items
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
        return replace(self.rows(rows, code_of), in_history=in_history)


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


def windows_of_queries(
    histories: Histories,
    user_codes: np.ndarray,
    size: int,
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
    size : int
        Largest number of items in a window.
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
    within = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.repeat(starts, counts) + within
    known = InteractionCodes(
        queries, histories.items[positions], np.ones(len(positions), dtype=bool), None
    )
    if times is not None and more.times is not None:
        known = replace(known, times=times[positions])
    both = Histories(known.followed_by(more), len(user_codes) - 1)
    return both.items, both.now(size)
