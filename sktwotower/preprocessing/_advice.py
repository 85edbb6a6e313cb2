"""What ``fit`` says about columns whose values a tower cannot tell apart."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import pandas as pd

from sktwotower.preprocessing._families import Column
from sktwotower.preprocessing._fields import (
    CategoricalField,
    Field,
    MultiHotField,
    NumberField,
)

# Rare categories are worth a warning if most categories are rare, and if they are more than
# this share of the values: nearly every column has a tail.
_SHARE_OF_RARE = 0.25
# Texts that look like lists or dates are so if at least this share of them does.
_MOST = 0.9
_DELIMITERS = (",", ";")
# Not intervals such as "(0, 1]".
_WRITTEN_LIST = re.compile(r"\s*(\[.*\]|\(.*\)|\{.*\})\s*", re.DOTALL)
_WRITTEN_NUMBERS = re.compile(r"\[\s*[-+.\d]\S*(\s+[-+.\d]\S*)+\s*\]")  # of NumPy
_WRITTEN_DATE = re.compile(r"\s*(\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4})(\D|$)")
_CODE_NAMES = {"id", "ids", "code", "codes", "zip", "zipcode", "postcode"}
# Numbers with more different encoded values than this are not looked at further.
_MANY_NUMBERS = 1000
_HEAD = 10_000


def advice(field: Field, column: Column) -> str | None:
    """What is wrong with a column that a field was fitted to, and what to do about it.

    Returns
    -------
    message : str or None
        None if the values are told apart, or if there is only one.
    """
    finders: list[Any] = [_all_alike]
    if isinstance(field, CategoricalField):
        finders = [
            _written_lists,
            _written_dates,
            _unsplit_strings,
            _rare_categories,
            _all_alike,
        ]
    elif isinstance(field, NumberField):
        finders = [_numbered_codes, _merged_numbers]
    if column.missing.all():
        return None
    found = (find(field, column) for find in finders)
    message = next((text for text in found if text), None)
    return message and f"Column {column.name!r} {message}"


def _written_lists(field: CategoricalField, column: Column) -> str | None:
    texts = _texts(column)
    lists = [text for text in texts if _WRITTEN_LIST.fullmatch(text)]
    if len(lists) < 2 or len(lists) < _MOST * len(texts):
        return None
    example = next(filter(_has_values, lists), None)
    if example is None:  # words in brackets
        return None
    return (
        f"holds lists that are written as text, such as {example!r}, and each text is one "
        "category; turn them into lists first, for example with ast.literal_eval or "
        "json.loads."
    )


def _has_values(text: str) -> bool:
    """Whether a text in brackets has several words or numbers, or a quoted one."""
    text = text.strip()
    if text[0] != "(" and "," in text or _WRITTEN_NUMBERS.fullmatch(text):
        return True
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(value, list | tuple | set | dict) and len(value) > 0


def _written_dates(field: CategoricalField, column: Column) -> str | None:
    texts = _texts(column)
    is_wanted = isinstance(column.values.dtype, pd.CategoricalDtype)
    dates = [text for text in texts if _WRITTEN_DATE.match(text)]
    if is_wanted or len(dates) < 2 or len(dates) < _MOST * len(texts):
        return None
    return (
        f"holds dates that are written as text, such as {dates[0]!r}, and each is one "
        "category; parse them with pandas.to_datetime, or say with astype('category') that "
        "they are categories."
    )


def _unsplit_strings(field: CategoricalField, column: Column) -> str | None:
    texts, separator = _texts(column), field.separator
    if separator is None or any(separator in text for text in texts):
        return None
    for delimiter in _DELIMITERS:
        lists = [[part.strip() for part in text.split(delimiter)] for text in texts]
        example = next((t for t, parts in zip(texts, lists, strict=True) if parts[1:]), "")
        # Parts of lists come back; those of sentences and of names rarely do.
        if example and len({part for parts in lists for part in parts}) <= len(texts):
            return (
                f"holds strings with {delimiter!r}, such as {example!r}, each of which is "
                f"one category; set separator={delimiter!r} if they hold several values."
            )
    return None


def _rare_categories(field: CategoricalField, column: Column) -> str | None:
    index = field.categories
    is_value = np.asarray(index.keys != "missing")
    rare = is_value & (index.columns < 0)
    n_rare, n_values = int(rare.sum()), int(is_value.sum())
    if n_rare < 2 or 2 * n_rare <= n_values:
        return None
    if index.counts[rare].sum() <= _SHARE_OF_RARE * index.counts[is_value].sum():
        return None
    if index.max_categories is not None and n_rare < n_values:
        return None  # as the caller wanted it
    hint = "encode texts with a TfidfVectorizer"
    texts = _texts(column)
    if len(texts) and not np.isnan(pd.to_numeric(texts, errors="coerce")).any():
        hint = "turn numbers in strings into numbers with pandas.to_numeric"
    elif column.family == "list":
        hint = "pass vectors as lists of floats"
    limit = f"min_frequency={index.min_frequency}"
    if index.max_categories is not None:
        limit = f"max_categories={index.max_categories}"
    return (
        f"has {n_values} different values, of which {n_rare} are rare ({limit}) and share "
        f"one column, so that they are encoded alike; {hint}, set min_frequency=1 for a "
        "column of each, or leave the column out."
    )


def _numbered_codes(field: NumberField, column: Column) -> str | None:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column.name)
    if column.family != "number" or not words or words[-1].lower() not in _CODE_NAMES:
        return None
    known = pd.unique(column.floats[column.rows])
    if len(known) < 2 or (known % 1 != 0).any():
        return None
    return (
        "holds integers, which are encoded as one number; if they are codes, turn them "
        "into categories with astype(str)."
    )


def _merged_numbers(field: NumberField, column: Column) -> str | None:
    for part in (column.head(_HEAD), column):
        distinct = pd.unique(part.floats[part.rows])
        n_encoded = len(np.unique(field.scaled(distinct[:, None])))
        if n_encoded > _MANY_NUMBERS:
            return None
    n_numbers = int(column.values.nunique())
    if 2 * n_encoded > n_numbers or n_numbers < 2:
        return None
    return (
        f"has {n_numbers} different values, of which only {n_encoded} remain as float32 "
        f"numbers after scaling; they range from {column.floats[column.rows].min():.3g} to "
        f"{column.floats[column.rows].max():.3g}. Clip or transform them first, for "
        "example with a QuantileTransformer, or make categories of them with astype(str)."
    )


def _all_alike(field: Field, column: Column) -> str | None:
    for part in (column.head(_MANY_NUMBERS), column):
        if _rows_differ(field, part):
            return None
    if not _values_differ(column):
        return None
    hint = "leave it out, or encode it otherwise"
    if isinstance(field, MultiHotField) and column.family == "list":
        hint = (
            "the order of a list, and how often it has a value, are not encoded. Give "
            "flags of one length, or vectors, to a FeatureEncoder"
        )
    return f"has different values, but they are all encoded alike; {hint}."


def _rows_differ(field: Field, column: Column) -> bool:
    encoded = field.encode(column)[column.rows]
    if encoded.shape[0] == 0:
        return False
    first = encoded[np.zeros(encoded.shape[0], dtype=int)]
    return (encoded - first).nnz > 0


def _values_differ(column: Column) -> bool:
    if column.family != "list":
        return len(_used_keys(column)) > 1
    lists = column.lists()
    return len({tuple(map(repr, value)) for value in lists}) > 1


def _texts(column: Column) -> np.ndarray:
    """Distinct values of a column of strings, up to 10,000; none of other columns."""
    return _used_keys(column)[:_HEAD] if column.family == "string" else np.empty(0, object)


def _used_keys(column: Column) -> np.ndarray:
    codes, keys = column.factorized
    if not isinstance(column.values.dtype, pd.CategoricalDtype):
        return keys
    # A category dtype may have keys that no row has.
    return keys[np.bincount(codes[codes >= 0], minlength=len(keys)) > 0]
