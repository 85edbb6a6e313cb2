"""A mixed frame -> one sparse matrix with named fields."""

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

    Strings and categories become one-hot columns, numbers and times standardised
    values, lists and delimited strings multi-hot columns, numeric vectors standardised
    columns. Each input column is one *field*: a group of output columns that a tower
    turns into one vector. It is the encoder that a tower uses if none is given; any
    other transformer may take its place.

    Unknown categories are answered, never raised: they share a column with the rare
    categories of ``fit``, or have no entry if there were none. With :meth:`partial_fit` the
    encoder goes on learning: categories that have become frequent get columns of their
    own, at the end of their field, while scales stay those of ``fit``.

    Parameters
    ----------
    min_frequency : int, float or None, default=2
        Categories and list values that stand in fewer rows than this (a float: than
        this share of the rows) share one column, which is also that of unknown ones.
        The default has a reason: a category that a single entity has says no more about
        it than its id does, and without rare categories there is no vector to answer an
        unknown one with. 1 or None gives each category a column of its own; unknown
        ones then have no entry.
    max_categories : int or None, default=None
        Upper limit of columns of a categorical or multi-valued field, the one of the
        rare values included: the most frequent ones stay, and in ``partial_fit`` those
        that had columns already. None: no limit.
    separator : str or None, default="|"
        A string column in which some value contains it is multi-valued; its values are
        split there and stripped of surrounding white space. None: strings are never
        split.
    multi_combiner : {"mean", "sum", "sqrtn"}, default="mean"
        Value of each of the n entries of a multi-valued row: 1/n, 1 or 1/sqrt(n). A
        tower sums weighted embeddings, so that this is the way the values of a row are
        pooled.

    Attributes
    ----------
    kinds_ : dict of str to str
        Column name -> "category", "boolean", "number", "datetime", "timedelta",
        "multi_hot" or "vector".
    output_indices_ : dict of str to slice
        Column name -> its columns in the output, as
        :class:`~sklearn.compose.ColumnTransformer` has it.
    unknown_columns_ : dict of str to int
        Column name -> the column in the output that its rare and unknown values share;
        without those columns that have none.
    n_features_in_ : int
        Number of columns of X in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if they are all strings. Otherwise columns are called
        ``x0``, ``x1``, ...

    Raises
    ------
    ValueError
        If a number is infinite or complex, a list column holds a bare value, vectors
        differ in length from those of fit, or a column holds values of another kind
        than in fit.
    TypeError
        If a column holds objects that are neither scalars nor lists of scalars.

    See Also
    --------
    MultiHotEncoder : The multi-valued part on its own.
    sklearn.compose.ColumnTransformer : Chooses an encoder per column by hand; its
        transformers are fields, too.
    sklearn.preprocessing.OneHotEncoder : The categorical part, which cannot grow.

    Notes
    -----
    The kinds, the values that they are for, and what becomes of these:

    - *category*: strings, categories, other scalars. One-hot; missing is a category of
      its own, called "missing".
    - *boolean*: as category.
    - *number*: integers, floats, decimals. The standardised value; 0 where missing,
      with a flag column ``<column>_missing`` if fit saw missing values.
    - *datetime* (dates, timestamps, periods) and *timedelta*: as number, in days.
    - *multi_hot*: lists, tuples, sets and arrays of scalars; delimited strings. One
      column per value; empty and missing have no entry.
    - *vector*: numeric arrays or lists of floats, all of one length (at least 2). The
      standardised entries; a missing vector is zero.

    Lists of integers are codes (multi_hot) and arrays of integers of one length are
    vectors. Categories are compared by their string: in a column that mixes types, 1,
    1.0 and "1" are one category, and the string "missing" is the category of missing
    values. A column of which fit saw no value is a number if its dtype says so, else a
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
    }

    def __init__(
        self,
        *,
        min_frequency: int | float | None = 2,
        max_categories: int | None = None,
        separator: str | None = "|",
        multi_combiner: str = "mean",
    ) -> None:
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.separator = separator
        self.multi_combiner = multi_combiner

    @property
    def kinds_(self) -> dict[str, str]:
        """Kind of each column."""
        return {n: f.kind for n, f in zip(self.output_indices_, self._fields, strict=True)}

    def _make_field(self, column: Column) -> Field:
        kind = self._kind_of(column)
        if kind in ("category", "boolean"):
            return CategoryField(kind, self.min_frequency, self.max_categories)
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
