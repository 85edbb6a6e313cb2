"""Rows that the model was trained on, and how often items were in a batch."""

from __future__ import annotations

import torch

from sktwotower._data.histories import InteractionCodes
from sktwotower._nn.negatives import StreamingFrequencies
from sktwotower._persistence.folder import Description, Reader, Writer
from sktwotower._persistence.tensors import StoredArrays, write_arrays, write_tensors

_INTERACTIONS = "interactions.safetensors"
_FREQUENCIES = "frequencies.safetensors"


def write_interactions(interactions: InteractionCodes, writer: Writer) -> Description:
    """Write the codes, and describe how many rows there are."""
    arrays = {
        "users": interactions.users,
        "items": interactions.items,
        "positive": interactions.positive,
    }
    if interactions.times is not None:
        arrays["times"] = interactions.times
    write_arrays(writer, _INTERACTIONS, arrays)
    return {"n_rows": len(interactions)}


def read_interactions(
    description: Description, reader: Reader, *, n_users: int, n_items: int
) -> InteractionCodes:
    """The codes, all of them known."""
    shape = (description["n_rows"],)
    arrays = StoredArrays(reader, _INTERACTIONS)
    return InteractionCodes(
        users=arrays.get("users", shape, "i", between=(1, n_users)),
        items=arrays.get("items", shape, "i", between=(1, n_items)),
        positive=arrays.get("positive", shape, "b"),
        times=arrays.get("times", shape, "if") if "times" in arrays else None,
    )


def write_frequencies(
    frequencies: StreamingFrequencies | None, writer: Writer
) -> Description | None:
    """Write the gaps between sightings of each item, and describe the rest."""
    if frequencies is None:
        return None
    tensors = {"gaps": frequencies.gaps, "last": frequencies._last}
    write_tensors(writer, _FREQUENCIES, tensors)
    return {"rate": frequencies.rate, "step": frequencies.step}


def read_frequencies(
    description: Description | None, reader: Reader
) -> StreamingFrequencies | None:
    """The frequencies."""
    if description is None:
        return None
    arrays = StoredArrays(reader, _FREQUENCIES)
    gaps = arrays.vector("gaps", "f")
    frequencies = StreamingFrequencies(torch.empty(0), rate=description["rate"])
    frequencies.step = description["step"]
    frequencies.gaps = torch.from_numpy(gaps)
    frequencies._last = torch.from_numpy(arrays.get("last", gaps.shape, "f"))
    return frequencies
