"""Vectors of items from the spectrum of the interactions, for training to start from."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from sktwotower._data.pairs import pair_matrix
from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.towers import INITIAL_SCALE, Tower

# What the random values of a table are multiplied by before the spectral ones are added.
_NOISE = 0.5
# Of the decomposition: steps of its iteration, and further vectors for their sake.
_ITERATIONS, _OVERSAMPLES = 4, 10


def start_from_spectrum(
    tower: Tower,
    id_codes: np.ndarray,
    rows: TrainingRows,
    seed: int,
    ranks: Ranks | None = None,
) -> None:
    r"""Set the id vectors of the item tower from the pairs that train.

    With the matrix :math:`R` of users and items, 1 where they are a pair, and the diagonal
    matrices :math:`D` of the numbers of pairs of each user and each item, the vectors are
    the rows of :math:`V \Sigma` of

    .. math:: D_\text{users}^{-1/2} R \, D_\text{items}^{-1/2} \approx U \Sigma V^\top,

    scaled to one length, beside random values of half that length, which fill up what the
    spectrum leaves empty.

    Parameters
    ----------
    tower : Tower
        The item tower, with random values in its ``id_table``.
    id_codes : ndarray of shape (n_items + 1,)
        Row of ``id_table`` of each item.
    rows : TrainingRows
        The rows that train; of this rank.
    seed : int
        Of the random numbers of the decomposition.
    ranks : Ranks, optional
        The processes, each of which has all rows of its users.

    References
    ----------
    Cremonesi et al., "Performance of Recommender Algorithms on Top-N Recommendation Tasks",
    RecSys 2010 (PureSVD). Shen et al., "How Powerful is Graph Convolution for
    Recommendation?", CIKM 2021 (the normalized matrix).
    """
    table = tower.id_table
    assert table is not None
    users, items = (
        part[rows.positive].numpy() for part in (rows.user_rows, rows.item_rows)
    )
    pairs = pair_matrix(users, items, rows.n_users - 1, rows.n_items - 1)
    vectors = spectral_vectors(pairs, table.shape[1], seed, ranks)
    length = INITIAL_SCALE * table.shape[1] ** 0.5
    start = np.zeros(table.shape, dtype=np.float32)
    start[id_codes[1:], : vectors.shape[1]] = vectors * np.float32(length)
    with torch.no_grad():
        table.mul_(_NOISE).add_(torch.from_numpy(start).to(table.device))


def spectral_vectors(
    pairs: sp.csr_matrix, dim: int, seed: int, ranks: Ranks | None = None
) -> np.ndarray:
    """Vectors of unit length, of the items of a matrix of users and items.

    Items without a user have a vector of zeros.

    Parameters
    ----------
    pairs : csr_matrix of shape (n_users, n_items)
        The pairs; the values are all 1.
    dim : int
        Number of singular values.
    seed : int
        Of the random numbers of the decomposition.
    ranks : Ranks, optional
        The processes, each of which has some rows of the matrix.

    Returns
    -------
    ndarray of shape (n_items, min(dim, n_users, n_items)), float32
    """
    users = np.diff(pairs.indptr)
    items = np.bincount(pairs.indices, minlength=pairs.shape[1])
    if ranks is not None:
        items = ranks.sum(torch.from_numpy(items)).numpy()
    products = np.repeat(users, users) * items[pairs.indices].astype(np.float64)
    matrix = sp.csr_matrix(
        ((products**-0.5).astype(np.float32), pairs.indices, pairs.indptr), pairs.shape
    )
    dim = min(dim, *pairs.shape)
    # Threads of BLAS wait for each other without giving way. Where another process has a
    # core, two of them take many times as long as one.
    with threadpool_limits(1, user_api="blas"):
        if ranks is None:
            _, values, directions = randomized_svd(
                matrix, dim, n_iter=_ITERATIONS, random_state=seed
            )
        else:
            values, directions = _values_and_directions(matrix, dim, seed, ranks)
    vectors: np.ndarray = directions.T * values
    vectors[items == 0] = 0.0  # up to rounding they are
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def _values_and_directions(
    matrix: sp.csr_matrix, dim: int, seed: int, ranks: Ranks
) -> tuple[np.ndarray, np.ndarray]:
    """Singular values and right singular vectors of a matrix whose rows ranks have.

    The product with the matrix and its transpose is a sum over the ranks, so that subspaces
    of the items are iterated, which are as large as the vectors.

    References
    ----------
    Halko, Martinsson & Tropp, "Finding Structure with Randomness", SIAM Rev. 53(2), 2011.
    """
    random_state = np.random.RandomState(seed)
    n_columns = matrix.shape[1]
    shape = n_columns, min(dim + _OVERSAMPLES, n_columns)
    basis = random_state.standard_normal(shape).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(_product(matrix, basis, ranks))
    squares, turns = np.linalg.eigh(basis.T @ _product(matrix, basis, ranks))
    squares, turns = squares[::-1][:dim], turns[:, ::-1][:, :dim]
    return np.sqrt(np.maximum(squares, 0.0)), (basis @ turns).T


def _product(matrix: sp.csr_matrix, vectors: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Vectors (n_items, k) after the matrix of all ranks and its transpose."""
    own = np.ascontiguousarray(matrix.T @ (matrix @ vectors))
    product: np.ndarray = ranks.sum(torch.from_numpy(own)).numpy()
    return product
