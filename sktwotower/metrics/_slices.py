"""Groups of users: by their items in the training data, or by labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower.metrics._answer_forms import refuse_no_collections
from sktwotower.metrics._query_rows import most_frequent
from sktwotower.metrics._sources import EvaluationSource, Source, name_of
from sktwotower.metrics._user_metrics import UserMetrics
from sktwotower.utils._ids import described, kinds_of
from sktwotower.utils._warnings import warn

By = str | ArrayLike | Mapping[Any, Any] | Callable[[np.ndarray], ArrayLike] | None

ALL = "all"


def slices_of(
    by: By,
    source: Source,
    users: UserMetrics,
    kept: np.ndarray,
    *,
    index: pd.Index | None = None,
    takes_rows: bool = True,
) -> dict[Any, np.ndarray]:
    """Masks of the users of each slice; a slice may be empty.

    Parameters
    ----------
    by : str, Series, dict, array-like, callable or None
        As in :func:`~sktwotower.metrics.ranking_report`.
    source : EvaluationSource or Recommender
        Knows the users of training.
    users : UserMetrics
        The users that are sliced.
    kept : ndarray of shape (n_samples,), bool
        Which rows of X have a weight; labels of rows need it.
    index : Index of n_samples labels, optional
        The index of X; None if it has none.
    takes_rows : bool, default=True
        Whether labels of rows are taken, too.
    """
    if by is None:
        return {}
    if isinstance(by, str):
        return _by_name(by, source, users)
    if isinstance(by, pd.Series):
        index = pd.RangeIndex(len(kept)) if index is None else index
        labels, names = _labels_of_series(by, source, users, kept, index, takes_rows)
    else:
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
        labels = by.reindex(users.user_ids).to_numpy()
        if pd.isna(labels).all():
            raise ValueError(_no_user("by is a dict of labels by user id", by, users))
        return labels, _distinct(by.to_numpy())
    labels = np.asarray(by, dtype=object)
    if labels.shape != kept.shape:
        raise ValueError(
            f"by has shape {labels.shape}; an array needs one label for each of the "
            f"{len(kept)} rows of X."
        )
    labels = most_frequent(users.user_of_row, labels[kept], n_users)
    return labels, _distinct(labels)


def _labels_of_series(
    by: pd.Series,
    source: Source,
    users: UserMetrics,
    kept: np.ndarray,
    index: pd.Index,
    takes_rows: bool,
) -> tuple[np.ndarray, list[Any]]:
    """The labels of a Series by user id or, where it cannot be one, of rows."""
    index = index.to_flat_index()  # of tuples, if it has levels
    by = by.astype(object).set_axis(by.index.to_flat_index())
    names = _distinct(by.to_numpy())
    is_unique, ids = by.index.is_unique, by.index.isin(users.user_ids)
    labels = by.reindex(users.user_ids).to_numpy() if is_unique else None
    is_of_X = by.index.equals(index)
    may_be_of_X = by.index.name in (None, index.name)  # not with a name of its own
    for_rows = (
        "pass by.to_numpy() for labels of rows"
        if takes_rows
        else "labels of rows would not fit other rows, so take one label for each user"
    )
    if may_be_of_X and (is_of_X or by.index.equals(pd.RangeIndex(len(kept)))):
        n_users = len(users.user_ids)
        of_rows = most_frequent(users.user_of_row, by.to_numpy()[kept], n_users)
        if labels is not None and ids.any():
            if not _are_equal(labels, of_rows):
                raise ValueError(
                    "by is a Series whose index is that of the rows of X, and could be "
                    f"user ids, too; {for_rows}. Pass by.to_dict() for labels by user id."
                )
        elif takes_rows and is_of_X:
            return of_rows, names
    if labels is None:
        raise ValueError(
            f"by is a Series whose index has a user id twice; {for_rows}. Labels by user "
            "id need each id once."
        )
    if pd.isna(labels).all():
        reason = _no_user("by is a Series of labels by user id", by, users)
        raise ValueError(f"{reason} Use set_index for labels by user; {for_rows}.")
    if may_be_of_X and index.isin(by.index).all():
        n_users = int((ids | _are_known(source, by.index)).sum())
        if 2 * n_users < len(by):
            warn(
                "by is a Series that is read as labels by user id, but only "
                f"{n_users} of the {len(by)} labels of its index are users, and all "
                f"labels of the rows of X are among them. If it has labels of rows, the "
                f"slices are wrong: {for_rows}{' that are in X' * takes_rows}. Pass "
                "by.to_dict() if it is right."
            )
    return labels, names


def _no_user(what: str, by: pd.Series, users: UserMetrics) -> str:
    """The message for labels without one of a user of X."""
    return (
        f"{what}, but it has a label for none of the users of X. Its ids are of type "
        f"{described(kinds_of(by.index))}, where users of X are of type "
        f"{described(kinds_of(users.user_ids))}."
    )


def _are_equal(labels: np.ndarray, others: np.ndarray) -> bool:
    return bool(((labels == others) | (pd.isna(labels) & pd.isna(others))).all())


def _are_known(source: Source, ids: pd.Index) -> np.ndarray:
    """Which ids are users of the training data, (n,); none if that is unknown."""
    if isinstance(source, EvaluationSource):
        return source.users.codes(ids.to_numpy()) > 0
    return ids.isin(getattr(source, "user_ids_", []))


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
        seen = source.seen_items(user_ids)
        refuse_no_collections(seen, len(user_ids), name=name_of(source))
        return np.array([len(set(items)) for items in seen])
    if not isinstance(source, EvaluationSource):
        raise TypeError(
            f"{name_of(source)} does not say what users had in training, which "
            "by='activity' and by='cold' need (seen_items); pass by as labels of users."
        )
    n_seen = np.zeros(len(source.users) + 1, dtype=np.int64)
    n_seen[1:] = np.diff(source.seen.indptr)
    return n_seen[source.users.codes(user_ids)]
