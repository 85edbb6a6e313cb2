"""Probabilities of the candidates that several ranks share."""

import pytest
import torch

from sktwotower._nn.batches import Batches, TrainingRows
from sktwotower._nn.candidates import SharedCandidates
from sktwotower._nn.known_pairs import KnownPositives
from sktwotower._nn.negatives import ItemSampler
from sktwotower._nn.user_batches import UserBatches
from tests._nn.thread_ranks import on_ranks

N_ITEMS, N_USERS, N_DRAWS = 12, 40, 5


def rows_of(rank, size):
    """Rows of the users of a rank: popular items first, and 30 % more for rank 0."""
    generator = torch.Generator().manual_seed(1)
    shares = 1 / torch.arange(1.0, N_ITEMS)
    users = torch.arange(1, N_USERS + 1).repeat_interleave(6)
    items = 1 + torch.multinomial(shares, len(users), True, generator=generator)
    own = users % size == rank
    own &= (rank == 0) | (torch.rand(len(users), generator=generator) < 0.7)
    users, items = users[own], items[own].int()
    positive = torch.ones(len(users), dtype=torch.bool)
    return TrainingRows(users, items, positive, None, n_users=N_USERS + 1, n_items=N_ITEMS)


def source_of(ranks, rows, n_batches, correction, *, mixed, dropout=0.0):
    everything = torch.arange(1, N_ITEMS, dtype=torch.int32)
    return SharedCandidates(
        rows,
        from_batch=True,
        sampler=ItemSampler(everything, 1.0 / everything) if mixed else None,
        n_draws=N_DRAWS,
        items=everything,
        correction=correction,
        history_dropout=dropout,
        known=KnownPositives(rows.user_rows, rows.item_rows, N_ITEMS) if dropout else None,
        explicit=None,
        ranks=ranks,
        n_batches=n_batches,
    )


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_the_probability_of_the_union(size, mixed):
    """How often each item is a candidate, over many batches."""
    n_batches, n_epochs = 20, 25

    def call(ranks):
        rows = rows_of(ranks.rank, size)
        source = source_of(ranks, rows, n_batches, "logq", mixed=mixed)
        generator = torch.Generator().manual_seed(ranks.rank)
        batches = Batches(rows, source, n_batches)
        counts, log_q = torch.zeros(N_ITEMS), torch.full((N_ITEMS,), torch.nan)
        found = []  # the positives
        for _ in range(n_epochs):
            for batch in batches.epoch(generator):
                shared = batch.item_rows.long()
                counts[shared] += 1
                log_q[shared] = batch.log_q
                found.append(shared[batch.positives])
        positives = torch.bincount(torch.cat(found), minlength=N_ITEMS)
        of_rows = torch.bincount(rows.item_rows, minlength=N_ITEMS)
        assert torch.equal(positives, n_epochs * of_rows)
        return counts / (n_epochs * n_batches), log_q.exp()

    found = on_ranks(size, call)
    for frequencies, probabilities in found:
        assert torch.equal(frequencies, found[0][0])  # ranks have the same candidates
        seen = frequencies > 0
        noise = (probabilities * (1 - probabilities) / (n_epochs * n_batches)).sqrt()
        # Probabilities are those of the largest batches, of one row more than the others.
        apart = (probabilities - frequencies)[seen]
        assert (apart > -4 * noise[seen] - 1e-5).all()
        assert (apart < 4 * noise[seen] + 0.1 * frequencies[seen]).all()


def test_refined_is_beside_a_row_of_the_own_batch():
    """Exactly: the other rank does not know of the row at hand."""

    def call(ranks):
        rows = rows_of(ranks.rank, 2)
        found = {}
        for correction in ("logq", "refined"):
            source = source_of(ranks, rows, 10, correction, mixed=False)
            found[correction] = source.presence.log_q_of_all(0).exp()
        return rows, found

    (first, of_first), (second, of_second) = on_ranks(2, call)

    def absence(rows, *, beside):
        counts = torch.bincount(rows.item_rows, minlength=N_ITEMS)
        size, n = -(-len(rows) // 10) - beside, len(rows) - beside
        steps = [[1 - size / (n - k) for k in range(count)] for count in counts.tolist()]
        return torch.tensor([torch.tensor([1.0, *one]).prod() for one in steps])

    both = 1 - absence(first, beside=False) * absence(second, beside=False)
    for found in (of_first, of_second):
        torch.testing.assert_close(found["logq"], both, rtol=1e-4, atol=1e-6)
    for rows, other, found in ((first, second, of_first), (second, first, of_second)):
        expected = 1 - absence(rows, beside=True) * absence(other, beside=False)
        torch.testing.assert_close(found["refined"], expected, rtol=1e-4, atol=1e-6)
        assert (found["refined"] <= found["logq"] + 1e-7).all()


def test_batches_of_whole_users():
    """How often each item is among the positives of a batch of any rank."""
    n_batches, n_epochs, size = 5, 60, 2

    def call(ranks):
        rows = rows_of(ranks.rank, size)
        source = source_of(ranks, rows, n_batches, "logq", mixed=False, dropout=0.3)
        batches = UserBatches(
            rows,
            source,
            n_batches,
            dropout=0.3,
            in_history=torch.zeros(len(rows), dtype=torch.bool),
            yields_empty=True,
        )
        generator = torch.Generator().manual_seed(ranks.rank)
        counts, n = torch.zeros(N_ITEMS), 0
        for _ in range(n_epochs):
            for batch in batches.epoch(generator):
                counts[batch.item_rows.long()] += 1
                n += 1
        assert n == n_epochs * n_batches
        return counts / n, source.presence.log_q_of_all(0).exp()

    for frequencies, probabilities in on_ranks(size, call):
        noise = (probabilities * (1 - probabilities) / (n_epochs * n_batches)).sqrt()
        assert ((probabilities - frequencies).abs() < 4 * noise + 1e-3).all()


def test_a_rank_without_rows():
    def call(ranks):
        rows = rows_of(0, 2)
        if ranks.rank:
            rows = rows.take(slice(0))
        source = source_of(ranks, rows, 4, "refined", mixed=True)
        generator = torch.Generator().manual_seed(ranks.rank)
        batches = list(Batches(rows, source, 4).epoch(generator))
        return [
            (len(one), one.item_rows.tolist(), one.log_q.isfinite().all())
            for one in batches
        ]

    with_rows, without = on_ranks(2, call)
    assert all(n > 0 for n, _, _ in with_rows)
    for (_, items, finite), (n, same, _) in zip(with_rows, without, strict=True):
        assert n == 0
        assert items == same
        assert finite
