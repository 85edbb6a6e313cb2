"""Which rows are validated on, which epoch is the best, and how many a refit takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd

from sktwotower._data.interactions import Interactions, codes_of
from sktwotower._data.row_shares import RowShare
from sktwotower._training.configuration import StoppingRule
from sktwotower._training.state import ModelState
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._query_rows import QueryRows, query_rows
from sktwotower.metrics._registry import OF_ROWS
from sktwotower.metrics._sources import EvaluationSource
from sktwotower.metrics._task import RankingOptions
from sktwotower.metrics._user_metrics import Evaluation
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import rank_from_end


def hold_out(
    interactions: Interactions, fraction: float, random_state: np.random.RandomState
) -> np.ndarray:
    """Rows to validate on while the others train.

    With timestamps they are the latest rows of each user, ``fraction`` of the user's rows
    on average; without, a random share of all rows. Each user and each item keeps at least
    one row, so that all of them are trained. A row is not held out if its pair is also in
    a training row, with any label, because a seen item would not be recommended.

    Several processes that have the rows of some users each hold out what one would.

    Parameters
    ----------
    interactions : Interactions
        Only positive rows are held out.
    fraction : float
        In (0, 1).
    random_state : RandomState
        Rounds a user's share up or down, or draws the rows.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    share = interactions.share
    positive = np.flatnonzero(interactions.positive)
    users = pd.factorize(interactions.users[positive])[0]
    items = codes_of(interactions.items)[positive]
    if interactions.times is None:
        n = int(share.sum(np.array(len(positive))))
        times = _drawn(share, interactions.positive, random_state.permutation)
        held = times >= n - int(fraction * n)
        held &= rank_from_end(users, -times) > 0  # the user's first one stays
    else:
        times = interactions.times[positive]
        counts = np.bincount(users)
        is_first = np.zeros(len(interactions), dtype=bool)
        is_first[positive[np.unique(users, return_index=True)[1]]] = True
        drawn = _drawn(share, is_first, lambda n: random_state.uniform(size=n))
        n_held = np.minimum(np.floor(fraction * counts + drawn), counts - 1)
        held = rank_from_end(users, times) < n_held[users]
    n_items = int(share.max(items.max(initial=0))) + 1
    pairs = users * n_items + items
    held &= ~np.isin(pairs, pairs[~held]) & ~_are_rejected(interactions)[positive]
    # An item whose rows are all held out gets one back, with all rows of that pair.
    trained = share.any(np.bincount(items[~held], minlength=n_items) > 0)
    lacking = column_store.full(len(interactions), -1, np.int32)
    lacking[positive] = np.where(trained[items], -1, items)
    held &= ~np.isin(pairs, pairs[_are_last(share, lacking)[positive]])
    mask = np.zeros(len(interactions), dtype=bool)
    mask[positive[held]] = True
    return mask


