"""Facts of the data that "auto" follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sktwotower._data.histories import InteractionCodes
from sktwotower._data.row_shares import ALL_ROWS, RowShare
from sktwotower._training.data import TrainingData

# Positives whose times are compared.
_ROWS_TO_LOOK_AT = 1_000_000


@dataclass(frozen=True)
class DataFacts:
    """What the rules know of the data.

    Attributes
    ----------
    n_positives, n_negatives : int
        Rows with ``y > 0``, or without y, and rows with ``y <= 0``.
    n_users, n_items : int
        Users and items with a positive.
    n_items_with_rows : int
        Items with a row, positive or not.
    rows_per_user : tuple of three floats
        Quartiles of the number of positives of a user.
    most_rows_of_a_user, most_rows_of_an_item : int
        Largest number of rows, positive or not.
    order : float or None
        Share of the positives, but for one of each user, that have a later time than the
        user's earliest, and so a history: 1 if no other row has the time of its user's
        first one, 0 if all have. Baskets of one time are an order if there are several of
        a user. It is 0 if each user has one row. None: there are no times.
    rows_per_visit : float or None
        Mean number of positives that a user has at one time, of some users if there are
        very many positives. None: there are no times.
    has_user_features, has_item_features : bool
        Whether a side has features.
    """

    n_positives: int
    n_negatives: int
    n_users: int
    n_items: int
    n_items_with_rows: int
    rows_per_user: tuple[float, float, float]
    most_rows_of_a_user: int
    most_rows_of_an_item: int
    order: float | None
    rows_per_visit: float | None
    has_user_features: bool
    has_item_features: bool

    @classmethod
    def of(
        cls,
        interactions: InteractionCodes,
        n_users: int,
        n_items: int,
        *,
        has_user_features: bool,
        has_item_features: bool,
        share: RowShare = ALL_ROWS,
    ) -> DataFacts:
        """The facts of interactions of so many known users and items.

        At least one of the interactions is a positive. If they are a share, a process has
        all interactions of its users.
        """
        parts = list(interactions.blocks()) or [interactions]
        positive = [part.positive for part in parts]
        of_users, all_of_users = share.sum(
            _counts([x.users for x in parts], positive, n_users + 1)
        )
        of_items, all_of_items = share.sum(
            _counts([x.items for x in parts], positive, n_items + 1)
        )
        rows_per_user = of_users[of_users > 0]
        low, median, high = np.quantile(rows_per_user, [0.25, 0.5, 0.75]).tolist()
        n_positives = int(rows_per_user.sum())
        return cls(
            n_positives=n_positives,
            n_negatives=int(all_of_users.sum()) - n_positives,
            n_users=len(rows_per_user),
            n_items=int(np.count_nonzero(of_items)),
            n_items_with_rows=int(np.count_nonzero(all_of_items)),
            rows_per_user=(low, median, high),
            most_rows_of_a_user=int(all_of_users.max()),
            most_rows_of_an_item=int(all_of_items.max()),
            order=_order(parts, of_users, share),
            rows_per_visit=_rows_per_visit(parts, n_positives, share),
            has_user_features=has_user_features,
            has_item_features=has_item_features,
        )


def facts_of(data: TrainingData, interactions: InteractionCodes) -> DataFacts:
    """The facts of these interactions, which are those of the data and of before."""
    users, items = data.user.entities, data.item.entities
    return DataFacts.of(
        interactions,
        len(users),
        len(items),
        has_user_features=bool(users.fields),
        has_item_features=bool(items.fields),
        share=data.share,
    )


def _counts(
    codes: Iterable[np.ndarray], positive: Iterable[np.ndarray], n_codes: int
) -> np.ndarray:
    """Numbers of positives and of all rows of each code, (2, n_codes)."""
    positives, rows = counts = np.zeros((2, n_codes), dtype=np.int64)
    for part, is_positive in zip(codes, positive, strict=True):
        positives += np.bincount(part[is_positive], minlength=n_codes)
        rows += np.bincount(part, minlength=n_codes)
    return counts


def _order(
    parts: list[InteractionCodes], of_users: np.ndarray, share: RowShare
) -> float | None:
    """``DataFacts.order``, without sorting; ``of_users`` are numbers of positives."""
    times = parts[0].times
    if times is None:
        return None
    latest = np.inf if times.dtype.kind == "f" else np.iinfo(times.dtype).max
    first = np.full(len(of_users), latest, dtype=times.dtype)
    for part in parts:
        positives = part.take(part.positive)
        np.minimum.at(first, positives.users, np.asarray(positives.times))
    n_later = 0
    for part in parts:
        is_later = np.asarray(part.times) > first[part.users]
        n_later += int(np.count_nonzero(is_later & part.positive))
    n_repeated = int(of_users.sum()) - int(np.count_nonzero(of_users))
    return int(share.sum(np.array(n_later))) / n_repeated if n_repeated else 0.0


def _rows_per_visit(
    parts: list[InteractionCodes], n_positives: int, share: RowShare
) -> float | None:
    """``DataFacts.rows_per_visit``; of every k-th user beyond so many rows."""
    if parts[0].times is None:
        return None
    every = -(-n_positives // _ROWS_TO_LOOK_AT)
    found = []
    for part in parts:
        rows = part.take(part.positive & (part.users % every == 0))
        found.append(pd.DataFrame({"user": rows.users, "time": np.asarray(rows.times)}))
    pairs = pd.concat(found)
    n_rows, n_pairs = share.sum(np.array([len(pairs), len(pairs.drop_duplicates())]))
    return float(n_rows / n_pairs) if n_rows else 1.0
