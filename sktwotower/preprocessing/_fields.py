"""One small encoder per kind of column: ``fit``, ``transform`` to CSR, ``names``.

Each of them wraps the scikit-learn part that does the work; what is added is the choice
of values that a fitted column still accepts, and errors that name the column.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ._columns import (
    BOOLEANS,
    NUMBERS,
    Column,
    check_finite,
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
LARGEST = float(np.finfo(np.float32).max)


class Vocabulary:
    """Distinct keys -> one-hot rows, by scikit-learn's ``OneHotEncoder``.

    Rare keys share one column, and unknown keys that column or none. An empty
    vocabulary, of a column without any value, has no columns.
    """

    def __init__(self, min_frequency: int | float | None, max_categories: int | None):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.encoder: OneHotEncoder | None = None
        self.n_columns = 0

    def fit(self, keys: np.ndarray, counts: np.ndarray, n_samples: int) -> Vocabulary:
        """Fit on keys that stand in `counts` of `n_samples` rows each."""
        min_frequency = self.min_frequency
        if isinstance(min_frequency, float):  # a share of the rows, not of the values
            min_frequency = max(int(np.ceil(min_frequency * n_samples)), 1)
        if self.max_categories is None:
            # All that matters then is whether a count reaches the threshold, and the
            # encoder counts in a Python loop.
            counts = np.minimum(counts, min_frequency or 1)
        values = np.repeat(keys, counts)
        if len(values):
            encoder = OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=min_frequency,
                max_categories=self.max_categories,
                dtype=np.float32,
            )
            # A global set_config(transform_output="pandas") is not meant for the parts.
            self.encoder = encoder.set_output(transform="default").fit(values[:, None])
            self.n_columns = len(encoder.get_feature_names_out())
        return self

    def rows(self, keys: np.ndarray) -> sparse.csr_matrix:
        """One-hot row of each key, of shape (n_keys, n_columns)."""
        if self.encoder is None or not len(keys):
            return sparse.csr_matrix((len(keys), self.n_columns), dtype=np.float32)
        return sparse.csr_matrix(self.encoder.transform(keys[:, None]))

    def names(self, prefix: str) -> list[str]:
        """Names of the columns."""
        if self.encoder is None:
            return []
        return self.encoder.get_feature_names_out([prefix]).tolist()

    @property
    def categories(self) -> np.ndarray:
        """All keys of fit, sorted."""
        if self.encoder is None:
            return np.empty(0, dtype=object)
        return self.encoder.categories_[0]

    @property
    def infrequent_categories(self) -> np.ndarray | None:
        """The keys that share a column, None if there are none."""
        return None if self.encoder is None else self.encoder.infrequent_categories_[0]


class Field:
    """A column of X that becomes a group of columns.

    Attributes
    ----------
    kind : str
        How it is encoded.
    family : str
        What the values of fit were.
    accepts : set of str
        Families of values that ``transform`` takes.
    n_columns : int
    """

    family: str
    n_columns: int

    def __init__(self, kind: str):
        self.kind = kind
        self.accepts: set[str] = set()

    def fit(self, column: Column) -> Field:
        """Learn from the column of fit."""
        self.family = column.family
        self.learn(column)
        return self

    def learn(self, column: Column) -> None:
        """Set `accepts`, `n_columns` and what `encode` needs."""
        raise NotImplementedError

    def encode(self, column: Column) -> sparse.csr_matrix:
        """Encode a column of an accepted family."""
        raise NotImplementedError

    def names(self, prefix: str) -> list[str]:
        """Names of the output columns."""
        raise NotImplementedError

    def transform(self, column: Column) -> sparse.csr_matrix:
        """Encode `column` to a matrix of shape (n_samples, n_columns)."""
        if column.family not in {*self.accepts, "missing"}:
            row, value = column.first_row(lambda _: True)
            raise ValueError(
                f"Column {column.name!r} was fitted as {self.kind!r} on {self.family} "
                f"values, but now holds {column.family} values, of kind "
                f"{KIND_OF_FAMILY[column.family]!r} (first at row {row}: {value!r}); "
                "pass values like those of fit, or fit again."
            )
        return self.encode(column)


class CategoryField(Field):
    """One column per category; missing values are the category "missing"."""

    def __init__(
        self, kind: str, min_frequency: int | float | None, max_categories: int | None
    ) -> None:
        super().__init__(kind)
        self.vocabulary = Vocabulary(min_frequency, max_categories)

    def learn(self, column: Column) -> None:
        self.accepts = {"boolean"} if self.kind == "boolean" else {"string", "mixed"}
        if column.family == "mixed":
            # A category dtype of the numbers 1, 2, 3 may come back as plain numbers.
            self.accepts |= {"number", "boolean"}
        codes, keys = _with_missing(column)
        counts = np.bincount(codes, minlength=len(keys))
        self.vocabulary.fit(keys, counts, len(column))
        self.n_columns = self.vocabulary.n_columns

    def encode(self, column: Column) -> sparse.csr_matrix:
        codes, keys = _with_missing(column)
        return self.vocabulary.rows(keys)[codes]

    def names(self, prefix: str) -> list[str]:
        return self.vocabulary.names(prefix)


def _with_missing(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Codes and keys in which a missing value is the key "missing"."""
    codes, keys = column.factorized
    if "missing" not in keys:
        keys = np.append(keys, np.array(["missing"], dtype=object))
    code = int(np.flatnonzero(keys == "missing")[0])
    return np.where(codes < 0, code, codes), keys


