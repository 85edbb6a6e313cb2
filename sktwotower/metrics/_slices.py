"""Groups of users: by their items in the training data, or by labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.metrics._query_rows import most_frequent
from sktwotower.metrics._sources import EvaluationSource, Source, name_of
from sktwotower.metrics._user_metrics import UserMetrics

By = str | ArrayLike | Mapping[Any, Any] | Callable[[np.ndarray], ArrayLike] | None

ALL = "all"


def slices_of(
    by: By, source: Source, users: UserMetrics, kept: np.ndarray
) -> dict[Any, np.ndarray]:
    """Masks of the users of each slice; a slice may be empty.

    ``kept`` is a mask of the rows of X that have a weight; labels of rows need it.
    """
    if by is None:
        return {}
    if isinstance(by, str):
        return _by_name(by, source, users)
    labels, names = _labels(by, users, kept)
    if ALL in names:
        raise ValueError(f"A slice must not be called {ALL!r}, as all users together are.")
    return {name: labels == name for name in names}


def _by_name(by: str, source: Source, users: UserMetrics) -> dict[Any, np.ndarray]:
    if by == "activity":
        return _by_activity(source, users)
    if by == "cold":
        return _by_cold(source, users)
    raise ValueError(
        f"by={by!r} is unknown; it is 'activity', 'cold', labels of users (a Series "
        "by user id or an array with one for each row of X), or a callable."
    )


def _labels(by: Any, users: UserMetrics, kept: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """The label of each user, as objects, and the distinct labels in order."""
    n_users = len(users.user_ids)
    if callable(by):
        labels = np.asarray(by(users.user_ids), dtype=object)
        if labels.shape != (n_users,):
            raise ValueError(
                f"by returned shape {labels.shape} for {n_users} users; it must return "
                "one label a user."
            )
        return labels, _distinct(labels)
    if isinstance(by, Mapping):
        by = pd.Series(list(by.values()), index=list(by), dtype=object)
    if isinstance(by, pd.Series):
        if not by.index.is_unique:
            raise ValueError("by is a Series whose index has a user id twice.")
        by = by.astype(object)
        labels = by.reindex(users.user_ids).to_numpy()
        if pd.isna(labels).all():
            raise ValueError(
                "by is a Series by user id, but its index has none of the users of X; pass "
                "an array for labels of rows."
            )
        return labels, _distinct(by.to_numpy())
    labels = np.asarray(by, dtype=object)
    if labels.shape != kept.shape:
        raise ValueError(
            f"by has shape {labels.shape}; an array needs one label for each of the "
            f"{len(kept)} rows of X."
        )
    labels = most_frequent(users.user_of_row, labels[kept], n_users)
    return labels, _distinct(labels)


def _distinct(labels: np.ndarray) -> list[Any]:
    """Labels that are not missing, sorted if they can be compared."""
    present = pd.unique(labels[~pd.isna(labels)])
    try:
        return sorted(present)
    except TypeError:  # labels of several types
        return list(present)


def _by_activity(source: Source, users: UserMetrics) -> dict[Any, np.ndarray]:
    n_seen = _n_seen(source, users.user_ids)
    of_measured = n_seen[users.measured]
    if not len(of_measured):
        return dict.fromkeys(("low", "medium", "high"), np.zeros(len(n_seen), dtype=bool))
    low, high = np.quantile(of_measured, [1 / 3, 2 / 3], method="inverted_cdf")
    return {
        "low": n_seen <= low,
        "medium": (n_seen > low) & (n_seen <= high),
        "high": n_seen > high,
    }


def _by_cold(source: Source, users: UserMetrics) -> dict[Any, np.ndarray]:
    if isinstance(source, EvaluationSource) or not hasattr(source, "user_ids_"):
        known = _n_seen(source, users.user_ids) > 0
    else:
        known = pd.Index(source.user_ids_).get_indexer(users.user_ids) >= 0
    return {"known": known, "new": ~known}


def _n_seen(source: Source, user_ids: np.ndarray) -> np.ndarray:
    """Number of items of each user in the training data; 0 for unknown users."""
    if hasattr(source, "seen_items"):
        return np.array([len(set(items)) for items in source.seen_items(user_ids)])
    if not isinstance(source, EvaluationSource):
        raise TypeError(
            f"{name_of(source)} does not say what users had in training, which "
            "by='activity' and by='cold' need (seen_items); pass by as labels of users."
        )
    n_seen = np.zeros(len(source.users) + 1, dtype=np.int64)
    n_seen[1:] = np.diff(source.seen.indptr)
    return n_seen[source.users.codes(user_ids)]
