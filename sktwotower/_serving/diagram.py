"""What a notebook shows of a recommender: both encoders as branches, and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from sktwotower.preprocessing import FeatureEncoder
from sktwotower.utils._sklearn import VisualBlock

if TYPE_CHECKING:
    from sktwotower._two_tower import TwoTowerRecommender


def visual_block(model: TwoTowerRecommender) -> VisualBlock:
    """The diagram of a recommender: its encoders side by side, and the towers below.

    scikit-learn draws it, escapes every text in it, and takes what stands before the
    colon of a branch's name for the name of the parameter.
    """
    sides = ("user", "item")
    fitted = hasattr(model, "item_embeddings_")
    encoders = VisualBlock(
        "parallel",
        [_encoder(model, side, fitted) for side in sides],
        names=[f"{side}_encoder: {_of_side(model, side, fitted)}" for side in sides],
        name_details=["", ""],
        dash_wrapped=False,
    )
    towers = VisualBlock(
        "single",
        "towers",
        names="towers",
        name_caption=_of_towers(model, fitted),
        name_details=_details(model, fitted),
    )
    return VisualBlock("serial", [encoders, towers], dash_wrapped=False)


def _encoder(model: TwoTowerRecommender, side: str, fitted: bool) -> BaseEstimator | str:
    """What encodes the features of a side; the fitted one if there is one."""
    if fitted:
        encoder = getattr(model, f"{side}_encoder_")
        return "no features" if encoder is None else encoder
    if (
        getattr(model, f"{side}_table") is None
        and getattr(model, f"{side}_features") is None
    ):
        return "no features"
    encoder = getattr(model, f"{side}_encoder")
    return FeatureEncoder() if encoder is None else encoder


def _of_side(model: TwoTowerRecommender, side: str, fitted: bool) -> str:
    if not fitted:
        return f"{side}s"
    n_fields = len(_fields(model, side))
    of_fields = "1 field" if n_fields == 1 else f"{n_fields} fields"
    return f"{len(getattr(model, f'{side}_ids_')):,} {side}s, {of_fields}"


def _fields(model: TwoTowerRecommender, side: str) -> list[str]:
    """Names of what a tower eats."""
    own = model._side(side)
    fields = ["id"] if own.tower.id_table is not None else []
    fields += ["history"] if own.past is not None else []
    return fields + [str(name) for name in own.entities.fields]


def _of_towers(model: TwoTowerRecommender, fitted: bool) -> str:
    """The sizes of what was trained, in a line."""
    if not fitted:
        return f"{model.embedding_dim} dimensions"
    n_parameters = sum(p.numel() for p in model._towers.parameters())
    epochs = "epoch" if model.n_iter_ == 1 else "epochs"
    line = f"{n_parameters:,} parameters, {model.n_iter_} {epochs}"
    if model.best_validation_score_ is not None:
        line += f", best {model.validation_metric} {model.best_validation_score_:.4f}"
    return line


def _details(model: TwoTowerRecommender, fitted: bool) -> str:
    """What unfolds below that line."""
    lines: list[tuple[str, Any]] = []
    if fitted:
        lines = [(f"{s} fields", ", ".join(_fields(model, s))) for s in ("user", "item")]
    lines += [
        ("embedding_dim", model.embedding_dim),
        ("hidden_layer_sizes", model.hidden_layer_sizes),
        ("loss", model.loss),
    ]
    if fitted:
        lines.append(("training loss", f"{model.loss_curve_[-1]:.4f}"))
    return "\n".join(f"{name}: {value}" for name, value in lines)
