"""Counts of the rows of all ranks."""

import torch

from sktwotower._nn.batches import TrainingRows
from sktwotower._training.totals import RowTotals
from tests._nn.thread_ranks import on_ranks

ITEMS = torch.tensor([1, 2, 2, 4, 1, 2], dtype=torch.int32)
POSITIVE = torch.tensor([True, True, False, True, True, True])


def rows_of(part):
    items = ITEMS[part]
    users = torch.ones(len(items), dtype=torch.int32)
    return TrainingRows(users, items, POSITIVE[part], None, n_users=2, n_items=6)


def test_ranks_count_together():
    alone = RowTotals.of(rows_of(slice(None)), None)
    assert alone.rows_of_items.tolist() == [0, 2, 3, 0, 1, 0]
    assert alone.positives_of_items.tolist() == [0, 2, 2, 0, 1, 0]
    parts = [slice(0, 2), slice(2, 6)]
    for found in on_ranks(2, lambda one: RowTotals.of(rows_of(parts[one.rank]), one)):
        assert torch.equal(found.rows_of_items, alone.rows_of_items)
        assert torch.equal(found.positives_of_items, alone.positives_of_items)
        assert not found.all_positive  # although the first rank has positives only
    assert RowTotals.of(rows_of(slice(0, 2)), None).all_positive
