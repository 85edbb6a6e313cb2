"""Distinct values of Arrow columns that are read block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktwotower._data.arrow_files import arrow


class DistinctValues:
    """Distinct values of an Arrow column, in the order of their first appearance."""

    def __init__(self, kind: Any) -> None:
        pa = arrow()
        self._kind = kind
        self._values = pa.array(
            [], kind.value_type if pa.types.is_dictionary(kind) else kind
        )

    def codes(self, column: Any) -> np.ndarray:
        """Codes of values, (n,) int32; -1 if missing. New values are added."""
        pa = arrow()
        known = self._encoded(pa.array([], pa.int32()))
        chunks = [
            pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary)
            for chunk in column.dictionary_encode().chunks
        ]
        known, *chunks = pa.chunked_array([known, *chunks]).unify_dictionaries().chunks
        self._values = known.dictionary
        return np.concatenate(
            [chunk.indices.fill_null(-1).to_numpy() for chunk in chunks], dtype=np.int32
        )

    def array(self) -> Any:
        """The distinct values."""
        return self._values

    def take(self, codes: np.ndarray) -> Any:
        """Values of codes, of the same type as the column."""
        pa = arrow()
        numbers = pa.array(codes, pa.int32(), mask=codes < 0)
        if pa.types.is_dictionary(self._kind):
            return self._encoded(numbers)
        return self._values.take(numbers)

    def _encoded(self, codes: Any) -> Any:
        pa = arrow()
        ordered = pa.types.is_dictionary(self._kind) and self._kind.ordered
        return pa.DictionaryArray.from_arrays(codes, self._values, ordered=ordered)


class DistinctLists(DistinctValues):
    """Distinct lists, and other values for which Arrow has no hash table."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self._numbers: dict[str, int] = {}
        self._found: list[Any] = []

    def codes(self, column: Any) -> np.ndarray:
        codes = []
        for value in column.to_pylist():
            key = repr(value)
            if value is not None and key not in self._numbers:
                self._numbers[key] = len(self._found)
                self._found.append(value)
            codes.append(self._numbers.get(key, -1))
        return np.array(codes, dtype=np.int32)

    def array(self) -> Any:
        return arrow().array(self._found, self._kind)

    def take(self, codes: np.ndarray) -> Any:
        pa = arrow()
        return self.array().take(pa.array(codes, pa.int32(), mask=codes < 0))


class DistinctExtensions:
    """Distinct values of an extension type, such as UUIDs, found by their storage."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._stored = distinct_of(kind.storage_type)

    def codes(self, column: Any) -> np.ndarray:
        return self._stored.codes(column.cast(self._kind.storage_type))

    def array(self) -> Any:
        return self._kind.wrap_array(self._stored.array())

    def take(self, codes: np.ndarray) -> Any:
        return self._kind.wrap_array(self._stored.take(codes))


def distinct_of(kind: Any) -> DistinctValues | DistinctExtensions:
    types = arrow().types
    if isinstance(kind, arrow().BaseExtensionType):
        return DistinctExtensions(kind)
    alone = types.is_nested(kind) or types.is_null(kind) or types.is_float16(kind)
    return DistinctLists(kind) if alone else DistinctValues(kind)
