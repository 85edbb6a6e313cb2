"""How much the fields of an entity tell of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

N_BINS = 10  # of a number


def field_dependence(fields: Sequence[sp.csr_matrix], *, with_id: bool) -> np.ndarray:
    """Normalised mutual information of each two fields.

    A field is read as one label a row. In a field of one or two columns (a number, perhaps
    with a flag where it is missing) a row's label is its leading column and the decile of
    the value there; in a wider one it is the leading column alone: the category of a
    one-hot row, the first of several equal values. Leading is the column with the largest
    absolute value; a row without any entry has a label of its own.

    Parameters
    ----------
    fields : sequence of csr_matrix of shape (n, width)
        Encoded fields of the same n entities.
    with_id : bool
        Whether the id, which differs from row to row, is a field before them.

    Returns
    -------
    ndarray of shape (n_fields, n_fields)
        In [0, 1], by the arithmetic mean of the two entropies.
    """
    from sklearn.metrics import normalized_mutual_info_score  # late: it is slow to import

    labels = [field_labels(field) for field in fields]
    if with_id:
        labels.insert(0, np.arange(fields[0].shape[0]))
    dependence = np.eye(len(labels))
    for i, first in enumerate(labels):
        for j in range(i):
            shared = normalized_mutual_info_score(first, labels[j])
            dependence[i, j] = dependence[j, i] = shared
    return dependence


def field_labels(field: sp.csr_matrix) -> np.ndarray:
    """One label a row, as :func:`field_dependence` says."""
    filled = np.diff(field.indptr) > 0
    leading = np.where(filled, np.asarray(abs(field).argmax(axis=1)).ravel(), -1)
    if field.shape[1] > 2:
        return leading
    values = np.asarray(field[np.arange(field.shape[0]), leading]).ravel()
    labels = np.zeros(len(leading), dtype=np.int64)
    for column in np.unique(leading):
        rows = leading == column
        edges = np.quantile(values[rows], np.arange(1, N_BINS) / N_BINS)
        bins = np.searchsorted(np.unique(edges), values[rows], side="right")
        labels[rows] = (column + 1) * N_BINS + bins
    return labels
