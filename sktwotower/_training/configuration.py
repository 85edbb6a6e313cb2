"""The parameters of an estimator, checked once, at the start of ``fit``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from sktwotower._data.entity_table import (
    EntityTable,
    as_table,
    refuse_index_among_features,
)
from sktwotower._data.roles import ColumnRoles, Rows, Selection, SideName
from sktwotower._nn.optim import DECOUPLED
from sktwotower._training.objective import ObjectiveSpec
from sktwotower._training.settings import (
    HistorySettings,
    Settings,
    TransformerSettings,
    history_settings,
)
from sktwotower.history import HISTORIES, refuse_no_history
from sktwotower.metrics._registry import parse_metric
from sktwotower.utils._columns import Column

R = TypeVar("R", ObjectiveSpec, "StoppingRule", Settings)
# For cosines: that of many data, and where a learned one starts.
_USUAL_TEMPERATURE = 0.12


@dataclass(frozen=True, eq=False)
class SideConfiguration:
    """The parameters of one side, users or items.

    Attributes
    ----------
    name : {"user", "item"}
        Which side it is.
    column, features, table, encoder, id_embedding
        ``user_column`` or ``item_column`` and so on.
    """

    name: SideName
    column: Column
    features: Selection
    table: Any
    encoder: BaseEstimator | None
    id_embedding: bool

    def checked_table(self, roles: ColumnRoles) -> EntityTable | None:
        """The side table, checked."""
        names, parameter = roles.feature_names, f"{self.name}_table"
        table = as_table(
            self.table,
            parameter=parameter,
            id_column=self.column,
            names=None if names is None else list(names),
        )
        if table is not None:
            refuse_index_among_features(table, self.encoder, parameter=parameter)
        return table


@dataclass(frozen=True, eq=False)
class StoppingRule:
    """When training stops before ``max_iter``, and what is validated.

    Attributes
    ----------
    early_stopping, validation_fraction, refit, n_iter_no_change, tol, validation_metric
        As in :class:`~sktwotower.TwoTowerRecommender`.
    """

    early_stopping: bool
    validation_fraction: float
    refit: bool
    n_iter_no_change: int
    tol: float
    validation_metric: str | tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics; the first decides."""
        metric = self.validation_metric
        return (metric,) if isinstance(metric, str) else metric


