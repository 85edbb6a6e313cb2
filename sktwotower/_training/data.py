"""The data of one fit: checked rows, codes and encoded features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sktwotower._data.encoding import describe_fields
from sktwotower._data.entities import Entities
from sktwotower._data.entity_building import build_entities, table_rows, vocabulary_of
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.interactions import (
    Interactions,
    codes_of,
    read_interactions,
    refuse_mixed_ids,
)
from sktwotower._data.known_ids import refuse_other_kinds
from sktwotower._data.roles import (
    SIDES,
    ColumnRoles,
    Rows,
    SideName,
    as_interactions,
)
from sktwotower._data.row_shares import OwnRows, RowShare
from sktwotower._data.stored_interactions import StoredInteractions
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.distributed import Ranks, own_errors
from sktwotower._training.changes import (
    occasion_of,
    refuse_other_columns,
    refuse_other_parameters,
    refuse_other_roles,
    refuse_other_table,
)
from sktwotower._training.configuration import Configuration
from sktwotower._training.objective import ObjectiveSpec
from sktwotower._training.state import ModelState
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import Column, is_dataset


@dataclass(frozen=True, eq=False)
class SideData:
    """The users or the items of a fit.

    Attributes
    ----------
    entities : Entities
        Vocabulary, encoder and encoded features.
    id_columns : tuple of str or int
        Columns of a frame that may hold their ids.
    """

    entities: Entities
    id_columns: tuple[Column, ...]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What is learned from.

    Attributes
    ----------
    roles : ColumnRoles
        What the columns of X mean.
    user, item : SideData
        Both sides.
    interactions : InteractionCodes
        The rows of X that this process has.
    user_inputs : ndarray of shape (n_samples,)
        Row of the user side's features that each interaction has.
    weights : ndarray of shape (n_samples,) or None
        Sample weights.
    share : RowShare
        Whether these are all rows of X, or those of the users of this process.
    """

    roles: ColumnRoles
    user: SideData
    item: SideData
    interactions: InteractionCodes
    user_inputs: np.ndarray
    weights: np.ndarray | None
    share: RowShare

    def side(self, name: SideName) -> SideData:
        """The users or the items."""
        return self.user if name == "user" else self.item


def read_training_rows(
    X: Any,
    y: ArrayLike | str | None,
    sample_weight: ArrayLike | str | None,
    configuration: Configuration,
    before: ModelState | None = None,
    *,
    continues: bool = False,
    ranks: Ranks | None = None,
) -> tuple[ColumnRoles, Interactions]:
    """Check the rows to learn from.

    Parameters
    ----------
    X, y, sample_weight
        As ``fit`` takes them.
    configuration : Configuration
        Says what the columns mean.
    before : ModelState, optional
        The model that is continued.
    continues : bool, default=False
        Whether the rows follow those of ``before``, so that its columns are read.
    ranks : Ranks, optional
        The processes that read files together, each its share. The rows are then those of
        the users of this process.

    Raises
    ------
    ValueError
        For invalid input, if no row is a positive, or if a parameter differs from
        ``before`` that cannot change.
    """
    if before is not None:
        refuse_other_parameters(before, configuration, occasion_of(continues))
    stored, named = None, configuration.role_columns
    if before is not None and before.shard is not None and not is_dataset(X):
        raise ValueError(
            "Each process has the users of a shard of the model, which was fitted from "
            "files: give it more rows in files, too, or save the model in all processes "
            "and load it, which loads all users."
        )
    if is_dataset(X):
        opened = partial(StoredInteractions, X, owner=configuration.owner, in_index=named)
        stored = opened() if ranks is None else _opened_by_all(opened, ranks)
        columns: Rows = stored.columns
    else:
        columns = as_interactions(X, owner=configuration.owner, in_index=named)
    if before is not None and continues:
        roles = before.roles
        refuse_other_columns(roles, columns, configuration, occasion_of(continues))
        roles.check_columns(columns)
    else:
        roles = configuration.roles(columns)
        if before is not None:
            refuse_other_roles(before.roles, roles, occasion_of(continues))
    roles.refuse_lacking_features(columns)
    if stored is not None and ranks is not None:
        interactions = stored.read_share(y, sample_weight, roles=roles, ranks=ranks)
    elif stored is not None:
        interactions = stored.read(y, sample_weight, roles=roles)
    else:
        interactions = read_interactions(
            columns,
            y,
            sample_weight,
            roles=roles,
            in_blocks=isinstance(X, np.memmap),
        )
    refuse_mixed_ids(interactions, roles)
    if not interactions.share.any(interactions.positive.any()):
        raise ValueError(
            "There is nothing to learn from: no row of X is a positive (y > 0)."
        )
    if isinstance(interactions.share, OwnRows):
        interactions = _rows_of_own_users(
            interactions,
            interactions.share,
            rows_that_train(interactions, configuration.objective),
            None if before is None else before.user.entities,
        )
    return replace(roles, times=interactions.time_range), interactions


