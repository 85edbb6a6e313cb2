"""What users had, in the order of time: windows for training and for serving."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from sktwotower._nn.history_rows import HistoryRows
from sktwotower._nn.inputs import EntityRows
from sktwotower.utils import _memmap as memmap


@dataclass(frozen=True, eq=False)
class InteractionCodes:
    """Rows of interactions as codes, in the order in which they were given.

    Attributes
    ----------
    users, items : ndarray of shape (n,), int32
        Codes.
    positive : ndarray of shape (n,), bool
        False for an explicit negative, which is no history.
    times : ndarray of shape (n,) or None
        Numbers that order like the timestamps; None: the rows are in order.
    """

    users: np.ndarray
    items: np.ndarray
    positive: np.ndarray
    times: np.ndarray | None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> InteractionCodes:
        """Some of the rows: a mask or positions."""
        return InteractionCodes(
            memmap.take(self.users, rows),
            memmap.take(self.items, rows),
            memmap.take(self.positive, rows),
            None if self.times is None else memmap.take(self.times, rows),
        )

    def followed_by(self, later: InteractionCodes) -> InteractionCodes:
        """These rows and those."""
        times = None
        if self.times is not None and later.times is not None:
            times = memmap.joined([self.times, later.times])
        return InteractionCodes(
            memmap.joined([self.users, later.users]),
            memmap.joined([self.items, later.items]),
            memmap.joined([self.positive, later.positive]),
            times,
        )


class Histories:
    """Every user's positives in the order of time.

    Parameters
    ----------
    events : InteractionCodes
        All of them. Of equal times, the earlier row is the earlier event.
    n_users : int
        Known users; codes go up to it.
    """

    def __init__(self, events: InteractionCodes, n_users: int) -> None:
        keys = (events.users,) if events.times is None else (events.times, events.users)
        order = np.lexsort(keys)  # stable; the last key is the first
        ordered = events.take(order)
        self._order = memmap.take(order, ordered.positive)
        self._is_causal = events.times is not None
        # The positives before each event, those of other users included.
        self._before = memmap.empty(len(order), np.int64)
        n_before = 0
        for block in memmap.blocks(len(order)):
            positive = ordered.positive[block]
            self._before[order[block]] = n_before + np.cumsum(positive) - positive
            n_before += int(np.count_nonzero(positive))
        self._users, self._positive = events.users, events.positive
        self.items = memmap.take(ordered.items, ordered.positive)
        counts = np.zeros(n_users + 1, dtype=np.int64)
        for block in memmap.blocks(len(order)):
            users = ordered.users[block][ordered.positive[block]]
            counts += np.bincount(users, minlength=n_users + 1)
        self.ends = np.cumsum(counts)  # (n_users + 1,), by code; code 0 has none
        self.starts = self.ends - counts

    def ordered(self, values: np.ndarray) -> np.ndarray:
        """Of a value an event, those of ``items``."""
        return memmap.take(values, self._order)

    def now(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``items`` the last ``size`` of each code start and end."""
        return np.maximum(self.starts, self.ends - size), self.ends

    def at_events(self, events: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The same at the time of some events: what came before, or beside it.

        With times it is the last ``size`` positives before the event; without, the last
        ``size`` of the user but for the event itself.
        """
        users, before = self._users[events], self._before[events]
        if self._is_causal:
            return np.maximum(self.starts[users], before - size), before
        starts, ends = self.now(size)
        starts, ends = starts[users], ends[users]
        # One more where the event is among them, since it is left out.
        among = self._positive[events] & (before >= starts)
        return np.maximum(self.starts[users], starts - among), ends


@dataclass(frozen=True, eq=False)
class PastItems:
    """What the history field of the user tower is made from.

    Attributes
    ----------
    histories : Histories
        Of the training data.
    size : int
        Items of a window.
    id_codes : ndarray of shape (n_items + 1,)
        Row of the history table of each item code.
    times : ndarray or None
        Of the positives, in the order of ``histories.items``.
    """

    histories: Histories
    size: int
    id_codes: np.ndarray
    times: np.ndarray | None

    def rows(
        self,
        rows: EntityRows,
        user_codes: np.ndarray,
        own: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> HistoryRows:
        """Rows with the users' windows as they are now, or with some of their own."""
        if own is None:
            starts, ends = self.histories.now(self.size)
            own = self.histories.items, (starts[user_codes], ends[user_codes])
        items, windows = own
        return history_rows(rows, np.arange(len(rows)), items, windows, self.id_codes)

    def with_more(
        self, user_codes: np.ndarray, more: InteractionCodes
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Windows of queries that bring interactions of their own."""
        return windows_of_queries(self.histories, user_codes, self.size, more, self.times)

    def before_events(
        self, rows: EntityRows, row_of: np.ndarray, items: np.ndarray, *, first: int
    ) -> HistoryRows:
        """Rows of the events, each with the window of its time.

        Parameters
        ----------
        rows : EntityRows
            Ids and features.
        row_of, items : ndarray of shape (n,)
            Which of them an event has, and what is not in its own history.
        first : int
            The event of the first row, which is followed by the later ones and then by
            those before it.
        """
        n = len(row_of)
        starts, ends = memmap.empty(n, np.int64), memmap.empty(n, np.int64)
        for block in memmap.blocks(n):
            at = (np.arange(block.start, block.stop) + first) % n
            starts[block], ends[block] = self.histories.at_events(at, self.size)
        return history_rows(
            rows, row_of, self.histories.items, (starts, ends), self.id_codes, items
        )

    def to_draw_from(
        self, rows: EntityRows, row_of: np.ndarray, users: np.ndarray
    ) -> HistoryRows:
        """Rows with all that their users have, of which batches draw what is given.

        ``row_of`` and ``users``, (n,), are those of the events.
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
        Ids and features.
    row_of : ndarray of shape (n,)
        Which of them each row has.
    item_codes : ndarray of shape (n_events,)
        What the windows are cut from.
    windows : tuple of ndarray of shape (n,)
        Where they start and end.
    id_codes : ndarray of shape (n_items + 1,)
        Row of the history table of each item code.
    left_out : ndarray of shape (n,), optional
        Code of the item that is not in a row's own history.
    """
    starts, ends = windows
    return HistoryRows(
        rows,
        torch.from_numpy(row_of),
        torch.from_numpy(memmap.take(id_codes, item_codes)),
        torch.from_numpy(np.asarray(starts, dtype=np.int64)),
        torch.from_numpy(np.asarray(ends, dtype=np.int64)),
        None if left_out is None else torch.from_numpy(memmap.take(id_codes, left_out)),
    )


def windows_of_queries(
    histories: Histories,
    user_codes: np.ndarray,
    size: int,
    more: InteractionCodes,
    times: np.ndarray | None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Windows of queries that bring interactions of their own.

    Parameters
    ----------
    histories : Histories
        Of the training data.
    user_codes : ndarray of shape (n,)
        The queries' users; 0 for unknown ones.
    size : int
        Items of a window.
    more : InteractionCodes
        What the queries bring; ``users`` are positions among the queries.
    times : ndarray or None
        Of the training data's positives, in the order of ``histories.items``; with those
        of ``more`` they say what is the latest. None: what a query brings is.

    Returns
    -------
    item_codes : ndarray
        What the windows are cut from.
    windows : tuple of ndarray of shape (n,)
        Where they start and end.
    """
    starts, ends = histories.now(size)
    starts, ends = starts[user_codes], ends[user_codes]
    counts = ends - starts
    queries = np.repeat(np.arange(len(user_codes)), counts)
    within = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = np.repeat(starts, counts) + within
    known = InteractionCodes(
        queries, histories.items[places], np.ones(len(places), dtype=bool), None
    )
    if times is not None and more.times is not None:
        known = replace(known, times=times[places])
    both = Histories(known.followed_by(more), len(user_codes) - 1)
    return both.items, both.now(size)
