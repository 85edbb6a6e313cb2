"""Lazy tables, compared with tables that every step updates as a whole."""

import pytest
import torch

from sktwotower._nn import lazy_tables as lazy
from sktwotower._nn.lazy_tables import LazyTables
from sktwotower._nn.optim import make_optimizer, make_schedule
from sktwotower._nn.resize import recall, remember, rows_stay
from sktwotower._nn.towers import Tower
from sktwotower._nn.two_towers import TwoTowers
from tests._nn.helpers import only_ids

N_ROWS, WIDTH = 12, 3


def make_towers(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def tower():
        return Tower(
            only_ids(N_ROWS, dtype=torch.int32),
            embedding_dim=WIDTH,
            hidden_layer_sizes=(),
            activation="relu",
            batch_norm=False,
            dropout=0.0,
            normalize=False,
            generator=generator,
        )

    return TwoTowers(tower(), tower(), 1.0, learned=False).to(dtype)


class Run:
    """Steps of a loss that looks at some users, with lazy tables or without."""

    def __init__(self, name, *, is_lazy, weight_decay, schedule="linear", epsilon=1e-8):
        self.towers = make_towers()
        self.rows = only_ids(N_ROWS, dtype=torch.int32)
        self.optimizer = make_optimizer(
            name,
            self.towers.embedding_tables(),
            self.towers.parameters(),
            learning_rate=0.05,
            weight_decay=weight_decay,
            epsilon=epsilon,
        )
        self.schedule = make_schedule(self.optimizer, schedule, n_epochs=2, n_batches=400)
        self.name, self.tables = name, None
        if is_lazy:
            self.start_lazy()

    def start_lazy(self):
        self.tables = LazyTables(
            self.towers.embedding_tables(), self.optimizer, self.name, batch_size=1
        )

    def step(self, rows, seed):
        inputs = [self.rows.take(torch.tensor(rows))]
        items = [self.rows.take(torch.tensor([1]))]
        targets = torch.randn(len(rows), WIDTH, generator=torch.manual_seed(seed))
        if self.tables is not None:
            user, item = self.towers.user_tower, self.towers.item_tower
            found = self.tables.look_up({user: inputs, item: items})
            inputs, items = found[user], found[item]
        self.optimizer.zero_grad()
        vectors = self.towers.user_tower(inputs[0])
        loss = (vectors - targets).square().sum()
        loss = loss + 0 * self.towers.item_tower(items[0]).sum()  # a gradient of zero
        loss.backward()
        self.optimizer.step()
        if self.tables is not None:
            self.tables.step()
        self.schedule.step()
        return loss.item()

    def settle(self):
        if self.tables is not None:
            self.tables.settle()

    def state(self):
        return remember(self.optimizer, self.towers)


@pytest.fixture(autouse=True)
def _every_table_is_large(monkeypatch):
    monkeypatch.setattr(lazy, "ROWS_FOR_ONE_OF_A_BATCH", 4)


def batches_of(n, seed=0):
    """Rows 0 to 8; the last three are never seen, row 8 in the first steps alone."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(n):
        rows = torch.randint(1, 8, (3,), generator=generator).tolist()
        yield rows + [8] * (step < 5)


def compare(found, expected, *, tolerance=2e-5):
    for (name, mine), theirs in zip(
        found.towers.named_parameters(), expected.towers.parameters(), strict=True
    ):
        torch.testing.assert_close(
            mine, theirs, rtol=10 * tolerance, atol=tolerance, msg=lambda m, n=name: n + m
        )
    theirs = expected.state()
    for name, state in found.state().items():
        for key, value in state.items():
            torch.testing.assert_close(
                value.float(),
                theirs[name][key].float(),
                rtol=10 * tolerance,
                atol=tolerance,
                msg=lambda m, n=name, k=key: f"{n} {k} {m}",
            )


CASES = [
    ("adamw", 0.0),
    ("adamw", 1.0),
    ("adam", 0.0),
    ("adagrad", 0.0),
    ("sgd", 0.0),
    ("sgd", 1.0),
]


@pytest.mark.parametrize(
    ("name", "weight_decay", "schedule"),
    [(*case, "linear") for case in CASES]
    + [("adamw", 1.0, "constant"), ("adamw", 1.0, "cosine"), ("sgd", 1.0, "cosine")],
)
@pytest.mark.slow
def test_equal_to_steps_of_the_whole_table(name, weight_decay, schedule):
    """Over epochs of different length; rows wait for up to dozens of steps."""
    lazy_run, whole = (
        Run(name, is_lazy=is_lazy, weight_decay=weight_decay, schedule=schedule)
        for is_lazy in (True, False)
    )
    assert len(lazy_run.tables.by_table) == 2
    for epoch, n in enumerate((7, 60, 15)):
        for step, rows in enumerate(batches_of(n, seed=epoch)):
            losses = [run.step(rows, seed=step) for run in (lazy_run, whole)]
            assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        lazy_run.settle()
        compare(lazy_run, whole)


@pytest.mark.parametrize(("name", "weight_decay"), [("adam", 1.0), ("adagrad", 1.0)])
def test_an_l2_penalty_needs_whole_tables(name, weight_decay):
    """With an L2 penalty there are no lazy tables."""
    assert not Run(name, is_lazy=True, weight_decay=weight_decay).tables.by_table


def test_small_tables_are_left_to_the_optimizer(monkeypatch):
    monkeypatch.setattr(lazy, "ROWS_FOR_ONE_OF_A_BATCH", N_ROWS)
    assert not Run("adamw", is_lazy=True, weight_decay=0.0).tables.by_table


@pytest.mark.parametrize(("name", "weight_decay"), CASES)
@pytest.mark.slow
def test_lazy_and_whole_tables_exchange_their_state(name, weight_decay):
    """Training can go on lazily after whole steps, and the other way round."""
    runs = [Run(name, is_lazy=first, weight_decay=weight_decay) for first in (True, False)]
    for step, rows in enumerate(batches_of(20)):
        for run in runs:
            run.step(rows, seed=step)
    after = []
    for run, is_lazy in zip(runs, (False, True), strict=True):
        run.settle()
        other = Run(name, is_lazy=False, weight_decay=weight_decay, schedule="constant")
        other.towers.load_state_dict(run.towers.state_dict())
        recall(other.optimizer, other.towers, run.state(), {})
        if is_lazy:
            other.start_lazy()
        after.append(other)
    for step, rows in enumerate(batches_of(20, seed=3)):
        for run in after:
            run.step(rows, seed=step)
    after[1].settle()
    compare(after[1], after[0])


def test_frozen_rows_are_bit_equal_and_others_are_trained_as_before():
    runs = [Run("adamw", is_lazy=True, weight_decay=1.0) for _ in range(2)]
    table = runs[0].towers.user_tower.id_table
    for step, rows in enumerate(batches_of(9)):
        for run in runs:
            run.step(rows, seed=step)
    for run in runs:
        run.settle()
    before = table.detach().clone()
    moment = runs[0].optimizer.state[table]["exp_avg"].clone()
    stays = torch.zeros(N_ROWS, dtype=torch.bool)
    stays[[2, 5, 9]] = True
    with rows_stay(runs[0].optimizer, runs[0].tables, {table: stays}):
        for step in range(8):  # row 2 has a gradient, and stays
            for run in runs:
                run.step([1, 2, 3], seed=step)
        for run in runs:
            run.settle()
        assert torch.equal(table[stays], before[stays])
        assert torch.equal(runs[0].optimizer.state[table]["exp_avg"][stays], moment[stays])
    free = runs[1].towers.user_tower.id_table
    assert not torch.equal(free[stays], before[stays])
    untouched = torch.ones(N_ROWS, dtype=torch.bool)
    untouched[[1, 2, 3, 5, 9]] = False
    torch.testing.assert_close(table[untouched], free[untouched])


def test_several_inputs_share_the_rows():
    """As two views of items beside those of the batch: one gradient for a row."""
    run = Run("sgd", is_lazy=True, weight_decay=0.0)
    tower = run.towers.user_tower
    first, second = (run.rows.take(torch.tensor(rows)) for rows in ([3, 4], [4, 7]))
    before = tower.id_table.detach().clone()
    expected = [tower(one).detach() for one in (first, second)]
    inputs = {tower: [first, second], run.towers.item_tower: [first]}
    found = run.tables.look_up(inputs)[tower]
    for one, vectors in zip(found, expected, strict=True):
        torch.testing.assert_close(tower(one), vectors)
    (table,) = (t for t in run.tables.by_table if t is tower.id_table)
    rows = run.tables.by_table[table].vectors
    assert torch.equal(rows, before[[0, 3, 4, 7]])  # the unknown one is always there


def test_a_dropped_id_is_the_unknown_one():
    run = Run("sgd", is_lazy=True, weight_decay=0.0)
    tower = run.towers.user_tower
    tower.id_dropout = 1.0
    batch = run.rows.take(torch.tensor([3, 4]))
    inputs = {tower: [batch], run.towers.item_tower: [batch]}
    (batch,) = run.tables.look_up(inputs)[tower]
    fields = tower.fields(batch, generator=torch.Generator())
    assert torch.equal(fields[:, 0], tower.id_table[[0, 0]])


def test_nothing_is_touched_but_the_rows_of_the_batch():
    """The cost of a step thus depends on the batch alone."""
    run = Run("adamw", is_lazy=True, weight_decay=1.0)
    before = run.towers.user_tower.id_table.detach().clone()
    run.step([2, 3], seed=0)
    moved = (run.towers.user_tower.id_table != before).any(1)
    assert moved.nonzero()[:, 0].tolist() == [0, 2, 3]
    run.settle()
    assert (run.towers.user_tower.id_table != before).any(1).all()  # the decay


@pytest.mark.slow
def test_long_waits_forget_the_momentum():
    """Steps beyond the window of the sum do not matter."""
    runs = [Run("adamw", is_lazy=is_lazy, weight_decay=0.5) for is_lazy in (True, False)]
    for run in runs:
        run.step([4], seed=0)
        for step in range(lazy._MEMORY_OF_MOMENTUM + 50):
            run.step([5], seed=step)
        run.settle()
    compare(*runs)
