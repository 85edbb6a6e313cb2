"""The softmax over items that are divided among ranks is the one of one process."""

import pytest
import torch

from sktwotower._nn.batches import SoftmaxBatch
from sktwotower._nn.code_lists import CodeLists
from sktwotower._nn.softmax import softmax_loss
from sktwotower._nn.spread_softmax import SpreadRows, spread_softmax
from tests._nn.thread_ranks import on_ranks

N_ITEMS, DIM = 7, 4


def batch_of(rank, *, n_users, masks, corrects=False):
    """Rows of a rank: two of each user. Each user has some known positives.

    Corrections differ from rank to rank.
    """
    generator = torch.Generator().manual_seed(rank)
    groups = torch.arange(n_users).repeat(2)
    positives = torch.randint(N_ITEMS, (len(groups),), generator=generator)
    known = torch.rand(n_users, N_ITEMS, generator=generator) < 0.3
    known[groups, positives] = True
    log_q = torch.rand(N_ITEMS, generator=generator) - 2 if corrects else None
    positive_log_q = None
    if masks:
        positive_log_q = torch.rand(len(groups), generator=generator) * corrects
    batch = SoftmaxBatch(
        user_inputs=torch.arange(n_users),
        groups=groups,
        item_rows=torch.arange(N_ITEMS),
        weights=None,
        n_shared=N_ITEMS,
        log_q=log_q,
        masked=known.flatten().nonzero()[:, 0] if masks else None,
        positives=positives,
        positive_is_shared=True,
        positive_log_q=positive_log_q,
        explicit_negatives=None,
        explicit_negative_log_q=None,
        is_spread=True,
    )
    users = 3 * torch.randn(n_users, DIM, generator=generator)
    return batch, users, torch.rand(len(groups), generator=generator) + 0.1


def loss_of_rank(batch, users, own, rows, weights, *, masks):
    """The loss of a rank's rows, and the gradients of its users and of its items."""
    log_q = batch.log_q_of_positives
    log_q = torch.zeros(len(batch)) if log_q is None else log_q
    calls = []
    loss, of_users, of_items = spread_softmax(
        rows.users.start_of_all(users)(),
        own,
        rows,
        weights,
        log_q,
        positive_per_row=masks,
        meanwhile=lambda: calls.append(1),
    )
    assert calls == [1]
    return loss, rows.users.start_own_sums(of_users)(), of_items


@pytest.mark.parametrize("corrects", [False, True])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("n_users", [[3, 2], [4, 0, 1], [1] * 8], ids=str)
@pytest.mark.parametrize("most_scores", [2**23, 9, 1])
def test_loss_and_gradients(n_users, masks, corrects, most_scores, monkeypatch):
    """Also with a rank without users, with one without items, and in blocks of users."""
    monkeypatch.setattr("sktwotower._nn.spread_softmax.MOST_SCORES_OF_A_BLOCK", most_scores)
    items = torch.randn(N_ITEMS, DIM, generator=torch.Generator().manual_seed(9))

    def call(ranks):
        batch, users, weights = batch_of(
            ranks.rank, n_users=n_users[ranks.rank], masks=masks, corrects=corrects
        )
        division = ranks.divide(torch.arange(N_ITEMS))
        rows, _ = SpreadRows.start(batch, division, CodeLists(ranks))()
        return loss_of_rank(batch, users, items[division.own], rows, weights, masks=masks)

    of_items = torch.zeros_like(items, requires_grad=True)
    gradients = torch.zeros_like(items)
    found = on_ranks(len(n_users), call)
    for rank, (loss, of_users, own) in enumerate(found):
        gradients[rank :: len(n_users)] = own
        batch, users, weights = batch_of(
            rank, n_users=n_users[rank], masks=masks, corrects=corrects
        )
        users.requires_grad_()
        if not len(users):
            assert loss == 0
            continue
        moved = items + of_items
        positive_scores = torch.zeros(len(batch))
        if corrects:
            positive_scores = -batch.log_q_of_positives
        expected = weights.sum() * softmax_loss(
            users,
            moved,
            positive_scores,
            groups=batch.groups,
            columns=batch.positives,
            log_q=batch.log_q,
            masked=batch.masked,
            positive_per_row=masks,
            weights=weights,
        )
        expected.backward()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(of_users, users.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients, of_items.grad, rtol=1e-4, atol=1e-5)


def test_all_tensors_move_to_the_device_of_the_vectors():
    """With its rows on the host, a step would wait for an accelerator."""

    def call(ranks):
        batch, _, _ = batch_of(ranks.rank, n_users=2, masks=True, corrects=True)
        division = ranks.divide(torch.arange(N_ITEMS))
        rows, _ = SpreadRows.start(batch, division, CodeLists(ranks))()
        moved = vars(rows.to(torch.device("meta")))
        return {
            name: one.device.type for name, one in moved.items() if hasattr(one, "device")
        }

    expected = dict.fromkeys(["groups", "here", "positives", "masked", "log_q"], "meta")
    assert on_ranks(2, call) == [expected, expected]


def test_a_user_who_has_all_items():
    """No negative is left: the loss is 0 and so are the gradients."""
    items = torch.randn(N_ITEMS, DIM, generator=torch.Generator().manual_seed(9))

    def call(ranks):
        batch, users, weights = batch_of(0, n_users=1, masks=True)
        everything = torch.arange(N_ITEMS)
        batch = SoftmaxBatch(**(vars(batch) | {"masked": everything}))
        division = ranks.divide(everything)
        rows, _ = SpreadRows.start(batch, division, CodeLists(ranks))()
        found = loss_of_rank(batch, users, items[division.own], rows, weights, masks=True)
        return tuple(one.abs().max().item() for one in found)

    for values in on_ranks(2, call):
        assert values == (0.0, 0.0, 0.0)
