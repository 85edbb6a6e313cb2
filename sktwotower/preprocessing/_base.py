"""Base of the encoders: columns of X become named fields of a sparse matrix."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktwotower.preprocessing._advice import advice
from sktwotower.preprocessing._families import Column, read_columns
from sktwotower.preprocessing._fields import Field
from sktwotower.utils._sklearn import fit_context, output_config
from sktwotower.utils._warnings import warn


class FieldEncoder(TransformerMixin, BaseEstimator):
    """Base of transformers that turn each column of X into a field of a sparse matrix.

    Subclasses choose the :class:`Field` of a column in ``_make_field``.
    """

    separator: str | None
    sparse_output: bool

    def _make_field(self, column: Column) -> Field:
        raise NotImplementedError

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the categories and the scales of the columns of X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            Fitted encoder.
        """
        self._fit_columns(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from more rows; the first call is the same as ``fit``.

        Use it for data that arrive in parts, and for a model that continues training.
        The columns of a field keep their order, and new ones are added at the end of the
        field. The columns of later fields move along; ``output_indices_`` has their new
        positions.

        - Values are counted over all calls. A new or rare value that reaches
          ``min_frequency`` gets a column of its own. It keeps that column even if its
          share of the rows falls below a float ``min_frequency`` later. Once
          ``max_categories`` is reached, further values stay rare.
        - The column that rare and unknown values share is never removed. It is added when
          the first rare value appears.
        - Numbers, times and vectors are scaled as in ``fit``, because another mean would
          shift the values that a model has learned from. No flag of missing values is
          added. Call ``fit`` on rows like those to come: a column without a number in
          ``fit`` is never scaled.
        - The kind of a column never changes, even if it had no value in ``fit``.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            More rows, with the columns of ``fit``.
        y : None
            Ignored.

        Returns
        -------
        self : object
            Fitted encoder.

        Raises
        ------
        ValueError
            If ``transform`` would refuse X: it has other columns than in ``fit``, values
            of another kind, infinite numbers or vectors of another length. The encoder
            then stays as it was.
        TypeError
            If a column has objects that are neither scalars nor lists of scalars.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktwotower.preprocessing import FeatureEncoder
        >>> films = pd.DataFrame({"genre": ["Drama", "Comedy", "Drama"]})
        >>> encoder = FeatureEncoder().fit(films)
        >>> encoder.get_feature_names_out().tolist()
        ['genre_Drama', 'genre_infrequent_sklearn']
        >>> more = pd.DataFrame({"genre": ["Comedy", "Anime", "Anime", "Western"]})
        >>> encoder = encoder.partial_fit(more)
        >>> encoder.get_feature_names_out().tolist()
        ['genre_Drama', 'genre_infrequent_sklearn', 'genre_Anime', 'genre_Comedy']
        >>> encoder.unknown_columns_
        {'genre': 1}
        """
        if not hasattr(self, "_fields"):
            self._fit_columns(X)
            return self
        columns = read_columns(self, X, reset=False)
        pairs = zip(self._fields, columns, strict=True)
        self._set_fields([field.grown(column) for field, column in pairs], columns)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit to X and encode it.

        This is faster than ``fit`` followed by ``transform``, since X is read once.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data.
        y : None
            Ignored.

        Returns
        -------
        X_out : csr_matrix of float32 of shape (n_samples, n_features_out)
            The fields side by side; as in ``transform``.
        """
        return self._encode(self._fit_columns(X))

    def transform(self, X: Any) -> Any:
        """Encode X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data with the columns of ``fit``.

        Returns
        -------
        X_out : csr_matrix of float32 of shape (n_samples, n_features_out)
            The fields side by side; a ``csr_array`` under
            ``set_config(sparse_interface="sparray")``, and an ndarray or a frame with
            ``sparse_output=False``.

        Raises
        ------
        ValueError
            If X has other columns than in ``fit``, or values that ``fit`` would refuse; or
            if a frame is to hold sparse output.
        """
        check_is_fitted(self)
        return self._encode(read_columns(self, X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input columns, which must be those of ``fit`` if X had names
            there. None: the names of ``fit``.

        Returns
        -------
        names : ndarray of str objects of shape (n_features_out,)
            ``<column>_<category>``, or the name of the column for a scaled number.
        """
        check_is_fitted(self)
        prefixes = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        names = [f.names(str(p)) for f, p in zip(self._fields, prefixes, strict=True)]
        return np.array([name for group in names for name in group], dtype=object)

    def _fit_columns(self, X: Any) -> list[Column]:
        if self.separator == "":
            raise ValueError(
                "separator='' cannot split strings; pass the delimiter, such as '|', "
                "or None for no splitting."
            )
        columns = read_columns(self, X, reset=True)
        self._set_fields([self._make_field(c).fit(c) for c in columns], columns)
        for field, column in zip(self._fields, columns, strict=True):
            message = advice(field, column)
            if message is not None:
                warn(message)
        return columns

    def _set_fields(self, fields: list[Field], columns: list[Column]) -> None:
        ends = np.cumsum([field.n_columns for field in fields]).tolist()
        self._fields = fields
        self.output_indices_ = {
            column.name: slice(end - field.n_columns, end)
            for column, field, end in zip(columns, fields, ends, strict=True)
        }
        starts = [slice_.start for slice_ in self.output_indices_.values()]
        self.unknown_columns_ = {
            column.name: start + field.unknown_column
            for column, field, start in zip(columns, fields, starts, strict=True)
            if field.unknown_column is not None
        }

    def _encode(self, columns: list[Column]) -> Any:
        container = output_config("transform", self)["dense"]
        if self.sparse_output and container != "default":
            raise ValueError(
                f"{container.capitalize()} output does not support sparse data. Set "
                f"sparse_output=False in {type(self).__name__}, or "
                'set_output(transform="default").'
            )
        parts = [f.transform(c) for f, c in zip(self._fields, columns, strict=True)]
        encoded = sparse.hstack(parts, format="csr", dtype=np.float32)
        if not self.sparse_output:
            return encoded.toarray()
        encoded.sort_indices()
        wants_array = get_config().get("sparse_interface") == "sparray"
        return (sparse.csr_array if wants_array else sparse.csr_matrix)(encoded)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags
