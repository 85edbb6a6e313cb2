"""The one loop, against a second one written out in full."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from sktwotower._nn.batches import Batch, InBatchSampler
from sktwotower._nn.optim import make_optimizer, make_schedule
from sktwotower._nn.runtime import Generators
from sktwotower._nn.towers import EntityRows, Tower
from sktwotower._nn.trainer import TwoTowers, average_of, softmax_objective, train

CPU = torch.device("cpu")
N_USERS, N_ITEMS, TEMPERATURE = 6, 5, 0.2


def id_rows(n):
    return EntityRows(
        id_codes=torch.arange(n),
        n_ids=n,
        pointers=torch.zeros(n, 1, dtype=torch.int64),
        columns=torch.zeros(0, dtype=torch.int64),
        values=torch.zeros(0),
        n_columns=0,
    )


def make_towers(**options):
    defaults = dict(
        embedding_dim=4,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=True,
    )
    defaults["generator"] = torch.Generator().manual_seed(0)
    sides = (Tower(id_rows(n), **defaults | options) for n in (N_USERS, N_ITEMS))
    return TwoTowers(*sides)


def make_batches(batch_size=7, weighted=False):
    generator = torch.Generator().manual_seed(2)
    return InBatchSampler(
        torch.randint(1, N_USERS, (30,), generator=generator),
        torch.randint(1, N_ITEMS, (30,), generator=generator),
        torch.rand(30, generator=generator) if weighted else None,
        batch_size=batch_size,
        corrected=True,
        mask_known_positives=False,
    )


def start(
    towers, batches, *, seed=0, learning_rate=0.05, name="linear", decay=0.1, average=None
):
    optimizer = make_optimizer(
        towers.embedding_tables(),
        towers.parameters(),
        learning_rate=learning_rate,
        weight_decay=decay,
    )
    schedule = make_schedule(optimizer, name, 3 * batches.n_batches)
    return train(
        towers,
        id_rows(N_USERS),
        id_rows(N_ITEMS),
        batches,
        softmax_objective(TEMPERATURE),
        optimizer,
        schedule,
        Generators.seeded(seed, CPU),
        average,
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_against_a_loop_in_full(weighted):
    towers, batches = make_towers(), make_batches(weighted=weighted)
    losses = list(itertools.islice(start(towers, batches), 3))

    other = make_towers()
    tables = list(other.embedding_tables())
    rest = [p for p in other.parameters() if all(p is not t for t in tables)]
    optimizer = torch.optim.AdamW(
        [
            {"params": tables, "weight_decay": 0.1},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=0.05,
        fused=True,
    )
    step, n_steps = 0, 3 * batches.n_batches
    expected = []
    generator = torch.Generator().manual_seed(0)  # the fit's
    for _ in range(3):
        total = 0.0
        for rows in torch.randperm(30, generator=generator).tensor_split(5):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / n_steps)
            items, positives = batches.item_rows[rows].unique(return_inverse=True)
            users = other.user_tower.id_table[batches.user_rows[rows]]
            users = F.normalize(other.user_tower.mlp(users), dim=1)
            vectors = F.normalize(
                other.item_tower.mlp(other.item_tower.id_table[items]), dim=1
            )
            counts = torch.bincount(batches.item_rows).double()
            absent = torch.exp(
                torch.lgamma(30 - counts + 1)
                - torch.lgamma(30 - counts - 6 + 1)
                - torch.lgamma(torch.tensor(31.0).double())
                + torch.lgamma(torch.tensor(25.0).double())
            )
            logits = users @ vectors.T / TEMPERATURE - torch.log(1 - absent)[items].float()
            nll = -logits.log_softmax(1)[torch.arange(6), positives]
            weights = batches.weights[rows] if weighted else torch.ones(6)
            loss = (weights * nll).sum() / 6  # batches count by their weight
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            total += loss.item() * 6
        expected.append(total / 30)
    assert losses == pytest.approx(expected, rel=1e-4)
    for (name, mine), theirs in zip(
        towers.named_parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, msg=name)


def test_no_step_without_a_request():
    towers, batches = make_towers(), make_batches()
    before = [p.clone() for p in towers.parameters()]
    epochs = start(towers, batches)
    assert all(torch.equal(a, b) for a, b in zip(before, towers.parameters(), strict=True))
    assert isinstance(next(epochs), float)
    after = [p.clone() for p in towers.parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_random_state_between_epochs_is_the_callers():
    def run(disturb):
        towers = make_towers(dropout=0.3)
        epochs = start(towers, make_batches())
        losses = []
        for _ in range(3):
            if disturb:
                torch.manual_seed(12345)
                torch.rand(7)
            before = torch.get_rng_state()
            losses.append(next(epochs))
            assert torch.equal(torch.get_rng_state(), before)
        return losses

    assert run(False) == run(True)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_whatever_the_callers_mode(mode):
    expected = list(itertools.islice(start(make_towers(), make_batches()), 2))
    towers = make_towers()
    with mode():
        epochs = start(towers, make_batches())
        found = [next(epochs)]
        assert not torch.is_grad_enabled()  # between two epochs it is the caller's again
        found.append(next(epochs))
    assert found == expected
    assert torch.is_grad_enabled()


def test_the_mode_of_another_time_does_not_leak():
    epochs = start(make_towers(), make_batches())
    next(epochs)
    with torch.no_grad():
        next(epochs)
        assert not torch.is_grad_enabled()
    epochs.close()
    assert torch.is_grad_enabled()


def test_towers_are_in_training_mode_again_each_epoch():
    towers = make_towers(hidden_layer_sizes=(4,), batch_norm=True)
    epochs = start(towers, make_batches())
    next(epochs)
    towers.eval()
    means = towers.user_tower.mlp[1].running_mean.clone()
    next(epochs)
    assert not torch.equal(means, towers.user_tower.mlp[1].running_mean)


def test_it_learns():
    # User u only ever has item u: a perfect ranking exists.
    pairs = torch.arange(1, N_ITEMS).repeat(8)
    batches = InBatchSampler(
        pairs, pairs, None, batch_size=8, corrected=True, mask_known_positives=False
    )
    towers = make_towers()
    epochs = start(towers, batches, name="constant", decay=0.0)
    losses = list(itertools.islice(epochs, 30))
    assert losses[-1] < 0.5 * losses[0]
    users = towers.user_tower.embed(id_rows(N_USERS))[1:N_ITEMS]
    items = towers.item_tower.embed(id_rows(N_ITEMS))[1:]
    assert (users @ items.T).argmax(1).tolist() == list(range(N_ITEMS - 1))


def test_objective_is_the_softmax_of_cosines_over_the_temperature():
    users, items = torch.randn(6, 4), torch.randn(3, 4)
    batch = next(make_batches(batch_size=30).epoch(torch.Generator()))
    few = type(batch)(
        batch.user_rows[:6],
        torch.arange(3),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        None,
        None,
        None,
    )
    value = softmax_objective(0.5)(users, items, few)
    expected = F.cross_entropy(users @ items.T * 2, few.positives)
    torch.testing.assert_close(value, expected)


def test_reported_loss_is_the_mean_over_rows():
    """Rows count alike although batches differ in size (30 rows in batches of 8 and 7)."""
    towers, batches = make_towers(), make_batches(batch_size=8)
    reported = next(start(towers, batches, learning_rate=1e-12, decay=0.0))
    total = 0.0
    with torch.no_grad():
        for batch in batches.epoch(torch.Generator().manual_seed(0)):
            users = towers.user_tower(id_rows(N_USERS).take(batch.user_rows))
            items = towers.item_tower(id_rows(N_ITEMS).take(batch.item_rows))
            total += softmax_objective(TEMPERATURE)(users, items, batch).item() * len(batch)
    assert reported == pytest.approx(total / 30, rel=1e-5)


def test_average_of_the_epochs():
    towers = make_towers(hidden_layer_sizes=(4,), batch_norm=True)
    average = average_of(towers)
    epochs = start(towers, make_batches(), average=average)
    history = []
    for _ in range(4):
        next(epochs)
        history.append({k: v.clone() for k, v in towers.state_dict().items()})
    # by hand: the shares of 4 epochs under (eta + 1) / (t + eta), eta = 3
    shares = [1.0]
    for t in (2, 3, 4):
        step = 4 / (t + 3)
        shares = [share * (1 - step) for share in shares] + [step]
    assert sum(shares) == pytest.approx(1)
    for name, found in average.module.state_dict().items():
        if found.is_floating_point():
            expected = sum(
                share * weights[name]
                for share, weights in zip(shares, history, strict=True)
            )
            torch.testing.assert_close(found, expected)
    # training goes on from the weights themselves, not from their average
    assert not torch.equal(towers.user_tower.id_table, average.module.user_tower.id_table)


def test_masked_candidates_are_no_negatives():
    users = F.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    items = F.normalize(torch.randn(5, 4), dim=1).requires_grad_()
    batch = Batch(
        user_rows=torch.arange(3),
        item_rows=torch.arange(5),
        positives=torch.tensor([0, 3, 1]),
        log_q=None,
        weights=None,
        masked=torch.tensor([0 * 5 + 2, 0 * 5 + 4, 2 * 5 + 0]),
    )
    value = softmax_objective(0.5)(users, items, batch)
    left = [[0, 1, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4]]
    expected = [
        -torch.log_softmax(users[row] @ items[columns].T / 0.5, 0)[columns.index(positive)]
        for row, (columns, positive) in enumerate(zip(left, [0, 3, 1], strict=True))
    ]
    torch.testing.assert_close(value, torch.stack(expected).mean())
    value.backward()
    assert torch.isfinite(users.grad).all() and torch.isfinite(items.grad).all()
