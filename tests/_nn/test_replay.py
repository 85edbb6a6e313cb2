"""Rows from before beside the new ones."""

import torch

from sktwotower._nn.batches import REPLAYED, Batches, TrainingRows, batch_sizes


class Itself:
    """Hands the rows of a batch through."""

    def batch(self, rows, generator):
        return rows


def rows_of(n):
    return TrainingRows(
        torch.arange(n), torch.arange(n), torch.ones(n, dtype=torch.bool), None, n, n
    )


def test_each_new_row_is_trained_once_and_beside_it_some_from_before():
    n_new, n_before = 40, 25
    rows = rows_of(n_new + n_before)
    batches = Batches(rows, Itself(), batch_sizes(n_new, 8)[0], n_new=n_new)
    generator = torch.Generator().manual_seed(0)
    epoch = list(batches.epoch(generator))
    drawn = []
    for batch in epoch:
        n = len(batch) // (1 + REPLAYED)
        assert (batch.user_rows[:n] < n_new).all()
        assert (batch.user_rows[n:] >= n_new).all()
        assert len(batch.user_rows[n:]) == REPLAYED * n
        drawn.append(batch.user_rows[n:])
    new = torch.cat([batch.user_rows[batch.user_rows < n_new] for batch in epoch])
    assert sorted(new.tolist()) == list(range(n_new))
    assert batches.n_rows == sum(map(len, epoch)) == (1 + REPLAYED) * n_new
    # Over many epochs each of those from before comes as often as the others.
    for _ in range(100):
        drawn += [
            batch.user_rows[batch.user_rows >= n_new] for batch in batches.epoch(generator)
        ]
    counts = torch.bincount(torch.cat(drawn) - n_new, minlength=n_before)
    expected = 101 * REPLAYED * n_new / n_before
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 51.2  # the 0.999 quantile at 24 degrees of freedom


def test_without_rows_from_before_there_is_nothing_beside():
    batches = Batches(rows_of(7), Itself(), 2)
    epoch = list(batches.epoch(torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in epoch] == [4, 3]
    assert batches.n_rows == 7
