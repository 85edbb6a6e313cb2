"""What a training takes over from the model that it continues."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from sktwotower._data.encoder_growth import column_source
from sktwotower._data.roles import SIDES
from sktwotower._nn.absence import StreamingFrequencies, in_batch_log_absence
from sktwotower._nn.batches import TrainingRows, batch_sizes, n_replayed
from sktwotower._nn.distributed import Ranks, expect_shard
from sktwotower._nn.resize import RowSource, RowSources
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._training.configuration import Configuration
from sktwotower._training.data import TrainingData
from sktwotower._training.state import ModelState


def continued_by(state: ModelState, ranks: Ranks | None) -> ModelState:
    """The state that these processes go on from, with the codes of all users.

    Raises
    ------
    ValueError
        If it has the users of a shard that is not the one of this process.
    """
    if state.shard is None:
        return state
    shard = state.shard.shard
    expect_shard(
        shard,
        ranks,
        f". Continue it in the {shard.size} processes that have fitted it, or save it "
        "there, and load it, which loads all users.",
    )
    return state.with_all_users()


def table_sources(
    before: ModelState,
    data: TrainingData,
    configuration: Configuration,
    n_history_items: int,
    ranks: Ranks | None,
) -> RowSources:
    """For each table, the rows of the table before that its rows start from.

    Parameters
    ----------
    before : ModelState
        The model that is continued.
    data : TrainingData
        All users, items and columns of the new one.
    configuration : Configuration
        Says which side has an id.
    n_history_items : int
        Rows of the new history table; 0: there is none.
    ranks : Ranks or None
        The processes, each of which has the ids of its users.
    """
    sources: RowSources = {}
    for name in SIDES:
        old = before.side(name).entities
        now = data.side(name).entities
        if configuration.side(name).id_embedding:
            source = RowSource.append(
                int(old.id_codes.max()) + 1, int(now.id_codes.max()) + 1, first=0
            )
            if ranks is not None and name == "user":
                source = source.of_shard(ranks, is_whole=before.shard is None)
            sources[f"{name}_tower.id_table"] = source
        sparse, dense = now.field_order()
        if sparse:
            sources[f"{name}_tower.column_table"] = column_source(old, now, sparse)
        for i, field in enumerate(dense):
            sources[f"{name}_tower.dense_tables.{i}"] = column_source(old, now, [field])
    if n_history_items:
        sources["user_tower.history_table"] = RowSource.append(
            int(before.item.entities.id_codes.max()) + 1, n_history_items, first=-1
        )
    return sources


def streaming_frequencies(
    before: StreamingFrequencies | None,
    rows: TrainingRows,
    n_new: int,
    batch_size: int,
    ranks: Ranks | None,
) -> StreamingFrequencies | None:
    """How often items are in a batch; new items start from their counts in the new rows.

    Parameters
    ----------
    before : StreamingFrequencies or None
        The frequencies so far; None: computed from the replayed rows.
    rows : TrainingRows
        The new rows, and then the replayed ones.
    n_new : int
        Number of new rows.
    batch_size : int
        Rows of a batch, at most.
    ranks : Ranks or None
        The processes whose rows are counted together.

    Returns
    -------
    StreamingFrequencies or None
        None if all rows from before are replayed: their counts are exact.
    """

    def log_absence(counts: Tensor) -> Tensor:
        _, sizes = batch_sizes(int(counts.sum()), batch_size)
        return in_batch_log_absence(counts, max(sizes))

    is_new = torch.arange(len(rows)) < n_new
    new, old = (
        torch.bincount(rows.item_rows[rows.positive & part], minlength=rows.n_items)
        for part in (is_new, ~is_new)
    )
    if ranks is not None:
        new, old = ranks.sum(new), ranks.sum(old)
    n_before = int(old.sum())
    share = n_replayed(int(new.sum()), n_before) / n_before
    if share == 1:
        return None
    frequencies = deepcopy(before)
    if frequencies is None:
        frequencies = StreamingFrequencies(log_absence(old))
    frequencies.extend(log_absence(new + (share * old).round().long()))
    return frequencies


def rows_that_stay(data: TrainingData, towers: TwoTowers) -> dict[nn.Parameter, Tensor]:
    """Rows of the tables of ids and of history without an interaction in X.

    Parameters
    ----------
    data : TrainingData
        The rows of X.
    towers : TwoTowers
        As they are trained.

    Returns
    -------
    dict of Parameter to Tensor of shape (n_rows,), bool
        For each table, True for a row that does not change.
    """
    users, items = towers.user_tower, towers.item_tower
    user_ids, item_ids = data.user.entities.id_codes, data.item.entities.id_codes
    of_users = user_ids, data.interactions.users
    of_items = item_ids, data.interactions.items
    without = {}
    for table, (ids, codes) in (
        (users.id_table, of_users),
        (items.id_table, of_items),
        (users.history_table, of_items),
    ):
        if table is not None:
            has_one = np.zeros(int(ids.max()) + 1, dtype=bool)
            has_one[ids[codes]] = True
            has_one[0] = True  # the unknown id belongs to no interaction
            without[table] = torch.from_numpy(~data.share.any(has_one))
    return without
