"""The rows that a training goes through, and what the user tower gets for each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sktwotower._data.entities import Entities
from sktwotower._data.histories import InteractionCodes, PastItems
from sktwotower._data.row_shares import OwnRows, RowShare
from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._nn.sequence_rows import SequenceRows
from sktwotower._training.data import TrainingData
from sktwotower._training.settings import HistorySettings, Settings, TransformerSettings
from sktwotower.utils import _column_store as column_store

_SMALLEST_WEIGHT = np.float32(1e-30)


def past_items(
    interactions: InteractionCodes,
    users: Entities,
    items: Entities,
    history: HistorySettings,
) -> PastItems:
    """Histories of all users, from these interactions."""
    if history.drawn_share:  # it draws from all rows of a user, whatever their times
        interactions = replace(interactions, times=None)
    return PastItems.of(
        interactions,
        len(users),
        history.size,
        items.id_codes,
        are_sequences=isinstance(history, TransformerSettings),
    )


def with_unit_prior(user_rows: EntityRows, temperature: float) -> EntityRows:
    """The users with the weight of popularity in training, where the prior counts as 1."""
    weights = np.full((len(user_rows), 1), np.float32(temperature))
    return replace(user_rows, appended=torch.from_numpy(weights))


def training_rows(
    data: TrainingData,
    settings: Settings,
    train_rows: np.ndarray,
    user_rows: EntityRows,
    replayed: InteractionCodes | None,
    ranks: Ranks | None = None,
) -> tuple[TrainingRows, TowerRows, PastItems | None, int]:
    """Rows to train on, what they point into, histories, and the number of new rows.

    With several processes these are the rows of the users of this rank. Nothing that comes
    later in training looks at other rows.

    Parameters
    ----------
    data : TrainingData
        The rows of X.
    settings : Settings
        Say whether there are histories.
    train_rows : ndarray of shape (n_samples,), bool
        The rows of X that train.
    user_rows : EntityRows
        What the user tower reads of each user, beside the history.
    replayed : InteractionCodes or None
        Rows from before that are trained again; they come last.
    ranks : Ranks or None, optional
        The processes.
    """
    interactions, inputs, weights = _rows_of_X(data, train_rows)
    if ranks is not None and not isinstance(data.share, OwnRows):
        id_codes = data.user.entities.id_codes
        own = ranks.owns(column_store.take(id_codes, interactions.users))
        interactions, inputs = interactions.take(own), column_store.take(inputs, own)
        weights = None if weights is None else column_store.take(weights, own)
        if replayed is not None:
            replayed = replayed.take(
                ranks.owns(column_store.take(id_codes, replayed.users))
            )
    ordered, n_new, n_replayed = interactions, len(interactions), 0
    if replayed is not None:
        # The new rows come first, but have their place in the histories. The replayed
        # rows have their users' present features: those of their time are not kept.
        n_replayed = len(replayed)
        ordered = interactions.followed_by(replayed)
        interactions = replayed.followed_by(interactions)
        inputs = column_store.joined([inputs, replayed.users])
        if weights is not None:
            ones = np.broadcast_to(np.float32(1), n_replayed)
            weights = column_store.joined([weights, ones])
    is_users = np.array_equal(inputs, ordered.users)  # each user has one row
    rows = TrainingRows(
        torch.from_numpy(ordered.users),
        torch.from_numpy(ordered.items),
        torch.from_numpy(ordered.positive),
        None if weights is None else torch.from_numpy(weights),
        n_users=len(data.user.entities) + 1,
        n_items=len(data.item.entities) + 1,
        user_inputs=None if is_users else torch.from_numpy(inputs),
    )
    history = settings.history
    if history is None:
        return rows, user_rows, None, n_new
    past = past_items(interactions, data.user.entities, data.item.entities, history)
    if history.drawn_share and replayed is None:
        drawn = past.to_draw_from(user_rows, inputs, interactions.users)
        return rows, drawn, past, n_new
    # The new rows come last in the histories.
    before = past.before_events(user_rows, inputs, ordered.items, first=n_replayed)
    numbers = torch.from_numpy(column_store.arange(len(interactions)))
    sequences = before.sequence_of if isinstance(before, SequenceRows) else None
    rows = replace(rows, user_inputs=numbers, sequences=sequences)
    return rows, before, past, n_new


def _rows_of_X(
    data: TrainingData, train_rows: np.ndarray
) -> tuple[InteractionCodes, np.ndarray, np.ndarray | None]:
    """The rows of X that train: codes, inputs of the user tower, and weights."""
    interactions, inputs, weights = data.interactions, data.user_inputs, data.weights
    if not train_rows.all():  # no copy where all rows train
        interactions = interactions.take(train_rows)
        inputs = column_store.take(inputs, train_rows)
        weights = None if weights is None else column_store.take(weights, train_rows)
    if weights is not None:
        weights = _scaled(weights, data.share)
    return interactions, inputs, weights


def _scaled(weights: np.ndarray, share: RowShare) -> np.ndarray:
    """Weights with a mean of 1, as float32; none of them becomes 0."""
    with np.errstate(over="ignore"):
        mean = share.mean(weights)  # so that the scale of weights does not matter
    if not np.isfinite(mean):
        weights = weights / share.max(weights.max(initial=0))
        mean = share.mean(weights)
    scaled = column_store.empty(len(weights), np.float32)
    np.divide(weights, mean, out=scaled, casting="same_kind")
    # A batch of rows of weight 0 would have no mean loss.
    return np.maximum(scaled, _SMALLEST_WEIGHT, out=scaled)
