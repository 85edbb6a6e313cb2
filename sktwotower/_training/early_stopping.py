"""Which rows are validated on, and when an epoch is the best."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from sktwotower._data.interactions import Interactions
from sktwotower.metrics._evaluation import evaluate
from sktwotower.utils._columns import places_from_end


def hold_out(
    interactions: Interactions, fraction: float, random_state: np.random.RandomState
) -> np.ndarray:
    """Rows to validate on while the others train.

    With timestamps they are each user's latest, ``fraction`` of the user's rows on
    average; without, a random share of all rows. Neither a user nor an item ever loses
    all its rows, so whoever is in X is trained; and no row is held out whose pair trains
    in another row, since that one would not be recommended.

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
        held &= places_from_end(users, -times) > 0  # the user's first one stays
    else:
        times = interactions.times[positive]
        counts = np.bincount(users)
        share = np.floor(fraction * counts + random_state.uniform(size=len(counts)))
        held = places_from_end(users, times) < np.minimum(share, counts - 1)[users]
    pairs = users * (items.max(initial=0) + 1) + items
    held &= ~np.isin(pairs, pairs[~held])
    # An item whose rows are all held out gets one of them back, and the rows of its pair.
    trained = np.bincount(items[~held], minlength=items.max(initial=0) + 1) > 0
    back = ~trained[items] & (places_from_end(items) == 0)
    held &= ~np.isin(pairs, pairs[back])
    mask = np.zeros(len(interactions), dtype=bool)
    mask[positive[held]] = True
    return mask


class Validation:
    """Scores epoch after epoch, keeps the weights of the best, and loses patience.

    Parameters
    ----------
    interactions : Interactions
        What is ranked against the full catalogue.
    metric : str
        What counts.
    tol : float
        An epoch that is not better by this much is no progress.
    patience : int
        Epochs without progress before it is enough.
    """

    def __init__(
        self, interactions: Interactions, metric: str, tol: float, patience: int
    ) -> None:
        self.interactions = interactions
        self.metric = metric
        self.tol = tol
        self.patience = patience
        self.scores: list[float] = []
        self.best_score = -np.inf
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.n_without_progress = 0

    def look(self, recommender: Any, towers: nn.Module) -> bool:
        """Score this epoch; True when patience has run out."""
        evaluation = evaluate(recommender, self.interactions, [self.metric])
        if evaluation.n_users == 0:
            raise ValueError(
                "There is nothing to validate on: none of the items of X_val is in the "
                "catalogue, which has the items of X."
            )
        score = evaluation.means[self.metric]
        self.scores.append(score)
        progress = score > self.best_score + self.tol
        self.n_without_progress = 0 if progress else self.n_without_progress + 1
        if score > self.best_score:
            self.best_score, self.best_epoch = score, len(self.scores)
            self.best_weights = deepcopy(towers.state_dict())
        return self.n_without_progress >= self.patience