def _rows_of_own_users(
    interactions: Interactions,
    share: OwnRows,
    train_rows: np.ndarray,
    before: Entities | None,
) -> Interactions:
    """The rows of the users of this rank, of the rows that each rank has read."""
    vocabulary = vocabulary_of(interactions.users, before, share)
    codes = vocabulary.codes(interactions.users)
    rows = table_rows(len(vocabulary), codes, train_rows, before, share)
    owners = column_store.take(rows, codes) % share.ranks.size
    share, interactions = share.moved(interactions, owners)
    return replace(interactions, share=share)


def _opened_by_all(
    opened: Callable[[], StoredInteractions], ranks: Ranks
) -> StoredInteractions:
    """The opened files; an error if one rank cannot open them, for which others wait."""
    with own_errors():
        return ranks.on_all(opened)


def read_validation_rows(
    X: Any, y: ArrayLike | str | None, roles: ColumnRoles, ranks: Ranks | None
) -> Interactions:
    """Check the rows to validate on, which may lack times.

    Several processes read files together, each its share.
    """
    if not is_dataset(X):
        rows = roles.check(X, where="X_val")
        if not roles.has_times(rows):
            roles = replace(roles, timestamp_column=None)
        return read_interactions(rows, y, roles=roles, where="X_val")
    opened = partial(StoredInteractions, X, owner=roles.owner, in_index=roles.named_columns)
    stored = opened() if ranks is None else _opened_by_all(opened, ranks)
    roles.check_columns(stored.columns)
    if not roles.has_times(stored.columns):
        roles = replace(roles, timestamp_column=None)
    if ranks is not None:
        return stored.read_share(y, None, roles=roles, ranks=ranks)
    return stored.read(y, None, roles=roles)


def with_own_users(
    interactions: Interactions, users: Entities, ranks: Ranks | None
) -> Interactions:
    """The rows of the users of this process; unknown ones are of the first process.

    Parameters
    ----------
    interactions : Interactions
        All rows, or a share of them that each process has read.
    users : Entities
        Known users of all processes.
    ranks : Ranks or None
        The processes; None: this one alone.
    """
    if ranks is None:
        return interactions
    share, codes = interactions.share, users.vocabulary.codes(interactions.users)
    owners = column_store.take(users.id_codes, codes) % ranks.size
    if isinstance(share, OwnRows):
        share, interactions = share.moved(interactions, owners)
    else:
        share, interactions = OwnRows.of_all_rows(interactions, owners, ranks)
    return replace(interactions, share=share)


def refuse_other_ids(
    interactions: Interactions,
    roles: ColumnRoles,
    known: dict[SideName, Vocabulary],
    where: str = "X",
) -> None:
    """Raise ValueError for ids whose type is not that of the known ids."""
    for side, vocabulary in known.items():
        ids = interactions.users if side == "user" else interactions.items
        refuse_other_kinds(
            interactions.share.distinct(ids),
            vocabulary,
            where=roles.description(f"{side}_column", where=where),
            what=f"{side} id",
        )


def rows_that_train(interactions: Interactions, objective: ObjectiveSpec) -> np.ndarray:
    """The positives, and rows with ``y <= 0`` where the loss has a use for them."""
    positive, share = interactions.positive, interactions.share
    all_positive = not share.any(~positive.all())
    if all_positive or objective.learns_from_labels(all_positive=False):
        return np.ones(len(interactions), dtype=bool)
    # Entities without positives are neither trained nor sampled as negatives.
    train = np.ones(len(interactions), dtype=bool)
    for ids in (interactions.users, interactions.items):
        codes = codes_of(ids)
        has_positive = np.zeros(int(share.max(codes.max(initial=0))) + 1, dtype=bool)
        has_positive[codes[positive]] = True
        train &= share.any(has_positive)[codes]
    return positive | train