def _drawn(
    share: RowShare, rows: np.ndarray, draw: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Numbers that are drawn for some rows of all processes, those of this process.

    Parameters
    ----------
    share : RowShare
        Which rows this process has.
    rows : ndarray of shape (n,), bool
        The rows of this process for which numbers are drawn.
    draw : callable
        Returns so many numbers, which all processes draw alike, in the order of X.
    """
    whole = share.whole_column(rows)
    numbers = column_store.empty(len(whole), np.float64)
    numbers[whole] = draw(int(np.count_nonzero(whole)))
    return share.own(numbers)[rows]


def _are_last(share: RowShare, items: np.ndarray) -> np.ndarray:
    """Whether the rows (n,) are the last ones of their item in X; False for items of -1."""
    whole = share.whole_column(items)
    rows = np.flatnonzero(whole >= 0)
    are_last = np.zeros(len(whole), dtype=bool)
    are_last[rows[rank_from_end(whole[rows]) == 0]] = True
    return share.own(are_last)


def _are_rejected(interactions: Interactions) -> np.ndarray:
    """Whether each row's pair is also in a row that is not positive, (n,) bool."""
    if interactions.positive.all():
        return np.zeros(len(interactions), dtype=bool)
    users, items = codes_of(interactions.users), codes_of(interactions.items)
    pairs = users.astype(np.int64) * (items.max(initial=0) + 1) + items
    return np.isin(pairs, pairs[~interactions.positive])


class Validation:
    """Scores each epoch, and counts epochs without progress.

    Each of several processes scores the users whose rows it has; all of them find the same
    scores, which are of all users.

    Parameters
    ----------
    interactions : Interactions
        Held-out rows, which are ranked against the whole catalogue.
    source_of : callable
        Makes what the evaluation asks for from a :class:`ModelState`.
    rule : StoppingRule
        The metrics, and when to stop.
    held_out : bool
        Whether the rows are a part of the X of ``fit`` that does not train, and are seen
        only for that reason. Of other rows, pairs that were seen are dropped, as a scorer
        does it; the caller is warned after the first epoch.
    """

    def __init__(
        self,
        interactions: Interactions,
        source_of: Callable[[ModelState], EvaluationSource],
        rule: StoppingRule,
        *,
        held_out: bool,
    ) -> None:
        self.interactions = interactions
        self.source_of = source_of
        self.rule = rule
        self.held_out = held_out
        self.scores: dict[str, list[float]] = {metric: [] for metric in rule.metrics}
        self.best_score = -np.inf
        self.best_epoch = 0
        self.n_without_progress = 0
        self._refuse_one_class()

    def _refuse_one_class(self) -> None:
        """Raise ValueError for metrics of rows where all rows are positives."""
        of_rows = [metric for metric in self.rule.metrics if metric in OF_ROWS]
        rows = self.interactions
        if of_rows and not rows.share.any(not rows.positive.all()):
            what = (
                "early stopping holds out positives only"
                if self.held_out
                else ("X_val has only positives (y_val is None, or all of y_val > 0)")
            )
            raise ValueError(
                f"validation_metric={of_rows[0]!r} needs rows of both classes, and {what}. "
                "Pass X_val and y_val; sktwotower.model_selection.sample_negatives adds "
                "rows with y = 0."
            )

    @cached_property
    def _queries(self) -> QueryRows:
        """The rows that are asked with, which are those of every epoch."""
        return query_rows(self.interactions, per_row=False)

    def score(self, state: ModelState) -> bool:
        """Score this epoch; True if training should stop."""
        metrics = self.rule.metrics
        deciding = self.scores[metrics[0]]
        is_first = not deciding
        options = RankingOptions(
            held_out=self.held_out,
            queries=self._queries,
            with_notes=is_first and not self.held_out,
            name="X_val",
            advice="Leave these pairs out of X_val.",
        )
        evaluation = evaluate(self.source_of(state), self.interactions, metrics, options)
        if evaluation.counts["n_users"] == 0:
            raise ValueError(f"There is nothing to validate on: {_why_nothing(evaluation)}")
        if is_first and not self.held_out:
            evaluation.warn()
        for metric, scores in self.scores.items():
            scores.append(evaluation.means[metric])
        score = deciding[-1]
        if np.isnan(score) and self.rule.early_stopping:
            raise ValueError(
                f"early_stopping=True, but {metrics[0]!r}, which decides when to stop, is "
                "not defined for any user that is validated on. Let another metric come "
                "first in validation_metric, or pass another X_val."
            )
        progress = score > self.best_score + self.rule.tol
        self.n_without_progress = 0 if progress else self.n_without_progress + 1
        if score > self.best_score:
            self.best_score, self.best_epoch = score, len(deciding)
        patience_is_over = self.n_without_progress >= self.rule.n_iter_no_change
        return self.rule.early_stopping and patience_is_over

    @property
    def keeps_weights(self) -> bool:
        """Whether the model may end with the weights of the epoch that was scored last."""
        is_best = self.best_epoch == len(self.scores[self.rule.metrics[0]])
        is_refitted = self.held_out and self.rule.refit
        return is_best and self.rule.early_stopping and not is_refitted

    @property
    def n_refit_epochs(self) -> int:
        """How many epochs a refit takes.

        The mean over an epoch and its neighbours decides. A single score is easily the
        highest by chance, and another fit does not repeat it.
        """
        scores = np.nan_to_num(self.scores[self.rule.metrics[0]], nan=-np.inf)
        sums, counts = (
            np.convolve(values, np.ones(3), mode="same")
            for values in (scores, np.ones(len(scores)))
        )
        return 1 + int(np.argmax(sums / counts))


def _why_nothing(evaluation: Evaluation) -> str:
    """Why an evaluation has no user."""
    if evaluation.users is not None and not evaluation.users.has_rankings:
        return "no user of X_val has rows of both classes, y_val > 0 and y_val <= 0."
    return "none of the items of X_val is in the catalogue, which has the items of X."
