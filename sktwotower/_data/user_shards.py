"""The users of one of several processes, each of which has a shard of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sktwotower._data.entities import Entities
from sktwotower._data.vocabulary import Ids, Vocabulary
from sktwotower._nn.shards import Shard


class ShardVocabulary(Vocabulary):
    """Codes of the ids of a shard; ids of other shards are refused.

    Parameters
    ----------
    ids : ndarray of shape (n,)
        The ids of the shard.
    shard : Shard
        Which shard it is.
    of_all : Vocabulary
        The ids of all shards.
    """

    def __init__(self, ids: np.ndarray, shard: Shard, of_all: Vocabulary) -> None:
        super().__init__(ids)
        self.shard = shard
        self.of_all = of_all

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "shard": self.shard, "of_all": self.of_all}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.shard, self.of_all = state["shard"], state["of_all"]

    def codes(self, ids: Ids) -> np.ndarray:
        """Codes of ids, (n,) int32; 0 for unknown ids.

        Raises
        ------
        ValueError
            For ids of other shards.
        """
        if isinstance(ids, pd.Categorical):
            return super().codes(ids.remove_unused_categories())
        found = super().codes(ids)
        unknown = np.flatnonzero(found == 0)
        elsewhere = unknown[self.of_all.codes(ids[unknown]) > 0]
        if len(elsewhere):
            rank, size = self.shard.rank, self.shard.size
            example = ids[elsewhere[:1]].tolist()[0]  # a number of Python
            raise ValueError(
                f"{len(elsewhere)} of {len(ids)} user ids, such as {example!r}, "
                f"belong to other shards: the model in this process has the users of shard "
                f"{rank} of {size}. Ask the process that has them, or save the model in "
                "all processes and load it, which loads all users."
            )
        return found


def codes_of_shard(users: Entities, shard: Shard) -> np.ndarray:
    """Codes of the users of a shard, ascending.

    The row of the table of ids decides. Users without a training row are in the first one.
    """
    codes = np.flatnonzero(shard.owns(users.id_codes[: len(users) + 1]))
    return codes[codes > 0]


def users_of_shard(users: Entities, shard: Shard) -> Entities:
    """The users of a shard, whose codes are 1, 2, ... in the order of those of all.

    Parameters
    ----------
    users : Entities
        All users, without their rows of earlier times.
    shard : Shard
        Which of them.
    """
    codes = codes_of_shard(users, shard)
    rows = np.concatenate([[0], codes])
    raw_features, raw_positions = users.raw_features, users.raw_positions
    if raw_features is not None and raw_positions is not None:
        positions = raw_positions[rows]
        described = positions >= 0
        raw_features = raw_features.iloc[positions[described]].reset_index(drop=True)
        raw_positions = np.where(described, np.cumsum(described) - 1, -1)
    return replace(
        users,
        vocabulary=ShardVocabulary(
            users.vocabulary.ids[codes - 1], shard, users.vocabulary
        ),
        id_codes=shard.local(users.id_codes[rows]),
        features=users.features[rows],
        raw_features=raw_features,
        raw_positions=raw_positions,
        popularity=None if users.popularity is None else users.popularity[rows],
    )
