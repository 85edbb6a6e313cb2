"""The softmax loss against numbers worked by hand, plain NumPy and repetition."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sktwotower._nn.losses import softmax_loss

LN2, LN3 = math.log(2), math.log(3)
# Row sums of exp: 1 + 1 + 2, 3 + 1 + 1, 1 + 2 + 3.
SCORES = torch.tensor([[0.0, 0.0, LN2], [LN3, 0.0, 0.0], [0.0, LN2, LN3]])
POSITIVES = torch.tensor([2, 0, 1])


def brute_force(scores, positives, log_q=None, weights=None):
    total = total_weight = 0.0
    for i, positive in enumerate(positives):
        logits = scores[i] if log_q is None else scores[i] - log_q
        top = max(logits)
        log_sum = top + math.log(sum(math.exp(x - top) for x in logits))
        weight = 1.0 if weights is None else weights[i]
        total += weight * (log_sum - logits[positive])
        total_weight += weight
    return total / total_weight


def test_by_hand():
    # Probabilities of the positives: 2/4, 3/5, 2/6.
    expected = -(math.log(1 / 2) + math.log(3 / 5) + math.log(1 / 3)) / 3
    assert softmax_loss(SCORES, POSITIVES).item() == pytest.approx(expected, rel=1e-6)


def test_correction_by_hand():
    # q = (1, 1/2, 1/4) multiplies the exponentials by 1, 2, 4:
    # (1, 2, 8)[2] -> 8/11, (3, 2, 4)[0] -> 3/9, (1, 4, 12)[1] -> 4/17.
    log_q = torch.log(torch.tensor([1.0, 0.5, 0.25]))
    expected = -(math.log(8 / 11) + math.log(3 / 9) + math.log(4 / 17)) / 3
    value = softmax_loss(SCORES, POSITIVES, log_q).item()
    assert value == pytest.approx(expected, rel=1e-6)


def test_weights_by_hand():
    weights = torch.tensor([1.0, 0.0, 3.0])
    expected = -(math.log(1 / 2) + 3 * math.log(1 / 3)) / 4
    value = softmax_loss(SCORES, POSITIVES, None, weights).item()
    assert value == pytest.approx(expected, rel=1e-6)


def problems():
    return st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float64, shape, elements=st.floats(-20, 20)),
            hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)),
            st.none() | hnp.arrays(np.float64, shape[1], elements=st.floats(-15, 0)),
            st.none() | hnp.arrays(np.float64, shape[0], elements=st.floats(0.1, 10)),
        )
    )


def as_tensor(array):
    return None if array is None else torch.from_numpy(array)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_against_plain_python(problem):
    value = softmax_loss(*map(as_tensor, problem))
    assert value.shape == ()
    assert value.item() == pytest.approx(brute_force(*problem), rel=1e-9, abs=1e-12)


@given(problems(), st.floats(-50, 50))
@settings(max_examples=50, deadline=None)
def test_a_constant_correction_changes_nothing(problem, shift):
    scores, positives, _, weights = map(as_tensor, problem)
    shifts = torch.full((scores.shape[1],), shift, dtype=torch.float64)
    plain = softmax_loss(scores, positives, None, weights)
    torch.testing.assert_close(softmax_loss(scores, positives, shifts, weights), plain)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient(corrected, weighted):
    torch_seed = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 5, dtype=torch.float64, generator=torch_seed)
    log_q = torch.randn(5, dtype=torch.float64, generator=torch_seed) if corrected else None
    weights = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64) if weighted else None
    positives = torch.tensor([0, 4, 2, 2])
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: softmax_loss(s, positives, log_q, weights), (scores,)
    )


def test_a_weight_is_a_repetition():
    repeats = torch.tensor([1, 3, 2])
    log_q = torch.tensor([-0.1, -2.0, -1.0])
    repeated = softmax_loss(
        SCORES.repeat_interleave(repeats, 0), POSITIVES.repeat_interleave(repeats), log_q
    )
    weighted = softmax_loss(SCORES, POSITIVES, log_q, repeats.float())
    torch.testing.assert_close(weighted, repeated)


def test_equal_weights_are_none_and_scale_does_not_matter():
    plain = softmax_loss(SCORES, POSITIVES)
    torch.testing.assert_close(
        softmax_loss(SCORES, POSITIVES, None, torch.full((3,), 7.0)), plain
    )
    weights = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(
        softmax_loss(SCORES, POSITIVES, None, weights / 1000),
        softmax_loss(SCORES, POSITIVES, None, weights),
    )


def test_huge_scores_stay_finite():
    scores = torch.tensor([[1e4, -1e4], [1e4, -1e4]])
    value = softmax_loss(scores, torch.tensor([0, 1]))
    assert value.item() == pytest.approx(1e4)


def test_sampled_loss_is_unbiased_about_the_partition_sum():
    """What the correction is for: E[sum over the sample of exp(s) / q] is the full sum."""
    rng = np.random.RandomState(0)
    n_rows, batch_size = 12, 4
    items = rng.randint(0, 5, n_rows)
    scores = rng.randn(5)
    q = np.zeros(5)
    estimates = []
    batches = [sorted(set(items[list(c)])) for c in combinations(range(n_rows), batch_size)]
    for batch in batches:
        q[batch] += 1 / len(batches)
    for batch in batches:
        logits = torch.tensor(scores[batch] - np.log(q[batch]))[None]
        # loss + corrected score of the positive = log of the estimated partition sum
        loss = softmax_loss(logits, torch.tensor([0])).item()
        estimates.append(math.exp(loss + logits[0, 0].item()))
    present = np.unique(items)
    assert np.mean(estimates) == pytest.approx(np.exp(scores[present]).sum())
