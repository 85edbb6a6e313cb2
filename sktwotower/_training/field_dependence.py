"""Statistical dependence between the fields of entities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

N_BINS = 10  # deciles


def field_dependence(fields: Sequence[sp.csr_matrix], *, with_id: bool) -> np.ndarray:
    """Normalised mutual information of all pairs of fields.

    Each field is reduced to one label for each row. The leading column of a row is the one
    with the largest absolute value, the first of several equal ones. In a field of more
    than two columns the label is the leading column, for example the category of a one-hot
    row. In a field of one or two columns (a number, perhaps with an indicator of missing
    values) the label is the leading column together with the decile of its value. All rows
    without an entry share one more label.

    Parameters
    ----------
    fields : sequence of csr_matrix of shape (n, width)
        Encoded fields of n entities.
    with_id : bool
        Whether the id is a field, too. It comes first, and is unique for each row.

    Returns
    -------
    ndarray of shape (n_fields, n_fields)
        Values in [0, 1], normalised by the arithmetic mean of the two entropies.
    """
    from sklearn.metrics import normalized_mutual_info_score  # imported late, as it is slow

    labels = [field_labels(field) for field in fields]
    if with_id:
        labels.insert(0, np.arange(fields[0].shape[0]))
    dependence = np.eye(len(labels))
    for i, first in enumerate(labels):
        for j in range(i):
            information = normalized_mutual_info_score(first, labels[j])
            dependence[i, j] = dependence[j, i] = information
    return dependence


def field_labels(field: sp.csr_matrix) -> np.ndarray:
    """Labels of the rows of a field (n,), as defined in :func:`field_dependence`."""
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
