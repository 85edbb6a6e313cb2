"""Fields: one encoder for each kind of column.

Numbers are scaled by scikit-learn; categories have an index, which can grow. A fitted
field accepts certain families of values only, and its errors name the column.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from copy import copy
from itertools import chain
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator

from sktwotower.preprocessing._categories import CategoryIndex
from sktwotower.preprocessing._families import (
    BOOLEANS,
    COMPLEX,
    NUMBERS,
    Column,
    check_scalar_types,
    factorize,
)

KIND_OF_FAMILY = {
    "boolean": "boolean",
    "number": "number",
    "datetime": "datetime",
    "timedelta": "timedelta",
    "string": "category",
    "mixed": "category",
    "list": "multi_hot",
}
# Scaled values are clipped so many standard deviations from the mean, or at the square root
# of the number of rows of fit, which no value of fit exceeds.
FARTHEST = 1000.0


class Field:
    """Encoder of one column of X into a group of output columns.

    Attributes
    ----------
    kind : str
        How the column is encoded.
    family : str
        Family of the values in ``fit``.
    accepts : set of str
        Families of values that ``transform`` takes.
    n_columns : int
        Number of output columns.
    unknown_column : int or None
        Output column that unknown values share; None if there is none.
    """

    family: str
    n_columns: int
    unknown_column: int | None = None

    def __init__(self, kind: str):
        self.kind = kind
        self.accepts: set[str] = set()

    def fit(self, column: Column) -> Self:
        """Fit to a column; subclasses also set ``accepts``."""
        self.family = column.family
        self.learn(column)
        return self

    def learn(self, column: Column) -> None:
        """Set ``n_columns``, ``unknown_column`` and what ``encode`` needs."""
        raise NotImplementedError

    def grown(self, column: Column) -> Self:
        """A field that has also learned from ``column``; this one does not change.

        A field that cannot grow returns itself, after checking that it can encode the
        column.
        """
        self.transform(column)
        return self

    def encode(self, column: Column) -> sparse.csr_matrix:
        """Encode a column of an accepted family."""
        raise NotImplementedError

    def names(self, prefix: str) -> list[str]:
        """Names of the output columns."""
        raise NotImplementedError

    def transform(self, column: Column) -> sparse.csr_matrix:
        """Encode a column, (n_samples, n_columns)."""
        self.check_family(column)
        return self.encode(column)

    def check_family(self, column: Column) -> None:
        """Raise ValueError if the family of the column is not accepted."""
        if column.family not in {*self.accepts, "missing"}:
            row, value = column.first_row(lambda _: True)
            raise ValueError(
                f"Column {column.name!r} was fitted as {self.kind!r} on {self.family} "
                f"values, but now holds {column.family} values, of kind "
                f"{KIND_OF_FAMILY[column.family]!r} (first at row {row}: {value!r}); "
                "pass values like those of fit, or fit again."
            )


class CategoricalField(Field):
    """One output column per frequent value; rare values share one.

    ``separator`` is the delimiter by which strings would have been split.
    """

    def __init__(
        self,
        kind: str,
        separator: str | None,
        min_frequency: int | float | None,
        max_categories: int | None,
    ) -> None:
        super().__init__(kind)
        self.separator = separator
        self.categories = CategoryIndex(min_frequency, max_categories)

    def count(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys of a column, and the number of rows of each."""
        raise NotImplementedError

    def learn(self, column: Column) -> None:
        self.categories = self.categories.extended(*self.count(column), len(column))
        self.n_columns = self.categories.n_columns
        self.unknown_column = self.categories.shared

    def grown(self, column: Column) -> Self:
        self.check_family(column)
        field = copy(self)  # shallow, since `learn` replaces what it changes
        field.learn(column)
        return field

    def names(self, prefix: str) -> list[str]:
        return self.categories.names(prefix)


