"""An estimate of the memory that training takes, and a warning if that is not free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import MOMENTS
from sktwotower._training.settings import HistorySettings, TransformerSettings
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._warnings import warn

_BYTES_OF_A_NUMBER = 4  # float32
_ADVICE = (
    "Lower embedding_dim, set average=False or optimizer='sgd', or leave out an id with "
    "user_id_embedding=False."
)
# What is kept for each row of X: codes of its user and item and whether it is a positive,
# its time, its pair in `seen`, and its pair among the known positives, as key and item.
_ROW, _TIME, _SEEN_PAIR, _KNOWN_PAIR = 9, 8, 5, 12
# Place of a row in the order of its epoch; its number, where it has an input of its own.
_ORDER, _NUMBER = 8, 8
# Items of a history, twice, the places of rows in its order, and what came before a row;
# where windows begin and end; the item that is left out; whether an item is drawn, and the
# row's place in the order of users.
_PAST, _WINDOW, _LEFT_OUT, _DRAWN = 24, 16, 4, 9
# Of many rows, masks and small codes are in memory, and an order while it is sorted.
_MASKS, _SORTED = 6, 16
# Ends of a user's seen pairs, of the known positives and of histories, positives or not.
_SEEN_USER, _KNOWN_USER, _PAST_USER = 8, 16, 32


def training_bytes(
    user_rows: EntityRows,
    item_rows: EntityRows,
    n_history_items: int,
    *,
    embedding_dim: int,
    optimizer: str,
    average: bool,
    has_penalty: bool,
) -> dict[str, int]:
    """Bytes of the embedding tables, of what is kept of them, and of the embeddings.

    Beside each table there are its average, the moments of the optimizer and, with an L2
    penalty, a gradient of all rows. Sparse fields of few columns are counted once more, as
    a matrix. Layers are not counted: they are small.

    Parameters
    ----------
    user_rows, item_rows : EntityRows
        Inputs of the two towers.
    n_history_items : int
        Rows of the history table; 0: there is none.
    embedding_dim : int
        Width of the tables.
    optimizer : {"adamw", "adam", "adagrad", "sgd"}
        Name of the optimizer.
    average : bool
        Whether an average of the weights is kept.
    has_penalty : bool
        Whether the weight decay is an L2 penalty.

    Returns
    -------
    dict of str to int
        "tables", "moments", "average", "gradient", "matrices" and "embeddings".
    """
    n_vectors, n_entries, n_embedded = n_history_items, 0, 0
    for rows in (user_rows, item_rows):
        if rows.id_codes is not None:
            n_vectors += rows.n_ids
        n_vectors += rows.n_columns + sum(block.shape[1] for block in rows.dense)
        n_entries += rows.is_narrow * len(rows) * rows.n_columns
        n_appended = 0 if rows.appended is None else rows.appended.shape[1]
        n_embedded += len(rows) * (embedding_dim + n_appended)
    tables = _BYTES_OF_A_NUMBER * embedding_dim * n_vectors
    return {
        "tables": tables,
        "moments": tables * len(MOMENTS[optimizer]),
        "average": tables * average,
        "gradient": tables * has_penalty,
        "matrices": _BYTES_OF_A_NUMBER * n_entries,
        "embeddings": _BYTES_OF_A_NUMBER * n_embedded,
    }


def row_bytes(
    n_rows: int,
    n_users: int,
    *,
    has_times: bool,
    history: HistorySettings | None,
    masks: bool,
) -> tuple[int, int]:
    """Bytes in memory, and in temporary files, that are kept for the rows of X.

    No pair of user and item is taken to occur twice. X itself is not counted.

    Parameters
    ----------
    n_rows, n_users : int
        Rows of X, and users.
    has_times : bool
        Whether the rows have times.
    history : HistorySettings or None
        The history field; None: there is none.
    masks : bool
        Whether known positives are no negatives.
    """
    of_row = _ROW + _TIME * has_times
    trained = _ROW  # what is copied in a random order where rows are many
    kept = of_row + _SEEN_PAIR + _KNOWN_PAIR * masks
    if history is not None:
        kept += _PAST
        if history.drawn_share:
            trained = 0  # batches are of users
            kept += _DRAWN
        else:
            trained += _NUMBER
            kept += _NUMBER + _WINDOW + (_TIME if has_times else _LEFT_OUT)
        if isinstance(history, TransformerSettings):
            kept -= _BYTES_OF_A_NUMBER  # its items are there once
    of_users = _SEEN_USER + _KNOWN_USER * masks + _PAST_USER * (history is not None)
    of_users *= n_users
    if not column_store.is_large(n_rows):
        return n_rows * (kept + _ORDER) + of_users, 0
    in_memory = _MASKS + _SORTED * (history is not None)
    return n_rows * in_memory + of_users, n_rows * (kept + trained)


def of_size(rows: EntityRows, n: int) -> EntityRows:
    """Entities with the same columns, of which only the number is another.

    Its tensors have shapes and no values, so that there may be any number of them.
    """

    def resized(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty((n, *tensor.shape[1:]), device="meta")

    return replace(
        rows,
        id_codes=None if rows.id_codes is None else resized(rows.id_codes),
        n_ids=0 if rows.id_codes is None else n,
        pointers=resized(rows.pointers),
        dense=tuple(map(resized, rows.dense)),
        appended=None if rows.appended is None else resized(rows.appended),
    )


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device in bytes; None where it is not known."""
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


def warn_if_too_large(needed: int, device: torch.device) -> None:
    """Warn of a training for which a device has too little free memory."""
    free = free_bytes(device)
    if free is None or needed <= free:
        return
    warn(
        f"Training will take about {_gibibytes(needed)} for the embedding tables, what the "
        "optimizer and the average keep of them, and the embeddings; "
        f"{_gibibytes(free)} are free on {device}. {_ADVICE}",
        RuntimeWarning,
    )


@contextmanager
def advice_when_out_of_memory() -> Iterator[None]:
    """Raise the error of an accelerator's memory as a MemoryError that says what to set."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(
            f"The memory of the device is too small for this training. {_ADVICE} A smaller "
            "batch_size helps if the batches, and not the tables, are large; "
            f"device='cpu' trains in the memory of the machine. ({error})"
        ) from error


def _gibibytes(n: int) -> str:
    return f"{n / 2**30:.3g} GiB"
