"""The losses against numbers worked by hand, plain Python and repetition."""

import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sktwotower._nn import losses
from sktwotower._nn.losses import (
    bpr_loss,
    cross_entropy_loss,
    max_margin_loss,
    softmax_loss,
)
from sktwotower._nn.threads import SecondThread
from tests._nn.helpers import softmax_of_scores

float64 = partial(torch.tensor, dtype=torch.float64)

LN2, LN3 = math.log(2), math.log(3)
# Exponentials: (1, 1, 2), (3, 1, 1), (1, 2, 3).
SCORES = float64([[0.0, 0.0, LN2], [LN3, 0.0, 0.0], [0.0, LN2, LN3]])
POSITIVES = torch.tensor([2, 0, 1])
LABELS = float64([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
LOG_Q = float64([1.0, 1 / 2, 1 / 4]).log()
PAIR_WEIGHTS = float64([[1.0, 0.0, 2.0], [0.5, 1.0, 1.0], [0.0, 0.0, 0.0]])
WEIGHTS = float64([1.0, 0.0, 3.0])

# Each loss of some of the three rows, for what holds of all of them.
LOSSES = {
    "softmax": lambda scores, rows, weights: softmax_of_scores(
        scores, POSITIVES[rows], LOG_Q, weights
    ),
    "softmax, no correction": lambda scores, rows, weights: softmax_of_scores(
        scores, POSITIVES[rows], None, weights
    ),
    "softmax, refined": lambda scores, rows, weights: softmax_of_scores(
        scores, POSITIVES[rows], LOG_Q, weights, correct_positive=False
    ),
    "cross_entropy": lambda scores, rows, weights: cross_entropy_loss(
        scores, LABELS[rows], PAIR_WEIGHTS[rows], weights
    ),
    "bpr": lambda scores, rows, weights: bpr_loss(
        scores[:, 0], scores[:, 1:], PAIR_WEIGHTS[rows, 1:], weights
    ),
    "max_margin": lambda scores, rows, weights: max_margin_loss(
        scores[:, 0], scores[:, 1:], PAIR_WEIGHTS[rows, 1:], weights, margin=0.8
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def as_tensor(array):
    return None if array is None else torch.from_numpy(array)


def is_about(value, expected):
    return value.item() == pytest.approx(expected, rel=1e-12)


# By hand


def test_softmax_by_hand():
    # Probabilities of the positives: 2/4, 3/5, 2/6.
    losses = [-math.log(2 / 4), -math.log(3 / 5), -math.log(2 / 6)]
    assert is_about(softmax_of_scores(SCORES, POSITIVES), sum(losses) / 3)
    weighted = (losses[0] + 3 * losses[2]) / 4
    assert is_about(softmax_of_scores(SCORES, POSITIVES, None, WEIGHTS), weighted)


def test_logq_by_hand():
    # q = (1, 1/2, 1/4) multiplies the exponentials by 1, 2, 4:
    # (1, 2, 8)[2] -> 8/11, (3, 2, 4)[0] -> 3/9, (1, 4, 12)[1] -> 4/17.
    losses = [-math.log(8 / 11), -math.log(3 / 9), -math.log(4 / 17)]
    assert is_about(softmax_of_scores(SCORES, POSITIVES, LOG_Q), sum(losses) / 3)
    weighted = (losses[0] + 3 * losses[2]) / 4
    assert is_about(softmax_of_scores(SCORES, POSITIVES, LOG_Q, WEIGHTS), weighted)


def test_refined_by_hand():
    # The positive is not multiplied:
    # (1, 2, 2)[2] -> 2/5, (3, 2, 4)[0] -> 3/9, (1, 2, 12)[1] -> 2/15.
    losses = [-math.log(2 / 5), -math.log(3 / 9), -math.log(2 / 15)]
    value = softmax_of_scores(SCORES, POSITIVES, LOG_Q, correct_positive=False)
    assert is_about(value, sum(losses) / 3)
    value = softmax_of_scores(SCORES, POSITIVES, LOG_Q, WEIGHTS, correct_positive=False)
    assert is_about(value, (losses[0] + 3 * losses[2]) / 4)


def test_cross_entropy_by_hand():
    # Sigmoids of 0, ln 2, ln 3 are 1/2, 2/3, 3/4; a label of 0 takes the other part.
    right = [[1 / 2, 1 / 2, 1 / 3], [3 / 4, 1 / 2, 1 / 2], [1 / 2, 2 / 3, 1 / 4]]
    losses = [[-math.log(p) for p in row] for row in right]
    value = cross_entropy_loss(SCORES, LABELS)
    assert is_about(value, sum(map(sum, losses)) / 9)
    rows = [
        (losses[0][0] + 2 * losses[0][2]) / 3,
        (losses[1][0] / 2 + losses[1][1] + losses[1][2]) / 3,
        0.0,
    ]
    assert is_about(cross_entropy_loss(SCORES, LABELS, PAIR_WEIGHTS), sum(rows) / 3)
    value = cross_entropy_loss(SCORES, LABELS, PAIR_WEIGHTS, WEIGHTS)
    assert is_about(value, (rows[0] + 3 * rows[2]) / 4)


def test_bpr_by_hand():
    # Positives ln 2, 0, ln 3 above the rows of SCORES: odds exp(s_p) / exp(s_j) of
    # (2, 2, 1), (1/3, 1, 1), (3, 3/2, 1), and so probabilities odds / (1 + odds).
    positives = float64([LN2, 0.0, LN3])
    above = [[2 / 3, 2 / 3, 1 / 2], [1 / 4, 1 / 2, 1 / 2], [3 / 4, 3 / 5, 1 / 2]]
    losses = [[-math.log(p) for p in row] for row in above]
    assert is_about(bpr_loss(positives, SCORES), sum(map(sum, losses)) / 9)
    rows = [
        (losses[0][0] + 2 * losses[0][2]) / 3,
        (losses[1][0] / 2 + losses[1][1] + losses[1][2]) / 3,
        0.0,
    ]
    assert is_about(bpr_loss(positives, SCORES, PAIR_WEIGHTS), sum(rows) / 3)
    value = bpr_loss(positives, SCORES, PAIR_WEIGHTS, WEIGHTS)
    assert is_about(value, (rows[0] + 3 * rows[2]) / 4)


def test_max_margin_by_hand():
    scores = float64([[0.0, 1.0, 3.0], [2.0, 2.5, -1.0], [0.0, 0.0, 0.0]])
    positives = float64([1.0, 2.0, 0.25])
    # relu(0.5 + s_j - s_p)
    losses = [[0, 0.5, 2.5], [0.5, 1, 0], [0.25, 0.25, 0.25]]
    value = max_margin_loss(positives, scores, margin=0.5)
    assert is_about(value, sum(map(sum, losses)) / 9)
    rows = [(0 + 2 * 2.5) / 3, (0.5 / 2 + 1) / 3, 0.0]
    value = max_margin_loss(positives, scores, PAIR_WEIGHTS, margin=0.5)
    assert is_about(value, sum(rows) / 3)
    value = max_margin_loss(positives, scores, PAIR_WEIGHTS, WEIGHTS, margin=0.5)
    assert is_about(value, (rows[0] + 3 * rows[2]) / 4)


# By brute force


def softmax_in_full(scores, positives, log_q, weights, refined=False):
    total = total_weight = 0.0
    for i, positive in enumerate(positives):
        logits = list(scores[i])
        if log_q is not None:
            row = log_q
            for j in range(len(logits)):
                if not (refined and j == positive):
                    logits[j] = logits[j] - row[j]
        top = max(logits)
        log_sum = top + math.log(sum(math.exp(x - top) for x in logits))
        weight = 1.0 if weights is None else weights[i]
        total += weight * (log_sum - logits[positive])
        total_weight += weight
    return total / total_weight


def mean_in_full(pair_loss, shape, pair_weights, weights):
    total = total_weight = 0.0
    for i in range(shape[0]):
        row = 0.0
        for j in range(shape[1]):
            row += (1.0 if pair_weights is None else pair_weights[i, j]) * pair_loss(i, j)
        weight = 1.0 if weights is None else weights[i]
        total += weight * row / shape[1]
        total_weight += weight
    return total / total_weight


def optional(shape, low, high):
    return st.none() | hnp.arrays(np.float64, shape, elements=st.floats(low, high))


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))


def scores_of(shape):
    return hnp.arrays(np.float64, shape, elements=st.floats(-20, 20))


@st.composite
def softmax_problems(draw):
    shape = draw(shapes)
    n_rows, n_candidates = shape
    return (
        draw(scores_of(shape)),
        draw(hnp.arrays(np.int64, n_rows, elements=st.integers(0, n_candidates - 1))),
        draw(optional(n_candidates, -15, 0)),
        draw(optional(n_rows, 0.1, 10)),
    )


@st.composite
def pair_problems(draw):
    shape = draw(shapes)
    return (
        draw(scores_of(shape)),
        draw(optional(shape, 0, 3)),
        draw(optional(shape[0], 0.1, 10)),
    )


@given(softmax_problems(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_softmax_against_plain_python(problem, refined):
    value = softmax_of_scores(*map(as_tensor, problem), correct_positive=not refined)
    assert value.shape == ()
    expected = softmax_in_full(*problem, refined=refined)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pair_problems(), st.data())
@settings(max_examples=80, deadline=None)
def test_cross_entropy_against_plain_python(problem, data):
    scores, pair_weights, weights = problem
    labels = data.draw(
        hnp.arrays(np.float64, scores.shape, elements=st.sampled_from([0, 1]))
    )

    def pair_loss(i, j):
        sign = 1 if labels[i, j] else -1
        return math.log1p(math.exp(-sign * scores[i, j]))

    value = cross_entropy_loss(*map(as_tensor, (scores, labels, pair_weights, weights)))
    expected = mean_in_full(pair_loss, scores.shape, pair_weights, weights)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pair_problems(), st.data())
@settings(max_examples=80, deadline=None)
def test_bpr_against_plain_python(problem, data):
    scores, pair_weights, weights = problem
    positives = data.draw(scores_of(len(scores)))

    def pair_loss(i, j):
        return math.log1p(math.exp(scores[i, j] - positives[i]))

    value = bpr_loss(*map(as_tensor, (positives, scores, pair_weights, weights)))
    expected = mean_in_full(pair_loss, scores.shape, pair_weights, weights)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pair_problems(), st.floats(0, 5), st.data())
@settings(max_examples=80, deadline=None)
def test_max_margin_against_plain_python(problem, margin, data):
    scores, pair_weights, weights = problem
    positives = data.draw(scores_of(len(scores)))

    def pair_loss(i, j):
        return max(0.0, margin + scores[i, j] - positives[i])

    tensors = map(as_tensor, (positives, scores, pair_weights, weights))
    value = max_margin_loss(*tensors, margin=margin)
    expected = mean_in_full(pair_loss, scores.shape, pair_weights, weights)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


# Of all losses


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient(loss, weighted):
    """Random scores: the hinge is nowhere near its kink."""
    scores = torch.randn(
        3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    weights = WEIGHTS if weighted else None
    scores.requires_grad_()
    rows = torch.arange(3)
    assert torch.autograd.gradcheck(lambda s: loss(s, rows, weights), (scores,))


def test_gradient_of_positives():
    scores = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    negatives = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    scores.requires_grad_()
    negatives.requires_grad_()
    assert torch.autograd.gradcheck(bpr_loss, (scores, negatives))
    assert torch.autograd.gradcheck(
        lambda p, n: max_margin_loss(p, n, margin=0.3), (scores, negatives)
    )


@every_loss
def test_a_weight_is_a_repetition(loss):
    repeats = torch.tensor([1, 3, 2])
    rows = torch.arange(3)
    repeated = rows.repeat_interleave(repeats)
    torch.testing.assert_close(
        loss(SCORES, rows, repeats.double()), loss(SCORES[repeated], repeated, None)
    )


@every_loss
def test_a_weight_of_zero_is_no_row(loss):
    rows = torch.tensor([0, 2])
    torch.testing.assert_close(
        loss(SCORES, torch.arange(3), float64([2.0, 0.0, 5.0])),
        loss(SCORES[rows], rows, float64([2.0, 5.0])),
    )


@every_loss
def test_equal_weights_are_none_and_their_scale_does_not_matter(loss):
    rows = torch.arange(3)
    plain = loss(SCORES, rows, None)
    torch.testing.assert_close(loss(SCORES, rows, float64([7.0] * 3)), plain)
    weights = float64([1.0, 2.0, 5.0])
    torch.testing.assert_close(
        loss(SCORES, rows, weights / 1000), loss(SCORES, rows, weights)
    )


@every_loss
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_scores_stay_finite(loss, scale):
    scores = (scale * SCORES).requires_grad_()
    value = loss(scores, torch.arange(3), None)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


# Of the softmax and its corrections


@given(softmax_problems(), st.floats(-50, 50))
@settings(max_examples=50, deadline=None)
def test_a_constant_correction_changes_nothing(problem, shift):
    scores, positives, _, weights = map(as_tensor, problem)
    shifts = torch.full((scores.shape[1],), shift, dtype=torch.float64)
    plain = softmax_of_scores(scores, positives, None, weights)
    torch.testing.assert_close(softmax_of_scores(scores, positives, shifts, weights), plain)


def as_in_the_paper(scores, positives, log_q, weights):
    """Khrylchenko et al.: sg(1 - P) (-s_p + log of the sum over the negatives)."""
    columns = positives[:, None]
    negatives = (scores - log_q).scatter(1, columns, -torch.inf).logsumexp(1)
    s_p = scores.gather(1, columns)[:, 0]
    p = torch.sigmoid(s_p - negatives)
    losses = (1 - p).detach() * (negatives - s_p)
    weights = torch.ones_like(losses) if weights is None else weights
    return (weights * losses).sum() / weights.sum()


def gradient(loss, scores):
    leaf = scores.clone().requires_grad_()
    loss(leaf).backward()
    return leaf.grad


@given(softmax_problems(), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_refined_has_the_gradient_of_the_paper(problem, seed):
    scores, positives, log_q, weights = map(as_tensor, problem)
    if scores.shape[1] == 1:
        return  # no negative, see below
    if log_q is None:
        log_q = torch.zeros(scores.shape[1], dtype=torch.float64)
    # Some candidates are masked, but one negative of each row.
    masked = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    masked[torch.arange(len(scores)), positives] = False
    masked[torch.arange(len(scores)), (positives + 1) % scores.shape[1]] = False
    scores = scores.masked_fill(masked, -torch.inf)
    found = gradient(
        lambda s: softmax_of_scores(s, positives, log_q, weights, correct_positive=False),
        scores,
    )
    expected = gradient(lambda s: as_in_the_paper(s, positives, log_q, weights), scores)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)
    assert (found[masked] == 0).all()


@given(softmax_problems())
@settings(max_examples=80, deadline=None)
def test_refined_is_the_full_softmax_where_all_candidates_are_certain(problem):
    scores, positives, _, weights = map(as_tensor, problem)
    certain = torch.zeros(scores.shape[1], dtype=torch.float64)
    found = gradient(
        lambda s: softmax_of_scores(s, positives, certain, weights, correct_positive=False),
        scores,
    )
    full = gradient(lambda s: softmax_of_scores(s, positives, None, weights), scores)
    torch.testing.assert_close(found, full, rtol=1e-7, atol=1e-15)
    # and written out: probabilities, less 1 at the positive
    shares = torch.ones(len(scores)) if weights is None else weights
    hit = torch.nn.functional.one_hot(positives, scores.shape[1])
    by_hand = (shares / shares.sum())[:, None] * (scores.softmax(1) - hit)
    torch.testing.assert_close(full, by_hand.double(), rtol=1e-6, atol=1e-12)


@given(softmax_problems())
@settings(max_examples=80, deadline=None)
def test_refined_is_never_negative(problem):
    """The paper's form can be."""
    value = softmax_of_scores(*map(as_tensor, problem), correct_positive=False)
    assert value.item() >= 0


@pytest.mark.parametrize("correct_positive", [False, True])
@pytest.mark.parametrize("how", ["alone", "masked", "left out"])
def test_no_negative_no_gradient(correct_positive, how):
    scores, log_q = float64([[2.0, 1.0, 0.5]]), float64([-1.0, -2.0, -0.5])
    if how == "alone":
        scores, log_q = scores[:, :1], log_q[:1]
    elif how == "masked":
        scores[:, 1:] = -torch.inf
    else:
        log_q[1:] = torch.inf
    leaf = scores.requires_grad_()
    value = softmax_of_scores(
        leaf, torch.tensor([0]), log_q, correct_positive=correct_positive
    )
    value.backward()
    assert value.item() == 0
    assert (leaf.grad == 0).all()


@pytest.mark.parametrize("row", range(3))
def test_refined_ignores_the_q_of_the_positive(row):
    """Also one of 0, which is that of an item that no other row has."""
    scores, positive = SCORES[row : row + 1], POSITIVES[row : row + 1]
    without = LOG_Q.clone()
    without[positive] = -torch.inf
    found, expected = (
        gradient(
            lambda s, q=q: softmax_of_scores(s, positive, q, correct_positive=False), scores
        )
        for q in (without, LOG_Q)
    )
    torch.testing.assert_close(found, expected)


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
        loss = softmax_of_scores(logits, torch.tensor([0])).item()
        estimates.append(math.exp(loss + logits[0, 0].item()))
    present = np.unique(items)
    assert np.mean(estimates) == pytest.approx(np.exp(scores[present]).sum())


# Of the pairwise losses


def test_margin_of_zero_and_far_apart():
    positives, negatives = torch.tensor([5.0]), torch.tensor([[1.0, 2.0]])
    assert max_margin_loss(positives, negatives, margin=0.0).item() == 0
    assert max_margin_loss(positives, negatives, margin=4.0).item() == 0.5
    assert bpr_loss(positives + 100, negatives).item() == pytest.approx(0)
    assert bpr_loss(positives - 100, negatives).item() == pytest.approx(96.5)


# Rows that share their candidates


@pytest.fixture(params=[None, 7, 12], ids=["at once", "user by user", "two users"])
def blocks(request, monkeypatch):
    """Scores are computed at once, or for a user or two of six items at a time."""
    if request.param is not None:
        monkeypatch.setattr(losses, "SCORES_OF_A_BLOCK", request.param)


def shared_problem(*, masked, corrected, own, explicit_negative, columns=True):
    """Five rows of four users in no order; the last one may have no shared candidate."""
    absent = [1, 2, 9, 18, 19, 20, 21, 22, 23] if own else [1, 2, 9]
    generator = torch.Generator().manual_seed(4)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    tensors = {"users": draw(4, 3), "items": draw(6, 3)}
    tensors["positive_scores"] = draw(5)
    if explicit_negative:
        tensors["explicit_negative_scores"] = draw(5).index_fill(
            0, torch.tensor([1]), -torch.inf
        )
    options = {
        "groups": torch.tensor([2, 2, 0, 3, 1]),
        "columns": torch.tensor([3, 3, 1, 0, 5]) if columns else None,
        "log_q": draw(6).sigmoid().log() if corrected else None,
        "masked": torch.tensor(absent) if masked else None,
        "positive_per_row": own,
        "weights": torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0]),
    }
    return tensors, options


