"""What cannot change when a training is continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from sktwotower._data.encoding import encoder_of
from sktwotower._data.entity_table import EntityTable
from sktwotower._data.roles import SIDES, ColumnRoles, FeatureColumns, Rows, SideName
from sktwotower._training.configuration import Configuration
from sktwotower._training.settings import OF_WEIGHTS, HistorySettings, TransformerSettings
from sktwotower._training.state import ModelState

Occasion = Literal["between fit and partial_fit", "between two fits with warm_start=True"]
# Parameters of towers that have no effect without a hidden layer.
_OF_HIDDEN_LAYERS = ("activation", "batch_norm")
_COMPARED_BY_IDENTITY = (FunctionType, BuiltinFunctionType, np.ufunc, type, type(None))


def occasion_of(continues: bool) -> Occasion:
    """When a model is continued: by ``partial_fit``, or by ``fit``."""
    if continues:
        return "between fit and partial_fit"
    return "between two fits with warm_start=True"


def refuse_other_parameters(
    before: ModelState, configuration: Configuration, occasion: Occasion
) -> None:
    """Raise ValueError if a parameter differs that the fitted towers depend on.

    Parameters
    ----------
    before : ModelState
        The model that is continued.
    configuration : Configuration
        Parameters of the training that continues it.
    occasion : str
        When it is continued, for the message.
    """
    was, now = _architecture_of(before), _architecture(configuration)
    for name, value in was.items():
        differs = value != now[name]
        if isinstance(now[name], str) and now[name] == "auto":
            continue  # it stays what it was
        if name == "history":
            differs = _differ_in_towers(value, now[name])
        elif name == "temperature":
            differs = (value == "learned") != (now[name] == "learned")
        elif name in _OF_HIDDEN_LAYERS:
            differs = differs and bool(was["hidden_layer_sizes"])
        if differs:
            shown = [
                repr(x.as_parameter() if isinstance(x, HistorySettings) else x)
                for x in (value, now[name])
            ]
            raise ValueError(_message(name, occasion, *shown))
    for side in SIDES:
        encoder = before.side(side).entities.encoder
        other = encoder_of(configuration.side(side).encoder)
        if encoder is not None and not _are_equal(encoder, other):
            raise ValueError(
                _message(f"{side}_encoder", occasion, _one_line(encoder), _one_line(other))
            )


def refuse_other_columns(
    before: ColumnRoles, X: Rows, configuration: Configuration, occasion: Occasion
) -> None:
    """Raise ValueError if the columns of X have other roles.

    Parameters
    ----------
    before : ColumnRoles
        The roles of the model that is continued.
    X : DataFrame or ndarray
        Further rows, which may lack columns without a role. Only a callable looks at them.
    configuration : Configuration
        Parameters of the training that continues it.
    occasion : str
        When it is continued, for the message.
    """
    for role, column in (
        ("user_column", configuration.user.column),
        ("item_column", configuration.item.column),
        ("timestamp_column", configuration.timestamp_column),
    ):
        known = getattr(before, role)
        if column != known:
            raise ValueError(_message(role, occasion, repr(known), repr(column)))
    for side in SIDES:
        was = before.features(side)
        wanted = configuration.side(side).features
        selection: dict[str, Any] = {f"{side}_features": wanted}
        try:
            now = ColumnRoles.of_fit(
                X if callable(wanted) else _no_rows(before),
                owner=before.owner,
                user_column=before.user_column,
                item_column=before.item_column,
                timestamp_column=before.timestamp_column,
                **selection,
            ).features(side)
        except ValueError:
            if callable(wanted):
                continue  # X lacks another column, which is said when it is read
            # A column that the first rows did not have.
            raise ValueError(
                _message(f"{side}_features", occasion, _columns(was), repr(wanted))
            ) from None
        if callable(wanted) and was is not None and set(_names(now)) <= set(was.names):
            continue  # a column without values may have another dtype in some rows
        _refuse_other_features(was, now, f"{side}_features", occasion)


def refuse_other_roles(before: ColumnRoles, now: ColumnRoles, occasion: Occasion) -> None:
    """Raise ValueError if other columns of X are features."""
    for side in SIDES:
        was, features = before.features(side), now.features(side)
        _refuse_other_features(was, features, f"{side}_features", occasion)


def refuse_other_table(
    before: ModelState,
    side: SideName,
    table: EntityTable | None,
    roles: ColumnRoles,
    occasion: Occasion,
) -> None:
    """Raise ValueError if a table has other features than before.

    Without a table, and without features in X, entities keep those they had.
    """
    in_X = set(_names(roles.features(side)))
    if table is None and not in_X:
        return
    was = [name for name in before.side(side).entities.columns if name not in in_X]
    now = [] if table is None else list(pd.DataFrame(table.feature_rows).columns)
    if set(was) != set(now):
        raise ValueError(
            _message(
                f"{side}_table", occasion, _table_of(was), _table_of(now, table is not None)
            )
        )


def _architecture_of(state: ModelState) -> dict[str, Any]:
    """Parameters that the towers of a model were made with."""
    tower = state.towers.user_tower.arguments()
    return {
        "item_id_embedding": state.towers.item_tower.id_table is not None,
        **{name: tower[name] for name in ("activation", "batch_norm", "normalize")},
        **{name: getattr(state.settings, name) for name in OF_WEIGHTS},
    }


def _architecture(configuration: Configuration) -> dict[str, Any]:
    """The same parameters of a configuration."""
    return {
        "item_id_embedding": configuration.item.id_embedding,
        "activation": configuration.activation,
        "batch_norm": configuration.batch_norm,
        "normalize": configuration.normalize,
        **{name: getattr(configuration.settings, name) for name in OF_WEIGHTS},
    }


def _differ_in_towers(was: HistorySettings | None, now: HistorySettings | None) -> bool:
    """Whether histories need other towers.

    Of a pooled one the size and the dropout may change, of a transformer the dropout.
    """
    if isinstance(was, TransformerSettings) and isinstance(now, TransformerSettings):
        return replace(was, dropout=now.dropout) != now
    if type(was) is not type(now):
        return True
    return (was and was.tied) != (now and now.tied)


def _refuse_other_features(
    was: FeatureColumns | None,
    now: FeatureColumns | None,
    parameter: str,
    occasion: Occasion,
) -> None:
    is_single = [features is not None and features.single for features in (was, now)]
    if set(_names(was)) != set(_names(now)) or is_single[0] != is_single[1]:
        raise ValueError(_message(parameter, occasion, _columns(was), _columns(now)))


def _no_rows(roles: ColumnRoles) -> Rows:
    """The columns that the X of ``fit`` had."""
    names = roles.feature_names
    if names is None:
        return np.empty((0, len(roles.names or [])))
    return pd.DataFrame(columns=list(names))


def _names(features: FeatureColumns | None) -> list[str]:
    return [] if features is None else features.names


def _columns(features: FeatureColumns | None) -> str:
    if features is None:
        return "None"
    return repr(features.names[0] if features.single else features.names)


def _table_of(features: list, is_there: bool = False) -> str:
    if features:
        return f"a table of {features}"
    return "a table without features" if is_there else "None"


def _message(name: str, occasion: Occasion, was: str, now: str) -> str:
    return f"{name} cannot change {occasion}; it was {was} and is {now}."


def _one_line(encoder: Any) -> str:
    return " ".join(repr(encoder).split())


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two parameters of encoders are not known to differ.

    A clone has copies of objects that compare by identity, such as a RandomState. Their
    attributes are compared, if they have some.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseEstimator):
        return _are_equal(one.get_params(deep=False), other.get_params(deep=False))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(
            _are_equal(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, np.ndarray):
        return _are_equal(one.tolist(), other.tolist())
    if isinstance(one, partial):
        parts = [(call.func, call.args, call.keywords) for call in (one, other)]
        return _are_equal(*parts)
    if type(one).__eq__ is object.__eq__ and not isinstance(one, _COMPARED_BY_IDENTITY):
        return _are_equal(getattr(one, "__dict__", None), getattr(other, "__dict__", None))
    try:
        return bool(one is other or one == other or (one != one and other != other))
    except (TypeError, ValueError):  # a frame or a sparse matrix compares its entries
        return True
