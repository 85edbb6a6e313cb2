"""Results that are computed once."""

import gc
import weakref
from dataclasses import dataclass

from sktwotower.utils._once import once


@dataclass(frozen=True, eq=False)
class Record:
    value: int


def test_each_result_is_computed_once_and_goes_with_the_record():
    asked = []

    @once
    def times(record, factor=2):
        asked.append((record.value, factor))
        return [record.value * factor]

    one, other = Record(3), Record(3)
    assert times(one) is times(one)
    assert times(one, 5) == [15]
    assert times(other) is not times(one)
    assert asked == [(3, 2), (3, 5), (3, 2)]
    assert one.__dict__ == {"value": 3}
    result = weakref.ref(one)
    del one
    gc.collect()
    assert result() is None