@pytest.mark.parametrize("size", [1, 2**19], ids=["user by user", "two halves"])
def test_shared_softmax_in_two_threads(size, monkeypatch):
    """Also where there is a thread for more blocks than there are users."""
    found = []
    for wanted in (False, True):
        tensors, options = shared_problem(
            masked=True, corrected=True, own=True, explicit_negative=True
        )
        tensors["users"] = tensors["users"][:3]
        options["groups"] = torch.tensor([2, 2, 0, 1, 1])
        options["masked"] = options["masked"][:3]
        leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        with monkeypatch.context() as patch, SecondThread(wanted=wanted):
            patch.setattr(losses, "SCORES_OF_A_BLOCK", size)
            loss = losses.softmax_loss(**leaves, **options)
        torch.set_num_threads(threads)
        loss.backward()
        found.append([loss.detach(), *(leaf.grad for leaf in leaves.values())])
    torch.testing.assert_close(*found)


@pytest.mark.usefixtures("blocks")
def test_what_is_masked_for_all_users_has_no_gradient_at_all():
    """Not even next to nothing; and a candidate that is far behind has none either."""
    users = torch.tensor([[1.0], [2.0]], requires_grad=True)
    items = torch.tensor([[0.0], [3.0], [900.0], [-100.0]], requires_grad=True)
    loss = losses.softmax_loss(
        users,
        items,
        torch.tensor([0.0, 0.0]),
        groups=torch.tensor([0, 1]),
        masked=torch.tensor([2, 6]),
        positive_per_row=True,
    )
    loss.backward()
    near = torch.logsumexp(users.detach() * torch.tensor([0.0, 3.0]), dim=1)
    expected = torch.nn.functional.softplus(near).mean()
    torch.testing.assert_close(loss.detach(), expected)
    assert items.grad[:2].abs().min() > 0.01
    assert torch.equal(items.grad[2:], torch.zeros(2, 1))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("explicit_negative", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_shared_softmax_is_that_of_autograd(
    columns, masked, corrected, own, explicit_negative
):
    """By logsumexp row by row, and the gradient that torch finds of it."""
    tensors, options = shared_problem(
        masked=masked,
        corrected=corrected,
        own=own,
        explicit_negative=explicit_negative,
        columns=columns,
    )
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    scores = leaves["users"] @ leaves["items"].T
    positives = leaves["positive_scores"]
    if columns:
        positives = positives + scores[options["groups"], options["columns"]]
    if corrected:
        scores = scores - options["log_q"]
    if masked:
        scores = scores.flatten().index_fill(0, options["masked"], -torch.inf).view(4, 6)
    rows = []
    for row, group in enumerate(options["groups"].tolist()):
        parts = [one for one in scores[group] if one != -torch.inf]
        if explicit_negative and row != 1:
            parts.append(leaves["explicit_negative_scores"][row])
        if own:
            parts.append(positives[row])
        rows.append(torch.stack(parts).logsumexp(0) - positives[row])
    weights = options["weights"].double()
    expected = (weights * torch.stack(rows)).sum() / weights.sum()
    found = softmax_loss(**leaves, **options)
    torch.testing.assert_close(found, expected)
    gradients = zip(
        torch.autograd.grad(found, list(leaves.values())),
        torch.autograd.grad(expected, list(leaves.values())),
        strict=True,
    )
    for ours, torchs in gradients:
        torch.testing.assert_close(ours, torchs)


@pytest.mark.usefixtures("blocks")
def test_a_user_without_candidates_has_no_gradient():
    tensors, options = shared_problem(
        masked=True, corrected=False, own=True, explicit_negative=False, columns=False
    )
    users = tensors["users"].requires_grad_()
    softmax_loss(**tensors, **options).backward()
    assert torch.isfinite(users.grad).all()
    assert (users.grad[3] == 0).all()


@pytest.mark.usefixtures("blocks")
def test_shared_softmax_of_large_scores():
    users = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]])
    items = torch.tensor([[1.0, 0.0], [0.9, 0.0]])
    positives = torch.tensor([0.0, 0.0])
    loss = softmax_loss(
        users, items, positives, groups=torch.arange(2), positive_per_row=False
    )
    assert loss.item() == pytest.approx((1000.0 - 900.0) / 2)
