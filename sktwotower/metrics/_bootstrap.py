"""The bootstrap over users, on arrays with one value a user."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from sktwotower._data.row_shares import ALL_ROWS, RowShare
from sktwotower.metrics._matched import FloatArray

_NAN = float("nan")
_UNDEFINED = (_NAN, _NAN, _NAN, _NAN, _NAN, _NAN)

# Numbers that are held at a time.
_BLOCK_SIZE = 2**22


def bootstrap_means(
    values: FloatArray,
    n_bootstrap: int,
    random_state: np.random.RandomState,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Means of resamples of the users.

    Parameters
    ----------
    values : ndarray of shape (n_users, n_metrics)
        NaN where a metric is not defined for a user; means are over the other users.
    n_bootstrap : int
        Number of resamples. Each draws n_users users with replacement, the same users for
        all metrics.
    random_state : RandomState
        Draws the users.
    weights : ndarray of shape (n_users,) or (n_users, n_metrics), default=None
        Weight of each user in the means, or in that of each metric; None: 1.

    Returns
    -------
    means : ndarray of shape (n_bootstrap, n_metrics)
        NaN where the metric is not defined for any user of the resample.
    """
    n_users = len(values)
    means = np.full((n_bootstrap, values.shape[1]), np.nan)
    if n_users == 0:
        return means
    defined = ~np.isnan(values)
    filled = np.where(defined, values, 0.0)
    if weights is None:
        weights = np.ones(n_users)
    weights = weights.reshape(n_users, -1)
    size = max(1, _BLOCK_SIZE // n_users)
    for start in range(0, n_bootstrap, size):
        n = min(size, n_bootstrap - start)
        drawn = random_state.randint(n_users, size=(n, n_users))
        keys = (drawn + np.arange(n)[:, np.newaxis] * n_users).ravel()
        n_drawn = np.bincount(keys, minlength=n * n_users).reshape(n, n_users)
        total = n_drawn @ (weights * defined)
        block = means[start : start + n]
        np.divide(n_drawn @ (weights * filled), total, out=block, where=total > 0)
    return means


def interval(means: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of each column; NaN for a column of NaN."""
    tail = (1 - confidence) / 2
    low_high = np.full((2, means.shape[1]), np.nan)
    for column, values in enumerate(means.T):
        values = values[~np.isnan(values)]
        if len(values):
            low_high[:, column] = np.quantile(values, [tail, 1 - tail])
    return low_high[0], low_high[1]


@dataclass(frozen=True, eq=False)
class PairedDifference:
    """A bootstrap test of whether a mean difference is 0.

    Attributes
    ----------
    mean, low, high : float
        Mean over users and percentile interval.
    below, above : float
        Shares of the resamples with a mean below and above 0. Like ``low`` and ``high``,
        NaN if no resample has a user for which both values are defined.
    p_value : float
        Two-sided: twice the share of the resamples on the rarer side of 0. Means of 0
        count on both sides. 1 if no resample has such a user.
    n_users : int
        Users for which both values are defined.
    """

    mean: float
    low: float
    high: float
    below: float
    above: float
    p_value: float
    n_users: int


def paired_bootstrap(
    differences: FloatArray,
    n_bootstrap: int,
    random_state: np.random.RandomState,
    *,
    confidence: float = 0.95,
    weights: FloatArray | None = None,
) -> list[PairedDifference]:
    """Test whether the mean of each column of differences is 0.

    With B resamples, of which b have a mean of at most 0 and a of at least 0::

        p = min(1, 2 * min(b + 1, a + 1) / (B + 1))

    Parameters
    ----------
    differences : ndarray of shape (n_users, n_columns)
        The value of one model minus the value of another, user by user; NaN where either
        is not defined.
    n_bootstrap : int
        Number of resamples.
    random_state : RandomState
        Draws the users.
    confidence : float, default=0.95
        Confidence of the interval.
    weights : ndarray of shape (n_users,) or (n_users, n_columns), default=None
        Weight of each user, or in each column; None: 1.

    References
    ----------
    B. Efron, R. Tibshirani (1993). An Introduction to the Bootstrap, chapters 13, 15.
    """
    drawn = bootstrap_means(differences, n_bootstrap, random_state, weights)
    lows, highs = interval(drawn, confidence)
    if weights is not None:
        weights = np.broadcast_to(weights.reshape(len(differences), -1), differences.shape)
    tests = []
    for column, values in enumerate(differences.T):
        defined = ~np.isnan(values)
        values = values[defined]
        if not len(values):
            tests.append(PairedDifference(*_UNDEFINED, n_users=0))
            continue
        means = drawn[:, column]
        means = means[~np.isnan(means)]
        below, above = (
            mean_of(side.astype(np.float64), None) for side in (means < 0, means > 0)
        )
        rarer = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
        tests.append(
            PairedDifference(
                mean=mean_of(values, None if weights is None else weights[defined, column]),
                low=float(lows[column]),
                high=float(highs[column]),
                below=below,
                above=above,
                p_value=min(1.0, 2 * (rarer + 1) / (len(means) + 1)),
                n_users=len(values),
            )
        )
    return tests


def mean_of(
    values: FloatArray, weights: FloatArray | None, share: RowShare = ALL_ROWS
) -> float:
    """Mean, weighted if there are weights; NaN for no values and for weights of 0.

    With a ``share``, it is the mean of the values of all processes.
    """
    if weights is None:
        weights = np.ones(len(values))
    total, weight = share.sum(np.array([(weights * values).sum(), weights.sum()]))
    return float(total / weight) if weight else _NAN


@dataclass(frozen=True, eq=False)
class Resampling:
    """The checked parameters of a bootstrap.

    Attributes
    ----------
    n_bootstrap : int
        Number of resamples.
    confidence : float
        Confidence of the intervals.
    random_state : RandomState
        Draws the users.
    """

    n_bootstrap: int
    confidence: float
    random_state: np.random.RandomState

    @classmethod
    def checked(
        cls,
        n_bootstrap: int,
        confidence: float,
        random_state: int | np.random.RandomState | None,
    ) -> Resampling:
        """With a new generator for None, in place of NumPy's global one."""
        if not isinstance(n_bootstrap, Integral) or n_bootstrap is True or n_bootstrap < 1:
            raise ValueError(
                f"n_bootstrap must be an integer of at least 1; got {n_bootstrap!r}."
            )
        if not isinstance(confidence, Real) or not 0 < float(confidence) < 1:
            raise ValueError(
                f"confidence must be above 0 and below 1, such as 0.95; got {confidence!r}."
            )
        if random_state is None:
            return cls(n_bootstrap, confidence, np.random.RandomState())
        return cls(n_bootstrap, confidence, check_random_state(random_state))
