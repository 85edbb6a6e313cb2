"""What an evaluation finds: metrics of each user, and of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from sktwotower.metrics._bootstrap import mean_of
from sktwotower.metrics._registry import AGGREGATE, MetricSpec
from sktwotower.utils._warnings import warn


@dataclass(frozen=True, eq=False)
class UserMetrics:
    """Metrics of one evaluation, user by user.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        Users of the rows, in the order of their ids.
    user_of_row : ndarray of shape (n_rows,)
        Position in ``user_ids`` of the user of each row.
    per_user : dict of str to ndarray of shape (n_users,)
        NaN where a metric is not defined, for example for users without a relevant
        candidate.
    measured : ndarray of shape (n_users,), bool
        Users with a relevant pair that counts.
    n_dropped : ndarray of shape (n_users,), int64
        Number of relevant pairs of each user that do not count.
    n_seen : ndarray of shape (n_users,), int64
        Those of them that do not count because they were seen in training.
    weights : ndarray of shape (n_users,) or None
        Mean weight of the relevant rows of each user.
    ranked : ndarray of shape (n_queries, n_ranked), int64
        Columns of candidates; -1 throughout for queries that are not measured.
    is_ranked : ndarray of shape (n_queries,), bool
        Queries with a relevant pair that counts.
    user_of_query : ndarray of shape (n_queries,)
        Position in ``user_ids`` of the user of each query.
    n_items : int
        Number of candidates.
    notes : tuple of str
        What the caller should be warned of.
    """

    user_ids: np.ndarray
    user_of_row: np.ndarray
    per_user: dict[str, np.ndarray]
    measured: np.ndarray
    n_dropped: np.ndarray
    n_seen: np.ndarray
    weights: np.ndarray | None
    ranked: np.ndarray
    is_ranked: np.ndarray
    user_of_query: np.ndarray
    n_items: int
    notes: tuple[str, ...] = ()

    def value(self, key: str, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all users or of a mask of them; NaN if it is not defined for any."""
        if spec.name in AGGREGATE:
            return self.aggregate(spec, users)
        values = self.per_user[key]
        defined = ~np.isnan(values)
        if users is not None:
            defined &= users
        weights = None if self.weights is None else self.weights[defined]
        return mean_of(values[defined], weights)

    def aggregate(self, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all rankings together, or of the rankings of a mask of users."""
        rows = self.is_ranked
        if users is not None:
            rows = rows & users[self.user_of_query]
        if not rows.any():
            return float("nan")
        return float(spec.function(self.ranked[rows], self.n_items, k=spec.k))

    def counts(self, users: np.ndarray | None = None) -> dict[str, int]:
        """Numbers of users measured and left out, and of relevant pairs dropped."""
        users = np.ones(len(self.measured), dtype=bool) if users is None else users
        return {
            "n_users": int((self.measured & users).sum()),
            "n_left_out": int((~self.measured & users).sum()),
            "n_dropped": int(self.n_dropped[users].sum()),
            "n_seen": int(self.n_seen[users].sum()),
        }


def warn_of_notes(measured: Iterable[UserMetrics]) -> None:
    """Say what the caller should know of the numbers, once if several say the same."""
    for note in dict.fromkeys(chain.from_iterable(users.notes for users in measured)):
        warn(note)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one evaluation.

    Attributes
    ----------
    means : dict of str to float
        The value of each metric, over all users.
    counts : dict of str to int
        Numbers of users that the means are over and that were left out, and of relevant
        pairs that were dropped, and dropped as seen.
    users : UserMetrics or None
        The metrics user by user; None if nothing was ranked.
    """

    means: dict[str, float]
    counts: dict[str, int]
    users: UserMetrics | None = None

    def warn(self) -> None:
        """Say what the caller should know, such as that there was no user to measure."""
        if self.users is not None:
            warn_of_notes([self.users])
        if self.counts["n_users"] == 0:
            warn(
                "No user has a relevant item that could be recommended (none of the items "
                "of X is in the catalogue); the metrics are NaN.",
                UndefinedMetricWarning,
            )
