"""With a correction, the mean gradient is close to the one of the full softmax.

For a fixed user and positive the other rows of the batch are random. The bias is the
relative error of the mean gradient with respect to the scores of all items. No correction
makes it zero, as the logarithm of an unbiased sum is biased. It falls with the size of the
batch, it is smaller with a correction, and smallest with the refined one.
"""

from itertools import combinations

import pytest
import torch

from sktwotower._nn.absence import (
    in_batch_log_absence,
    log_presence,
    user_batch_log_absence,
)
from tests._nn.helpers import softmax_of_scores

CORRECTIONS = (None, "logq", "refined")
N_ITEMS = 50
# Rows are drawn one by one with replacement, which for so large an epoch is a draw without.
N_ROWS = 10_000_000
N_UNIFORM = 8  # draws of "mixed"


def log_q_of(counts, batch_size, correction, *, n_uniform=0):
    """What :class:`SharedCandidates` computes."""
    if correction is None:
        return None
    refined = correction == "refined"
    log_absence = in_batch_log_absence(counts, batch_size, beside_a_row=refined)
    drawn = torch.tensor(1 / len(counts), dtype=torch.float64)
    return log_presence(log_absence + n_uniform * torch.log1p(-drawn))


def full_gradient(scores, positive):
    gradient = scores.softmax(0)
    gradient[positive] -= 1
    return gradient


def bias(scores, positive, absent, log_q, correction):
    """Relative error of the mean gradient; ``absent`` (B, n_items) is -inf or 0."""
    column = absent[:, positive].clone()
    absent[:, positive] = 0.0  # the row's own item is always a candidate
    leaf = scores.clone().requires_grad_()
    softmax_of_scores(
        leaf + absent,
        torch.full((len(absent),), positive),
        log_q,
        correct_positive=correction != "refined",
    ).backward()
    absent[:, positive] = column
    exact = full_gradient(scores, positive)
    return ((leaf.grad - exact).norm() / exact.norm()).item()


def simulate(batch_size, n_batches, *, mixed, scale, n_draws=12):
    """Biases without a correction, with logq and refined: means over draws of a user.

    All see the same batches.
    """
    generator = torch.Generator().manual_seed(0)
    shares = 1 / torch.arange(1, N_ITEMS + 1, dtype=torch.float64)  # Zipf
    counts = (shares / shares.sum() * N_ROWS).round().long()
    users = [  # scores of a user, and a positive by popularity
        (
            scale(draw / n_draws) * torch.randn(N_ITEMS, generator=generator),
            int(torch.multinomial(shares, 1, generator=generator)),
        )
        for draw in range(n_draws)
    ]
    absent = torch.full((n_batches, N_ITEMS), -torch.inf)
    batches = torch.arange(n_batches)
    ends = (counts.cumsum(0) / counts.sum() * 2**20).round().long()
    item_of_row = torch.arange(N_ITEMS).repeat_interleave(  # of as many, in proportion
        ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
    )
    for _ in range(batch_size - 1):
        rows = torch.randint(2**20, (n_batches,), generator=generator)
        absent[batches, item_of_row[rows]] = 0.0
    n_uniform = N_UNIFORM if mixed else 0
    for _ in range(n_uniform):
        absent[batches, torch.randint(N_ITEMS, (n_batches,), generator=generator)] = 0.0
    biases = []
    for correction in CORRECTIONS:
        log_q = log_q_of(counts, batch_size, correction, n_uniform=n_uniform)
        of_users = [bias(*user, absent, log_q, correction) for user in users]
        biases.append(sum(of_users) / n_draws)
    return biases


# None, logq, refined: figures of an earlier simulation with other users and positives.
FIGURES = {
    8: (0.29, 0.14, 0.085),
    32: (0.16, 0.033, 0.027),
    128: (0.059, 0.011, 0.008),
}


@pytest.mark.parametrize(
    ("batch_size", "n_batches"), [(8, 8000), (32, 8000), (128, 20_000)]
)
@pytest.mark.slow
def test_each_correction_is_worth_it(batch_size, n_batches):
    """Scores have a standard deviation of 0.65.

    The noise of a mean gradient is of order 1 / sqrt(n_batches), and much the same for all
    three, as they see the same batches.
    """
    found = {
        mixed: simulate(batch_size, n_batches, mixed=mixed, scale=lambda share: 0.65)
        for mixed in (False, True)
    }
    for none, logq, refined in found.values():
        assert none > 1.4 * logq
        assert logq > 1.1 * refined
    for value, figure in zip(found[False], FIGURES[batch_size], strict=True):
        assert figure / 1.5 < value < figure * 1.5
    for value, with_more in zip(found[False], found[True], strict=True):
        assert with_more < value  # further candidates


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("batch_size", [8, 32, 128])
@pytest.mark.slow
def test_order_for_larger_scores(batch_size, mixed):
    """Of standard deviation 1 to 2: a few items then have most of the probability."""
    none, logq, refined = simulate(
        batch_size, 4000, mixed=mixed, scale=lambda share: 1 + share
    )
    assert none > 1.2 * logq
    assert logq > refined


