"""Lists and delimited strings -> multi-hot columns."""

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

    What :class:`~sklearn.preprocessing.OneHotEncoder` is for columns with one value a
    row, for columns with any number of them: genres, tags, artists. Unknown values
    share a column with the rare values of ``fit``, or have no entry if there were none;
    neither warns. With :meth:`partial_fit` the encoder goes on learning: values that have
    become frequent get columns of their own, at the end of those of their column of X.

    Parameters
    ----------
    separator : str or None, default="|"
        Where strings are split; parts are stripped of surrounding white space and empty
        ones dropped. None: a string is one value.
    min_frequency : int, float or None, default=2
        Values that stand in fewer rows than this (a float: than this share of the rows)
        share one column. 1 or None gives each value a column of its own; unknown ones
        then have no entry.
    max_categories : int or None, default=None
        Upper limit of output columns per input column, the one of the rare values
        included: the most frequent ones stay, and in ``partial_fit`` those that had
        columns already. None: no limit.
    combiner : {"mean", "sum", "sqrtn"}, default="mean"
        Value of each of the n entries of a row: 1/n, 1 or 1/sqrt(n). A value that
        stands in a row twice counts once, as do the rare values of one row together.

    Attributes
    ----------
    categories_ : list of ndarray of str objects
        Sorted values of each column, rare ones included. After ``partial_fit`` the
        output is in another order; ``get_feature_names_out`` has it.
    infrequent_categories_ : list of ndarray of str objects or None
        The values of each column that share one output column, None if there are none.
    output_indices_ : dict of str to slice
        Column name -> its columns in the output.
    unknown_columns_ : dict of str to int
        Column name -> the column in the output that its rare and unknown values share;
        without those columns that have none.
    n_features_in_ : int
        Number of columns of X in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if they are all strings.

    Raises
    ------
    ValueError
        If a column mixes lists and bare values, or holds values of another kind than in
        fit.
    TypeError
        If a column holds times, or objects that are neither scalars nor lists of
        scalars.

    See Also
    --------
    FeatureEncoder : Encodes mixed frames, multi-valued columns among them.
    sklearn.preprocessing.MultiLabelBinarizer : The same for labels: one column, every
        value known.

    Notes
    -----
    Values are compared by their string: 1, 1.0 and "1" are one value. A number is a set
    of one; missing rows, missing values in lists and empty lists have no entry.

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
    }

    def __init__(
        self,
        *,
        separator: str | None = "|",
        min_frequency: int | float | None = 2,
        max_categories: int | None = None,
        combiner: str = "mean",
    ) -> None:
        self.separator = separator
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.combiner = combiner

    @property
    def categories_(self) -> list[np.ndarray]:
        """Sorted values of each column."""
        return [vocabulary.categories for vocabulary in self._vocabularies]

    @property
    def infrequent_categories_(self) -> list[np.ndarray | None]:
        """Values of each column that share one output column."""
        return [v.infrequent_categories for v in self._vocabularies]

    @property
    def _vocabularies(self) -> list[CategoryIndex]:
        return [f.vocabulary for f in self._fields if isinstance(f, MultiHotField)]

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