class NumberField(Field):
    """The standardised value, and a flag of missing values if fit saw some."""

    def learn(self, column: Column) -> None:
        self.accepts = {self.kind}
        self.scaler = _fit_scaler(column.floats[:, None])
        self.has_flag = bool(column.missing.any())
        self.n_columns = 1 + self.has_flag

    def encode(self, column: Column) -> sparse.csr_matrix:
        values = _scale(self.scaler, column.floats[:, None])
        if self.has_flag:
            values = np.hstack([values, column.missing[:, None]], dtype=np.float32)
        return sparse.csr_matrix(values)

    def names(self, prefix: str) -> list[str]:
        return [prefix, f"{prefix}_missing"][: self.n_columns]


class VectorField(Field):
    """The standardised entries of vectors of one length; a missing vector is zero."""

    def learn(self, column: Column) -> None:
        self.accepts = {"list"}
        self.n_columns = len(column.values.iloc[column.rows[0]])
        self.scaler = _fit_scaler(self._entries(column))

    def encode(self, column: Column) -> sparse.csr_matrix:
        return sparse.csr_matrix(_scale(self.scaler, self._entries(column)))

    def names(self, prefix: str) -> list[str]:
        return [f"{prefix}_{entry}" for entry in range(self.n_columns)]

    def _entries(self, column: Column) -> np.ndarray:
        entries = np.full((len(column), self.n_columns), np.nan)
        lists = column.lists()
        if any(len(value) != self.n_columns for value in lists):
            row, value = column.first_row(lambda v: len(v) != self.n_columns)
            raise ValueError(
                f"Column {column.name!r} holds vectors of length {self.n_columns}, but "
                f"row {row} has length {len(value)}; make all of one length."
            )
        if len(lists):
            try:
                entries[column.rows] = [list(value) for value in lists]
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Column {column.name!r} was fitted as 'vector', but now holds "
                    f"lists with entries that are not numbers ({error}); pass vectors "
                    "of numbers."
                ) from error
        check_finite(column.name, entries)
        return entries


def is_vector(column: Column) -> bool:
    """Whether a column of lists holds numeric vectors of one length.

    Lists of integers are codes, arrays of integers are vectors.
    """
    lists = column.lists()
    if len(lists[0]) < 2 or any(len(value) != len(lists[0]) for value in lists):
        return False
    if any(isinstance(value, (set, frozenset)) for value in lists):
        return False
    if all(getattr(value, "dtype", np.dtype(object)).kind in "biuf" for value in lists):
        return True
    types = set(map(type, chain.from_iterable(lists)))
    has_floats = any(issubclass(t, (float, np.floating)) for t in types)
    return has_floats and all(
        issubclass(t, NUMBERS) and not issubclass(t, BOOLEANS) for t in types
    )


def _fit_scaler(values: np.ndarray) -> StandardScaler:
    # A column without any value has no mean: zeros make it the constant 0.
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    return StandardScaler().set_output(transform="default").fit(values)


def _scale(scaler: StandardScaler, values: np.ndarray) -> np.ndarray:
    """Standardised float32 values, 0 (the mean) where missing."""
    with np.errstate(over="ignore"):  # clipped below
        scaled = np.nan_to_num(scaler.transform(values), nan=0.0)
    return np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)


class MultiHotField(Field):
    """One column per value of lists or delimited strings, shared by rare values."""

    def __init__(
        self,
        separator: str | None,
        min_frequency: int | float | None,
        max_categories: int | None,
        combiner: str,
    ) -> None:
        super().__init__("multi_hot")
        self.separator = separator
        self.combiner = combiner
        self.vocabulary = Vocabulary(min_frequency, max_categories)

    def learn(self, column: Column) -> None:
        self.accepts = {
            "list": {"list"},
            "string": {"string", "mixed"},
            "missing": {"list", "string", "mixed", "number", "boolean"},
        }.get(column.family, {"string", "mixed", "number", "boolean"})
        bag_of_row, bags, keys = self._bags(column)
        rows_of_bag = np.bincount(bag_of_row, minlength=bags.shape[0])
        counts = (rows_of_bag @ bags).astype(np.int64)
        self.vocabulary.fit(keys, counts, len(column))
        self.n_columns = self.vocabulary.n_columns

    def encode(self, column: Column) -> sparse.csr_matrix:
        bag_of_row, bags, keys = self._bags(column)
        encoded = (bags @ self.vocabulary.rows(keys)).tocsr()
        n_values = np.diff(encoded.indptr)  # rare values of one row are one value
        weights = {
            "sum": np.ones(len(n_values)),
            "mean": 1 / np.maximum(n_values, 1),
            "sqrtn": 1 / np.sqrt(np.maximum(n_values, 1)),
        }[self.combiner]
        encoded.data = np.repeat(weights, n_values).astype(np.float32)
        return encoded[bag_of_row]

    def names(self, prefix: str) -> list[str]:
        return self.vocabulary.names(prefix)

    def _bags(self, column: Column) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
        """Distinct bags of values.

        Returns
        -------
        bag_of_row : ndarray of int of shape (n_samples,)
        bags : csr_matrix of shape (n_bags, n_keys)
            1 where the bag holds the key. The last bag is empty, for missing rows.
        keys : ndarray of object of shape (n_keys,)
        """
        if column.family == "list":
            lists = column.lists()
            values = np.fromiter(chain.from_iterable(lists), dtype=object)
            types = set(map(type, values[~pd.isna(values)]))
            check_scalar_types(column, types, where="list entries")
            codes, keys = factorize(values)
            bag_of_row = np.full(len(column), len(lists))
            bag_of_row[column.rows] = np.arange(len(lists))
        else:  # distinct strings are split, not rows
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
        bags.data[:] = 1  # twice in one row counts once
        return bag_of_row, bags, keys

    def _split(self, text: str) -> list[str]:
        if self.separator is None:
            return [text]
        return [part for part in map(str.strip, text.split(self.separator)) if part]
