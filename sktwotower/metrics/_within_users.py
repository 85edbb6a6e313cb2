"""Metrics of the labelled rows of each user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sktwotower.metrics._matched import FloatArray


def roc_gauc(
    labels: np.ndarray,
    scores: FloatArray,
    users: np.ndarray,
    n_users: int,
    sample_weight: np.ndarray | None = None,
) -> FloatArray:
    """Area under the ROC curve among the rows of each user.

    The share of the pairs of a positive and a negative row of the user that scores put in
    the right order; a tie counts one half. With weights of rows, a pair has the product of
    both.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,)
        Positive where above 0.
    scores : ndarray of shape (n_rows,)
        The scores of ``predict``.
    users : ndarray of shape (n_rows,), int
        Number of the user of each row.
    n_users : int
        Number of users.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weight of each row; None: 1.

    Returns
    -------
    values : ndarray of shape (n_users,)
        In [0, 1]; NaN for users of one class.
    """
    order = np.lexsort((scores, users))
    users, scores, positive = users[order], scores[order], labels[order] > 0
    weights = np.ones(len(order)) if sample_weight is None else sample_weight[order]
    of_positives = np.where(positive, weights, 0.0)
    of_negatives = np.where(positive, 0.0, weights)
    # Rows of one user with one score are a tie.
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (users[1:] != users[:-1]) | (scores[1:] != scores[:-1])
    ties = np.cumsum(is_new) - 1
    tied = np.bincount(ties, of_negatives)
    user_of_tie = users[is_new]
    n_positive = np.bincount(users, of_positives, n_users)
    n_negative = np.bincount(users, of_negatives, n_users)
    below = np.cumsum(tied) - tied - (np.cumsum(n_negative) - n_negative)[user_of_tie]
    in_order = np.bincount(ties, of_positives) * (below + tied / 2)
    n_pairs = n_positive * n_negative
    values = np.full(n_users, np.nan)
    totals = np.bincount(user_of_tie, in_order, n_users)
    np.divide(totals, n_pairs, out=values, where=n_pairs > 0)
    return values


def within_users(metric: Callable[[np.ndarray, np.ndarray], float]) -> WithinUsers:
    """Make a metric of the labelled rows of each user, for scorers and reports.

    Use it for metrics of scikit-learn, and for your own, that should compare the rows of a
    user with each other only: among all rows together, a score that is high for active
    users looks good although it orders nothing. The area under the ROC curve has a name,
    ``"roc_gauc"``.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_score)`` returns a number. It is called once for each user with
        rows of both classes, `y` above 0 and not. `y_true` has the y of the user's rows,
        `y_score` the scores of ``predict``; both have shape (n_rows_of_user,). NaN leaves
        the user out.

    Returns
    -------
    metric : callable
        A metric for :func:`make_ranking_scorer`, :func:`ranking_report` and
        :func:`compare`. It has the name of `metric`. In the mean, a user counts with the
        number of its rows, or with the sum of their weights.

    Raises
    ------
    TypeError
        If `metric` is not callable.

    See Also
    --------
    make_ranking_scorer : Scorers of it; a plain callable there is a metric of rankings.
    sktwotower.model_selection.sample_negatives : Rows to compare with, if all are
        positives.

    References
    ----------
    H. Zhu et al. (2017). Optimized cost per click in Taobao display advertising. KDD:
    weights by rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import average_precision_score
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.metrics import make_ranking_scorer, within_users
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["ann", "milk"]]
    >>> y = [1, 1, 1, 0]
    >>> scorer = make_ranking_scorer(within_users(average_precision_score))
    >>> scorer(PopularRecommender().fit(X, y), X, y)
    1.0
    """
    if not callable(metric):
        raise TypeError(
            f"within_users takes a callable metric(y_true, y_score); got {metric!r}. "
            "The area under the ROC curve is the metric 'roc_gauc'."
        )
    return WithinUsers(metric)


class WithinUsers:
    """What :func:`within_users` returns; a class, so that it can be pickled.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_score)``.
    """

    def __init__(self, metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
        self.metric = metric

    def __repr__(self) -> str:
        return f"within_users({self.__name__})"

    @property
    def __name__(self) -> str:
        """The name of the metric."""
        metric: Any = getattr(self.metric, "func", self.metric)  # of functools.partial
        return getattr(metric, "__name__", repr(metric))

    def __call__(
        self,
        labels: np.ndarray,
        scores: FloatArray,
        users: np.ndarray,
        n_users: int,
        sample_weight: np.ndarray | None = None,
    ) -> FloatArray:
        """One value a user, (n_users,), as :func:`roc_gauc` takes rows."""
        values = np.full(n_users, np.nan)
        order = np.argsort(users, kind="stable")
        ends = np.cumsum(np.bincount(users, minlength=n_users))
        for user, rows in enumerate(np.split(order, ends[:-1])):
            positive = labels[rows] > 0
            if positive.any() and not positive.all():
                values[user] = self._value(self.metric(labels[rows], scores[rows]))
        return values

    def _value(self, value: ArrayLike) -> float:
        if np.ndim(value) != 0:
            raise ValueError(
                f"Metric {self.__name__!r} returned shape {np.shape(value)} for the rows "
                "of a user; it must return a number."
            )
        return float(np.asarray(value))
