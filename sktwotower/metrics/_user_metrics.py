"""What an evaluation finds: metrics of each user, and of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from sktwotower._data.interactions import Interactions
from sktwotower._data.row_shares import RowShare
from sktwotower.metrics._bootstrap import mean_of
from sktwotower.metrics._labelled_rows import LabelledRows
from sktwotower.metrics._query_rows import sorted_codes
from sktwotower.metrics._registry import AGGREGATE, MetricSpec
from sktwotower.utils._warnings import warn

_ONE_CLASS_NOTE = (
    "No user of X has rows of both classes, y > 0 and y <= 0; {} is NaN. "
    "sktwotower.model_selection.sample_negatives adds rows with y = 0."
)


@dataclass(frozen=True, eq=False)
class UserMetrics:
    """Metrics of one evaluation, user by user.

    The arrays are of the users of this process. What the methods return is of all users,
    so that all processes call them.

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
        Users with a relevant pair that counts; where nothing is ranked, users with rows of
        both classes.
    n_dropped : ndarray of shape (n_users,), int64
        Number of relevant pairs of each user that do not count.
    n_seen : ndarray of shape (n_users,), int64
        Those of them that do not count because they were seen in training.
    weights : ndarray of shape (n_users,) or None
        Mean weight of the relevant rows of each user; None without weights.
    row_weights : ndarray of shape (n_users,)
        Number of rows of each user, or the sum of their weights.
    ranked : ndarray of shape (n_queries, n_ranked), int64
        Columns of candidates; -1 throughout for queries that are not measured.
    is_ranked : ndarray of shape (n_queries,), bool
        Queries with a relevant pair that counts.
    user_of_query : ndarray of shape (n_queries,)
        Position in ``user_ids`` of the user of each query.
    n_items : int
        Number of candidates.
    share : RowShare
        Whether these are all users, or those of one of several processes.
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
    row_weights: np.ndarray
    ranked: np.ndarray
    is_ranked: np.ndarray
    user_of_query: np.ndarray
    n_items: int
    share: RowShare
    notes: tuple[str, ...] = ()

    def value(self, key: str, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all users or of a mask of them; NaN if it is not defined for any."""
        if spec.name in AGGREGATE:
            return self.aggregate(spec, users)
        values = self.per_user[key]
        defined = ~np.isnan(values)
        if users is not None:
            defined &= users
        weights = self.weights_of(spec)
        weights = None if weights is None else weights[defined]
        return mean_of(values[defined], weights, self.share)

    @classmethod
    def of_rows(cls, interactions: Interactions) -> UserMetrics:
        """The users of rows that nothing is ranked for, before they are measured."""
        users, user_ids = sorted_codes(interactions.users)
        nothing, zeros = np.empty(0, dtype=np.int64), np.zeros(len(user_ids), np.int64)
        return cls(
            user_ids=user_ids,
            user_of_row=users,
            per_user={},
            measured=zeros > 0,
            n_dropped=zeros,
            n_seen=zeros,
            weights=None,
            row_weights=np.bincount(users, interactions.weights),
            ranked=np.empty((0, 0), dtype=np.int64),
            is_ranked=nothing > 0,
            user_of_query=nothing,
            n_items=0,
            share=interactions.share,
        )

    def with_rows(self, rows: LabelledRows, specs: Mapping[str, MetricSpec]) -> UserMetrics:
        """The same with metrics of the labelled rows of each user."""
        if not specs:
            return self
        values = rows.of_users(dict(specs), self.user_of_row, len(self.user_ids))
        has_both = np.bincount(self.user_of_row, rows.interactions.positive) > 0
        has_both &= np.bincount(self.user_of_row, ~rows.interactions.positive) > 0
        notes = self.notes
        if not self.share.any(has_both.any()):
            notes = (*notes, _ONE_CLASS_NOTE.format(", ".join(specs)))
        return replace(
            self,
            per_user=self.per_user | values,
            measured=self.measured if self.has_rankings else has_both,
            notes=notes,
        )

    def weights_of(self, spec: MetricSpec) -> np.ndarray | None:
        """The weight of each user in the mean of a metric, (n_users,); None: equal."""
        return self.row_weights if spec.is_within_users else self.weights

    @property
    def has_rankings(self) -> bool:
        """Whether anything was ranked."""
        return bool(self.share.any(len(self.is_ranked) > 0))

    def aggregate(self, spec: MetricSpec, users: np.ndarray | None = None) -> float:
        """A metric of all rankings together, or of the rankings of a mask of users."""
        rows = self.is_ranked
        if users is not None:
            rows = rows & users[self.user_of_query]
        if not self.share.any(rows.any()):
            return float("nan")
        ranked = self.share.joined(*self.ranked[rows, : spec.k].T)
        return float(spec.function(np.stack(ranked, axis=1), self.n_items, k=spec.k))

    def counts(self, users: np.ndarray | None = None) -> dict[str, int]:
        """Numbers of users measured and left out, and of relevant pairs dropped."""
        users = np.ones(len(self.measured), dtype=bool) if users is None else users
        own = {
            "n_users": (self.measured & users).sum(),
            "n_left_out": (~self.measured & users).sum(),
            "n_dropped": self.n_dropped[users].sum(),
            "n_seen": self.n_seen[users].sum(),
        }
        found = self.share.sum(np.array(list(own.values()), dtype=np.int64))
        return dict(zip(own, found.tolist(), strict=True))


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
        The metrics user by user; None if no metric has a value for each user.
    """

    means: dict[str, float]
    counts: dict[str, int]
    users: UserMetrics | None = None

    def warn(self) -> None:
        """Say what the caller should know, such as that there was no user to measure."""
        if self.users is not None:
            warn_of_notes([self.users])
        if self.counts["n_users"] == 0 and (self.users is None or self.users.has_rankings):
            warn(
                "No user has a relevant item that could be recommended (none of the items "
                "of X is in the catalogue); the metrics are NaN.",
                UndefinedMetricWarning,
            )
