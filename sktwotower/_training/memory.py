"""An estimate of the memory that training takes, and a warning if that is not free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.optim import MOMENTS
from sktwotower.utils._warnings import warn

_BYTES_OF_A_NUMBER = 4  # float32
_ADVICE = (
    "Lower embedding_dim, set average=False or optimizer='sgd', or leave out an id with "
    "user_id_embedding=False."
)


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
    """Bytes of the embedding tables, what is kept of them, and the embeddings.

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
    """
    n_vectors, n_entries = n_history_items, 0
    for rows in (user_rows, item_rows):
        if rows.id_codes is not None:
            n_vectors += rows.n_ids
        n_vectors += rows.n_columns + sum(block.shape[1] for block in rows.dense)
        n_entries += rows.is_narrow * len(rows) * rows.n_columns
    copies = 1 + average + len(MOMENTS[optimizer]) + has_penalty
    embeddings = len(user_rows) + len(item_rows)
    return _BYTES_OF_A_NUMBER * (
        embedding_dim * (n_vectors * copies + embeddings) + n_entries
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
