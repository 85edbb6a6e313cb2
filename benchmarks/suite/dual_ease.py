"""EASE by a matrix of user by user, for data with more items than users."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack


class DualEASE:
    r"""EASE in its dual form.

    With :math:`X` the binary matrix of users and items, and
    :math:`K = (X X^T + \lambda I)^{-1}`, the matrix that EASE needs is
    :math:`P = (X^T X + \lambda I)^{-1} = (I - X^T K X) / \lambda`, and :math:`X P = K X`.
    So the scores :math:`X B = X - X P \, \mathrm{diag}(P)^{-1}` are

    .. math:: S_{uj} = X_{uj} - \frac{\lambda \, (K X)_{uj}}{1 - (X^T K X)_{jj}}.

    Memory is one matrix of users by users in float32.

    Parameters
    ----------
    matrix : csr_matrix of shape (n_users, n_items), float32
        Binary.
    regularization : float
    """

    def __init__(self, matrix: sp.csr_matrix, regularization: float) -> None:
        self.matrix = matrix
        self.users_of_items = matrix.T.tocsr()  # (n_items, n_users)
        self.regularization = regularization
        self.popularity = np.asarray(matrix.sum(axis=0)).ravel()
        # (n_users, n_users); symmetric, and its transpose has the rows in one piece
        self.kernel = inverse(gram(matrix, regularization)).T
        shares = np.empty(matrix.shape[1], dtype=np.float64)
        for items in blocks(len(shares)):
            of_items = self.users_of_items[items]
            shares[items] = np.ravel(of_items.multiply(of_items @ self.kernel).sum(axis=1))
        self.scale = (regularization / (1.0 - shares)).astype(np.float32)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores of all items for users, (b, n_items); -1 gets the popular items."""
        of_users = (self.users_of_items @ self.kernel[rows].T).T
        scores = self.matrix[rows].toarray() - of_users * self.scale
        scores[rows < 0] = self.popularity
        return scores


def gram(matrix: sp.csr_matrix, regularization: float) -> np.ndarray:
    """The products of users, and the regularization on the diagonal; in Fortran's order."""
    products = np.empty((matrix.shape[0],) * 2, dtype=np.float32, order="F")
    for users in blocks(len(products)):
        products[:, users] = (matrix @ matrix[users].T).toarray()
    products[np.diag_indices_from(products)] += regularization
    return products


def inverse(positive: np.ndarray) -> np.ndarray:
    """The inverse of a positive definite matrix in Fortran's order, in its place."""
    factor, failed = lapack.spotrf(positive, lower=True, overwrite_a=True)
    if not failed:
        positive, failed = lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise np.linalg.LinAlgError(f"The matrix is not positive definite: {failed}.")
    for columns in blocks(len(positive)):  # LAPACK leaves the other half as it was
        rows = slice(columns.start, None)
        lower = np.tril(positive[rows, columns])
        positive[rows, columns] = lower
        positive[columns, rows] = lower.T
        corner = lower[: lower.shape[1]]
        positive[columns, columns] = corner + np.tril(corner, -1).T
    return positive


def blocks(n: int, size: int = 1024) -> list[slice]:
    """Slices of n rows."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
