"""The softmax of shared candidates, compared with autograd."""

import pytest
import torch

from sktwotower._nn import softmax
from sktwotower._nn.softmax import softmax_loss
from sktwotower._nn.threads import SecondThread


@pytest.fixture(params=[None, 7, 12], ids=["at once", "user by user", "two users"])
def blocks(request, monkeypatch):
    """Scores are computed at once, or for a user or two of six items at a time."""
    if request.param is not None:
        monkeypatch.setattr(softmax, "SCORES_OF_A_BLOCK", request.param)
        monkeypatch.setattr(softmax, "USERS_OF_A_BLOCK", 1)


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
def test_softmax_in_two_threads(size, monkeypatch):
    """Also with more blocks than users."""
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
            patch.setattr(softmax, "SCORES_OF_A_BLOCK", size)
            patch.setattr(softmax, "USERS_OF_A_BLOCK", 1)
            loss = softmax_loss(**leaves, **options)
        torch.set_num_threads(threads)
        loss.backward()
        found.append([loss.detach(), *(leaf.grad for leaf in leaves.values())])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("n_users", "n_items", "sizes"),
    [(300, 1000, [300]), (300, 40_000, [100] * 3), (40, 1_000_000, [8] * 5)],
)
def test_users_of_a_block(n_users, n_items, sizes):
    """Few items: scores fit into the cache. More: at most 128 users, or 32 MB."""
    groups = torch.arange(n_users)
    blocks = softmax._blocks_of_users(torch.zeros(n_users, 1), n_items, groups, None)
    assert [block.users.stop - block.users.start for block in blocks] == sizes


@pytest.mark.usefixtures("blocks")
def test_an_item_that_is_masked_for_all_users_has_no_gradient():
    """Its gradient is exactly zero, as is the one of a candidate of a far lower score."""
    users = torch.tensor([[1.0], [2.0]], requires_grad=True)
    items = torch.tensor([[0.0], [3.0], [900.0], [-100.0]], requires_grad=True)
    loss = softmax_loss(
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
def test_softmax_against_autograd(columns, masked, corrected, own, explicit_negative):
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
def test_softmax_of_large_scores():
    users = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]])
    items = torch.tensor([[1.0, 0.0], [0.9, 0.0]])
    positives = torch.tensor([0.0, 0.0])
    loss = softmax_loss(
        users, items, positives, groups=torch.arange(2), positive_per_row=False
    )
    assert loss.item() == pytest.approx((1000.0 - 900.0) / 2)
