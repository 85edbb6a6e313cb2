"""Scores as sums of what each field adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktwotower._data.histories import Windows
from sktwotower._data.queries import Query
from sktwotower._data.roles import OTHER, SIDES, SideName
from sktwotower._nn.attribution import FieldParts, field_parts, history_parts
from sktwotower._nn.inputs import TowerInput
from sktwotower._nn.segments import Bags
from sktwotower._serving.answers import FrameNames
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.state import ModelState
from sktwotower.utils._arrow_types import as_time_type

# Pairs that are explained at once.
_BLOCK = 1024
_COLUMNS = ("side", "field", "contribution")


def explain(
    state: ModelState, user_ids: Any, item_ids: Any, *, history: Any
) -> pd.DataFrame:
    """The parts of scores; see ``TwoTowerRecommender.explain``."""
    names = FrameNames.of(state.roles, "user", "item", others=_COLUMNS)
    users, items = (
        EntityEmbedder.of(state, side).query(
            [ids] if np.ndim(ids) == 0 and ids is not None else ids,
            f"{side}_ids",
            unknown=f"are explained as the unknown {side}",
        )
        for side, ids in zip(SIDES, (user_ids, item_ids), strict=True)
    )
    embedder = EntityEmbedder.of(state, "user")
    _, windows = embedder.later_history(users, history, state.item.vocabulary)
    pairs = _pairs(len(users), len(items))
    queries: dict[SideName, Query] = {"user": users, "item": items}
    blocks = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
    frames = [_parts(state, queries, block, windows) for block in blocks or [pairs]]
    for n, frame in enumerate(frames):
        frame["pair"] += n * _BLOCK
    parts = pd.concat(frames, ignore_index=True)
    places = pairs[parts.pop("pair").to_numpy()]
    asked = (names.query, users, names.query_type), (names.answer, items, names.answer_type)
    for place, (name, query, dtype) in enumerate(asked):
        ids = pd.Series(query.ids[places[:, place]]).infer_objects()
        parts.insert(place, name, as_time_type(ids, dtype) if query.has_ids else ids)
    return parts


def _pairs(n_users: int, n_items: int) -> np.ndarray:
    """Positions of the user and of the item of each pair, (n_pairs, 2)."""
    if n_users != n_items and 1 not in (n_users, n_items):
        raise ValueError(
            f"user_ids has {n_users} users and item_ids {n_items} items. Give as many of "
            "both, one pair in each place; or a single user or item for all of the others."
        )
    n = max(n_users, n_items) if n_users and n_items else 0
    each = np.arange(n)
    return np.column_stack([each % max(n_users, 1), each % max(n_items, 1)])


@torch.inference_mode(False)  # the caller may be in it
def _parts(
    state: ModelState,
    queries: Mapping[SideName, Query],
    pairs: np.ndarray,
    windows: Windows | None,
) -> pd.DataFrame:
    """Parts of the scores of some pairs, with a column of the number of each pair."""
    inputs: dict[SideName, TowerInput] = {}
    vectors: dict[SideName, Tensor] = {}
    for side, places in zip(SIDES, pairs.T, strict=True):
        embedder, query = EntityEmbedder.of(state, side), queries[side]
        features = None if query.features is None else query.features.iloc[places]
        if side == "user" and windows is not None:
            items, (starts, ends) = windows
            windows = items, (starts[places], ends[places])
        rows = embedder.inputs(
            query.codes[places], features, windows if side == "user" else None
        )
        inputs[side] = rows.take(torch.arange(len(rows)))
        with torch.no_grad():
            vectors[side] = embedder.tower(inputs[side])
    dim = state.towers.item_tower.dim
    prior = (vectors["user"] * vectors["item"])[:, dim:]  # (n, 1), or (n, 0) without one
    frames = []
    for side in SIDES:
        embedder = EntityEmbedder.of(state, side)
        unknown = embedder.inputs(np.zeros(1, dtype=np.int64)).take(torch.zeros(1).long())
        found = field_parts(
            embedder.tower, inputs[side], unknown, vectors[OTHER[side]][:, :dim]
        )
        fields, parts = embedder.field_names, [found.parts]
        if not (embedder.tower.is_linear and embedder.tower.is_sum):
            fields.append("intercept" if embedder.tower.is_linear else "remainder")
            parts.append(found.rest[:, None])
        if prior.shape[1]:
            fields.append("popularity")
            parts.append(prior)
        frames.append(_long(torch.cat(parts, dim=1), side, fields))
        if "history" in fields and inputs[side].history is not None:
            place = fields.index("history")
            frames.append(_of_history(state, inputs[side], found, place))
    return pd.concat(frames).sort_values(
        ["pair", "side"], key=_in_order, kind="stable", ignore_index=True
    )


def _long(parts: Tensor, side: str, fields: Sequence[Any]) -> pd.DataFrame:
    """A row for each pair and field of ``parts`` (n_pairs, n_fields)."""
    n_pairs, n_fields = parts.shape
    return pd.DataFrame(
        {
            "pair": np.repeat(np.arange(n_pairs), n_fields),
            "side": side,
            "field": np.tile(np.array(fields, dtype=object), n_pairs),
            "contribution": parts.flatten().double().numpy(),
        }
    )


def _of_history(
    state: ModelState, inputs: TowerInput, found: FieldParts, place: int
) -> pd.DataFrame:
    """What the field at a ``place``, the history, adds: a row for each pair and item."""
    history, past = inputs.history, state.past
    assert history is not None and past is not None
    pairs, parts = history_parts(state.towers.user_tower, history, found.slopes[:, place])
    if isinstance(history, Bags):  # rows of the table of items that were trained
        codes = np.zeros(int(past.id_codes.max()) + 1, dtype=np.int64)
        codes[past.id_codes] = np.arange(len(past.id_codes))
        codes = codes[history.columns.numpy()]
    else:
        codes = history.items.numpy()
    frame = pd.DataFrame(
        {
            "pair": pairs.numpy(),
            "side": "history",
            "field": state.item.vocabulary.ids[codes - 1].astype(object),
            "contribution": parts.double().numpy(),
        }
    )
    if len(frame):  # an item may be there several times
        by = ["pair", "side", "field"]
        frame = frame.groupby(by, sort=False)["contribution"].sum().reset_index()
    if isinstance(history, Bags):
        return frame
    sums = torch.zeros(len(found.parts)).index_add(0, pairs, parts)
    rest = found.parts[:, place] - sums
    return pd.concat([frame, _long(rest[:, None], "history", ["remainder"])])


def _in_order(column: pd.Series) -> pd.Series:
    """Keys of rows: the number of the pair, and users before items before histories."""
    if column.name == "pair":
        return column
    return column.map({"user": 0, "item": 1, "history": 2})
