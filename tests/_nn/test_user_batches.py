"""Batches of whole users: what is given and what is to be found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktwotower._nn.batches import TrainingRows
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