@dataclass(frozen=True, eq=False)
class Configuration:
    """The parameters of :class:`~sktwotower.TwoTowerRecommender`, checked.

    Attributes
    ----------
    owner : str
        Name of the estimator, for messages.
    user, item : SideConfiguration
        The parameters that both sides have.
    settings : Settings
        The parameters that may be "auto", until `resolved`.
    objective : ObjectiveSpec
        What is trained against what.
    stopping : StoppingRule
        Early stopping and validation.
    timestamp_column, id_dropout, activation, batch_norm, dropout, normalize, ssl_weight, \
            optimizer, lr_schedule, warmup_fraction, epsilon, max_grad_norm, average, \
            device, verbose
        As in :class:`~sktwotower.TwoTowerRecommender`.
    """

    owner: str
    user: SideConfiguration
    item: SideConfiguration
    timestamp_column: Column | None
    settings: Settings
    id_dropout: float
    activation: str
    batch_norm: bool
    dropout: float
    normalize: bool
    objective: ObjectiveSpec
    ssl_weight: float
    optimizer: str
    lr_schedule: str
    warmup_fraction: float
    epsilon: float
    max_grad_norm: float | None
    average: bool
    stopping: StoppingRule
    device: str | torch.device
    verbose: bool | int

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, owner: str) -> Configuration:
        """The configuration that an estimator's parameters give.

        Parameters
        ----------
        parameters : mapping
            As ``get_params(deep=False)`` returns them; each is valid by itself.
        owner : str
            Name of the estimator, for messages.

        Raises
        ------
        ValueError
            If two parameters do not go together.
        """
        values = {
            # Numbers of eight bits would overflow in products.
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in parameters.items()
        }
        if values["verbose"] == "auto":  # a bar, which is a callback of the estimator
            values["verbose"] = 0
        values["validation_metric"] = _validation_metric(values["validation_metric"])
        refuse_no_history(values["history"], owner=owner)
        if isinstance(values["history"], HISTORIES):
            values["history"] = history_settings(values["history"])
        values["hidden_layer_sizes"] = _hidden_sizes(values["hidden_layer_sizes"])
        same = {field.name for field in fields(cls)} & set(values)
        configuration = cls(
            **{name: values[name] for name in same},
            owner=owner,
            user=_side(values, "user"),
            item=_side(values, "item"),
            settings=_part(Settings, values),
            objective=_part(ObjectiveSpec, values),
            stopping=_part(StoppingRule, values),
        )
        configuration.objective.refuse()
        configuration._refuse_times()
        configuration._refuse()
        return configuration

    def resolved(self, settings: Settings) -> Self:
        """The same configuration without "auto".

        Raises
        ------
        ValueError
            If two parameters do not go together.
        """
        configuration = replace(
            self,
            settings=settings,
            user=replace(self.user, id_embedding=settings.user_id_embedding),
            objective=self.objective.resolved(settings),
        )
        configuration._refuse()
        return configuration

    def side(self, name: SideName) -> SideConfiguration:
        """The parameters of the users or the items."""
        return self.user if name == "user" else self.item

    def roles(self, X: Rows) -> ColumnRoles:
        """What the columns of an X to learn from mean."""
        return ColumnRoles.of_fit(
            X,
            owner=self.owner,
            user_column=self.user.column,
            item_column=self.item.column,
            timestamp_column=self.timestamp_column,
            user_features=self.user.features,
            item_features=self.item.features,
        )

    @property
    def role_columns(self) -> tuple[Column | None, ...]:
        """``user_column``, ``item_column`` and ``timestamp_column``."""
        return self.user.column, self.item.column, self.timestamp_column

    @property
    def usual_temperature(self) -> float:
        """The temperature that suits the scale of the scores, for most data."""
        return _USUAL_TEMPERATURE if self.normalize else 1.0

    @property
    def learns_temperature(self) -> bool:
        """Whether the temperature is trained."""
        return self.settings.temperature == "learned"

    @property
    def temperature(self) -> float:
        """The resolved temperature at the start of training."""
        if self.learns_temperature:
            return self.usual_temperature
        return float(self.settings.temperature)

    @property
    def is_self_supervised(self) -> bool:
        """Whether the item tower has a loss of its own."""
        return self.objective.ssl_pattern is not None and self.ssl_weight > 0

    def trains_cold_path(self, name: SideName) -> bool:
        """Whether a tower is trained without ids: features alone place an entity."""
        return self.id_dropout > 0 or not self.side(name).id_embedding

    def _refuse(self) -> None:
        """Raise ValueError for parameters that do not go together.

        What is "auto" goes with everything, until it is resolved.
        """
        self._refuse_decay()
        if isinstance(self.settings.history, HistorySettings):
            self._refuse_history(self.settings.history)
        prior = self.settings.popularity_prior
        if prior not in ("auto", None) and self.learns_temperature:
            raise ValueError(
                f"popularity_prior={prior} is in units of the temperature, "
                "which must not change in training: set temperature to a number."
            )

    def _refuse_decay(self) -> None:
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        shrinkage = 0.0 if "auto" in (rate, decay) else rate * decay
        if shrinkage >= 1 and DECOUPLED[self.optimizer]:
            raise ValueError(
                f"learning_rate={rate} times weight_decay={decay} is {shrinkage:.3g}: "
                "each step would shrink the "
                "embedding tables by that share, and wipe them out from 1 on. Lower one of "
                "the two, or set weight_decay='auto'."
            )

    def _refuse_times(self) -> None:
        """Raise ValueError if a history is given that draws from rows with times."""
        history = self.settings.history
        if not isinstance(history, HistorySettings):
            return
        if history.drawn_share and self.timestamp_column is not None:
            raise ValueError(
                f"history=PooledHistory(dropout={history.dropout}) draws a history from "
                f"all rows of a user, and timestamp_column={self.timestamp_column!r} "
                "orders them; set dropout=0 (the history is then what came before), or "
                "timestamp_column=None."
            )

    def _refuse_history(self, history: HistorySettings) -> None:
        if isinstance(history, TransformerSettings):
            dim, n_heads = self.settings.embedding_dim, history.n_heads
            if dim != "auto" and dim % n_heads:
                raise ValueError(
                    f"history=TransformerHistory(n_heads={n_heads}) does not divide "
                    f"embedding_dim={dim}: each head reads an equal part of a vector."
                )
        if history.drawn_share and self.objective.loss != "softmax":
            raise ValueError(
                f"history=PooledHistory(dropout={history.dropout}) ranks all that is left "
                "out of a history against shared candidates, and "
                f"loss={self.objective.loss!r} does not. Set loss='softmax', or dropout=0."
            )
        if history.tied and not self.item.id_embedding:
            raise ValueError(
                "history=PooledHistory(tied=True) pools the ids of the item tower in a "
                "history: set item_id_embedding=True, or tied=False."
            )


def _side(values: Mapping[str, Any], name: SideName) -> SideConfiguration:
    return SideConfiguration(
        name,
        column=values[f"{name}_column"],
        features=values[f"{name}_features"],
        table=values[f"{name}_table"],
        encoder=values[f"{name}_encoder"],
        id_embedding=values[f"{name}_id_embedding"],
    )


def _part(record: type[R], values: Mapping[str, Any]) -> R:
    """A record of those parameters that it has fields for."""
    return record(**{field.name: values[field.name] for field in fields(record)})


def _validation_metric(metric: Any) -> str | tuple[str, ...]:
    """A metric or several, checked."""
    if isinstance(metric, str):
        parse_metric(metric, parameter="validation_metric")
        return metric
    names = tuple(metric)
    for name in names:
        parse_metric(name, parameter="validation_metric")
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"validation_metric={metric!r} must name at least one metric, and each once; "
            "the first decides."
        )
    return tuple(map(str, names))


def _hidden_sizes(sizes: Any) -> Any:
    """The widths of the hidden layers, checked."""
    if sizes is None or (isinstance(sizes, str) and sizes == "auto"):
        return sizes
    widths = tuple(sizes) if isinstance(sizes, Iterable) else (sizes,)
    for width in widths:
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                f"hidden_layer_sizes={sizes!r} must hold integers of at least 1; () has no "
                "hidden layer, None no layer at all."
            )
    return tuple(map(int, widths))
