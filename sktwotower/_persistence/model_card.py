"""The model card: a page in Markdown that says what a saved model is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch

from sktwotower._data.encoding import describe_fields
from sktwotower._data.roles import SIDES
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.settings import HistorySettings
from sktwotower._training.state import ModelState
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.utils._columns import as_pandas, is_frame

_PACKAGES = {"python": "Python", "torch": "torch", "sklearn": "scikit-learn"}
_HISTORIES = PooledHistory, TransformerHistory, HistorySettings
# Parameters of these types are written. Others may hold data, so only their type is.
_WRITTEN = str, Real, type(None), torch.device, *_HISTORIES


class Table(NamedTuple):
    """A table of the page: names of the columns, and rows of numbers and Markdown."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def metrics_table(metrics: Any) -> Table | None:
    """What the caller says of the quality of the model; None: nothing.

    Raises
    ------
    TypeError
        If it is neither numbers by name nor a frame.
    """
    if metrics is None:
        return None
    if is_frame(metrics):
        frame = as_pandas(metrics, where="metrics")
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        rows = frame.itertuples(index=False, name=None)
        return Table(
            [_code(name) for name in frame.columns],
            [[x if isinstance(x, Real) else _code(x) for x in row] for row in rows],
        )
    if not isinstance(metrics, Mapping):
        raise TypeError(
            "metrics must be a dict of numbers by name, or a frame such as ranking_report "
            f"returns; got {type(metrics).__name__}."
        )
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"metrics has the name {name!r}; names must be strings.")
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(
                f"metrics[{name!r}] must be a number; got {type(value).__name__} "
                f"({str(value)[:60]})."
            )
    return Table(["metric", "value"], [(_code(name), x) for name, x in metrics.items()])


def model_card(
    model: TwoTowerRecommender,
    *,
    metrics: Table | None,
    versions: Mapping[str, str],
    n_bytes: int,
) -> str:
    """The page. It has counts and names of columns, and neither ids nor features.

    Parameters
    ----------
    model : TwoTowerRecommender
        Fitted.
    metrics : Table or None
        As `metrics_table` makes it; None: the page has no section of metrics.
    versions : dict
        Versions by package.
    n_bytes : int
        Size of the other files.
    """
    state = model._state
    packages = ", ".join(f"{name} {versions[key]}" for key, name in _PACKAGES.items())
    sections = {
        "Data": _data(state),
        "Features": _features(state),
        "Size": _size(state, n_bytes),
        "Parameters": _parameters(model),
        "Training": _training(state),
    }
    if metrics is not None:
        sections["Metrics"] = metrics
    lines = [
        "# TwoTowerRecommender",
        f"Saved with sktwotower {versions['sktwotower']} ({packages}) on "
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}. `sktwotower.load` reads it.",
    ]
    for title, table in sections.items():
        lines += [f"## {title}", str(table)]
    return "\n\n".join(lines) + "\n"


def _data(state: ModelState) -> Table:
    """Rows of X, their times, and the ids in them."""
    n_rows, n_positives = state.n_rows, int(state.n_positives.sum(dtype=np.float64))
    rows: list[Sequence[Any]] = [
        ("rows", n_rows),
        ("positives", f"{n_positives:,} ({n_positives / n_rows:.1%})"),
        ("pairs of user and item", int(state.n_users_of_items.sum())),
    ]
    if state.roles.times is not None:
        rows.append(("times", state.roles.times))
    for side in SIDES:
        entities = state.all_users if side == "user" else state.item.entities
        n_trained = int(np.count_nonzero(entities.id_codes[1 : len(entities) + 1]))
        rows += [(f"{side}s", len(entities)), (f"{side}s with rows to train on", n_trained)]
    return Table(["what", "value"], rows)


def _features(state: ModelState) -> Table:
    """The fields of both towers, and what each column became."""
    rows = []
    for side in SIDES:
        entities = state.side(side).entities
        kinds = {name: "" for name in EntityEmbedder.of(state, side).field_names}
        if entities.encoder is not None:
            lines = describe_fields(entities.encoder, entities.fields)
            described = (line.rpartition(": ") for line in lines)
            kinds = {name: "" for name in kinds if name not in entities.fields}
            kinds |= {name: kind for name, _, kind in described}
        rows += [(side, _code(name), kind) for name, kind in kinds.items()]
    return Table(["tower", "field", "kind"], rows)


def _size(state: ModelState, n_bytes: int) -> Table:
    return Table(
        ["what", "value"],
        [
            ("catalogue", f"{len(state.catalogue):,} items"),
            ("embedding_dim", state.settings.embedding_dim),
            ("parameters", _n_parameters(state)),
            ("files", f"{n_bytes / 1e6:,.3g} MB"),
        ],
    )


def _n_parameters(state: ModelState) -> int:
    """Number of weights, of the users of all shards."""
    n = sum(p.numel() for p in state.towers.parameters())
    table = state.towers.user_tower.id_table
    if state.shard is not None and table is not None:
        n_ids = int(state.shard.users.id_codes.max()) + 1
        n += (n_ids - len(table)) * table.shape[1]
    return n


def _parameters(model: TwoTowerRecommender) -> Table:
    """Parameters that are not the default, and all those that may be "auto"."""
    state = model._state
    defaults = signature(TwoTowerRecommender).parameters
    used = vars(state.settings) | {"temperature": state.temperature}
    rows = [
        (_code(name), _written(value), _written(used[name]) if name in used else "")
        for name, value in model.get_params(deep=False).items()
        if name in used or _written(value) != _written(defaults[name].default)
    ]
    return Table(["parameter", "given", "used in training"], rows)


def _written(value: Any) -> str:
    """A parameter as code; of one that may hold data the type."""
    if isinstance(value, list | tuple) and all(isinstance(x, _WRITTEN) for x in value):
        return _code(value)
    if not isinstance(value, _WRITTEN):
        return _code(type(value).__name__)
    if isinstance(value, Real) and not isinstance(value, Integral):
        return _code(float(f"{float(value):.6g}"))
    return _code(value if isinstance(value, _HISTORIES) else repr(value))


def _training(state: ModelState) -> Table:
    log = state.log
    rows = [
        ("epochs", len(log.loss_curve)),
        ("loss of the first epoch", log.loss_curve[0]),
        ("loss of the last epoch", log.loss_curve[-1]),
    ]
    if log.best_validation_score is not None:
        rows.append((f"best `{log.deciding_metric}`", log.best_validation_score))
    return Table(["what", "value"], rows)


def _cell(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, Integral) else f"{float(value):.6g}"
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(value: Any) -> str:
    """Text that Markdown shows as it is."""
    text = str(value).replace("`", "'")
    return f"`{text}`"