def encode(
    interactions: Interactions,
    train_rows: np.ndarray,
    roles: ColumnRoles,
    configuration: Configuration,
    before: ModelState | None,
    *,
    continues: bool = False,
) -> TrainingData:
    """Give ids codes, and encode the features of tables and of X.

    Parameters
    ----------
    interactions : Interactions
        The rows of X.
    train_rows : ndarray of shape (n_samples,), bool
        The rows that train.
    roles : ColumnRoles
        What the columns of X mean.
    configuration : Configuration
        Tables and encoders.
    before : ModelState or None
        The model to go on from; its codes and encoders stay.
    continues : bool, default=False
        Whether the rows follow those of ``before``.

    Raises
    ------
    ValueError
        If features cannot be encoded.
    """
    if before is not None:
        known = {name: before.side(name).vocabulary for name in SIDES}
        refuse_other_ids(interactions, roles, known)
    sides, codes, inputs = {}, {}, {}
    for name in SIDES:
        side = configuration.side(name)
        is_user = name == "user"
        table = side.checked_table(roles)
        if before is not None:
            refuse_other_table(before, name, table, roles, occasion_of(continues))
        entities, codes[name], inputs[name] = build_entities(
            interactions.users if is_user else interactions.items,
            train_rows,
            table,
            side.encoder,
            parameter=f"{name}_table",
            features=interactions.user_features if is_user else interactions.item_features,
            times=interactions.times,
            # An item is a candidate of many rows at once, with one vector.
            every_row=is_user,
            before=None if before is None else before.side(name).entities,
            share=interactions.share,
        )
        if configuration.verbose and before is None and entities.encoder is not None:
            for line in describe_fields(entities.encoder, entities.fields):
                print(f"{name} feature {line}")
        named = [roles.name_of(side.column), None if table is None else table.id_column]
        id_columns = dict.fromkeys(column for column in named if column is not None)
        sides[name] = SideData(entities, tuple(id_columns))
    return TrainingData(
        roles=roles,
        user=sides["user"],
        item=sides["item"],
        interactions=InteractionCodes(
            codes["user"], codes["item"], interactions.positive, interactions.times
        ),
        user_inputs=inputs["user"],
        weights=interactions.weights,
        share=interactions.share,
    )


def with_popularity(
    data: TrainingData,
    interactions: InteractionCodes,
    configuration: Configuration,
) -> TrainingData:
    """The data with the last entry of embeddings, if there is a ``popularity_prior``.

    For an item it is that of `centred_logs`; for a user it is the weight of that number in
    the score.
    """
    prior = configuration.settings.popularity_prior
    if prior is None:
        return data
    counts = data.share.sum(interactions.n_positives(len(data.item.entities)))
    logs = centred_logs(counts, data.item.entities)
    weight = configuration.temperature * prior
    weights = np.full(len(data.user.entities.id_codes), weight, dtype=np.float32)
    return replace(
        data,
        user=replace(data.user, entities=replace(data.user.entities, popularity=weights)),
        item=replace(data.item, entities=replace(data.item.entities, popularity=logs)),
    )


def centred_logs(counts: np.ndarray, items: Entities) -> np.ndarray:
    """``log(n + 1)`` of the positives of each item code, less its mean over items.

    It is 0 for unknown items and for those without training rows.

    Parameters
    ----------
    counts : ndarray of shape (n_items + 1,)
        Number of positives of each code.
    items : Entities
        Say which of them have training rows.
    """
    logs = np.log1p(counts)
    has_rows = items.id_codes > 0
    return np.where(has_rows, logs - logs[has_rows].mean(), 0.0).astype(np.float32)


def refuse_no_field(data: TrainingData, configuration: Configuration) -> None:
    """Raise ValueError if there is nothing to describe a side by."""
    for name in SIDES:
        has_field = configuration.side(name).id_embedding or data.side(name).entities.fields
        if has_field or (name == "user" and configuration.settings.history is not None):
            continue
        raise ValueError(
            f"The {name} tower has no field: {name}_id_embedding=False and there are no "
            f"features. Give it {name}_table or {name}_features, "
            + ("set history=PooledHistory(), " if name == "user" else "")
            + f"or set {name}_id_embedding=True."
        )
