"""Checks that the parts of a model fit together."""

from __future__ import annotations

import numpy as np

from sktwotower._data.histories import InteractionCodes
from sktwotower._persistence.folder import expect
from sktwotower._training.state import SideState

Sizes = dict[str, int]


def sizes_of(user: SideState, item: SideState, interactions: InteractionCodes) -> Sizes:
    """How large a model is."""
    return {
        "n_users": len(user.entities),
        "n_items": len(item.entities),
        "n_interactions": len(interactions),
        "embedding_dim": len(item.unknown),
    }


def expect_parts(
    user: SideState, item: SideState, interactions: InteractionCodes, sizes: Sizes
) -> None:
    """Raise ArtefactError unless arrays have the sizes of the model, and codes are known."""
    dim, n_rows = sizes["embedding_dim"], sizes["n_interactions"]
    for side in (user, item):
        n, file, entities = sizes[f"n_{side.name}s"], side.name, side.entities
        whole = len(entities) == n > 0
        expect(whole, f"{file}_vocabulary.parquet", "has repeated ids, or lacks some")
        _expect_array(file, "embeddings", side.embeddings, (n, dim), "f")
        _expect_array(file, "unknown", side.unknown, (dim,), "f")
        _expect_array(file, "id_codes", entities.id_codes, (n + 1,), "i", between=(0, n))
        expect(
            entities.features.shape[0] == n + 1, f"{file}.safetensors", "has other features"
        )
        if entities.popularity is not None:
            _expect_array(file, "popularity", entities.popularity, (n + 1,), "f")
        raw, positions = entities.raw_features, entities.raw_positions
        if raw is not None and positions is not None:
            last = len(raw) - 1
            _expect_array(
                file, "raw_positions", positions, (n + 1,), "i", between=(-1, last)
            )
    for name, column in interactions.columns().items():
        n = sizes.get(f"n_{name}", 0)
        _expect_array(
            "interactions",
            name,
            column,
            (n_rows,),
            {"users": "i", "items": "i", "positive": "b", "times": "if"}[name],
            between=(1, n) if n else None,
        )


def _expect_array(
    part: str,
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
    kinds: str,
    *,
    between: tuple[int, int] | None = None,
) -> None:
    """Raise ArtefactError unless an array has a shape, a kind of dtype and a range."""
    expect(
        array.shape == shape and array.dtype.kind in kinds,
        f"{part}.safetensors",
        f"has an array {name!r} of shape {array.shape} and dtype {array.dtype}, where the "
        f"model has the shape {shape}",
    )
    if between is not None and len(array):
        low, high = between
        expect(
            bool(low <= array.min() and array.max() <= high),
            f"{part}.safetensors",
            f"has values in {name!r} that are not between {low} and {high}",
        )
