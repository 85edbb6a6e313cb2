"""What training will take, and whether it is there, before it begins."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import MOMENTS
from sktwotower.utils import _column_store as memmap

_FLOAT = 4  # bytes
# Bytes of a row.
_PLACE = 8  # in an epoch
_CODES = 13  # where they are copied
_KNOWN = 12  # its pair and item
_HISTORY = 52  # windows, and what they are cut from
_SORT = 16  # of mapped rows by time


def training_bytes(
    user_rows: EntityRows,
    item_rows: EntityRows,
    n_history_items: int,
    *,
    embedding_dim: int,
    optimizer: str,
    average: bool,
    has_penalty: bool,
) -> int:
    """Bytes of the tables, of what is kept beside each, and of the embeddings.

    Kept are the average and what the optimiser knows, and with an L2 penalty the gradient,
    which is one of every row. Few columns are also there as a matrix. The layers are small
    beside it.
    """
    n_vectors, n_entries = n_history_items, 0
    for rows in (user_rows, item_rows):
        if rows.id_codes is not None:
            n_vectors += rows.n_ids
        n_vectors += rows.n_columns + sum(block.shape[1] for block in rows.dense)
        n_entries += rows.is_narrow * len(rows) * rows.n_columns
    copies = 1 + average + len(MOMENTS[optimizer]) + has_penalty
    embeddings = len(user_rows) + len(item_rows)
    return _FLOAT * (embedding_dim * (n_vectors * copies + embeddings) + n_entries)


def bytes_of_rows(n_rows: int, *, is_part: bool, masks: bool, has_history: bool) -> int:
    """Bytes of what is made of the training rows, and kept while they are trained on.

    Parameters
    ----------
    n_rows : int
        Of very many, all but a sort is in files.
    is_part : bool
        Whether they are not just the rows that were read.
    masks : bool
        Whether known positives are masked.
    has_history : bool
        Whether each has a window.
    """
    if memmap.is_large(n_rows):
        return n_rows * _SORT * has_history
    each = _PLACE + _CODES * is_part + _KNOWN * masks + _HISTORY * has_history
    return n_rows * each


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be had on a device; None where it cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if device.type != "cpu" or not info.exists():
        return None
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    limit = Path("/sys/fs/cgroup/memory.max")  # a container may have less
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        used = Path("/sys/fs/cgroup/memory.current").read_text()
        free = min(free, int(text) - int(used))
    return free


def warn_if_too_large(
    needed: int, of_rows: int, device: torch.device, *, stacklevel: int
) -> None:
    """Warn before a training that would not fit; rows are not on an accelerator."""
    if device.type != "cpu":
        of_rows = 0
    free = free_bytes(device)
    if free is None or needed + of_rows <= free:
        return
    warnings.warn(
        f"Training will take about {_giga(needed)} for the embedding tables, what the "
        f"optimizer and the average keep of them, and the embeddings, and "
        f"{_giga(of_rows)} for the rows; {_giga(free)} are free on {device}. Lower "
        "embedding_dim, set average=False or optimizer='sgd', leave out an id with "
        "user_id_embedding=False, or train on fewer rows.",
        RuntimeWarning,
        stacklevel=stacklevel,
    )


def _giga(n: int) -> str:
    return f"{n / 2**30:.3g} GiB"
