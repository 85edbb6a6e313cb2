"""The towers that a configuration says."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import torch

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.shards import Shard
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from sktwotower._training.configuration import Configuration
from sktwotower._training.settings import Settings, TransformerSettings


def make_towers(
    configuration: Configuration,
    settings: Settings,
    user_rows: EntityRows,
    item_rows: EntityRows,
    n_history_items: int,
    generator: torch.Generator,
    shard: Shard | None = None,
) -> TwoTowers:
    """New towers for the rows of both sides.

    Parameters
    ----------
    configuration : Configuration
        Without "auto".
    settings : Settings
        Sizes of the towers, and the history.
    user_rows, item_rows : EntityRows
        Of which the sizes are taken.
    n_history_items : int
        Number of rows of the history table; 0: there is none.
    generator : torch.Generator
        Draws the initial weights.
    shard : Shard, optional
        The rows of the table of user ids that are made; None: all.
    """
    history = settings.history
    reader = asdict(history) if isinstance(history, TransformerSettings) else None
    make = partial(
        Tower,
        embedding_dim=settings.embedding_dim,
        hidden_layer_sizes=settings.hidden_layer_sizes,
        activation=configuration.activation,
        batch_norm=configuration.batch_norm,
        dropout=configuration.dropout,
        normalize=configuration.normalize,
        id_dropout=configuration.id_dropout,
        generator=generator,
    )
    return TwoTowers(
        make(user_rows, n_history_items=n_history_items, reader=reader, shard=shard),
        make(item_rows),
        configuration.temperature,
        learned=configuration.learns_temperature,
        tied=history is not None and history.tied,
    )
