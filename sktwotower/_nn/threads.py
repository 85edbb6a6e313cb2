"""A second Python thread that shares the work of a training step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")

_active = threading.local()
_switching = threading.Lock()


class SecondThread:
    """A context in which a second thread takes calls.

    Each of the two threads has half of torch's threads within an operator. An operator
    waits for the slowest of its threads, and a step has hundreds of small operators: where
    another job occupies a core, two threads in each operator are ten times as slow as one.
    Two Python threads that wait for each other a few times a step are not, and on an idle
    machine they are as fast.

    ``torch.set_num_threads`` sets the number for its own thread, and for threads that use
    torch for the first time later. The latter number stays as it was: such a thread may
    belong to a server, or to another fit.

    Parameters
    ----------
    wanted : bool
        Without it, or if torch has one thread, there is no second thread and calls are made
        one after the other.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._n_threads = self._n_of_others = settled_n_threads()
        self._wanted = wanted and self._n_threads > 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            pool = ThreadPoolExecutor(1, "second")
            half = self._n_threads // 2
            try:
                with _switching:
                    # A thread that is new finds what threads to come will find.
                    self._n_of_others = pool.submit(torch.get_num_threads).result()
                    self._pool = pool
                    torch.set_num_threads(half)
                    pool.submit(torch.set_num_threads, half).result()
                    _set_for_threads_to_come(self._n_of_others)
                _active.second = self
            except BaseException:  # Ctrl-C
                self._leave()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        _active.second = None
        try:
            pool.shutdown(cancel_futures=True)
        finally:
            with _switching:
                torch.set_num_threads(self._n_threads)
                if self._n_threads != self._n_of_others:
                    _set_for_threads_to_come(self._n_of_others)

    def start(self, call: Callable[[], T]) -> Callable[[], T]:
        """Start a call in the second thread; return a function that waits for its result.

        Calls are made in the order in which they are started. Without a second thread, a
        call is made when its result is waited for.
        """
        if self._pool is None:
            return call
        return self._pool.submit(call).result

    def share(self, call: Callable[[], object]) -> None:
        """Make a call here, and in the second thread at once unless it is busy.

        The call ends when nothing is left to do, whichever thread has done it.
        """
        assert self._pool is not None
        other = self._pool.submit(call)
        try:
            call()
        finally:
            was_busy = other.cancel()
        if not was_busy:
            other.result()


def settled_n_threads() -> int:
    """Number of torch's threads in this thread, which others no longer change.

    A thread has the number that it finds when it uses torch for the first time. A fit in
    another thread has half of it for a moment, so call this before anything else of torch.
    """
    with _switching:
        return torch.get_num_threads()


def _set_for_threads_to_come(n_threads: int) -> None:
    thread = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
    thread.start()
    thread.join()


def has_second_thread() -> bool:
    """Whether this thread has a second one, so that two calls can run at once."""
    return getattr(_active, "second", None) is not None


def run_both(first: Callable[[], T], other: Callable[[], U]) -> tuple[T, U]:
    """Results of two calls, the first of which is made in the second thread.

    There, torch's default modes apply: gradients are recorded.
    """
    second: SecondThread | None = getattr(_active, "second", None)
    if second is None:
        return first(), other()
    wait = second.start(first)
    result = other()
    return wait(), result


def share_out(function: Callable[[T], object], parts: Sequence[T]) -> None:
    """Call a function with each part; a second thread that is free takes some of them.

    Nothing in it is recorded for gradients.
    """
    second: SecondThread | None = getattr(_active, "second", None)
    left = deque(parts)

    def work() -> None:
        with torch.no_grad():
            while left:
                try:
                    part = left.popleft()
                except IndexError:  # the other thread has taken the last one
                    return
                function(part)

    if second is None or len(parts) < 2:
        work()
    else:
        second.share(work)


class Prefetched(Generic[T]):
    """Values of an iterator, each of which a second thread can compute in advance.

    Parameters
    ----------
    values : iterator
        The values, none of which is None.
    second : SecondThread
        The thread that computes them.
    """

    def __init__(self, values: Iterator[T], second: SecondThread) -> None:
        self._compute_next = partial(next, values, None)
        self._second = second
        self._wait = second.start(self._compute_next)

    def start_next(self) -> None:
        """Start to compute the next value, after what the thread was given before."""
        self._wait = self._second.start(self._compute_next)

    def compute_next(self) -> None:
        """Compute the next value here and now."""
        value = self._compute_next()
        self._wait = lambda: value

    def __iter__(self) -> Iterator[T]:
        """Yield the values; ``start_next`` has to be called between two of them."""
        while (value := self._wait()) is not None:
            yield value
