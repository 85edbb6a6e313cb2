"""What the encoders share: columns in, a sparse matrix with named fields out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from ..utils._sklearn import fit_context
from ._columns import Column, read_columns
from ._fields import Field


class FieldEncoder(TransformerMixin, BaseEstimator):
    """Base of transformers that turn each column of X into a field of a sparse matrix.

    A subclass says which :class:`Field` a column becomes (`_make_field`).
    """

    separator: str | None

    def _make_field(self, column: Column) -> Field:
        raise NotImplementedError

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the categories and the scales of the columns of X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data. It is not changed.
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
    def fit_transform(self, X: Any, y: Any = None) -> sparse.csr_matrix:
        """Fit to X and encode it, with one reading of X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data. It is not changed.
        y : None
            Ignored.

        Returns
        -------
        X_out : csr_matrix of float32 of shape (n_samples, n_features_out)
            The fields side by side.
        """
        return self._encode(self._fit_columns(X))

    def transform(self, X: Any) -> sparse.csr_matrix:
        """Encode X.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Data with the columns of fit.

        Returns
        -------
        X_out : csr_matrix of float32 of shape (n_samples, n_features_out)
            The fields side by side; a ``csr_array`` under
            ``set_config(sparse_interface="sparray")``.
        """
        check_is_fitted(self)
        return self._encode(read_columns(self, X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input columns; those of fit if None, which they must equal if
            fit saw names.

        Returns
        -------
        names : ndarray of str objects of shape (n_features_out,)
            ``<column>_<category>``, or the column's own name for its value.
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
        self._fields = [self._make_field(column).fit(column) for column in columns]
        ends = np.cumsum([field.n_columns for field in self._fields]).tolist()
        self.output_indices_ = {
            column.name: slice(end - field.n_columns, end)
            for column, field, end in zip(columns, self._fields, ends, strict=True)
        }
        return columns

    def _encode(self, columns: list[Column]) -> sparse.csr_matrix:
        parts = [f.transform(c) for f, c in zip(self._fields, columns, strict=True)]
        encoded = sparse.hstack(parts, format="csr", dtype=np.float32)
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
