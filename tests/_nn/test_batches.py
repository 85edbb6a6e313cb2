"""An epoch is a permutation, cut evenly; candidates are the unique items of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.batches import Batch, InBatchSampler
from sktwotower._nn.negatives import in_batch_log_q


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sampler(n_rows=23, n_items=5, batch_size=4, corrected=True, weighted=True):
    generator = seeded(1)
    return InBatchSampler(
        torch.arange(n_rows),  # the user names the row
        torch.randint(1, n_items + 1, (n_rows,), generator=generator),
        torch.rand(n_rows, generator=generator) if weighted else None,
        batch_size=batch_size,
        corrected=corrected,
        mask_known_positives=False,
    )


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_an_epoch(n_rows, batch_size, n_items, seed):
    batches = sampler(n_rows, n_items, batch_size)
    epoch = list(batches.epoch(seeded(seed)))
    assert len(epoch) == batches.n_batches
    rows = torch.cat([batch.user_rows for batch in epoch])
    assert sorted(rows.tolist()) == list(range(n_rows))
    sizes = [len(batch) for batch in epoch]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    counts = torch.bincount(batches.item_rows)
    for batch in epoch:
        items = batches.item_rows[batch.user_rows]
        assert batch.item_rows.tolist() == sorted(set(items.tolist()))
        assert batch.item_rows[batch.positives].tolist() == items.tolist()
        assert torch.equal(batch.weights, batches.weights[batch.user_rows])
        expected = in_batch_log_q(counts, len(batch))[batch.item_rows]
        assert torch.equal(batch.log_q, expected)
        assert torch.isfinite(batch.log_q).all()


def test_without_correction_and_weights():
    for batch in sampler(corrected=False, weighted=False).epoch(seeded()):
        assert batch.log_q is None
        assert batch.weights is None


def test_the_generator_decides():
    batches, generator = sampler(), seeded()
    before = torch.get_rng_state()
    first = [batch.user_rows.tolist() for batch in batches.epoch(generator)]
    second = [batch.user_rows.tolist() for batch in batches.epoch(generator)]
    assert [batch.user_rows.tolist() for batch in batches.epoch(seeded())] == first
    assert first != second
    assert torch.equal(torch.get_rng_state(), before)


def test_every_order_is_possible():
    batches, generator = sampler(n_rows=3, batch_size=3), seeded()
    orders = [tuple(next(batches.epoch(generator)).user_rows.tolist()) for _ in range(600)]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 6
    assert min(counts.values()) > 60


def test_int32_codes_are_fine():
    batches = InBatchSampler(
        torch.arange(6, dtype=torch.int32),
        torch.tensor([1, 1, 2, 3, 3, 3], dtype=torch.int32),
        None,
        batch_size=6,
        corrected=True,
        mask_known_positives=False,
    )
    (batch,) = batches.epoch(seeded())
    assert batch.item_rows.tolist() == [1, 2, 3]
    assert batch.log_q.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("weighted", [False, True])
def test_moving_keeps_everything(weighted):
    batch = next(sampler(weighted=weighted).epoch(seeded()))
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    assert len(moved) == len(batch)
    assert torch.equal(moved.positives, batch.positives)
    assert torch.equal(moved.log_q, batch.log_q)
    assert (moved.weights is None) == (not weighted)


@given(
    st.integers(0, 2**31), st.integers(1, 60), st.integers(2, 20), st.sampled_from([1, 5])
)
@settings(max_examples=80, deadline=None)
def test_known_positives_are_masked(seed, n_rows, batch_size, n_users):
    """One user has a history longer than the candidates, five have shorter ones."""
    generator = seeded(seed)
    users = torch.randint(0, n_users, (n_rows,), generator=generator)
    items = torch.randint(1, 40, (n_rows,), generator=generator).int()
    batches = InBatchSampler(
        users,
        items,
        None,
        batch_size=batch_size,
        corrected=True,
        mask_known_positives=True,
    )
    known = set(zip(users.tolist(), items.tolist(), strict=True))
    for batch in batches.epoch(generator):
        n_candidates = len(batch.item_rows)
        expected = [
            row * n_candidates + column
            for row, user in enumerate(batch.user_rows.tolist())
            for column, item in enumerate(batch.item_rows.tolist())
            if (user, item) in known and column != batch.positives[row]
        ]
        assert sorted(batch.masked.tolist()) == expected


def test_without_a_mask():
    assert next(sampler().epoch(seeded())).masked is None
