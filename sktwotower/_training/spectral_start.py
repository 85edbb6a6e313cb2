"""Vectors of items from the spectrum of the interactions, for training to start from."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd

from sktwotower._data.pairs import pair_matrix
from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.towers import INITIAL_SCALE, Tower

# What the random values of a table are multiplied by before the spectral ones are added.
_NOISE = 0.5


def start_from_spectrum(
    tower: Tower, id_codes: np.ndarray, rows: TrainingRows, seed: int
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
        The rows that train.
    seed : int
        Of the random numbers of the decomposition.

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
    vectors = spectral_vectors(pairs, table.shape[1], seed)
    length = INITIAL_SCALE * table.shape[1] ** 0.5
    start = np.zeros(table.shape, dtype=np.float32)
    start[id_codes[1:], : vectors.shape[1]] = vectors * np.float32(length)
    with torch.no_grad():
        table.mul_(_NOISE).add_(torch.from_numpy(start).to(table.device))


def spectral_vectors(pairs: sp.csr_matrix, dim: int, seed: int) -> np.ndarray:
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

    Returns
    -------
    ndarray of shape (n_items, min(dim, n_users, n_items)), float32
    """
    users = np.diff(pairs.indptr)
    items = np.bincount(pairs.indices, minlength=pairs.shape[1])
    products = np.repeat(users, users) * items[pairs.indices].astype(np.float64)
    matrix = sp.csr_matrix(
        ((products**-0.5).astype(np.float32), pairs.indices, pairs.indptr), pairs.shape
    )
    _, values, directions = randomized_svd(
        matrix, min(dim, *pairs.shape), n_iter=4, random_state=seed
    )
    vectors: np.ndarray = directions.T * values
    vectors[items == 0] = 0.0  # up to rounding they are
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
