"""Encoder of mixed frames."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sktwotower.preprocessing._base import FieldEncoder
from sktwotower.preprocessing._families import FAMILY_OF_DTYPE_KIND, Column
from sktwotower.preprocessing._fields import (
    KIND_OF_FAMILY,
    CategoryField,
    Field,
    MultiHotField,
    NumberField,
    VectorField,
    is_vector,
)
from sktwotower.utils._sklearn import Interval, StrOptions


class FeatureEncoder(FieldEncoder):
    """Encode each column of a mixed frame by its dtype into one sparse matrix.

    Strings and categories become one-hot columns, numbers and times standardised values,
    lists and delimited strings multi-hot columns, and numeric vectors standardised
    columns. Each input column is one *field*: a group of output columns that a tower
    turns into one vector. This is the default encoder of
    :class:`~sktwotower.TwoTowerRecommender`; any other transformer may be used instead,
    for example a :class:`~sklearn.compose.ColumnTransformer`.

    Unknown categories are not an error. They share a column with the rare categories of
    ``fit``, or have no entry if there were none. With :meth:`partial_fit`, categories
    that have become frequent get columns of their own, at the end of their field; numbers
    are scaled as in ``fit``.

    Parameters
    ----------
    min_frequency : int, float or None, default=2
        Categories and list values of fewer rows than this (a float: than this share of
        the rows) share one column with unknown values. At the default of 2, a category of
        a single entity, which says no more than its id, is rare, and rare categories
        train the vector of unknown ones. With 1 or None each category has a column of its
        own, and unknown categories have no entry. Try larger values for columns with very
        many categories.
    max_categories : int or None, default=None
        Largest number of columns of a categorical or multi-valued field, including the
        shared column of rare values. The most frequent values have columns; in
        ``partial_fit``, values with a column keep it. None: no limit. A limit saves
        memory where ``min_frequency`` leaves very many; all beyond it are encoded alike.
    separator : str or None, default="|"
        Delimiter of strings. A string column is multi-valued if one of its values
        contains the delimiter; parts are stripped of surrounding white space. None:
        strings are never split.
    multi_combiner : {"mean", "sum", "sqrtn"}, default="mean"
        Value of each of the n entries of a multi-valued row: 1/n, 1 or 1/sqrt(n). A
        tower sums embeddings with these weights, so this is how the values of a row are
        pooled. With "mean" a row has the same influence whatever n, with "sum" it grows.
    sparse_output : bool, default=True
        Whether the output is a sparse matrix. A frame (``set_output``) cannot hold one:
        set False for it. A model takes both.

    Attributes
    ----------
    kinds_ : dict of str to str
        Kind of each column, by name: "category", "boolean", "number", "datetime",
        "timedelta", "multi_hot" or "vector".
    output_indices_ : dict of str to slice
        Output columns of each column, by name, as in
        :class:`~sklearn.compose.ColumnTransformer`.
    unknown_columns_ : dict of str to int
        Output column of the rare and unknown values of each column that has one, by name.
    n_features_in_ : int
        Number of columns of X in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of X, if they are all strings. Otherwise columns are named
        ``x0``, ``x1``, ...

    Raises
    ------
    ValueError
        If a number is infinite or complex, a column mixes lists and single values,
        vectors differ in length from those of ``fit``, or a column has values of another
        kind than in ``fit``.
    TypeError
        If a column has objects that are neither scalars nor lists of scalars, such as
        dicts.

    Warns
    -----
    UserWarning
        In ``fit``, once for each column whose values, or most of them, are encoded alike,
        or that is likely to have another meaning than its kind: lists and dates that are
        written as text, values with commas, integers in a column that is named as a code.

    See Also
    --------
    MultiHotEncoder : Encodes multi-valued columns only.
    sklearn.compose.ColumnTransformer : Combines encoders that are chosen by hand; each
        of its transformers is a field.
    sklearn.preprocessing.OneHotEncoder : Encodes categorical columns; it cannot learn
        from more rows.

    Notes
    -----
    The kinds, their values and their columns are:

    - *category*: strings, categories, other scalars. One-hot columns; missing values are
      a category named "missing".
    - *boolean*: as category.
    - *number*: integers, floats, decimals. The standardised value, 0 if missing, and a
      flag column ``<column>_missing`` if ``fit`` saw missing values. Integers that are
      codes, such as zip codes, should be converted with ``astype(str)``.
    - *datetime* (dates, timestamps, periods) and *timedelta*: as number, in days.
    - *multi_hot*: lists of strings, of integers (codes) or of other scalars; delimited
      strings. One column per value; empty and missing rows have no entry.
    - *vector*: lists of floats, or of 0 and 1 (flags), all of one length. The standardised
      entries; missing vectors are zero. Lists of a single whole number are multi_hot.

    A list is a list, tuple, array or Arrow list; the kind depends on the entries only, so
    that it is the same before and after a file. Integers with missing entries are codes
    even where a file has made floats of them. Integers of one length that are below -1
    are vectors. Sets are always multi_hot.

    Standardised values are clipped at 1,000 standard deviations from the mean, or at the
    square root of the number of rows of ``fit`` if that is more, which no row of ``fit``
    exceeds. Before that, numbers beyond 3.4e38, the range of float32, are clipped to it.
    Infinite numbers are refused.

    Categories are compared as strings: in a column of mixed types, 1, 1.0 and
    "1" are the same category, and the string "missing" is the category of missing values.
    A column without a value in ``fit`` is a number if it has a numeric dtype, else a
    category. Times without a zone are UTC.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.preprocessing import FeatureEncoder
    >>> films = pd.DataFrame({
    ...     "genres": ["Comedy|Drama", "Comedy", "Drama|Horror"],
    ...     "year": [1994, 1995, None],
    ... })
    >>> encoder = FeatureEncoder().fit(films)
    >>> encoder.kinds_
    {'genres': 'multi_hot', 'year': 'number'}
    >>> encoder.output_indices_
    {'genres': slice(0, 3, None), 'year': slice(3, 5, None)}
    >>> encoder.get_feature_names_out().tolist()
    ['genres_Comedy', 'genres_Drama', 'genres_infrequent_sklearn', 'year', 'year_missing']
    >>> encoder.transform(films).toarray()
    array([[ 0.5,  0.5,  0. , -1. ,  0. ],
           [ 1. ,  0. ,  0. ,  1. ,  0. ],
           [ 0. ,  0.5,  0.5,  0. ,  1. ]], dtype=float32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "separator": [str, None],
        "multi_combiner": [StrOptions({"mean", "sum", "sqrtn"})],
        "sparse_output": ["boolean"],
    }

    def __init__(
        self,
        *,
        min_frequency: int | float | None = 2,
        max_categories: int | None = None,
        separator: str | None = "|",
        multi_combiner: str = "mean",
        sparse_output: bool = True,
    ) -> None:
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.separator = separator
        self.multi_combiner = multi_combiner
        self.sparse_output = sparse_output

    @property
    def kinds_(self) -> dict[str, str]:
        """Kind of each column."""
        return {n: f.kind for n, f in zip(self.output_indices_, self._fields, strict=True)}

    def _make_field(self, column: Column) -> Field:
        kind = self._kind_of(column)
        if kind in ("category", "boolean"):
            return CategoryField(
                kind, self.separator, self.min_frequency, self.max_categories
            )
        if kind == "multi_hot":
            return MultiHotField(
                self.separator,
                self.min_frequency,
                self.max_categories,
                self.multi_combiner,
            )
        return VectorField(kind) if kind == "vector" else NumberField(kind)

    def _kind_of(self, column: Column) -> str:
        family = column.family
        if family == "missing":
            family = FAMILY_OF_DTYPE_KIND.get(column.values.dtype.kind, "string")
        if family == "list" and is_vector(column):
            return "vector"
        if family in ("string", "mixed") and self.separator is not None:
            if any(self.separator in key for key in column.factorized[1]):
                return "multi_hot"
        return KIND_OF_FAMILY[family]
