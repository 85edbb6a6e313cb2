"""Encoder of lists and delimited strings."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from sktwotower.preprocessing._base import FieldEncoder
from sktwotower.preprocessing._categories import CategoryIndex
from sktwotower.preprocessing._families import Column
from sktwotower.preprocessing._fields import Field, MultiHotField
from sktwotower.utils._sklearn import Interval, StrOptions


class MultiHotEncoder(FieldEncoder):
    """Encode columns of lists or delimited strings as multi-hot columns.

    Use it for columns with any number of values per row: genres, tags, artists. For one
    value per row use :class:`~sklearn.preprocessing.OneHotEncoder`; for mixed frames use
    :class:`FeatureEncoder`. Unknown values share a column with the rare values of
    ``fit``, or have no entry if there were none; neither causes a warning. With
    :meth:`partial_fit` values that have become frequent get columns of their own.

    Parameters
    ----------
    separator : str or None, default="|"
        Delimiter of strings. Parts are stripped of surrounding white space, and empty
        parts are dropped. None: a string is one value.
    min_frequency : int, float or None, default=2
        Values of fewer rows than this (a float: than this share of the rows) share one
        column. With 1 or None each value has a column of its own, and unknown values have
        no entry.
    max_categories : int or None, default=None
        Largest number of output columns per input column, including the shared column
        of rare values. The most frequent values have columns; in ``partial_fit``, values
        with a column keep it. None: no limit.
    combiner : {"mean", "sum", "sqrtn"}, default="mean"
        Value of each of the n entries of a row: 1/n, 1 or 1/sqrt(n). Repeated values of
        a row count once, and so do all its rare values together.
    sparse_output : bool, default=True
        Whether the output is a sparse matrix. A frame (``set_output``) cannot hold one:
        set False for it. A model takes both.

    Attributes
    ----------
    categories_ : list of ndarray of str objects
        Sorted values of each column, including rare ones. After ``partial_fit`` the
        order of the output columns differs; see ``get_feature_names_out``.
    infrequent_categories_ : list of ndarray of str objects or None
        The rare values of each column, which share an output column; None if there are
        none.
    output_indices_ : dict of str to slice
        Output columns of each column, by name.
    unknown_columns_ : dict of str to int
        Output column of the rare and unknown values of each column that has one, by name.
    n_features_in_ : int
        Number of columns of X in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of X, if they are all strings.

    Raises
    ------
    ValueError
        If a column mixes lists and single values, or has values of another kind than in
        ``fit``.
    TypeError
        If a column has times, or objects that are neither scalars nor lists of scalars.

    Warns
    -----
    UserWarning
        In ``fit``, once for each column whose values, or most of them, are encoded alike,
        or that holds lists that are written as text, or values with commas.

    See Also
    --------
    FeatureEncoder : Encodes mixed frames, multi-valued columns among them.
    sklearn.preprocessing.MultiLabelBinarizer : The same for labels: a single column, and
        no unknown values.

    Notes
    -----
    Values are compared as strings: 1, 1.0 and "1" are the same value. A number is a set
    of one value. Missing rows, missing values in lists and empty lists have no entry.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower.preprocessing import MultiHotEncoder
    >>> films = pd.DataFrame({"genres": ["Comedy|Drama", "Comedy", "Drama|Horror"]})
    >>> encoder = MultiHotEncoder(combiner="sum").fit(films)
    >>> encoder.get_feature_names_out().tolist()
    ['genres_Comedy', 'genres_Drama', 'genres_infrequent_sklearn']
    >>> encoder.transform(pd.DataFrame({"genres": ["Drama", "Western|Comedy"]})).toarray()
    array([[0., 1., 0.],
           [1., 0., 1.]], dtype=float32)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "separator": [str, None],
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "combiner": [StrOptions({"mean", "sum", "sqrtn"})],
        "sparse_output": ["boolean"],
    }

    def __init__(
        self,
        *,
        separator: str | None = "|",
        min_frequency: int | float | None = 2,
        max_categories: int | None = None,
        combiner: str = "mean",
        sparse_output: bool = True,
    ) -> None:
        self.separator = separator
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.combiner = combiner
        self.sparse_output = sparse_output

    @property
    def categories_(self) -> list[np.ndarray]:
        """Sorted values of each column."""
        return [index.categories for index in self._indexes]

    @property
    def infrequent_categories_(self) -> list[np.ndarray | None]:
        """Values of each column that share one output column."""
        return [index.infrequent_categories for index in self._indexes]

    @property
    def _indexes(self) -> list[CategoryIndex]:
        return [f.categories for f in self._fields if isinstance(f, MultiHotField)]

    def _make_field(self, column: Column) -> Field:
        if column.family in ("datetime", "timedelta"):
            raise TypeError(
                f"Column {column.name!r} (dtype {column.values.dtype}) holds times, "
                "which are not sets of values; pass lists, delimited strings, numbers "
                "or booleans."
            )
        return MultiHotField(
            self.separator, self.min_frequency, self.max_categories, self.combiner
        )