class CategoryField(CategoricalField):
    """One column per category; missing values are the category "missing"."""

    def fit(self, column: Column) -> Self:
        self.accepts = {"boolean"} if self.kind == "boolean" else {"string", "mixed"}
        if column.family == "mixed":
            # Categories 1, 2, 3 may be plain numbers in a later frame.
            self.accepts |= {"number", "boolean"}
        return super().fit(column)

    def count(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        codes, keys = _with_missing(column)
        return keys, np.bincount(codes, minlength=len(keys))

    def encode(self, column: Column) -> sparse.csr_matrix:
        codes, keys = _with_missing(column)
        return self.categories.rows(keys)[codes]


def _with_missing(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Codes and keys of a column, where missing values have the key "missing"."""
    codes, keys = column.factorized
    if "missing" not in keys:
        keys = np.append(keys, np.array(["missing"], dtype=object))
    code = int(np.flatnonzero(keys == "missing")[0])
    return np.where(codes < 0, code, codes), keys


class NumberField(Field):
    """The standardised value, and a flag of missing values if ``fit`` saw some."""

    def learn(self, column: Column) -> None:
        self.accepts = {self.kind}
        self.scaler = _fit_scaler(column.floats[:, None])
        self.has_flag = bool(column.missing.any())
        self.n_columns = 1 + self.has_flag

    def encode(self, column: Column) -> sparse.csr_matrix:
        values = self.scaled(column.floats[:, None])
        if self.has_flag:
            values = np.hstack([values, column.missing[:, None]], dtype=np.float32)
        return sparse.csr_matrix(values)

    def names(self, prefix: str) -> list[str]:
        return [prefix, f"{prefix}_missing"][: self.n_columns]

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Standardised values (n, 1)."""
        return _scale(self.scaler, values)


class VectorField(Field):
    """The standardised entries of vectors of one length; missing vectors are zero."""

    def learn(self, column: Column) -> None:
        self.accepts = {"list"}
        self.n_columns = len(column.values.iloc[column.rows[0]])
        self.scaler = _fit_scaler(self._entries(column))

    def encode(self, column: Column) -> sparse.csr_matrix:
        return sparse.csr_matrix(_scale(self.scaler, self._entries(column)))

    def names(self, prefix: str) -> list[str]:
        return [f"{prefix}_{entry}" for entry in range(self.n_columns)]

    def _entries(self, column: Column) -> np.ndarray:
        if column.missing.all():
            return np.full((len(column), self.n_columns), np.nan)
        if any(len(value) != self.n_columns for value in column.lists()):
            row, value = column.first_row(lambda v: len(v) != self.n_columns)
            raise ValueError(
                f"Column {column.name!r} holds vectors of length {self.n_columns}, but "
                f"row {row} has length {len(value)}; make all of one length."
            )
        try:
            return column.vectors
        except (TypeError, ValueError) as error:
            if "infinite" in str(error):
                raise
            raise ValueError(
                f"Column {column.name!r} was fitted as 'vector', but now holds lists "
                f"with entries that are not numbers ({error}); pass vectors of numbers."
            ) from error


def is_vector(column: Column) -> bool:
    """Whether the lists of a column are numeric vectors of one length.

    What counts are the entries, and not whether lists, arrays or tuples hold them. Floats
    are vectors. Integers are codes, unless all are 0 or 1 (flags), or some are below -1.
    Lists of one entry are codes, unless it has a fraction.
    """
    lists = column.lists()
    if any(len(value) != len(lists[0]) for value in lists):
        _refuse_fractions(column, lists)
        return False
    if not len(lists[0]) or any(isinstance(v, (set, frozenset)) for v in lists):
        return False
    types = {type(entry) for entry in _typical_entries(lists)} - {type(None), type(pd.NA)}
    if any(
        not issubclass(t, (*NUMBERS, *BOOLEANS)) or issubclass(t, COMPLEX) for t in types
    ):
        return False
    has_floats = any(not issubclass(t, (numbers.Integral, *BOOLEANS)) for t in types)
    entries = column.vectors[column.rows]
    missing = np.isnan(entries)
    known = entries[~missing]
    if entries.shape[1] == 1:
        return bool((known % 1 != 0).any())
    # Integers, some of them missing, are floats after Parquet.
    if has_floats and not (missing.any() and (known % 1 == 0).all()):
        return True
    if not len(known):
        return has_floats
    return bool(np.isin(known, [0, 1]).all() or known.min() < -1)


def _typical_entries(lists: np.ndarray) -> Iterator[Any]:
    """Entries of all types that occur; one of each numeric array."""
    for value in lists:
        is_numeric = getattr(value, "dtype", np.dtype(object)).kind in "biuf"
        yield from value[:1] if is_numeric else value


def _refuse_fractions(column: Column, lists: np.ndarray) -> None:
    """Raise ValueError if lists of different lengths have fractions, which are no codes."""
    entries = chain.from_iterable(lists)
    if any(isinstance(e, (float, np.floating)) and e % 1 for e in entries if e == e):
        row, value = column.first_row(lambda v: len(v) != len(lists[0]))
        raise ValueError(
            f"Column {column.name!r} holds vectors of numbers of different lengths: "
            f"{len(lists[0])}, and {len(value)} at row {row}; make all of one length."
        )


def _fit_scaler(values: np.ndarray) -> BaseEstimator:
    from sklearn.preprocessing import StandardScaler  # late: it is slow to import

    # Entries without a value have no mean; zeros make them the constant 0.
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    return StandardScaler().set_output(transform="default").fit(values)


def _scale(scaler: Any, values: np.ndarray) -> np.ndarray:
    """Standardised float32 values; 0, the mean, where missing."""
    with np.errstate(over="ignore"):  # clipped below
        scaled = np.nan_to_num(scaler.transform(values), nan=0.0)
    farthest = np.maximum(FARTHEST, np.sqrt(scaler.n_samples_seen_))
    return np.clip(scaled, -farthest, farthest).astype(np.float32)


class MultiHotField(CategoricalField):
    """One output column per frequent value of lists or strings; rare values share one."""

    def __init__(
        self,
        separator: str | None,
        min_frequency: int | float | None,
        max_categories: int | None,
        combiner: str,
    ) -> None:
        super().__init__("multi_hot", separator, min_frequency, max_categories)
        self.combiner = combiner

    def fit(self, column: Column) -> Self:
        self.accepts = {
            "list": {"list"},
            "string": {"string", "mixed"},
            "missing": {"list", "string", "mixed", "number", "boolean"},
        }.get(column.family, {"string", "mixed", "number", "boolean"})
        return super().fit(column)

    def count(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        bag_of_row, bags, keys = self._bags(column)
        rows_of_bag = np.bincount(bag_of_row, minlength=bags.shape[0])
        return keys, (rows_of_bag @ bags).astype(np.int64)

    def encode(self, column: Column) -> sparse.csr_matrix:
        bag_of_row, bags, keys = self._bags(column)
        encoded = (bags @ self.categories.rows(keys)).tocsr()
        n_values = np.diff(encoded.indptr)  # the rare values of a row count once
        weights = {
            "sum": np.ones(len(n_values)),
            "mean": 1 / np.maximum(n_values, 1),
            "sqrtn": 1 / np.sqrt(np.maximum(n_values, 1)),
        }[self.combiner]
        encoded.data = np.repeat(weights, n_values).astype(np.float32)
        return encoded[bag_of_row]

    def _bags(self, column: Column) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
        """Distinct bags of values.

        Returns
        -------
        bag_of_row : ndarray of int of shape (n_samples,)
            Bag of each row.
        bags : csr_matrix of shape (n_bags, n_keys)
            1 if the bag contains the key. The last bag is empty, for missing rows.
        keys : ndarray of object of shape (n_keys,)
            Distinct values.
        """
        if column.family == "list":
            lists = column.lists()
            values = np.fromiter(chain.from_iterable(lists), dtype=object)
            types = set(map(type, values[~pd.isna(values)]))
            check_scalar_types(column, types, where="list entries")
            codes, keys = factorize(values)
            bag_of_row = np.full(len(column), len(lists))
            bag_of_row[column.rows] = np.arange(len(lists))
        else:  # each distinct string is split once
            bag_of_row, texts = column.factorized
            lists = np.fromiter(map(self._split, texts), dtype=object, count=len(texts))
            codes, keys = factorize(np.fromiter(chain.from_iterable(lists), object))
            bag_of_row = np.where(bag_of_row < 0, len(lists), bag_of_row)
        lengths = np.fromiter(map(len, lists), dtype=np.intp, count=len(lists))
        bag_of_value = np.repeat(np.arange(len(lists)), lengths)
        known = codes >= 0
        ones = np.ones(known.sum(), dtype=np.float32)
        bags = sparse.csr_matrix(
            (ones, (bag_of_value[known], codes[known])),
            shape=(len(lists) + 1, len(keys)),
        )
        bags.data[:] = 1  # repeated values of a row count once
        return bag_of_row, bags, keys

    def _split(self, text: str) -> list[str]:
        if self.separator is None:
            return [text]
        return [part for part in map(str.strip, text.split(self.separator)) if part]
