"""Two things at once, in two threads of Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")

_of_this_thread = threading.local()


class SecondThread:
    """A thread beside the one that asks, as long as the context lasts.

    The two share torch's threads: each has half of them within an operator. An operator
    waits for the slowest of its threads, and a step has hundreds of small ones: where
    another job runs on a core, two threads in each operator are ten times as slow as one.
    Two threads that meet a few times a step are not, and on an idle machine they are no
    slower.

    Parameters
    ----------
    wanted : bool
        False, or a single thread of torch: there is none, and things are done one after
        the other.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._n_threads = torch.get_num_threads()
        self._wanted = wanted and self._n_threads > 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            half = self._n_threads // 2
            torch.set_num_threads(half)
            self._pool = ThreadPoolExecutor(1, "beside", torch.set_num_threads, (half,))
            _of_this_thread.second = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            _of_this_thread.second = None
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            torch.set_num_threads(self._n_threads)

    def start(self, do: Callable[[], T]) -> Callable[[], T]:
        """Start something, after what was started before; what comes back waits for it."""
        if self._pool is None:
            return do
        return self._pool.submit(do).result


def has_second() -> bool:
    """Whether two things at once are faster here than one after the other."""
    return getattr(_of_this_thread, "second", None) is not None


def both(one: Callable[[], T], other: Callable[[], U]) -> tuple[T, U]:
    """What two calls return, of which the first is made in the second thread.

    It has torch's default modes there: gradients are recorded.
    """
    second: SecondThread | None = getattr(_of_this_thread, "second", None)
    if second is None:
        return one(), other()
    wait = second.start(one)
    found = other()
    return wait(), found
