"""Groups of users: by what they had in training, or by labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.metrics._evaluation import UserMetrics

By = str | ArrayLike | Mapping[Any, Any] | Callable[[np.ndarray], ArrayLike] | None

ALL = "all"


def slices_of(
    by: By, recommender: Any, users: UserMetrics, kept: np.ndarray
) -> dict[Any, np.ndarray]:
    """Masks of the users of each slice; one may be empty.

    ``kept`` is a mask of the rows of X that were read, for labels of rows.
    """
    if by is None:
        return {}
    if isinstance(by, str):
        return _by_name(by, recommender, users)
    labels, names = _labels(by, users, kept)
    if ALL in names:
        raise ValueError(f"A slice must not be called {ALL!r}, as all users together are.")
    return {name: labels == name for name in names}


def _by_name(by: str, recommender: Any, users: UserMetrics) -> dict[Any, np.ndarray]:
    if by == "activity":
        return _by_activity(recommender, users)
    if by == "cold":
        return _by_cold(recommender, users)
    raise ValueError(
        f"by={by!r} is unknown; it is 'activity', 'cold', labels of users (a Series "
        "by user id or an array with one for each row of X), or a callable."
    )


def _labels(by: Any, users: UserMetrics, kept: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """The label of each user, as objects, and all labels in order."""
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
    labels = labels[kept][users.first_rows]
    return labels, _distinct(labels)


def _distinct(labels: np.ndarray) -> list[Any]:
    """Those that are not missing, in order if they have one."""
    present = pd.unique(labels[~pd.isna(labels)])
    try:
        return sorted(present)
    except TypeError:  # of several kinds
        return list(present)


def _by_activity(recommender: Any, users: UserMetrics) -> dict[Any, np.ndarray]:
    counts = _n_seen(recommender, users.user_ids)
    of_measured = counts[users.measured]
    if not len(of_measured):
        nobody = np.zeros(len(counts), dtype=bool)
        return {"low": nobody, "medium": nobody, "high": nobody}
    low, high = np.quantile(of_measured, [1 / 3, 2 / 3], method="inverted_cdf")
    return {
        "low": counts <= low,
        "medium": (counts > low) & (counts <= high),
        "high": counts > high,
    }


def _by_cold(recommender: Any, users: UserMetrics) -> dict[Any, np.ndarray]:
    if hasattr(recommender, "_seen") or not hasattr(recommender, "user_ids_"):
        known = _n_seen(recommender, users.user_ids) > 0
    else:
        known = pd.Index(recommender.user_ids_).get_indexer(users.user_ids) >= 0
    return {"known": known, "new": ~known}


def _n_seen(recommender: Any, user_ids: np.ndarray) -> np.ndarray:
    """Items that each user has in the training data; 0 for one who is not there."""
    if not hasattr(recommender, "_seen"):
        raise TypeError(
            f"{type(recommender).__name__} does not say what users had in training, which "
            "by='activity' and by='cold' need; pass by as labels of users."
        )
    codes = recommender._user_vocabulary.codes(user_ids)
    of_users = np.diff(recommender._seen.tocsr().indptr)
    counts = np.zeros(len(recommender._user_vocabulary) + 1, dtype=np.int64)
    counts[1 : len(of_users) + 1] = of_users
    return counts[codes]
