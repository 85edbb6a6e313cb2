"""The diagram of a recommender in a notebook: both encoders as branches, and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sktwotower._data.encoding import Encoder, encoder_of
from sktwotower._data.roles import SIDES, SideName
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.state import ModelState
from sktwotower.utils._sklearn import VisualBlock


def visual_block(parameters: Mapping[str, Any], state: ModelState | None) -> VisualBlock:
    """The encoders side by side, and the towers below.

    scikit-learn draws it and escapes all text in it. It takes what stands before the colon
    of a branch's name for the name of the parameter.

    Parameters
    ----------
    parameters : mapping
        Of the estimator, as ``get_params(deep=False)`` returns them.
    state : ModelState or None
        None before ``fit``.
    """
    encoders = VisualBlock(
        "parallel",
        [_encoder(parameters, state, side) for side in SIDES],
        names=[f"{side}_encoder: {_caption_of_side(state, side)}" for side in SIDES],
        name_details=["", ""],
        dash_wrapped=False,
    )
    towers = VisualBlock(
        "single",
        "towers",
        names="towers",
        name_caption=_caption_of_towers(parameters, state),
        name_details=_details(parameters, state),
    )
    return VisualBlock("serial", [encoders, towers], dash_wrapped=False)


def _encoder(
    parameters: Mapping[str, Any], state: ModelState | None, side: SideName
) -> Encoder | str:
    """The encoder of a side; the fitted one if there is one."""
    if state is not None:
        encoder = state.side(side).entities.encoder
        return "no features" if encoder is None else encoder
    if parameters[f"{side}_table"] is None and parameters[f"{side}_features"] is None:
        return "no features"
    return encoder_of(parameters[f"{side}_encoder"])


def _caption_of_side(state: ModelState | None, side: SideName) -> str:
    """Numbers of ids and fields."""
    if state is None:
        return f"{side}s"
    n_fields = len(EntityEmbedder.of(state, side).field_names)
    of_fields = "1 field" if n_fields == 1 else f"{n_fields} fields"
    return f"{len(state.side(side).vocabulary):,} {side}s, {of_fields}"


def _caption_of_towers(parameters: Mapping[str, Any], state: ModelState | None) -> str:
    """Numbers of parameters and epochs, and the best validation score."""
    if state is None:
        return f"embedding_dim={parameters['embedding_dim']!r}"
    n_parameters = sum(p.numel() for p in state.towers.parameters())
    log = state.log
    n_epochs = len(log.loss_curve)
    line = f"{n_parameters:,} parameters, {n_epochs} epoch{'s' if n_epochs > 1 else ''}"
    if log.best_validation_score is not None:
        line += f", best {log.deciding_metric} {log.best_validation_score:.4f}"
    return line


def _details(parameters: Mapping[str, Any], state: ModelState | None) -> str:
    """The text that unfolds below the caption of the towers."""
    lines: list[tuple[str, Any]] = []
    if state is not None:
        for side in SIDES:
            names = EntityEmbedder.of(state, side).field_names
            lines.append((f"{side} fields", ", ".join(names)))
    values = dict(parameters)
    if state is not None:
        history = state.settings.history
        values |= vars(state.settings)
        values["history"] = None if history is None else history.as_parameter()
    shown = ("history", "embedding_dim", "hidden_layer_sizes", "loss")
    lines += [(name, values[name]) for name in shown]
    if state is not None:
        lines.append(("training loss", f"{state.log.loss_curve[-1]:.4f}"))
    return "\n".join(f"{name}: {value}" for name, value in lines)
