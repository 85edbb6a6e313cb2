"""What several tests of the core need."""

import torch
import torch.nn.functional as F

from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.losses import candidate_totals, weighted_mean


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


def softmax_loss(scores, positives, log_q=None, weights=None, *, correct_positive=True):
    """The softmax of a matrix of scores (b, c), by the functions that training uses.

    Rows are users, unit vectors are items, and a score of ``-inf`` is a masked candidate.
    """
    rows, n = torch.arange(len(scores)), scores.shape[1]
    absent = scores == -torch.inf
    users, items = scores.masked_fill(absent, 0.0), torch.eye(n, dtype=scores.dtype)
    if correct_positive:
        masked = absent.flatten().nonzero()[:, 0]
        totals, own = candidate_totals(users, items, log_q, masked, rows, positives)
        return weighted_mean(totals - own, weights)
    absent = absent.index_put((rows, positives), torch.tensor(True))
    totals, _ = candidate_totals(users, items, log_q, absent.flatten().nonzero()[:, 0])
    return weighted_mean(F.softplus(totals - scores[rows, positives]), weights)
