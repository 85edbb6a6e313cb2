"""Earlier rows that are replayed beside new ones."""

import torch

from sktwotower._nn.batches import (
    REPLAYED,
    Batches,
    TrainingRows,
    batch_sizes,
    n_replayed,
)
from tests._nn.helpers import PassThrough


def rows_of(n):
    return TrainingRows(
        torch.arange(n), torch.arange(n), torch.ones(n, dtype=torch.bool), None, n, n
    )


def batches_of(n_new, n_before, batch_size=50):
    n_rows = n_new + n_replayed(n_new, n_before)
    n_batches, _ = batch_sizes(n_rows, batch_size)
    return Batches(rows_of(n_new + n_before), PassThrough(), n_batches, n_new=n_new)


def test_each_new_and_each_earlier_row_is_trained_once():
    batches = batches_of(40, 90)
    epoch = list(batches.epoch(torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in epoch] == [44, 43, 43]
    users = torch.cat([batch.user_rows for batch in epoch])
    assert sorted(users.tolist()) == list(range(130))
    assert batches.n_rows == 130


def test_some_of_very_many_earlier_rows_are_drawn_without_replacement():
    n_new, n_before = 4, 60
    batches = batches_of(n_new, n_before, batch_size=8)
    generator = torch.Generator().manual_seed(0)
    n_drawn = REPLAYED * n_new
    assert batches.n_rows == n_new + n_drawn < n_new + n_before
    drawn, first = [], []
    for _ in range(200):
        users = torch.cat([batch.user_rows for batch in batches.epoch(generator)])
        assert len(users) == len(users.unique()) == batches.n_rows
        assert (users < n_new).sum() == n_new
        drawn.append(users[users >= n_new] - n_new)
        first.append(int((users[:8] < n_new).sum()))
    # Each of those from before comes as often as the others: its count is binomial.
    counts = torch.bincount(torch.cat(drawn), minlength=n_before)
    share = n_drawn / n_before
    deviation = (200 * share * (1 - share)) ** 0.5
    assert (counts - 200 * share).abs().max() < 4 * deviation
    # And the new ones are anywhere among them.
    assert abs(sum(first) / 200 - 8 * n_new / batches.n_rows) < 0.25


def test_without_earlier_rows_only_new_ones_are_trained():
    batches = Batches(rows_of(7), PassThrough(), 2)
    epoch = list(batches.epoch(torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in epoch] == [4, 3]
    assert batches.n_rows == 7
