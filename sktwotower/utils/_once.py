"""Results that are computed once for an object that never changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")
Rest = TypeVarTuple("Rest")
Result = TypeVar("Result")


def once(
    function: Callable[[Owner, *Rest], Result],
) -> Callable[[Owner, *Rest], Result]:
    """Decorate a function to keep its results for as long as its first argument lives.

    The first argument is a record that never changes; the others, by position, can be
    hashed. The results are beside the record, so that its copies and files lack them.
    """
    known: WeakKeyDictionary[Any, dict[Any, Result]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(owner: Owner, *rest: *Rest) -> Result:
        results = known.setdefault(owner, {})
        if rest not in results:
            results[rest] = function(owner, *rest)
        return results[rest]

    return remembered
