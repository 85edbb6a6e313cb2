"""Which rows are validated on, which epoch is the best, and how many a refit takes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from sktwotower._data.interactions import Interactions, codes_of
from sktwotower._training.configuration import StoppingRule
from sktwotower._training.state import ModelState
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._query_rows import QueryRows, query_rows
from sktwotower.metrics._registry import OF_ROWS
from sktwotower.metrics._sources import EvaluationSource
from sktwotower.metrics._task import RankingOptions
from sktwotower.metrics._user_metrics import Evaluation
from sktwotower.utils._columns import rank_from_end


def hold_out(
    interactions: Interactions, fraction: float, random_state: np.random.RandomState
) -> np.ndarray:
    """Rows to validate on while the others train.

    With timestamps they are the latest rows of each user, ``fraction`` of the user's rows
    on average; without, a random share of all rows. Each user and each item keeps at least
    one row, so that all of them are trained. A row is not held out if its pair is also in
    a training row, with any label, because a seen item would not be recommended.

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
    positive = np.flatnonzero(interactions.positive)
    users = pd.factorize(interactions.users[positive])[0]
    items = pd.factorize(interactions.items[positive])[0]
    if interactions.times is None:
        times = random_state.permutation(len(positive))
        held = times >= len(positive) - int(fraction * len(positive))
        held &= rank_from_end(users, -times) > 0  # the user's first one stays
    else:
        times = interactions.times[positive]
        counts = np.bincount(users)
        share = np.floor(fraction * counts + random_state.uniform(size=len(counts)))
        held = rank_from_end(users, times) < np.minimum(share, counts - 1)[users]
    pairs = users * (items.max(initial=0) + 1) + items
    held &= ~np.isin(pairs, pairs[~held]) & ~_are_rejected(interactions)[positive]
    # An item whose rows are all held out gets one back, with all rows of that pair.
    trained = np.bincount(items[~held], minlength=items.max(initial=0) + 1) > 0
    back = ~trained[items] & (rank_from_end(items) == 0)
    held &= ~np.isin(pairs, pairs[back])
    mask = np.zeros(len(interactions), dtype=bool)
    mask[positive[held]] = True
    return mask


def _are_rejected(interactions: Interactions) -> np.ndarray:
    """Whether each row's pair is also in a row that is not positive, (n,) bool."""
    if interactions.positive.all():
        return np.zeros(len(interactions), dtype=bool)
    users, items = codes_of(interactions.users), codes_of(interactions.items)
    pairs = users.astype(np.int64) * (items.max(initial=0) + 1) + items
    return np.isin(pairs, pairs[~interactions.positive])


class Validation:
    """Scores each epoch, keeps the best weights, and counts epochs without progress.

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
        self.best_weights: dict[str, torch.Tensor] = {}
        self.n_without_progress = 0
        self._refuse_one_class()

    def _refuse_one_class(self) -> None:
        """Raise ValueError for metrics of rows where all rows are positives."""
        of_rows = [metric for metric in self.rule.metrics if metric in OF_ROWS]
        if of_rows and self.interactions.positive.all():
            rows = (
                "early stopping holds out positives only"
                if self.held_out
                else ("X_val has only positives (y_val is None, or all of y_val > 0)")
            )
            raise ValueError(
                f"validation_metric={of_rows[0]!r} needs rows of both classes, and {rows}. "
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
            self.best_weights = deepcopy(state.towers.state_dict())
        patience_is_over = self.n_without_progress >= self.rule.n_iter_no_change
        return self.rule.early_stopping and patience_is_over

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
