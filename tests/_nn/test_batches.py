"""Batches: epochs are permutations, and candidates carry their probabilities."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.batches import (
    Batches,
    SampledBatch,
    SoftmaxBatch,
    TrainingRows,
    batch_sizes,
)
from sktwotower._nn.candidates import SampledNegatives, SharedCandidates
from sktwotower._nn.known_pairs import ExplicitNegatives, KnownPositives
from sktwotower._nn.negatives import ItemSampler, UnconsumedSampler
from tests._nn.helpers import seeded

CPU = torch.device("cpu")
SOURCES = ("in_batch", "mixed", "full", "random", "popular")
N_USERS, N_ITEMS, N_DRAWS = 5, 12, 6
NOTHING = dict(probabilities=None, known=None, explicit=None)


def training_rows(n_rows=40, *, seed=1, weighted=False, labelled=False, dtype=torch.int64):
    """User 0 has no row and item 0 neither; popularity falls with the item."""
    generator = seeded(seed)
    users = torch.randint(1, N_USERS, (n_rows,), generator=generator)
    shares = 1 / torch.arange(1, N_ITEMS).double()
    items = 1 + torch.multinomial(shares, n_rows, replacement=True, generator=generator)
    positive = torch.ones(n_rows, dtype=torch.bool)
    if labelled:
        positive = torch.rand(n_rows, generator=generator) < 0.6
        positive[0] = True
    return TrainingRows(
        users.to(dtype),
        items.to(dtype),
        positive,
        torch.rand(n_rows, generator=generator) + 0.1 if weighted else None,
        N_USERS,
        N_ITEMS,
    )


def explicit_negatives(rows, weights=None):
    """Of users 1 and 2: all items that are not their positives."""
    known = KnownPositives(rows.user_rows, rows.item_rows)
    users, items = torch.meshgrid(torch.arange(1, 3), torch.arange(1, 12), indexing="ij")
    users, items = users.flatten(), items.flatten()
    free = ~known.contain(users, items)
    users, items = users[free], items[free]
    assert len(users) > 2
    weights = None if weights is None else weights[: len(users)]
    return ExplicitNegatives(
        users.to(rows.user_rows.dtype), items.to(rows.item_rows.dtype), weights, N_USERS
    )


def item_sampler(rows, source):
    if source == "popular":
        return ItemSampler.popular(*rows.item_rows.unique(return_counts=True))
    return ItemSampler(rows.item_rows.unique()) if source in ("mixed", "random") else None


def shared_candidates(
    rows, source, *, batch_size=7, correction="logq", masked=False, explicit=None
):
    n_batches, _ = batch_sizes(len(rows), batch_size)
    ranker = SharedCandidates(
        rows,
        from_batch=source in ("in_batch", "mixed"),
        sampler=item_sampler(rows, source),
        n_draws=N_DRAWS,
        items=rows.item_rows.unique(),
        correction=correction,
        known=KnownPositives(rows.user_rows, rows.item_rows) if masked else None,
        explicit=explicit,
    )
    return Batches(rows, ranker, n_batches)


def exact_q(rows, source, size, *, beside_a_row=False):
    """By item, the probability to be a shared candidate, from its definition."""
    n_rows = len(rows) - beside_a_row
    counts = torch.bincount(rows.item_rows, minlength=N_ITEMS).tolist()
    if source == "popular":
        draws = np.array(counts) ** 0.75
    else:
        draws = np.array(counts) > 0
    draws = draws / draws.sum()
    q = []
    for n, drawn in zip(counts, draws, strict=True):
        absence = 1.0
        if source in ("in_batch", "mixed"):
            size_ = size - beside_a_row
            absence *= math.comb(max(n_rows - n, 0), size_) / math.comb(n_rows, size_)
        if source != "in_batch":
            absence *= (1 - drawn) ** N_DRAWS
        q.append(1 - absence)
    return q


# An epoch


@given(st.integers(1, 300), st.integers(1, 320))
def test_batch_sizes(n_rows, batch_size):
    n_batches, sizes = batch_sizes(n_rows, batch_size)
    parts = [len(part) for part in torch.arange(n_rows).tensor_split(n_batches)]
    assert set(parts) == sizes
    assert max(parts) <= batch_size
    assert n_batches == 1 or (n_batches - 1) * batch_size < n_rows  # not more than needed


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_a_permutation(n_rows, batch_size, seed, weighted):
    rows = training_rows(n_rows, seed=seed, weighted=weighted)
    batches = shared_candidates(rows, "in_batch", batch_size=batch_size)
    epoch = list(batches.epoch(seeded(seed)))
    assert len(epoch) == batches.n_batches
    sizes = [len(batch) for batch in epoch]
    assert sum(sizes) == n_rows
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size

    def triples(parts):
        """Users, items and weights, sorted."""
        return sorted(
            (u, i, w)
            for users, items, weights in parts
            for u, i, w in zip(users.tolist(), items.tolist(), weights, strict=True)
        )

    def weights_of(batch):
        return [1.0] * len(batch) if batch.weights is None else batch.weights.tolist()

    assert triples(
        (
            batch.user_inputs[batch.groups],
            batch.item_rows[batch.positives],
            weights_of(batch),
        )
        for batch in epoch
    ) == triples([(rows.user_rows, rows.item_rows, weights_of(rows))])
    assert (epoch[0].weights is None) == (not weighted)


@pytest.mark.parametrize("source", SOURCES)
def test_the_generator_decides(source):
    batches, generator = shared_candidates(training_rows(), source), seeded()

    def epoch(generator):
        return [
            (batch.user_inputs[batch.groups].tolist(), batch.item_rows.tolist())
            for batch in batches.epoch(generator)
        ]

    before = torch.get_rng_state()
    first, second = epoch(generator), epoch(generator)
    assert epoch(seeded()) == first
    assert first != second
    assert torch.equal(torch.get_rng_state(), before)


def test_every_order_is_possible():
    rows = TrainingRows(torch.arange(3), torch.arange(3), torch.ones(3).bool(), None, 3, 3)
    batches = Batches(rows, SampledNegatives(None, 1, **NOTHING), 1)
    generator = seeded()
    firsts = [next(batches.epoch(generator)) for _ in range(600)]
    orders = [tuple(batch.groups.tolist()) for batch in firsts]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 6
    assert min(counts.values()) > 60


def test_taking_rows():
    rows = training_rows(10, weighted=True, labelled=True)
    some = rows.take(torch.tensor([3, 3, 0]))
    assert len(some) == 3
    for name in ("user_rows", "item_rows", "positive", "weights"):
        assert torch.equal(getattr(some, name), getattr(rows, name)[[3, 3, 0]])
    assert (some.n_users, some.n_items) == (N_USERS, N_ITEMS)
    positives = rows.take(rows.positive)
    assert positives.positive.all()
    assert len(positives) == int(rows.positive.sum())


# Softmax batches


def log_q_of_shared(batch):
    return [None] * batch.n_shared if batch.log_q is None else batch.log_q.tolist()


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("correction", ["logq", "refined", None])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.slow
def test_a_softmax_batch_by_brute_force(source, correction, masked, explicit, dtype):
    rows = training_rows(weighted=True, dtype=dtype)
    weights = torch.rand(30, generator=seeded(9)) + 0.5
    negatives = explicit_negatives(rows, weights) if explicit else None
    known = set(zip(rows.user_rows.tolist(), rows.item_rows.tolist(), strict=True))
    trained = sorted(set(rows.item_rows.tolist()))
    ranker = shared_candidates(
        rows, source, correction=correction, masked=masked, explicit=negatives
    ).source
    for seed, size in product(range(6), (6, 7)):
        generator = seeded(seed)
        taken = rows.take(torch.randperm(len(rows), generator=generator)[:size])
        users, items = taken.user_rows.tolist(), taken.item_rows.tolist()
        batch = ranker.batch(taken, generator)
        assert isinstance(batch, SoftmaxBatch)
        groups = batch.groups.tolist()
        assert batch.user_inputs[batch.groups].tolist() == users
        assert len(batch) == size
        assert torch.equal(batch.weights, taken.weights)
        n_shared = batch.n_shared
        shared = batch.item_rows[:n_shared].tolist()

        # Shared candidates: sorted, without duplicates, and of the right source.
        assert shared == sorted(set(shared))
        assert set(shared) <= set(trained)
        if source == "full":
            assert shared == trained
        elif source == "in_batch":
            assert set(shared) == set(items)
        elif source == "mixed":
            assert set(items) <= set(shared)
            assert len(shared) <= len(set(items)) + N_DRAWS
        else:
            assert len(shared) <= N_DRAWS

        # Their probabilities.
        if correction is None or source == "full":
            assert batch.log_q is None
        else:
            q = exact_q(rows, source, size, beside_a_row=correction == "refined")
            found = batch.log_q.exp().tolist()
            assert found == pytest.approx([q[item] for item in shared], rel=1e-5)

        # The positive, and what a row has for itself.
        assert batch.item_rows[batch.positives].tolist() == items
        is_shared = source in ("in_batch", "mixed", "full")
        refined = correction == "refined" and source != "full"
        is_own = masked or refined or not is_shared
        assert (batch.positive_log_q is not None) == is_own
        if is_own:
            expected = [0.0] * size
            if correction == "logq" and source != "full":
                q = exact_q(rows, source, size)
                expected = [math.log(q[item]) for item in items]
            assert batch.positive_log_q.tolist() == pytest.approx(expected, rel=1e-5)
        assert (batch.explicit_negatives is not None) == explicit
        if explicit:
            explicit_items = batch.item_rows[batch.explicit_negatives].tolist()
            for row, user in enumerate(users):
                totals, counts = (
                    value.item()
                    for value in negatives.draw(torch.tensor([user]), seeded())[1:]
                )
                log_q = batch.explicit_negative_log_q[row].item()
                if not counts:
                    assert log_q == math.inf  # left out
                    continue
                assert (user, explicit_items[row]) not in known
                assert log_q == pytest.approx(-math.log(totals), abs=1e-5)

        # Rows of a user share a group, unless each has another candidate to leave out.
        by_row = is_own and not masked
        assert len(batch.user_inputs) == (size if by_row else len(set(users)))

        # Masked is what the user has, or the row's own item, where it is a candidate.
        expected = set()
        for row, column in product(range(size), range(n_shared)):
            has = masked and (users[row], shared[column]) in known
            if has or (by_row and shared[column] == items[row]):
                expected.add(groups[row] * n_shared + column)
        found = [] if batch.masked is None else batch.masked.tolist()
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("source", ["in_batch", "mixed", "full"])
def test_without_a_mask(source):
    assert next(shared_candidates(training_rows(), source).epoch(seeded())).masked is None


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_moving_keeps_everything(weighted, explicit):
    rows = training_rows(weighted=weighted)
    negatives = explicit_negatives(rows) if explicit else None
    batches = shared_candidates(rows, "random", masked=True, explicit=negatives)
    batch = next(batches.epoch(seeded()))
    moved = batch.to(CPU)
    assert type(moved) is SoftmaxBatch
    assert len(moved) == len(batch)
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(moved, name), value), name
        else:
            assert getattr(moved, name) == value, name


def test_moving_moves_what_a_loss_needs():
    """To a device without data; the rows stay where their inputs are."""
    rows = training_rows(weighted=True)
    batches = shared_candidates(
        rows, "random", masked=True, explicit=explicit_negatives(rows)
    )
    moved = next(batches.epoch(seeded())).to(torch.device("meta"))
    for name, value in vars(moved).items():
        if isinstance(value, torch.Tensor):
            expected = "cpu" if name in ("user_inputs", "item_rows") else "meta"
            assert value.device.type == expected, name


# Inclusion probabilities, counted


def agrees(times, n, q):
    """Within 4.5 standard errors of a binomial count, and exact where it is certain."""
    return abs(times / n - q) <= 4.5 * math.sqrt(q * (1 - q) / n) + 1e-6


@pytest.mark.parametrize(
    ("source", "n_epochs"),
    [("in_batch", 500), ("mixed", 300), ("random", 200), ("popular", 200)],
)
@pytest.mark.slow
def test_log_q_is_how_often_an_item_is_a_candidate(source, n_epochs):
    rows = training_rows(61)
    batches = shared_candidates(rows, source)  # of 7 rows and of 6
    assert batches.n_batches == 9
    generator = seeded(5)
    n_batches, times, said = {}, {}, {}
    for _ in range(n_epochs):
        for batch in batches.epoch(generator):
            size = len(batch)
            n_batches[size] = n_batches.get(size, 0) + 1
            shared = batch.item_rows[: batch.n_shared].tolist()
            for item, log_q in zip(shared, batch.log_q.tolist(), strict=True):
                times[size, item] = times.get((size, item), 0) + 1
                said[size, item] = math.exp(log_q)
    assert n_batches == {7: 7 * n_epochs, 6: 2 * n_epochs}
    trained = set(rows.item_rows.tolist())
    assert set(said) == set(product(n_batches, trained))
    for (size, item), q in said.items():
        assert agrees(times[size, item], n_batches[size], q), (size, item)
        assert q == pytest.approx(exact_q(rows, source, size)[item], rel=1e-5)


@pytest.mark.parametrize(("source", "n_epochs"), [("in_batch", 500), ("mixed", 300)])
@pytest.mark.slow
def test_refined_log_q_is_how_often_it_is_beside_a_row_of_another_item(source, n_epochs):
    rows = training_rows(60)
    batches = shared_candidates(rows, source, batch_size=6, correction="refined")
    generator = seeded(6)
    beside = np.zeros(N_ITEMS)  # batches whose first row is of another item
    times, said = np.zeros(N_ITEMS), np.full(N_ITEMS, np.nan)
    for _ in range(n_epochs):
        for batch in batches.epoch(generator):
            shared = batch.item_rows[: batch.n_shared].numpy()
            first = shared[batch.positives[0]]
            beside += np.arange(N_ITEMS) != first
            times[shared] += shared != first
            said[shared] = batch.log_q.exp()
    for item in set(rows.item_rows.tolist()):
        assert agrees(times[item], beside[item], said[item]), item
        exact = exact_q(rows, source, 6, beside_a_row=True)[item]
        assert said[item] == pytest.approx(exact, rel=1e-5)


# Sampled negatives


class AllOf:
    """Draws each of some items once, so that a mean over draws can be written out."""

    def __init__(self, items):
        self.items = items

    def draw(self, user_rows, n_draws, generator):
        assert n_draws == len(self.items)
        return self.items.expand(len(user_rows), -1)


@pytest.mark.parametrize("source", SOURCES)
def test_to_complete_a_batch_draws_nothing(source):
    """So the next batch can be started before."""
    rows = training_rows(labelled=True)
    batches = shared_candidates(
        rows, source, masked=True, explicit=explicit_negatives(rows)
    )
    started = list(batches.started(seeded()))
    for finish, expected in zip(started, batches.epoch(seeded()), strict=True):
        found = vars(finish())
        for name, value in vars(expected).items():
            is_tensor = isinstance(value, torch.Tensor)
            assert torch.equal(found[name], value) if is_tensor else found[name] == value


def samplers(rows):
    positives = rows.take(rows.positive)
    items = rows.item_rows.unique()
    return {
        "random": ItemSampler(items),
        "popular": ItemSampler.popular(*positives.item_rows.unique(return_counts=True)),
        "unconsumed": UnconsumedSampler(
            items, positives.user_rows, positives.item_rows, N_USERS
        ),
    }


@pytest.mark.parametrize("name", ["random", "popular", "unconsumed"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.slow
def test_a_sampled_batch_by_brute_force(name, masked, explicit, labelled, corrected, dtype):
    rows = training_rows(weighted=True, labelled=labelled, dtype=dtype)
    positives = rows.take(rows.positive)
    sampler = samplers(rows)[name]
    probabilities = sampler.probabilities if corrected and name != "unconsumed" else None
    weights = torch.rand(30, generator=seeded(9)) + 0.5
    negatives = explicit_negatives(rows, weights) if explicit else None
    ranker = SampledNegatives(
        sampler,
        3,
        probabilities=probabilities,
        known=KnownPositives(positives.user_rows, positives.item_rows) if masked else None,
        explicit=negatives,
    )
    known = set(
        zip(positives.user_rows.tolist(), positives.item_rows.tolist(), strict=True)
    )
    for seed in range(8):
        taken = rows.take(torch.randperm(len(rows), generator=seeded(seed))[:7])
        batch = ranker.batch(taken, seeded(seed))
        assert isinstance(batch, SampledBatch)
        assert torch.equal(batch.user_inputs[batch.groups], taken.user_rows)
        assert len(batch.user_inputs) == len(set(taken.user_rows.tolist()))
        assert torch.equal(batch.weights, taken.weights)
        assert torch.equal(batch.item_rows[batch.items], taken.item_rows)
        assert batch.labels.tolist() == taken.positive.float().tolist()
        assert batch.item_rows.tolist() == sorted(set(batch.item_rows.tolist()))
        # the same draws once more
        generator = seeded(seed)
        draws = sampler.draw(taken.user_rows, 3, generator)
        found = batch.item_rows[batch.negatives]
        # a label of 0 draws, too, but has nothing but itself
        expected_items = torch.where(
            taken.positive[:, None], draws, taken.item_rows[:, None]
        )
        assert torch.equal(found[:, :3], expected_items)
        assert batch.negatives.shape == batch.negative_weights.shape == (7, 3 + explicit)
        totals = counts = torch.zeros(7)
        if explicit:
            explicit_items, totals, counts = negatives.draw(taken.user_rows, generator)
            assert torch.equal(found[:, 3], explicit_items)
        for row in range(7):
            user, item = taken.user_rows[row].item(), taken.item_rows[row].item()
            # Without something turned down three columns do for four.
            scale = 4 / 3 if explicit and not counts[row] else 1.0
            for column, negative in enumerate(draws[row].tolist()):
                expected = scale
                if probabilities is not None:
                    expected /= (probabilities > 0).sum() * probabilities[negative]
                if negative == item or (masked and (user, negative) in known):
                    expected = 0
                if not taken.positive[row]:
                    expected = 0
                weight = batch.negative_weights[row, column].item()
                assert weight == pytest.approx(float(expected), rel=1e-5)
            if explicit:
                expected = totals[row] / counts[row] if counts[row] else 0.0
                assert batch.negative_weights[row, 3].item() == pytest.approx(
                    float(expected), rel=1e-5
                )


def test_weights_of_a_batch_by_hand():
    """User 1 has items 1 and 2, user 2 has item 3 and turned down item 1."""
    rows = TrainingRows(
        torch.tensor([1, 1, 2]),
        torch.tensor([1, 2, 3]),
        torch.ones(3, dtype=torch.bool),
        None,
        3,
        5,
    )
    sampler = AllOf(torch.tensor([1, 2, 3, 4]))
    known = KnownPositives(rows.user_rows, rows.item_rows)
    explicit = ExplicitNegatives(torch.tensor([2]), torch.tensor([1]), None, 3)

    def weights(**options):
        batch = SampledNegatives(sampler, 4, **NOTHING | options).batch(rows, seeded())
        return batch.negative_weights

    own = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1.0]])
    others = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1.0]])
    importance = torch.tensor([1, 2, 1 / 2, 1])  # 1 / (4 q) for q = 1/4, 1/8, 1/2, 1/4
    q = torch.tensor([0, 1 / 4, 1 / 8, 1 / 2, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(weights(), own)
    torch.testing.assert_close(weights(known=known), others)
    torch.testing.assert_close(weights(probabilities=q), own * importance)
    torch.testing.assert_close(
        weights(explicit=explicit),
        torch.cat(
            [own * torch.tensor([[5 / 4], [5 / 4], [1]]), torch.tensor([[0], [0], [1]])],
            dim=1,
        ),
    )


def test_importance_makes_popular_draws_uniform_on_average():
    """Exactly: the mean of a weighted loss over all draws that there are."""
    rows = training_rows()
    popular, uniform = (samplers(rows)[name] for name in ("popular", "random"))
    losses = torch.randn(N_ITEMS, dtype=torch.float64, generator=seeded())
    everything = AllOf(popular.items)

    def mean_loss(sampler, probabilities):
        """By row; a draw is one of the columns, with its probability."""
        ranker = SampledNegatives(
            everything, len(everything.items), **NOTHING | {"probabilities": probabilities}
        )
        batch = ranker.batch(rows, seeded())
        items = batch.item_rows[batch.negatives]
        return (sampler.probabilities[items] * batch.negative_weights * losses[items]).sum(
            1
        )

    expected = mean_loss(uniform, None)
    found = mean_loss(popular, popular.probabilities)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(mean_loss(popular, None), expected, rtol=0.1)


def test_an_explicit_negative_is_a_column_of_the_mean():
    """The mean over columns of a user without is that of the draws alone."""
    rows = training_rows()
    explicit = explicit_negatives(rows)
    sampler = samplers(rows)["random"]
    with_it = SampledNegatives(sampler, 3, **NOTHING | {"explicit": explicit})
    without = SampledNegatives(sampler, 3, **NOTHING)
    one, other = with_it.batch(rows, seeded()), without.batch(rows, seeded())
    losses = torch.rand(N_ITEMS, generator=seeded(1))

    def means(batch):
        weighted = batch.negative_weights * losses[batch.item_rows[batch.negatives]]
        return weighted.mean(1)

    lacking = rows.user_rows > 2
    assert lacking.any() and not lacking.all()
    torch.testing.assert_close(means(one)[lacking], means(other)[lacking])
    explicit_items = losses[one.item_rows[one.negatives[:, -1]]]
    torch.testing.assert_close(
        means(one)[~lacking], (3 * means(other) + explicit_items)[~lacking] / 4
    )


def test_only_labels():
    rows = training_rows(weighted=True, labelled=True)
    batches = Batches(rows, SampledNegatives(None, 1, **NOTHING), 6)
    seen = []
    for batch in batches.epoch(seeded()):
        assert batch.negatives.shape == batch.negative_weights.shape == (len(batch), 0)
        items = batch.item_rows[batch.items]
        assert batch.item_rows.tolist() == sorted(set(items.tolist()))
        users = batch.user_inputs[batch.groups]
        parts = (users, items, batch.labels, batch.weights)
        seen += zip(*(part.tolist() for part in parts), strict=True)
    parts = (rows.user_rows, rows.item_rows, rows.positive.float(), rows.weights)
    assert sorted(seen) == sorted(zip(*(part.tolist() for part in parts), strict=True))


def test_rows_with_a_label_of_zero_have_no_sampled_negatives():
    rows = training_rows(labelled=True)
    batch = SampledNegatives(samplers(rows)["unconsumed"], 4, **NOTHING).batch(
        rows, seeded()
    )
    assert (batch.negative_weights[~rows.positive] == 0).all()
    assert (batch.negative_weights[rows.positive] == 1).all()
    assert torch.equal(batch.labels, rows.positive.float())


def test_moving_a_sampled_batch():
    rows = training_rows(weighted=True)
    batch = SampledNegatives(samplers(rows)["random"], 2, **NOTHING).batch(rows, seeded())
    moved = batch.to(CPU)
    assert type(moved) is SampledBatch
    assert moved.n_shared == batch.n_shared == 0
    for name, value in vars(batch).items():
        if name != "n_shared":
            assert torch.equal(getattr(moved, name), value), name
