"""Objectives, compared with loops over rows in plain Python."""

import math

import pytest
import torch

from sktwotower._nn.batch_losses import (
    cross_entropy_objective,
    pairwise_objective,
    softmax_objective,
)
from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.candidates import SampledNegatives, SharedCandidates
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from sktwotower._nn.losses import bpr_loss, max_margin_loss
from sktwotower._nn.negatives import ItemSampler
from tests._nn.helpers import seeded

SOURCES = ("in_batch", "mixed", "full", "random", "popular")
N_USERS, N_ITEMS, N_DRAWS = 4, 9, 5


def embeddings(seed=0):
    """Of all users and items, in double precision."""
    generator = seeded(seed)
    return tuple(
        torch.randn(n, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        for n in (N_USERS, N_ITEMS)
    )


def training_rows(*, weighted=False, labelled=False):
    generator = seeded(7)
    users = torch.randint(N_USERS, (20,), generator=generator)
    items = torch.randint(N_ITEMS - 1, (20,), generator=generator)  # the last has no row
    items[: N_ITEMS - 1] = torch.arange(N_ITEMS - 1)
    return TrainingRows(
        users,
        items,
        torch.rand(20, generator=generator) < (0.7 if labelled else 2),
        torch.rand(20, generator=generator) + 0.1 if weighted else None,
        N_USERS,
        N_ITEMS,
    )


EXPLICIT_NEGATIVES = {0: 8, 2: 3}  # item by user; of user 0 in two rows


def ranker(rows, source, *, correction, masked=False, explicit=False):
    sampler = None
    if source in ("mixed", "random"):
        sampler = ItemSampler(rows.item_rows.unique())
    elif source == "popular":
        sampler = ItemSampler.popular(*rows.item_rows.unique(return_counts=True))
    disliked = torch.tensor([0, 0, 2]), torch.tensor([8, 8, 3])
    return SharedCandidates(
        rows,
        from_batch=source in ("in_batch", "mixed"),
        sampler=sampler,
        n_draws=N_DRAWS,
        items=rows.item_rows.unique(),
        correction=correction,
        known=KnownPositives(rows.user_rows, rows.item_rows) if masked else None,
        explicit=ExplicitNegatives(*disliked, None, N_USERS) if explicit else None,
    )


def correction_of(rows, source, item, size, correction):
    """``log q`` from its definition."""
    if correction is None or source == "full":
        return 0.0
    n_rows, absence = len(rows), 1.0
    counts = torch.bincount(rows.item_rows, minlength=N_ITEMS).tolist()
    if source in ("in_batch", "mixed"):
        refined = correction == "refined"
        n_rows, size = n_rows - refined, size - refined
        absence = math.comb(n_rows - counts[item], size) / math.comb(n_rows, size)
    if source in ("mixed", "random"):
        absence *= (1 - 1 / sum(n > 0 for n in counts)) ** N_DRAWS
    elif source == "popular":
        share = counts[item] ** 0.75 / sum(n**0.75 for n in counts)
        absence *= (1 - share) ** N_DRAWS
    return math.log(1 - absence)


def row_loss(score, item, negatives, log_q, *, refined):
    """``score`` and ``log_q`` are functions of an item; some negatives have theirs."""
    top = math.exp(score(item) - (0.0 if refined else log_q(item)))
    rest = sum(math.exp(score(j) - (log_q(j) if c is None else c)) for j, c in negatives)
    return -math.log(top / (top + rest))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("correction", ["logq", "refined", None])
@pytest.mark.parametrize("source", SOURCES)
def test_softmax_in_plain_python(source, correction, masked, explicit, weighted):
    rows = training_rows(weighted=weighted)
    taken = rows.take(torch.tensor([3, 11, 0, 17, 5, 13]))
    size = len(taken)
    batch = ranker(
        rows, source, correction=correction, masked=masked, explicit=explicit
    ).batch(taken, seeded(3))
    all_users, all_items = embeddings()
    value = softmax_objective(
        all_users[batch.user_inputs], all_items[batch.item_rows], batch
    )

    scores = (all_users @ all_items.T).tolist()
    shared = set(batch.item_rows[: batch.n_shared].tolist())
    if source == "in_batch":
        assert shared == set(taken.item_rows.tolist())
    known = set(zip(rows.user_rows.tolist(), rows.item_rows.tolist(), strict=True))
    total = total_weight = 0.0
    for row, (user, item) in enumerate(
        zip(taken.user_rows.tolist(), taken.item_rows.tolist(), strict=True)
    ):
        negatives = [
            (j, None) for j in shared - {item} if not (masked and (user, j) in known)
        ]
        if explicit and user in EXPLICIT_NEGATIVES:
            n_rows = 2 if user == 0 else 1
            negatives.append((EXPLICIT_NEGATIVES[user], -math.log(n_rows)))
        loss = row_loss(
            lambda j, user=user: scores[user][j],
            item,
            negatives,
            lambda j: correction_of(rows, source, j, size, correction),
            refined=correction == "refined",
        )
        weight = taken.weights[row].item() if weighted else 1.0
        total += weight * loss
        total_weight += weight
    # log q and weights are in single precision
    assert value.item() == pytest.approx(total / total_weight, rel=1e-6)
    value.backward()
    assert torch.isfinite(all_users.grad).all()
    assert torch.isfinite(all_items.grad).all()


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_of_every_item_is_the_catalogue(masked):
    """Without a correction: the same value and the same gradient."""
    rows = training_rows(weighted=True)
    taken = rows.take(torch.arange(12))  # the first eight have every item that is trained
    results = {}
    for source in ("in_batch", "mixed", "full"):
        batch = ranker(rows, source, correction=None, masked=masked).batch(taken, seeded())
        users, items = embeddings()
        value = softmax_objective(users[batch.user_inputs], items[batch.item_rows], batch)
        value.backward()
        results[source] = value.item(), users.grad, items.grad
    for source in ("in_batch", "mixed"):
        torch.testing.assert_close(results[source], results["full"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("source", ["in_batch", "mixed"])
@pytest.mark.parametrize("correction", ["logq", "refined"])
def test_a_batch_of_all_rows_needs_no_correction(source, correction):
    """Every item is there for certain, beside any row of another one, too."""
    rows = training_rows()
    results = []
    for how in (correction, None):
        batch = ranker(rows, source, correction=how).batch(rows, seeded())
        users, items = embeddings()
        value = softmax_objective(users[batch.user_inputs], items[batch.item_rows], batch)
        value.backward()
        results.append((value.item(), users.grad, items.grad))
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("correction", ["logq", "refined", None])
def test_gradient(source, correction):
    rows = training_rows(weighted=True)
    taken = rows.take(torch.tensor([3, 11, 0, 17, 5, 13]))
    batch = ranker(rows, source, correction=correction, masked=True, explicit=True).batch(
        taken, seeded(3)
    )
    assert torch.autograd.gradcheck(
        lambda u, v: softmax_objective(u[batch.user_inputs], v[batch.item_rows], batch),
        embeddings(),
    )


def test_a_row_without_a_negative_has_no_loss():
    """Three rows of one item: each is the only candidate of the others."""
    rows = TrainingRows(
        torch.arange(3), torch.zeros(3).long(), torch.ones(3).bool(), None, 3, 1
    )
    for correction in ("logq", "refined", None):
        batch = ranker(rows, "in_batch", correction=correction).batch(rows, seeded())
        users, items = embeddings()
        value = softmax_objective(users[batch.user_inputs], items[batch.item_rows], batch)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-15)
        for gradient in (users.grad, items.grad):
            torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_a_single_row_has_no_q():
    """Beside the one row of a batch there is nothing, and the log q of its item -inf."""
    rows = training_rows()
    batch = ranker(rows, "in_batch", correction="refined", masked=True).batch(
        rows.take(torch.tensor([2])), seeded()
    )
    assert batch.log_q.tolist() == [-math.inf]
    users, items = embeddings()
    value = softmax_objective(users[batch.user_inputs], items[batch.item_rows], batch)
    value.backward()
    assert value.item() == 0
    assert (users.grad == 0).all() and (items.grad == 0).all()


# Sampled negatives


def sampled_batch(*, weighted, labelled=False, sampler=True, explicit=False):
    rows = training_rows(weighted=weighted, labelled=labelled)
    positives = rows.take(rows.positive)
    popular = ItemSampler.popular(*positives.item_rows.unique(return_counts=True))
    disliked = torch.tensor([0, 0, 2]), torch.tensor([8, 8, 3])
    ranker = SampledNegatives(
        popular if sampler else None,
        3,
        probabilities=popular.probabilities if sampler else None,
        known=KnownPositives(positives.user_rows, positives.item_rows) if sampler else None,
        explicit=ExplicitNegatives(*disliked, None, N_USERS) if explicit else None,
    )
    return rows, ranker.batch(rows, seeded(2))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def in_full(rows, batch, pair_loss, own_loss=None):
    """Weighted mean over rows of the mean over the columns of a row."""
    users, items = embeddings()
    scores = (users @ items.T).tolist()
    total = total_weight = 0.0
    for row, (user, item) in enumerate(
        zip(rows.user_rows.tolist(), rows.item_rows.tolist(), strict=True)
    ):
        columns = [
            weight * pair_loss(scores[user][item], scores[user][batch.item_rows[column]])
            for column, weight in zip(
                batch.negatives[row].tolist(),
                batch.negative_weights[row].tolist(),
                strict=True,
            )
        ]
        if own_loss is not None:
            columns.append(own_loss(scores[user][item], rows.positive[row].item()))
        weight = 1.0 if rows.weights is None else rows.weights[row].item()
        total += weight * sum(columns) / len(columns)
        total_weight += weight
    return total / total_weight


def value_of(objective, batch):
    users, items = embeddings()
    return objective(users[batch.user_inputs], items[batch.item_rows], batch)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_bpr_in_plain_python(weighted, explicit):
    rows, batch = sampled_batch(weighted=weighted, explicit=explicit)
    value = value_of(pairwise_objective(bpr_loss), batch)
    expected = in_full(rows, batch, lambda p, n: -math.log(sigmoid(p - n)))
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_max_margin_in_plain_python(weighted, explicit):
    rows, batch = sampled_batch(weighted=weighted, explicit=explicit)

    def loss(positives, negatives, negative_weights, weights):
        return max_margin_loss(positives, negatives, negative_weights, weights, margin=0.7)

    value = value_of(pairwise_objective(loss), batch)
    expected = in_full(rows, batch, lambda p, n: max(0, 0.7 + n - p))
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("sampler", [False, True])
def test_cross_entropy_in_plain_python(weighted, labelled, sampler):
    rows, batch = sampled_batch(weighted=weighted, labelled=labelled, sampler=sampler)
    assert rows.positive.all() != labelled
    value = value_of(cross_entropy_objective, batch)
    expected = in_full(
        rows,
        batch,
        lambda p, n: -math.log(1 - sigmoid(n)),
        lambda s, positive: -math.log(sigmoid(s) if positive else 1 - sigmoid(s)),
    )
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "bpr"])
def test_gradient_with_sampled_negatives(name):
    _, batch = sampled_batch(weighted=True)
    objective = {
        "cross_entropy": cross_entropy_objective,
        "bpr": pairwise_objective(bpr_loss),
    }[name]
    assert torch.autograd.gradcheck(
        lambda u, v: objective(u[batch.user_inputs], v[batch.item_rows], batch),
        embeddings(),
    )
