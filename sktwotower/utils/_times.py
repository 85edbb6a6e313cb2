"""What the timestamps of a column are: their kind, and the unit of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktwotower.utils._column_store import blocks, full
from sktwotower.utils._columns import Column, where_first

# Numbers that are moments between 1980 and 2100, counted from 1970 in these units.
_SECONDS = (3e8, 4.2e9)
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
# Numbers so many times larger or smaller than all others are of another unit, if either
# look like moments.
_FAR = 30

_WORDS = {"number": "numbers", "datetime": "datetimes", "duration": "durations"}
_HINTS = {
    "number": "give numbers in the same unit",
    "datetime": "give datetimes, for example with pandas.to_datetime",
    "duration": "give durations, for example with pandas.to_timedelta",
}


def time_kind(times: pd.Series) -> str:
    """The kind of timestamps: "datetime", "duration" or "number"."""
    kind: str = times.dtype.kind
    if kind == "O":
        kind = pd.api.types.infer_dtype(times, skipna=True)
    if kind == "M" or kind.startswith("date"):
        return "datetime"
    return "duration" if kind == "m" or kind.startswith("timedelta") else "number"


@dataclass(frozen=True)
class TimeRange:
    """What timestamps were: their kind, and between which numbers they were.

    Attributes
    ----------
    kind : {"number", "datetime", "duration"}
        What the column held.
    low, high : int or float
        Smallest and largest number, as ``time_numbers`` makes them.
    """

    kind: str
    low: int | float
    high: int | float

    def __str__(self) -> str:
        numbers = self.low, self.high
        if self.kind == "number":
            return " to ".join(map(_named, numbers))
        dtype = "datetime64[us]" if self.kind == "datetime" else "timedelta64[us]"
        return " to ".join(map(str, pd.Series(np.array(numbers).astype(dtype))))

    @classmethod
    def of(cls, kind: str, times: np.ndarray) -> TimeRange:
        """The range of at least one number, (n,)."""
        parts = [times[block] for block in blocks(len(times))]
        low, high = min(part.min() for part in parts), max(part.max() for part in parts)
        return cls(kind, low.item(), high.item())

    def joined(self, other: TimeRange | None) -> TimeRange:
        """The range of both."""
        if other is None:
            return self
        return TimeRange(self.kind, min(self.low, other.low), max(self.high, other.high))

    def refuse_others(
        self, kind: str, times: np.ndarray, *, name: Column, where: str
    ) -> None:
        """Raise ValueError for times of another kind, or numbers of another unit.

        Numbers are of another unit if they are more than 30 times as large as the largest
        number of these, or as small as a 30th of the smallest, and one of both looks like
        a moment: seconds, milliseconds, microseconds or nanoseconds since 1970 that are
        between 1980 and 2100. Small counters may grow as they like. Datetimes of 1970 are
        refused where all of these are of 1980 and later: they are numbers that were
        converted without their unit.

        Parameters
        ----------
        kind : str
            Kind of the other times.
        times : ndarray of shape (n,)
            The other times as numbers.
        name, where : str or int, str
            Their column, and what has it, for the message.
        """
        which = f"The timestamps in column {name!r} of {where}"
        if kind != self.kind:
            raise ValueError(
                f"{which} are {_WORDS[kind]}, and cannot be compared with those of fit, "
                f"which were {_WORDS[self.kind]}; {_HINTS[self.kind]}."
            )
        if kind == "datetime":
            self._refuse_1970(times, which)
        if kind != "number":
            return
        other = full(len(times), False, bool)
        for block in blocks(len(times)):
            numbers = times[block].astype(np.float64)
            are_moments = np.logical_or.reduce([_is_moment(numbers, u) for u in _UNITS])
            larger = numbers > _FAR * max(self.high, 1)
            smaller = (numbers < self.low / _FAR) & (self.low > 0)
            other[block] = larger & (are_moments | (_unit_of(self.high) is not None))
            other[block] |= smaller & (are_moments | (_unit_of(self.low) is not None))
        if other.any():
            rows, first = where_first(other)
            number = times[other.argmax()].item()
            raise ValueError(
                f"{which} are of another unit than those of fit: {rows} {first} with "
                f"{_named(number)}, where fit saw {_named(self.low)} to "
                f"{_named(self.high)}. Give them in the unit of fit."
            )

    def _refuse_1970(self, times: np.ndarray, which: str) -> None:
        first_of_1980, first_of_1971 = (_microseconds(year) for year in ("1980", "1971"))
        if self.low < first_of_1980:
            return
        other = full(len(times), False, bool)
        for block in blocks(len(times)):
            other[block] = (times[block] >= 0) & (times[block] < first_of_1971)
        if other.any():
            rows, first = where_first(other)
            raise ValueError(
                f"{which} are in 1970 in {rows} {first}, where fit saw 1980 and later. "
                "Numbers need their unit when they are converted: pandas.to_datetime(..., "
                "unit='s')."
            )

    def refuse_mixed_units(self, *, name: Column, where: str) -> None:
        """Raise ValueError if these are moments in two units, such as s and ms."""
        units = _unit_of(self.low), _unit_of(self.high)
        if self.kind == "number" and None not in units and units[0] != units[1]:
            raise ValueError(
                f"The timestamps in column {name!r} of {where} are in two units: "
                f"{_named(self.low)} and {_named(self.high)}. Give all of them in one."
            )


def _microseconds(year: str) -> int:
    return int(np.datetime64(year, "us").astype(np.int64))


def _is_moment(number: Any, unit: str) -> Any:
    low, high = (bound * _UNITS[unit] for bound in _SECONDS)
    return (low <= number) & (number <= high)


def _unit_of(number: int | float) -> str | None:
    return next((unit for unit in _UNITS if _is_moment(number, unit)), None)


def _named(number: Any) -> str:
    unit = _unit_of(number)
    return str(number) if unit is None else f"{number} ({unit} since 1970)"
