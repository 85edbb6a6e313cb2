"""Batches are gathered while the next one is under way."""

from sktwotower._nn.gathering import _one_ahead


def test_the_next_one_is_started_before_one_is_waited_for():
    log = []

    def started():
        for n in range(3):
            log.append(f"start {n}")
            yield lambda n=n: log.append(f"finish {n}") or n

    assert list(_one_ahead(started())) == [0, 1, 2]
    expected = ["start 0", "start 1", "finish 0", "start 2", "finish 1", "finish 2"]
    assert log == expected
    assert list(_one_ahead(iter([]))) == []
