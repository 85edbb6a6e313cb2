"""A second thread for the calls of a step."""

import threading

import pytest
import torch

from sktwotower._nn.threads import (
    Prefetched,
    SecondThread,
    has_second_thread,
    run_both,
    share_out,
)

pytestmark = pytest.mark.usefixtures("four_threads")


def test_both_run_at_once():
    barrier = threading.Barrier(2, timeout=30)  # two threads have to wait for it

    def meet(name):
        barrier.wait()
        return name, threading.current_thread() is threading.main_thread()

    with SecondThread(wanted=True):
        assert has_second_thread()
        found = run_both(lambda: meet("one"), lambda: meet("other"))
    assert found == (("one", False), ("other", True))


@pytest.mark.parametrize("wanted, n_threads", [(False, 4), (True, 1)])
def test_without_a_second_thread_calls_are_made_one_after_the_other(wanted, n_threads):
    torch.set_num_threads(n_threads)
    made = []
    with SecondThread(wanted=wanted) as second:
        assert not has_second_thread()
        assert torch.get_num_threads() == n_threads
        wait = second.start(lambda: made.append("started"))
        run_both(lambda: made.append("one"), lambda: made.append("other"))
        wait()
    assert made == ["one", "other", "started"]


def test_each_has_half_of_the_threads_until_the_end():
    with SecondThread(wanted=True):
        assert run_both(torch.get_num_threads, torch.get_num_threads) == (2, 2)
        assert not run_both(has_second_thread, has_second_thread)[0]
    assert torch.get_num_threads() == 4
    assert not has_second_thread()


def test_gradients_are_recorded_in_the_second_thread_only():
    weight = torch.ones(2, requires_grad=True)
    with torch.no_grad(), SecondThread(wanted=True):
        one, other = run_both(lambda: weight * 2, lambda: weight * 2)
    assert (one.requires_grad, other.requires_grad) == (True, False)


@pytest.mark.parametrize("which", [0, 1])
def test_errors_of_both_calls_are_raised_and_threads_are_restored(which):
    def fail():
        raise ValueError("It is broken.")

    calls = [lambda: 1, lambda: 2]
    calls[which] = fail
    with pytest.raises(ValueError, match="It is broken"), SecondThread(wanted=True):
        run_both(*calls)
    assert torch.get_num_threads() == 4
    assert not has_second_thread()


def test_calls_are_made_in_order():
    made = []
    with SecondThread(wanted=True) as second:
        waits = [second.start(lambda k=k: made.append(k)) for k in range(20)]
        for wait in waits:
            wait()
    assert made == list(range(20))


def test_the_next_value_is_computed_when_it_is_asked_for():
    made = []

    def values():
        for k in range(3):
            made.append(k)
            yield k

    upcoming = Prefetched(values(), SecondThread(wanted=False))
    found = []
    for value in upcoming:
        found.append(value)
        upcoming.compute_next()
        assert len(made) == min(value + 2, 3)
    assert found == made == [0, 1, 2]


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_parts_are_shared_out(n, wanted):
    results = torch.zeros(n, requires_grad=True)

    def fill(part):
        torch.add(results[part], part + 1.0, out=results[part])  # would be an error else

    with SecondThread(wanted=wanted):
        share_out(fill, range(n))
    assert results.tolist() == [part + 1.0 for part in range(n)]


def test_a_free_thread_takes_a_part():
    barrier = threading.Barrier(2, timeout=30)  # two threads have to wait for it
    with SecondThread(wanted=True):
        share_out(lambda part: barrier.wait(), range(2))


def test_a_busy_thread_is_not_waited_for():
    free, threads = threading.Event(), []
    with SecondThread(wanted=True) as second:
        wait = second.start(lambda: free.wait(timeout=30))
        share_out(lambda part: threads.append(threading.current_thread()), range(3))
        free.set()
        assert wait()
    assert threads == [threading.main_thread()] * 3


@pytest.mark.parametrize("where", ["here", "there"])
def test_an_error_of_a_part_is_raised(where):
    barrier = threading.Barrier(2, timeout=30)

    def fail(part):
        barrier.wait()
        is_here = threading.current_thread() is threading.main_thread()
        if is_here == (where == "here"):
            raise KeyError(where)

    with SecondThread(wanted=True), pytest.raises(KeyError, match=where):
        share_out(fail, range(2))