@pytest.mark.parametrize("batch_size", [8, 32])
@pytest.mark.slow
def test_each_correction_is_worth_it_in_batches_of_users(batch_size):
    """Users have 6 of the items, and half of them in the history."""
    generator, share, n_users, n_batches = torch.Generator().manual_seed(0), 0.5, 400, 5000
    popularity = 2 / torch.arange(3, N_ITEMS + 3)
    has = torch.rand(n_users, N_ITEMS, generator=generator) < popularity
    absent = torch.full((n_batches, N_ITEMS), -torch.inf)
    for batch in absent:  # beside a user who has nothing but the positive
        users = torch.randperm(n_users, generator=generator)[: batch_size - 1]
        drawn = torch.rand(len(users), N_ITEMS, generator=generator) < share
        batch[(has[users] & drawn).any(dim=0)] = 0.0
    biases = dict.fromkeys(CORRECTIONS, 0.0)
    for positive in torch.multinomial(popularity, 12, generator=generator).tolist():
        counts = has.sum(0)
        counts[positive] += 1
        scores = 0.65 * torch.randn(N_ITEMS, generator=generator)
        for correction in CORRECTIONS:
            log_q = log_presence(
                user_batch_log_absence(
                    counts,
                    n_users + 1,
                    batch_size,
                    share,
                    beside_a_user=correction == "refined",
                )
            )
            log_q = None if correction is None else log_q
            biases[correction] += bias(scores, positive, absent, log_q, correction) / 12
    assert biases[None] > 1.5 * biases["logq"]
    assert biases["logq"] > 1.1 * biases["refined"]
    assert biases["refined"] < {8: 0.08, 32: 0.03}[batch_size]


# Exactly, over all batches of a small epoch

COUNTS = torch.tensor([5, 3, 2, 1, 1])
ROWS = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)


def batches_beside(row, batch_size):
    """Which items are in each batch with a row: -inf where one is absent, (B, n_items)."""
    others = [other for other in range(len(ROWS)) if other != row]
    batches = torch.tensor(list(combinations(others, batch_size - 1)))
    absent = torch.full((len(batches), len(COUNTS)), -torch.inf, dtype=torch.float64)
    return absent.scatter_(1, ROWS[batches], 0.0)


@pytest.mark.parametrize("batch_size", [2, 4, 6])
def test_order_over_all_batches(batch_size):
    """Every row of an epoch of 12, in every batch that it may be in."""
    generator = torch.Generator().manual_seed(0)
    users = 0.65 * torch.randn(10, len(COUNTS), dtype=torch.float64, generator=generator)
    biases = dict.fromkeys(CORRECTIONS, 0.0)
    for row, item in enumerate(ROWS.tolist()):
        absent = batches_beside(row, batch_size)
        for scores in users:
            for correction in CORRECTIONS:
                log_q = log_q_of(COUNTS, batch_size, correction)
                biases[correction] += bias(scores, item, absent, log_q, correction)
    assert biases[None] > biases["logq"]
    assert biases["logq"] > 1.2 * biases["refined"]


@pytest.mark.parametrize("batch_size", [2, 4, 6])
def test_the_sum_over_refined_negatives_is_unbiased(batch_size):
    """Beside a row, the mean of sum exp(s_j - log q_j) is the sum over all other items."""
    scores = torch.tensor([0.3, -1.0, 0.0, 2.0, 0.7], dtype=torch.float64)
    for item, n_before in enumerate((COUNTS.cumsum(0) - COUNTS).tolist()):
        absent = batches_beside(n_before, batch_size)  # the first row of the item
        absent[:, item] = 0.0
        log_q = log_q_of(COUNTS, batch_size, "refined").double()
        losses = [
            softmax_of_scores(
                (scores + one)[None],
                torch.tensor([item]),
                log_q,
                correct_positive=False,
            )
            for one in absent
        ]
        # A loss is log(1 + sum / exp(s_p)).
        sums = torch.stack(losses).expm1() * scores[item].exp()
        full = scores.exp().sum() - scores[item].exp()
        torch.testing.assert_close(sums.mean(), full, rtol=1e-6, atol=0)
