"""The training loop, compared with one written out in full."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from sktwotower._nn.batch_losses import softmax_objective
from sktwotower._nn.batches import Batches, TrainingRows, batch_sizes
from sktwotower._nn.candidates import SharedCandidates
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.optim import make_optimizer, make_schedule
from sktwotower._nn.runtime import Generators
from sktwotower._nn.self_supervision import SelfSupervision, random_masks
from sktwotower._nn.towers import Tower
from sktwotower._nn.trainer import train
from sktwotower._nn.two_towers import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    TwoTowers,
    average_of,
)

CPU = torch.device("cpu")
N_USERS, N_ITEMS, TEMPERATURE = 6, 5, 0.2


def id_rows(n, width=0):
    """Ids, and a number for each of them."""
    return EntityRows(
        id_codes=torch.arange(n),
        n_ids=n,
        pointers=width * torch.arange(n)[:, None] + torch.arange(width + 1),
        columns=torch.zeros(n * width, dtype=torch.int64),
        values=torch.linspace(-1, 1, n)[: n * width],
        field_widths=(1,) * width,
    )


def make_towers(*, learned=False, temperature=TEMPERATURE, width=0, **options):
    defaults = dict(
        embedding_dim=4,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=True,
    )
    defaults["generator"] = torch.Generator().manual_seed(0)
    sides = (
        Tower(rows, **defaults | options)
        for rows in (id_rows(N_USERS), id_rows(N_ITEMS, width))
    )
    return TwoTowers(*sides, temperature, learned=learned)


def in_batch(user_rows, item_rows, weights=None, *, batch_size):
    rows = TrainingRows(
        user_rows,
        item_rows,
        torch.ones(len(user_rows), dtype=torch.bool),
        weights,
        N_USERS,
        N_ITEMS,
    )
    n_batches, _ = batch_sizes(len(rows), batch_size)
    source = SharedCandidates(
        rows,
        from_batch=True,
        sampler=None,
        n_draws=0,
        items=item_rows.unique(),
        correction="logq",
        known=None,
        explicit=None,
    )
    return Batches(rows, source, n_batches)


def make_batches(batch_size=7, weighted=False):
    generator = torch.Generator().manual_seed(2)
    return in_batch(
        torch.randint(1, N_USERS, (30,), generator=generator),
        torch.randint(1, N_ITEMS, (30,), generator=generator),
        torch.rand(30, generator=generator) if weighted else None,
        batch_size=batch_size,
    )


def start(
    towers,
    batches,
    *,
    seed=0,
    optimizer="adamw",
    learning_rate=0.05,
    name="linear",
    decay=0.1,
    width=0,
    **options,
):
    optimizer = make_optimizer(
        optimizer,
        towers.embedding_tables(),
        towers.parameters(),
        learning_rate=learning_rate,
        weight_decay=decay,
        epsilon=1e-8,
    )
    return train(
        towers,
        id_rows(N_USERS),
        id_rows(N_ITEMS, width),
        batches,
        softmax_objective,
        optimizer,
        make_schedule(optimizer, name, n_epochs=3, n_batches=batches.n_batches),
        LazyTables((), optimizer, "adamw", batch_size=1),
        Generators.seeded(seed, CPU),
        **options,
    )


def self_supervision():
    return SelfSupervision(
        id_rows(N_ITEMS, 1),
        torch.arange(1, N_ITEMS),
        n_draws=4,
        draw_masks=random_masks(2, complementary=True),
        weight=0.3,
    )


def log_q_in_full(item_rows, batch_size):
    """From log-gammas, for 30 rows."""
    counts = torch.bincount(item_rows, minlength=N_ITEMS).double()
    absent = torch.exp(
        torch.lgamma(30 - counts + 1)
        - torch.lgamma(30 - counts - batch_size + 1)
        - torch.lgamma(torch.tensor(31.0).double())
        + torch.lgamma(torch.tensor(31.0 - batch_size).double())
    )
    return torch.log(1 - absent).float()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
@pytest.mark.parametrize("supervised", [False, True])
@pytest.mark.slow
def test_against_a_loop_in_full(weighted, learned, max_grad_norm, supervised):
    options = dict(learned=learned, width=1)
    towers, batches = make_towers(**options), make_batches(weighted=weighted)
    rows = batches.rows
    losses = list(
        itertools.islice(
            start(
                towers,
                batches,
                width=1,
                max_grad_norm=max_grad_norm,
                self_supervision=self_supervision() if supervised else None,
            ),
            3,
        )
    )

    other, item_input = make_towers(**options), id_rows(N_ITEMS, 1)
    tables = [
        other.user_tower.id_table,
        other.item_tower.id_table,
        other.item_tower.column_table,
    ]
    rest = [*other.user_tower.mlp.parameters(), *other.item_tower.mlp.parameters()]
    log_temperature = torch.tensor(math.log(TEMPERATURE), requires_grad=learned)
    if learned:
        rest.append(log_temperature)
    optimizer = torch.optim.AdamW(
        [
            {"params": tables, "weight_decay": 0.1},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=0.05,
        fused=True,
    )
    step, n_steps = 0, 3 * batches.n_batches
    expected, n_clipped = [], 0
    generator = torch.Generator().manual_seed(0)  # the fit's
    for _ in range(3):
        total = 0.0
        for order in torch.randperm(30, generator=generator).tensor_split(5):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / n_steps)
            temperature = log_temperature.exp()
            items, positives = rows.item_rows[order].unique(return_inverse=True)
            users = other.user_tower.id_table[rows.user_rows[order]]
            users = F.normalize(other.user_tower.mlp(users), dim=1)
            fields = torch.cat(
                [
                    other.item_tower.id_table[items],
                    item_input.values[items, None] * other.item_tower.column_table,
                ],
                dim=1,
            )
            vectors = F.normalize(other.item_tower.mlp(fields), dim=1)
            logits = users @ vectors.T / temperature
            logits = logits - log_q_in_full(rows.item_rows, 6)[items]
            nll = -logits.log_softmax(1)[torch.arange(6), positives]
            weights = rows.weights[order] if weighted else torch.ones(6)
            loss = (weights * nll).sum() / 6  # batches count by their weight
            if supervised:
                draws = 1 + torch.randint(4, (4,), generator=generator).unique()
                hidden = torch.randperm(2, generator=generator)[:1]  # one of two fields
                views = []
                for mask in (hidden, 1 - hidden):
                    shown = torch.ones(2)
                    shown[mask] = 0
                    ids = other.item_tower.id_table[draws if shown[0] else 0 * draws]
                    numbers = item_input.values[draws, None] * other.item_tower.column_table
                    view = torch.cat([ids, shown[1] * numbers], dim=1)
                    views.append(F.normalize(other.item_tower.mlp(view), dim=1))
                similar = views[0] @ views[1].T / temperature
                loss = loss - 0.3 * similar.log_softmax(1).diagonal().mean()
            optimizer.zero_grad()
            loss.backward()
            if max_grad_norm is not None:
                gradients = [p.grad for p in [*tables, *rest]]
                norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
                n_clipped += norm > max_grad_norm
                for g in gradients:
                    g *= min(1.0, max_grad_norm / (norm + 1e-6))
            optimizer.step()
            step += 1
            total += loss.item() * 6
        expected.append(total / 30)
    assert losses == pytest.approx(expected, rel=1e-4)
    if max_grad_norm is not None:
        assert 0 < n_clipped <= n_steps
    names = dict(towers.named_parameters())
    if learned:
        found = names.pop("log_temperature")
        assert found.item() != pytest.approx(math.log(TEMPERATURE))
        torch.testing.assert_close(found, log_temperature, rtol=1e-3, atol=1e-4)
    for name, mine in names.items():
        theirs = other.get_parameter(name)
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-4, msg=name)


# The temperature


def test_a_fixed_temperature_is_no_parameter():
    towers = make_towers(temperature=0.3)
    assert towers.temperature == 0.3
    assert isinstance(towers.temperature, float)
    assert "log_temperature" not in dict(towers.named_parameters())
    towers.clamp_temperature()
    assert towers.temperature == 0.3


def test_a_learned_temperature_starts_at_its_parameter():
    towers = make_towers(learned=True, temperature=0.3)
    assert towers.temperature.item() == pytest.approx(0.3)
    assert towers.log_temperature.requires_grad


def test_gradient_of_a_learned_temperature():
    """By hand: of log tau it is the mean of -sum_j (P_ij - [j = p]) s_ij."""
    towers, batches = make_towers(learned=True), make_batches(batch_size=30)
    batch = next(batches.epoch(torch.Generator().manual_seed(0)))
    with torch.no_grad():
        users = towers.user_tower(id_rows(N_USERS).take(batch.user_inputs))[batch.groups]
        items = towers.item_tower(id_rows(N_ITEMS).take(batch.item_rows))
        scores = users @ items.T / TEMPERATURE
        probabilities = (scores - batch.log_q).softmax(1)
        probabilities[torch.arange(30), batch.positives] -= 1
        expected = -(probabilities * scores).sum(1).mean().item()
    epochs = start(
        towers, batches, optimizer="sgd", learning_rate=0.01, name="constant", decay=5.0
    )
    next(epochs)  # one step
    moved = towers.log_temperature.item() - math.log(TEMPERATURE)
    assert moved == pytest.approx(-0.01 * expected, rel=1e-3)  # and no decay


def test_a_learned_temperature_is_not_decayed():
    """Log tau is far from zero, where a decay would pull it."""
    towers = make_towers(learned=True)
    optimizer = make_optimizer(
        "adamw",
        towers.embedding_tables(),
        towers.parameters(),
        learning_rate=0.1,
        weight_decay=5.0,
        epsilon=1e-8,
    )
    (group,) = (
        group
        for group in optimizer.param_groups
        if any(p is towers.log_temperature for p in group["params"])
    )
    assert group["weight_decay"] == 0


@pytest.mark.parametrize("planted", [True, False])
def test_a_learned_temperature_stays_in_its_range(planted):
    """It falls with a perfect ranking and rises with noise; large steps overshoot."""
    towers = make_towers(learned=True)
    pairs = torch.arange(1, N_ITEMS).repeat(8)
    users = pairs if planted else pairs.sort().values
    batches = in_batch(users, pairs, batch_size=8)
    seen = []
    epochs = start(
        towers, batches, learning_rate=0.5 if planted else 2.0, name="constant", decay=0.0
    )
    for _ in range(40):
        next(epochs)
        seen.append(towers.temperature.item())
    assert min(seen) >= MIN_TEMPERATURE * (1 - 1e-6)
    assert max(seen) <= MAX_TEMPERATURE * (1 + 1e-6)
    if planted:
        assert min(seen) == pytest.approx(MIN_TEMPERATURE)
    else:
        assert max(seen) == pytest.approx(MAX_TEMPERATURE)


def test_clamping():
    towers = make_towers(learned=True)
    for value, expected in ((-50.0, 0.01), (50.0, 10.0), (math.log(0.5), 0.5)):
        with torch.no_grad():
            towers.log_temperature.fill_(value)
        towers.clamp_temperature()
        assert towers.temperature.item() == pytest.approx(expected)
    assert towers.log_temperature.requires_grad


# Clipping and weights


def test_clipping_leaves_small_gradients_alone():
    expected = list(itertools.islice(start(make_towers(), make_batches()), 2))
    clipped = start(make_towers(), make_batches(), max_grad_norm=1e6)
    assert list(itertools.islice(clipped, 2)) == expected


def test_clipping_bounds_a_step():
    """Of plain SGD: the length of a step is at most rate times norm."""
    towers = make_towers(learned=True)
    before = torch.cat([p.detach().flatten() for p in towers.parameters()])
    batches = make_batches(batch_size=30)
    next(
        start(
            towers,
            batches,
            optimizer="sgd",
            learning_rate=0.5,
            name="constant",
            decay=0.0,
            max_grad_norm=0.01,
        )
    )
    after = torch.cat([p.detach().flatten() for p in towers.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.005, rel=1e-3)


def test_a_weight_is_a_repetition():
    """In one batch of all rows; the mean weight is that of the repeated rows."""
    users, items = torch.tensor([1, 2, 3, 1]), torch.tensor([1, 2, 3, 4])
    repeats = torch.tensor([1, 3, 2, 2])
    found = []
    for batches in (
        in_batch(users, items, repeats / repeats.float().mean(), batch_size=4),
        in_batch(
            users.repeat_interleave(repeats), items.repeat_interleave(repeats), batch_size=8
        ),
    ):
        towers = make_towers()
        losses = list(itertools.islice(start(towers, batches), 3))
        found.append((losses, [p.detach() for p in towers.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


# The loop


def test_no_step_before_an_epoch_is_requested():
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


def test_the_gradient_mode_of_the_caller_is_restored():
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
    batches = in_batch(pairs, pairs, batch_size=8)
    towers = make_towers()
    epochs = start(towers, batches, name="constant", decay=0.0)
    losses = list(itertools.islice(epochs, 30))
    assert losses[-1] < 0.5 * losses[0]
    users = towers.user_tower.embed(id_rows(N_USERS))[1:N_ITEMS]
    items = towers.item_tower.embed(id_rows(N_ITEMS))[1:]
    assert (users @ items.T).argmax(1).tolist() == list(range(N_ITEMS - 1))


def test_reported_loss_is_the_mean_over_rows():
    """Rows count alike although batches differ in size (30 rows in batches of 8 and 7)."""
    towers, batches = make_towers(), make_batches(batch_size=8)
    reported = next(start(towers, batches, learning_rate=1e-12, decay=0.0))
    total = 0.0
    with torch.no_grad():
        for batch in batches.epoch(torch.Generator().manual_seed(0)):
            users = towers.user_tower(id_rows(N_USERS).take(batch.user_inputs))
            items = towers.item_tower(id_rows(N_ITEMS).take(batch.item_rows))
            loss = softmax_objective(users / TEMPERATURE, items, batch)
            total += loss.item() * len(batch)
    assert reported == pytest.approx(total / 30, rel=1e-5)


def test_average_of_the_epochs():
    towers = make_towers(hidden_layer_sizes=(4,), batch_norm=True, learned=True)
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


def test_self_supervision_trains_the_item_tower():
    """Only self-supervision trains the unknown id, which is in no row of the data."""
    towers = make_towers(width=1)
    before = towers.item_tower.id_table[0].detach().clone()
    options = dict(width=1, optimizer="sgd", decay=0.0)
    next(start(towers, make_batches(), **options))
    assert torch.equal(towers.item_tower.id_table[0], before)
    next(start(towers, make_batches(), **options, self_supervision=self_supervision()))
    assert not torch.equal(towers.item_tower.id_table[0], before)
