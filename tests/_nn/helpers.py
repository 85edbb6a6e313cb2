"""Helpers of the tests of the PyTorch core."""

import mmap

import numpy as np
import torch
from scipy.stats import chisquare

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.softmax import softmax_loss


class PassThrough:
    """A candidate source that returns the rows of a batch."""

    def batch(self, rows, generator, n_users=None):
        return rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fits(draws, probabilities):
    """Whether draws 0, 1, ... could be from these probabilities, p > 0.001."""
    probabilities = np.asarray(probabilities, dtype=float)
    counts = np.bincount(np.asarray(draws).ravel(), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    possible = probabilities > 0
    assert (counts[~possible] == 0).all()
    expected = counts.sum() * probabilities[possible]
    assert expected.min() > 20  # the test is approximate
    if len(expected) == 1:
        return True
    return chisquare(counts[possible], expected).pvalue > 0.001


def only_ids(n, *, dtype=torch.int64):
    """The input rows of a side of ``n`` ids, the unknown one included."""
    return EntityRows(
        id_codes=torch.arange(n, dtype=dtype),
        n_ids=n,
        pointers=torch.zeros(n, 1, dtype=torch.int64),
        columns=torch.zeros(0, dtype=torch.int64),
        values=torch.zeros(0),
        field_widths=(),
    )


def is_mapped(array):
    """Whether an array, or the one of which it is a view, is mapped from a file."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return isinstance(array, mmap.mmap)


def softmax_of_scores(
    scores, positives, log_q=None, weights=None, *, correct_positive=True
):
    """The softmax of a matrix of scores (b, c), as training computes it.

    Rows are users, unit vectors are items, and a score of ``-inf`` is a masked candidate.
    """
    rows, n = torch.arange(len(scores)), scores.shape[1]
    absent = scores == -torch.inf
    users, items = scores.masked_fill(absent, 0.0), torch.eye(n, dtype=scores.dtype)
    own = scores[rows, positives]
    if not correct_positive:
        absent = absent.index_put((rows, positives), torch.tensor(True))
    elif log_q is not None:
        own = own - log_q[positives]
    return softmax_loss(
        users,
        items,
        own,
        groups=rows,
        log_q=log_q,
        masked=absent.flatten().nonzero()[:, 0],
        positive_per_row=not correct_positive,
        weights=weights,
    )
