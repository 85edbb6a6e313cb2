"""The embeddings of one side at some point of a training."""

from __future__ import annotations

import numpy as np

from sktwotower._data.histories import PastItems
from sktwotower._data.roles import SideName
from sktwotower._nn.inputs import EntityRows, TowerRows
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._training.configuration import Configuration
from sktwotower._training.data import SideData
from sktwotower._training.divergence import divergence_message
from sktwotower._training.state import SideState


def embedded_side(
    name: SideName,
    towers: TwoTowers,
    side: SideData,
    rows: EntityRows,
    past: PastItems | None,
    configuration: Configuration,
    epoch: int,
) -> SideState:
    """The users or the items, embedded by their tower.

    Parameters
    ----------
    name : {"user", "item"}
        The side.
    towers : TwoTowers
        As they are served.
    side : SideData
        Vocabulary, encoder and features.
    rows : EntityRows
        Ids and features of the side; row ``r`` belongs to code ``r``.
    past : PastItems or None
        Histories of the users.
    configuration : Configuration
        Says whether the cold path is trained.
    epoch : int
        Number of epochs so far, for the message.

    Raises
    ------
    ValueError
        If an embedding is not finite, or so long that its scores need not be.
    """
    tower = towers.user_tower if name == "user" else towers.item_tower
    rows = rows.head(len(side.entities) + 1)
    inputs: TowerRows = rows
    if past is not None:
        inputs = past.rows(rows, np.arange(len(rows)))
    vectors = tower.embed(inputs).numpy()
    # No loss has seen the last step. A score is at most the product of two lengths.
    if not np.isfinite(np.einsum("nd,nd->n", vectors, vectors)).all():
        what = f"{name} embeddings"
        raise ValueError(divergence_message(configuration, what, "NaN or infinite", epoch))
    return SideState(
        name=name,
        id_columns=side.id_columns,
        entities=side.entities,
        embeddings=vectors[1:],
        unknown=vectors[0].copy(),
        trains_cold_path=configuration.trains_cold_path(name),
    )
