"""Batches of whole users: what is given and what is to be found."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.batches import TrainingRows
from sktwotower._nn.candidates import SharedCandidates
from sktwotower._nn.known_pairs import KnownPositives
from sktwotower._nn.negatives import ItemSampler
from sktwotower._nn.user_batches import UserBatches
from tests._nn.helpers import PassThrough, seeded


def rows_of(pairs):
    users, items = torch.tensor(pairs).T
    return TrainingRows(users, items, torch.ones(len(pairs)).bool(), None, 6, 5)


PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=25)


@given(PAIRS, st.integers(1, 4), st.floats(0.1, 0.9), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_a_row_is_in_the_history_or_a_positive(pairs, n_batches, dropout, seed):
    """Each row is one of the two; equal pairs are the same; a user is in one batch."""
    in_history = torch.zeros(len(pairs), dtype=torch.bool)
    batches = UserBatches(
        rows_of(pairs), PassThrough(), n_batches, dropout=dropout, in_history=in_history
    )
    generator = seeded(seed)
    for _ in range(2):
        parts = list(batches.epoch(generator))
        found = [
            pair
            for part in parts
            for pair in zip(part.user_rows.tolist(), part.item_rows.tolist(), strict=True)
        ]
        by_user = sorted(pairs, key=lambda pair: pair[0])  # stable
        history = [pair for pair, kept in zip(by_user, in_history, strict=True) if kept]
        assert sorted(found + history) == sorted(pairs)
        assert not set(found) & set(history)
        users = [set(part.user_rows.tolist()) for part in parts]
        assert sum(map(len, users)) == len(set().union(*users))
        assert batches.n_rows == len(found)


def test_the_share_and_the_order_change_from_epoch_to_epoch():
    rows = rows_of([(user, item) for user in range(6) for item in range(5)])
    in_history = torch.zeros(30, dtype=torch.bool)
    batches = UserBatches(rows, PassThrough(), 2, dropout=0.3, in_history=in_history)
    generator, shares, drawn = seeded(), [], set()
    for _ in range(200):
        list(batches.epoch(generator))
        shares.append(1 - in_history.float().mean().item())
        drawn.add(tuple(in_history.tolist()))
    assert sum(shares) / 200 == pytest.approx(0.3, abs=0.02)
    assert len(drawn) > 190
    again = UserBatches(
        rows, PassThrough(), 2, dropout=0.3, in_history=torch.empty(30).bool()
    )
    one, two = (next(iter(b.epoch(seeded(7)))) for b in (batches, again))
    torch.testing.assert_close(one.user_rows, two.user_rows)


@given(PAIRS, st.integers(1, 4), st.sampled_from([1e-12, 0.01, 0.2]), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_an_epoch_without_a_draw_has_one_pair(pairs, n_batches, dropout, seed):
    """Few users and a small share: an epoch would often have nothing to find."""
    in_history = torch.zeros(len(pairs), dtype=torch.bool)
    batches = UserBatches(
        rows_of(pairs), PassThrough(), n_batches, dropout=dropout, in_history=in_history
    )
    found = torch.cat([b.user_rows * 9 + b.item_rows for b in batches.epoch(seeded(seed))])
    assert batches.n_rows == len(found) > 0
    if dropout < 1e-6:
        assert len(found.unique()) == 1


# Inclusion probabilities, counted


def popular_rows():
    """Of 30 users, who have more of the first items than of the last, some pairs twice."""
    has = torch.rand(30, 7, generator=seeded(1)) < 0.8 / torch.arange(1, 8)
    has[:, 1] |= ~has.any(dim=1)
    users, items = has.nonzero().T
    users, items = torch.cat([users, users[:4]]), torch.cat([items, items[:4]])
    return TrainingRows(users, items, torch.ones(len(users)).bool(), None, 30, 7)


def candidates_of_users(source, *, correction, masked=True, dropout=0.4):
    """Two batches of 8 of the 30 users, and two of 7."""
    rows = popular_rows()
    sampler = None
    if source == "popular":
        sampler = ItemSampler.popular(*rows.item_rows.unique(return_counts=True))
    elif source != "in_batch":
        sampler = ItemSampler(torch.arange(7))
    candidates = SharedCandidates(
        rows,
        from_batch=source in ("in_batch", "mixed"),
        sampler=sampler,
        n_draws=3,
        items=torch.arange(7),
        correction=correction,
        history_dropout=dropout,
        known=KnownPositives(rows.user_rows, rows.item_rows) if masked else None,
        explicit=None,
    )
    in_history = torch.zeros(len(rows), dtype=torch.bool)
    return UserBatches(rows, candidates, 4, dropout=dropout, in_history=in_history)


def watched(batches, n_epochs):
    """Yield the numbers of users that were drawn, and batches."""
    seen = []

    class Watching:
        def batch(self, rows, generator, n_users):
            seen.append(n_users)
            return source.batch(rows, generator, n_users)

    source, batches.source = batches.source, Watching()
    generator = seeded(5)
    for _ in range(n_epochs):
        for batch in batches.epoch(generator):
            yield seen[-1], batch


@pytest.mark.parametrize("source", ["in_batch", "mixed", "random", "popular"])
@pytest.mark.slow
def test_log_q_is_how_often_an_item_is_a_candidate(source):
    n_epochs, times, said = 1000, Counter(), {}
    batches = candidates_of_users(source, correction="logq", masked=False)
    for size, batch in watched(batches, n_epochs):
        shared = batch.item_rows[: batch.n_shared].tolist()
        for item, log_q in zip(shared, batch.log_q.tolist(), strict=True):
            times[size, item] += 1
            said[size, item] = math.exp(log_q)
    assert set(said) == set(product([7, 8], range(7)))
    for (size, item), q in said.items():
        error = abs(times[size, item] / (2 * n_epochs) - q)
        assert error < 4.5 * math.sqrt(q * (1 - q) / (2 * n_epochs)), (size, item)


@pytest.mark.slow
def test_refined_log_q_is_how_often_it_is_beside_a_user_without_it():
    rows = popular_rows()
    has = torch.zeros(30, 7, dtype=torch.bool)
    has[rows.user_rows, rows.item_rows] = True
    beside, times, said = np.zeros((9, 7)), np.zeros((9, 7)), np.full((9, 7), np.nan)
    for size, batch in watched(candidates_of_users("in_batch", correction="refined"), 1000):
        shared = batch.item_rows[: batch.n_shared].numpy()
        said[size, shared] = batch.log_q.exp()
        is_shared = np.zeros(7)
        is_shared[shared] = 1
        for user in batch.user_inputs:  # each is a user with a positive
            lacks = ~has[user].numpy()
            beside[size] += lacks
            times[size] += lacks * is_shared
    for size in (7, 8):
        q = said[size]
        # The users of a batch count it several times; there are 2,000 batches.
        error = np.abs(times[size] / beside[size] - q)
        assert (error < 4.5 * np.sqrt(q * (1 - q) / 2000)).all(), size


@pytest.mark.parametrize("correction", ["logq", "refined", None])
@pytest.mark.parametrize("source", ["in_batch", "mixed", "random"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_of_users_has_finite_q_and_embeds_each_user_once(
    source, correction, masked
):
    batches = candidates_of_users(source, correction=correction, masked=masked)
    for _, batch in watched(batches, 20):
        assert (batch.log_q is None) == (correction is None)
        if batch.log_q is not None:
            assert batch.log_q.isfinite().all()
        if masked:
            assert len(batch.user_inputs) == len(batch.user_inputs.unique())
